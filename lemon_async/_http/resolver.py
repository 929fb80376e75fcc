"""A resolver that drops private addresses, so that we connect to the address we checked."""

import errno
import ipaddress
import socket
from collections.abc import Set as AbstractSet

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from lemon_async._api.urls import find_link_fault, is_http_host

__all__ = ["PrivateAddress", "PublicResolver"]

_TRANSLATED = ipaddress.ip_network("64:ff9b::/96")
# Local tunnels return these for every name; no host has one (RFC 2544).
_PLACEHOLDERS = ipaddress.ip_network("198.18.0.0/15")


class PrivateAddress(OSError):
    """A host name has only private addresses, which links must not lead to."""


class PublicResolver(AbstractResolver):
    """Looks up host names and drops addresses of private networks.

    Following a link whose public name resolves to an address behind the firewall would open that network to the author
    of the link. Checking a name and then connecting to it would take two look-ups, and a hostile name server can give
    two answers.

    Args:
        allow_loopback: Whether names may resolve to this machine.
        own_host: The host of the API, which may have any address.
        http_hosts: Hosts that the user has listed, which may have any address, too.
    """

    def __init__(
        self, *, allow_loopback: bool, own_host: str | None, http_hosts: AbstractSet[str] = frozenset()
    ) -> None:
        self._allow_loopback = allow_loopback
        self._own_host = own_host
        self._http_hosts = http_hosts
        self._resolver: AbstractResolver = aiohttp.DefaultResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Return the addresses of `host` that we may connect to.

        Raises:
            PrivateAddress: There are only private ones.
            OSError: The name is unknown.
        """
        found = await self._resolver.resolve(host, port, family)
        if host.lower() == self._own_host or is_http_host(host, port, self._http_hosts):
            return found
        public = [address for address in found if self._is_public(address["host"])]
        if found and not public:
            raise PrivateAddress(errno.EACCES, "leads to a private address")
        return public

    async def close(self) -> None:
        """Close the underlying resolver."""
        await self._resolver.close()

    def _is_public(self, address: str) -> bool:
        plain = _plain(address)
        if plain.version == 4 and plain in _PLACEHOLDERS:
            return True
        literal = f"[{plain}]" if plain.version == 6 else str(plain)
        return find_link_fault(f"https://{literal}/", allow_loopback=self._allow_loopback) is None


def _plain(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Return an address; for one that translates IPv4 into IPv6, the IPv4 address (RFC 6052)."""
    found = ipaddress.ip_address(address.partition("%")[0])
    if found.version == 6 and found in _TRANSLATED:
        return ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)
    return found
