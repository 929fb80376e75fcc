"""Check the URLs that the key may be sent to, and those that may be fetched without it.

The key goes to one origin, and there only below the path of the base URL. Any address that the service sends is hostile
until it has passed `resolve_poll_url`, for requests with the key, or `find_link_fault`, for downloads without it.
"""

import ipaddress
import re
from collections.abc import Set as AbstractSet
from urllib.parse import SplitResult, quote, unquote, urlsplit

from lemon_async._formats.json_documents import safe_repr

__all__ = [
    "DEFAULT_ORIGIN",
    "find_link_fault",
    "find_remote_fault",
    "is_http_host",
    "is_loopback",
    "parse_base_url",
    "parse_http_hosts",
    "path_segment",
    "poll_path",
    "redact",
    "resolve_poll_url",
    "task_path",
]

DEFAULT_ORIGIN = "https://api.lemondata.cc"

_DEFAULT_PORTS = {"http": 80, "https": 443}
# RFC 3986 `pchar`, "/" and a query: no backslash, white space, control character, fragment or non-ASCII.
_PATH = re.compile(r"/(?!/)[A-Za-z0-9._~!$&'()*+,;=:@%/-]+(\?[A-Za-z0-9._~!$&'()*+,;=:@%/?-]*)?")
# Without "%": a path has one spelling, and what it is compared with has the same.
_BASE_PATH = re.compile(r"(/[A-Za-z0-9._~!$&'()*+,;=:@-]+)*")
_ENDPOINT = re.compile(r"/v1(/(images|tasks|files|models)(/.*)?)?$")
_PLAIN = re.compile(r"[\x21-\x5b\x5d-\x7e]+")  # printable ASCII without backslash
_HOST = re.compile(r"(.*@)?([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]*)?")
_BROKEN_PORT = re.compile(r"^([^/]*//)[^/:\[\]]*:(?![0-9]*(/|$)).*", re.DOTALL)  # a password with "/", "?" or "#" in it
_UNICAST = ipaddress.ip_network("2000::/3")  # beside it: mapped, compatible, NAT64, local, multicast
_PROTOCOLS = ipaddress.ip_network("192.0.0.0/24")  # of which newer versions of Python call parts global
_HOME_DOMAINS = (".localhost", ".local", ".internal", ".localdomain", ".home.arpa", ".intranet", ".lan")
_LONGEST_ID = 512


def parse_base_url(value: str, http_hosts: AbstractSet[str] = frozenset()) -> str:
    """Return the base of all requests, `scheme://host[:port][/path]`, to which each adds a path beginning with `/v1`.

    Removes a trailing slash, and a trailing `/v1`, which OpenAI clients expect.

    Args:
        value: The URL.
        http_hosts: From `parse_http_hosts`; these hosts need no https.

    Raises:
        ValueError: It is not https (or http to a loopback address or a host in `http_hosts`) with a plain path or none,
            or it has credentials, a query or a fragment. The message says what to change.
    """
    parts = _split(value)
    if parts is None or not parts.hostname or parts.scheme not in _DEFAULT_PORTS:
        raise ValueError("must look like https://api.lemondata.cc")
    if "@" in parts.netloc:
        raise ValueError("must not hold credentials; pass the key as api_key")
    if "?" in value or "#" in value:
        raise ValueError("must not have a query or a fragment")
    path = parts.path.rstrip("/").removesuffix("/v1").rstrip("/")
    if _ENDPOINT.search(path):
        raise ValueError("must be the part before /v1: the path of each request is added to it")
    if not _BASE_PATH.fullmatch(path) or _climbs(path):
        raise ValueError("must have a plain path such as /lemon, or none")
    if parts.scheme == "http" and not (is_loopback(parts.hostname) or _is_http_host(parts, http_hosts)):
        raise ValueError(
            "must use https, or the key could be read in transit; plain http is for loopback, and for hosts that are "
            f"named: allow_http={{{_bracketed(parts.hostname)!r}}}"
        )
    return _origin(parts) + path


def parse_http_hosts(value: object) -> frozenset[str]:
    """Return the hosts that plain http is allowed for, as `host` or `host:port` in lower case.

    Raises:
        TypeError: `value` is not a set.
        ValueError: An entry is neither a host nor a host and port.
    """
    if not isinstance(value, AbstractSet):
        raise TypeError(f"must be a set of hosts such as {{'emulator'}}, not {safe_repr(value)}")
    return frozenset(_http_host(entry) for entry in value)


def is_http_host(host: str, port: int | None, http_hosts: AbstractSet[str]) -> bool:
    """Return whether plain http is allowed to a host at a port."""
    name = _bracketed(host.lower())
    return not http_hosts.isdisjoint({name, f"{name}:{port}"})


def resolve_poll_url(base_url: str, poll_url: str) -> str:
    """Return the path and query to poll, relative to `base_url` ("Get image status": "prefer calling that exact URL").

    A `poll_url` is relative to the origin. Behind a gateway the base URL has a path: a `poll_url` that begins with that
    path is used as it is, and any other comes from a service that does not know the path, and is used below it.

    Raises:
        ValueError: It leads, or could be read as leading, anywhere but below the origin and path of `base_url`.
    """
    prefix = urlsplit(base_url).path
    path = poll_url
    if not poll_url.startswith("/"):
        parts = _split(poll_url)
        if parts is None or "@" in parts.netloc or not parts.hostname or _origin(parts) + prefix != base_url:
            raise ValueError("it leaves the API's origin")
        path = poll_url[len(f"{parts.scheme}://{parts.netloc}") :]
    if path.startswith(f"{prefix}/"):
        path = path.removeprefix(prefix)
    if not _PATH.fullmatch(path) or _climbs(path.partition("?")[0]):
        raise ValueError("it is not a plain path")
    return path


