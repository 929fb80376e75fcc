"""Names of strangers lead only where their addresses may: what is connected to is what was checked here."""

import errno
import ipaddress
import socket
from collections.abc import Set as AbstractSet

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from lemon_async._api.urls import find_link_fault, is_named

__all__ = ["PrivateAddress", "PublicResolver"]

_TRANSLATED = ipaddress.ip_network("64:ff9b::/96")
# What tunnels on this machine answer for every name; nobody's hosts are there (RFC 2544).
_STAND_INS = ipaddress.ip_network("198.18.0.0/15")


class PrivateAddress(OSError):
    """A name has only addresses that links must not lead to."""


class PublicResolver(AbstractResolver):
    """Looks names up, and leaves out addresses of private networks.

    A public name that resolves to an address behind the firewall makes whoever follows its links a door to it. Checking
    a name first and connecting to it then would ask twice, and a hostile name server answers twice.

    Args:
        allow_loopback: Whether names may lead to this machine.
        own_host: The host of the API, which may be anywhere.
        http_hosts: Hosts that the user has named, which may be anywhere, too.
    """

    def __init__(
        self, *, allow_loopback: bool, own_host: str | None, http_hosts: AbstractSet[str] = frozenset()
    ) -> None:
        self._allow_loopback = allow_loopback
        self._own_host = own_host
        self._http_hosts = http_hosts
        self._names: AbstractResolver = aiohttp.DefaultResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Return the addresses of `host` that may be connected to.

        Raises:
            LeadsInside: There are others only.
            OSError: The name is not known.
        """
        found = await self._names.resolve(host, port, family)
        if host.lower() == self._own_host or is_named(host, port, self._http_hosts):
            return found
        public = [address for address in found if self._is_public(address["host"])]
        if found and not public:
            raise PrivateAddress(errno.EACCES, "leads to a private address")
        return public

    async def close(self) -> None:
        """Forget everything."""
        await self._names.close()

    def _is_public(self, address: str) -> bool:
        plain = _plain(address)
        if plain.version == 4 and plain in _STAND_INS:
            return True
        literal = f"[{plain}]" if plain.version == 6 else str(plain)
        return find_link_fault(f"https://{literal}/", allow_loopback=self._allow_loopback) is None


def _plain(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Return an address; of one that networks without IPv4 translate, the IPv4 address it stands for (RFC 6052)."""
    found = ipaddress.ip_address(address.partition("%")[0])
    if found.version == 6 and found in _TRANSLATED:
        return ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)
    return found
