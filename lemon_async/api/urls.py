"""Which addresses the library may talk to.

The key goes to one origin. Everything the service sends as an address is hostile until it has passed here:
`resolve_poll_url` for what is called with the key, `find_link_fault` for what is fetched without it.
"""

import ipaddress
import re
from urllib.parse import SplitResult, quote, unquote, urlsplit

__all__ = [
    "DEFAULT_ORIGIN",
    "find_link_fault",
    "find_remote_fault",
    "is_loopback",
    "one_segment",
    "parse_base_url",
    "poll_path",
    "redact",
    "resolve_poll_url",
    "task_path",
]

DEFAULT_ORIGIN = "https://api.lemondata.cc"

_DEFAULT_PORTS = {"http": 80, "https": 443}
# RFC 3986 `pchar`, "/" and a query: no backslash, white space, control character, fragment or non-ASCII.
_PATH = re.compile(r"/(?!/)[A-Za-z0-9._~!$&'()*+,;=:@%/-]+(\?[A-Za-z0-9._~!$&'()*+,;=:@%/?-]*)?")
_PLAIN = re.compile(r"[\x21-\x5b\x5d-\x7e]+")  # printable ASCII without backslash
_HOST = re.compile(r"(.*@)?([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]*)?")
_BROKEN_PORT = re.compile(r"^([^/]*//)[^/:\[\]]*:(?![0-9]*(/|$)).*", re.DOTALL)  # a password with "/", "?" or "#" in it
_UNICAST = ipaddress.ip_network("2000::/3")  # beside it: mapped, compatible, NAT64, local, multicast
_PROTOCOLS = ipaddress.ip_network("192.0.0.0/24")  # of which newer versions of Python call parts global
_HOME_DOMAINS = (".localhost", ".local", ".internal", ".localdomain", ".home.arpa", ".intranet", ".lan")
_LONGEST_ID = 512


def parse_base_url(value: str) -> str:
    """Return the origin of `value`, `scheme://host[:port]`.

    A trailing `/v1`, as OpenAI clients spell it, is taken off.

    Raises:
        ValueError: With what to change, for anything but https (or http to a loopback address) without
            credentials, query, fragment or another path.
    """
    parts = _split(value)
    if parts is None or not parts.hostname or parts.scheme not in _DEFAULT_PORTS:
        raise ValueError("must look like https://api.lemondata.cc")
    if "@" in parts.netloc:
        raise ValueError("must not hold credentials; pass the key as api_key")
    if "?" in value or "#" in value:
        raise ValueError("must not have a query or a fragment")
    if parts.path.rstrip("/") not in {"", "/v1"}:
        raise ValueError("must not have a path: poll addresses are relative to the origin")
    if parts.scheme == "http" and not is_loopback(parts.hostname):
        raise ValueError("must use https, or the key could be read on the way (http is for loopback only)")
    return _origin(parts)


def resolve_poll_url(origin: str, poll_url: str) -> str:
    """Return the path and query to poll at `origin` ("Get image status": "prefer calling that exact URL").

    Raises:
        ValueError: When it leads, or could be read as leading, anywhere but to that origin.
    """
    path = poll_url
    if not poll_url.startswith("/"):
        parts = _split(poll_url)
        if parts is None or "@" in parts.netloc or not parts.hostname or _origin(parts) != origin:
            raise ValueError("it leaves the API's origin")
        path = poll_url[len(f"{parts.scheme}://{parts.netloc}") :]
    if not _PATH.fullmatch(path) or _climbs(path.partition("?")[0]):
        raise ValueError("it is not a plain path")
    return path


def task_path(task_id: str) -> str:
    """Return the path that polls `task_id` ("Get image status").

    Raises:
        ValueError: When the id cannot be one segment of a path.
    """
    try:
        return f"/v1/tasks/{one_segment(task_id)}"
    except ValueError:
        raise ValueError("a task id is one word of printable ASCII, like ldtask_0123abcd") from None