def task_path(task_id: str) -> str:
    """Return the path that polls `task_id` ("Get image status").

    Raises:
        ValueError: The id cannot be one segment of a path.
    """
    try:
        return f"/v1/tasks/{path_segment(task_id)}"
    except ValueError:
        raise ValueError("a task id is one word of printable ASCII, like ldtask_0123abcd") from None


def path_segment(word: str) -> str:
    """Return an id as one segment of a path.

    Raises:
        ValueError: It cannot be one.
    """
    if not word or len(word) > _LONGEST_ID or not _PLAIN.fullmatch(word) or _climbs(word):
        raise ValueError("it is not one word of printable ASCII")
    return quote(word, safe="")


def poll_path(base_url: str, task_id: str | None, poll_url: str | None) -> tuple[str, str | None]:
    """Return the path to poll a task below `base_url`, and why its `poll_url` was rejected, if it was.

    Raises:
        ValueError: Neither the address nor the id can be polled.
    """
    fault = None
    if poll_url:
        try:
            return resolve_poll_url(base_url, poll_url), None
        except ValueError as error:
            fault = str(error)
    return task_path(task_id or ""), fault


def find_link_fault(
    url: str, *, allow_loopback: bool, own_host: str | None = None, http_hosts: AbstractSet[str] = frozenset()
) -> str | None:
    """Return why `url` must not be fetched, or `None` if it may.

    Args:
        url: A result link, or the target of its redirect.
        allow_loopback: Whether the API itself is on loopback, so that its links may be.
        own_host: Host of the API, which may be in a private network.
        http_hosts: From `parse_http_hosts`; these may be in a private network, too, and need no https.
    """
    parts = _split(url)
    if parts is None or not parts.hostname or "@" in parts.netloc:
        return "it is not a plain https address"
    if (allow_loopback and is_loopback(parts.hostname)) or _is_http_host(parts, http_hosts):
        return None if parts.scheme in _DEFAULT_PORTS else "it is not a web address"
    if parts.scheme != "https":
        return "it does not use https"
    if parts.hostname != own_host and _is_private(parts.hostname):
        return "it points into a private network"
    return None


def find_remote_fault(url: str) -> str | None:
    """Return why the service would not fetch a source picture from `url` ("Remote image URLs"), or `None`.

    The service checks the address that a name resolves to.
    """
    parts = _split(url)
    if parts is None or not parts.hostname:
        return "is not a plain web address such as https://example.com/cat.png (anything beyond ASCII percent-encoded)"
    if parts.scheme not in _DEFAULT_PORTS:
        return "is not an http or https address"
    if "@" in parts.netloc:
        return "holds credentials, which the service refuses: upload the picture instead"
    if "#" in url:
        return "has a fragment (#…), which the service refuses: leave it out"
    if _is_private(parts.hostname):
        return "points into a private network, where the service does not fetch: upload the picture instead"
    return None


def is_loopback(host: str) -> bool:
    """Return whether `host` is a loopback address or the name `localhost`."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def redact(url: str) -> str:
    """Return `url` without credentials, query and fragment, at most 200 characters."""
    bare = re.sub(r"//[^/]*@", "//", re.split(r"[?#]", url, maxsplit=1)[0])
    bare = _BROKEN_PORT.sub(r"\1?", bare)
    return re.sub(r"[^\x21-\x7e]", "?", bare)[:200]


def _split(url: object) -> SplitResult | None:
    """Split `url`, or return `None` if two parsers could read it in two ways."""
    if not isinstance(url, str) or not _PLAIN.fullmatch(url):
        return None
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return None
    return parts if _HOST.fullmatch(parts.netloc) else None


def _origin(parts: SplitResult) -> str:
    port = _port(parts)
    suffix = "" if port == _DEFAULT_PORTS.get(parts.scheme) else f":{port}"
    return f"{parts.scheme}://{_bracketed(parts.hostname or '')}{suffix}"


def _port(parts: SplitResult) -> int | None:
    return parts.port if parts.port is not None else _DEFAULT_PORTS.get(parts.scheme)


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _is_http_host(parts: SplitResult, http_hosts: AbstractSet[str]) -> bool:
    return is_http_host(parts.hostname or "", _port(parts), http_hosts)


def _http_host(entry: object) -> str:
    parts = _split(f"http://{entry}") if isinstance(entry, str) else None
    if parts is None or parts.netloc != entry or "@" in parts.netloc or not parts.hostname:
        raise ValueError(f"{safe_repr(entry)} is not a host, or a host and port, such as 'emulator:8000'")
    host = _bracketed(parts.hostname)
    return host if parts.port is None else f"{host}:{parts.port}"


def _climbs(path: str) -> bool:
    """Return whether a path has `.` or `..` segments, plain or percent-encoded up to three times.

    Some servers cut a segment at ";" first.
    """
    decoded = unquote(unquote(unquote(path)))
    segments = re.split(r"[/\\]", decoded)
    return not decoded.isprintable() or any(segment.partition(";")[0] in {".", ".."} for segment in segments)


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
