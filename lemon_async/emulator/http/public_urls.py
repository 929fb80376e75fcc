"""Check that a URL leads to a public server: the URL as written, and the addresses that its name resolves to.

Both checks are needed. `http://0x7f.1/` contains neither a name nor a dotted quad, and still leads to 127.0.0.1;
`http://pictures.example/` looks public and may resolve to 10.0.0.1.
"""

import ipaddress
import re
import socket
import unicodedata
from urllib.parse import urlsplit

from yarl import URL

from lemon_async._web.host_header import Address, normalize
from lemon_async.emulator.service_errors import excerpt

MAX_URL_CHARS = 8192

_PRIVATE_DOMAINS = ("localhost", "local", "internal", "localdomain", "home.arpa", "intranet", "lan")
_BROKEN_CHARS = re.compile(r"[\x00-\x20\x7f\\]")
_NAME = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*")
# What the C library, and with it every resolver, reads as an address: "0x7f.1", "017700000001".
_NUMERIC = re.compile(r"(0x[0-9a-f]*|[0-9]+)(\.(0x[0-9a-f]*|[0-9]+))*", re.IGNORECASE)

# Addresses that `ipaddress` calls global although they are not: relays, translators, documentation.
_SPECIAL_V4 = (ipaddress.IPv4Network("192.88.99.0/24"), ipaddress.IPv4Network("192.0.0.0/24"))
_UNICAST_V6 = ipaddress.IPv6Network("2000::/3")
_SPECIAL_V6 = tuple(
    ipaddress.IPv6Network(network) for network in ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")
)


class ForbiddenUrl(ValueError):
    """The URL does not lead to a public server; the message completes "this URL ..."."""


def check_url(text: str) -> URL:
    """Parse and check a URL as it is written.

    Raises:
        ForbiddenUrl: It is not a public http(s) URL.
    """
    if len(text) > MAX_URL_CHARS:
        raise ForbiddenUrl(f"is longer than {MAX_URL_CHARS} characters")
    if _BROKEN_CHARS.search(text):
        raise ForbiddenUrl("must not contain spaces, control characters or backslashes")
    if "#" in text:
        raise ForbiddenUrl("must not have a fragment")
    try:
        parts, url = urlsplit(text), URL(text)
        host, _port = url.raw_host, url.port
    except ValueError as error:
        raise ForbiddenUrl(f"is not a URL: {excerpt(str(error))}") from error
    if url.scheme not in {"http", "https"}:
        raise ForbiddenUrl("must be an http or https URL")
    if "@" in unicodedata.normalize("NFKC", parts.netloc):
        raise ForbiddenUrl("must not contain credentials")
    if not host:
        raise ForbiddenUrl("has no host")
    _check_host(host)
    return url


def _check_host(raw: str) -> None:
    host = normalize(raw)
    literal = parse_address(host)
    if literal is not None:
        check_address(literal)
        return
    if not _NAME.fullmatch(host):
        raise ForbiddenUrl("has a host that is not a name")
    if "." not in host or any(f".{host}".endswith(f".{name}") for name in _PRIVATE_DOMAINS):
        raise ForbiddenUrl(f"leads to {excerpt(host)}, which is not public")


def parse_address(host: str) -> Address | None:
    """Parse a host as an address, in any notation that resolvers accept; None if it is a name."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        pass
    if not _NUMERIC.fullmatch(host):
        return None
    try:
        return ipaddress.IPv4Address(socket.inet_aton(host))
    except OSError as error:
        raise ForbiddenUrl(f"has a host that is not an address: {excerpt(host)}") from error


def check_address(address: Address) -> None:
    """Check an address, written or resolved.

    Raises:
        ForbiddenUrl: It is not a public unicast address.
    """
    if not is_public(address):
        raise ForbiddenUrl(f"leads to {address}, which is not public")


def is_public(address: Address) -> bool:
    """Return whether an address is public unicast; addresses that embed another one are not."""
    if isinstance(address, ipaddress.IPv4Address):
        return address.is_global and not address.is_multicast and not any(address in net for net in _SPECIAL_V4)
    return (
        address in _UNICAST_V6
        and address.is_global
        and address.scope_id is None
        and not any(address in net for net in _SPECIAL_V6)
    )
