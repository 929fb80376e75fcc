"""Check the Host header of requests, as a protection against DNS rebinding.

A web page can make its own name resolve to the address of this server; its scripts may then read the responses. The
browser still sends that name as `Host`, so foreign names are refused. An address in the header cannot be the name of a
rebound page, and ports change under forwarding (`ssh -L`, `docker -p`): all addresses and all ports are served.
"""

import ipaddress
import re
import unicodedata
from collections.abc import Iterable

_HEADER = re.compile(r"(?:\[(?P<v6>[0-9a-f:.]+)\]|(?P<host>[a-z0-9._-]+))(?::[0-9]{1,5})?", re.IGNORECASE)
_NAME = re.compile(r"[a-z0-9_-]+(?:\.[a-z0-9_-]+)*\.?", re.IGNORECASE)


Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class AllowedHosts:
    """The host names that a server serves.

    Args:
        host: The address or name on which it listens.
        allowed: Further names, without ports.

    Raises:
        ValueError: `host` is empty, or `allowed` contains anything but names.
    """

    def __init__(self, host: str, allowed: Iterable[str]) -> None:
        if not host:
            raise ValueError("host must be an address or a name; 0.0.0.0 is every address of this machine")
        self._names = frozenset({"localhost", normalize(host), *_read_names(allowed)})

    def accept(self, header: str) -> bool:
        """Return whether a request with this Host header is served."""
        match = _HEADER.fullmatch(header)
        if match is None:
            return False
        if match["v6"]:
            return isinstance(_parse_address(match["v6"]), ipaddress.IPv6Address)
        return normalize(match["host"]) in self._names or _parse_address(match["host"]) is not None


def normalize(host: str) -> str:
    """Return a host in the form in which names are compared."""
    return unicodedata.normalize("NFKC", host).lower().rstrip(".")


def is_loopback(host: str) -> bool:
    """Return whether only this machine can connect to a listener at `host`."""
    address = _parse_address(host)
    return host == "localhost" or (address is not None and address.is_loopback)


def _read_names(allowed: Iterable[object]) -> Iterable[str]:
    if isinstance(allowed, str):
        raise ValueError("allowed_hosts takes several names, e.g. {'emulator'}")  # noqa: TRY004 - one kind
    for name in allowed:
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise ValueError(f"allowed_hosts takes names without scheme, port or wildcard; got {name!r}")
        yield normalize(name)


def _parse_address(text: str) -> Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None