def one_segment(word: str) -> str:
    """Return an id as one segment of a path.

    Raises:
        ValueError: When it cannot be one.
    """
    if not word or len(word) > _LONGEST_ID or not _PLAIN.fullmatch(word) or _climbs(word):
        raise ValueError("it is not one word of printable ASCII")
    return quote(word, safe="")


def poll_path(origin: str, task_id: str | None, poll_url: str | None) -> tuple[str, str | None]:
    """Return where to poll a task, and why its `poll_url` is not used, if it has one that must not be.

    Raises:
        ValueError: When neither the address nor the id can be polled.
    """
    fault = None
    if poll_url:
        try:
            return resolve_poll_url(origin, poll_url), None
        except ValueError as refusal:
            fault = str(refusal)
    return task_path(task_id or ""), fault


def find_link_fault(url: str, *, allow_loopback: bool) -> str | None:
    """Return why `url` must not be fetched, or `None` when it may.

    Args:
        url: A result link, or where it redirects to.
        allow_loopback: Whether the API itself is on loopback, so that its links may be.
    """
    parts = _split(url)
    if parts is None or not parts.hostname or "@" in parts.netloc:
        return "it is not a plain https address"
    if allow_loopback and is_loopback(parts.hostname):
        return None if parts.scheme in _DEFAULT_PORTS else "it is not a web address"
    if parts.scheme != "https":
        return "it does not use https"
    if _is_private(parts.hostname):
        return "it points into a private network"
    return None


def find_remote_fault(url: str) -> str | None:
    """Return why the service would not fetch a source picture from `url` ("Remote image URLs"), or `None`.

    Whatever a name resolves to is the service's to check.
    """
    parts = _split(url)
    if parts is None or not parts.hostname:
        return "is no plain web address such as https://example.com/cat.png (anything beyond ASCII percent-encoded)"
    if parts.scheme not in _DEFAULT_PORTS:
        return "is no http or https address"
    if "@" in parts.netloc:
        return "holds credentials, which the service refuses: upload the picture instead"
    if "#" in url:
        return "has a fragment (#…), which the service refuses: leave it out"
    if _is_private(parts.hostname):
        return "points into a private network, where the service does not fetch: upload the picture instead"
    return None


def is_loopback(host: str) -> bool:
    """Tell whether `host` is this machine, by its literal address or the name `localhost`."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def redact(url: str) -> str:
    """Return `url` without credentials, query and fragment, cut to a length that fits a message."""
    bare = re.sub(r"//[^/]*@", "//", re.split(r"[?#]", url, maxsplit=1)[0])
    bare = _BROKEN_PORT.sub(r"\1?", bare)
    return re.sub(r"[^\x21-\x7e]", "?", bare)[:200]


def _split(url: str) -> SplitResult | None:
    """Split `url`, or return `None` for what two parsers could read in two ways."""
    if not _PLAIN.fullmatch(url):
        return None
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return None
    return parts if _HOST.fullmatch(parts.netloc) else None


def _origin(parts: SplitResult) -> str:
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    port = parts.port if parts.port is not None else _DEFAULT_PORTS.get(parts.scheme)
    suffix = "" if port == _DEFAULT_PORTS.get(parts.scheme) else f":{port}"
    return f"{parts.scheme}://{host}{suffix}"


def _climbs(path: str) -> bool:
    """Tell whether a path holds `.` or `..` segments, in plain or percent-encoded once or twice."""
    decoded = unquote(unquote(path))
    return not decoded.isprintable() or any(part in {".", ".."} for part in re.split(r"[/\\]", decoded))


def _is_private(host: str) -> bool:
    name = host.rstrip(".")
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        # "127.1", "0x7f.1" and "2130706433" are addresses to a resolver; no public name ends in a number.
        is_number = re.fullmatch(r"(0x[0-9a-f]*|\d+)", name.rpartition(".")[2]) is not None
        return is_number or "." not in name or name.endswith(_HOME_DOMAINS)
    # `is_global` differs between versions of Python in what it makes of IPv4 inside IPv6 (2002::/16 is 6to4).
    if isinstance(address, ipaddress.IPv6Address) and (address not in _UNICAST or address.sixtofour):
        return True
    return address.is_multicast or not address.is_global or address in _PROTOCOLS
