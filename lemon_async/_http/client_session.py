"""Open aiohttp sessions that do nothing by themselves, and describe their failures without quoting a server."""

from collections.abc import Sequence
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver
from aiohttp.http_exceptions import BadStatusLine, InvalidHeader, LineTooLong
from yarl import URL

from lemon_async._api.response import Unreadable
from lemon_async._formats.json_documents import one_line
from lemon_async._http.connections import CheckedConnector, UnusableConnection
from lemon_async._version import __version__

__all__ = ["TooLarge", "failure_reason", "open_session", "safe_cause"]

_LONGEST_REASON = 200
# aiohttp's own messages for these quote the server.
_REASONS: tuple[tuple[type[Exception], str], ...] = (
    (aiohttp.ServerDisconnectedError, "Server disconnected"),
    (UnusableConnection, "the server closed the connection or sent data before the request"),
    (aiohttp.ClientConnectionError, "Connection closed"),
    (aiohttp.ClientPayloadError, "the response broke off before its end"),
    (BadStatusLine, "the response has no HTTP status line"),
    (InvalidHeader, "the response has a header that is not HTTP"),
    (LineTooLong, "the head of the response has a line that is too long"),
    (aiohttp.ClientResponseError, "the head of the response is not HTTP"),
)


class TooLarge(Exception):
    """A response is larger than any plausible one."""


_QUOTING_NOTHING = (OSError, TooLarge, Unreadable)  # messages of the operating system, and ours


class _Response(aiohttp.ClientResponse):
    """A response whose `repr` has no reason phrase and headers: they may quote the key, and tracebacks print it."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.status}>"


class _NoCookies(aiohttp.DummyCookieJar):
    """Does not even parse cookies: aiohttp would log the names of malformed ones."""

    def update_cookies_from_headers(self, headers: Sequence[str], response_url: URL) -> None:
        pass


def open_session(
    headers: dict[str, str], *, idle_s: float | None, resolver: AbstractResolver | None = None, **options: Any
) -> aiohttp.ClientSession:
    """Return an aiohttp session that does nothing by itself.

    It keeps no cookies, takes no proxy or netrc credentials from the environment, decompresses nothing and opens any
    number of connections: concurrency is limited before a request's clock starts. It asks for no compressed responses:
    JSON with links is small, pictures are compressed already, and most readers take a truncated gzip stream for whole.

    Args:
        headers: Headers of every request.
        idle_s: Seconds for which an idle connection is kept; `None`: each request gets a new one.
        resolver: Looks up host names.
        options: Further options of `aiohttp.ClientSession`.
    """
    keeping: dict[str, Any] = {"force_close": True} if idle_s is None else {"keepalive_timeout": idle_s}
    return aiohttp.ClientSession(
        connector=CheckedConnector(limit=0, resolver=resolver, **keeping),
        headers={"User-Agent": f"lemon-async/{__version__}", "Accept-Encoding": "identity", **headers},
        cookie_jar=_NoCookies(),
        response_class=_Response,
        trust_env=False,
        auto_decompress=False,
        **options,
    )


def failure_reason(failure: Exception, timeout_s: float) -> str:
    """Describe what aiohttp raised in one printable line that quotes no server; `timeout_s` is what it exceeded."""
    if isinstance(failure, TimeoutError):
        return f"no response within {round(timeout_s, 2):g} s"
    if isinstance(failure, aiohttp.ClientConnectorError):
        return f"cannot connect to {failure.host}:{failure.port}: {one_line(str(failure.os_error))}"[:_LONGEST_REASON]
    if isinstance(failure, _QUOTING_NOTHING):
        return (one_line(str(failure)) or type(failure).__name__)[:_LONGEST_REASON]
    for kind, reason in _REASONS:
        if isinstance(failure, kind) or isinstance(failure.__cause__, kind):
            return reason
    return type(failure).__name__


def safe_cause(failure: Exception) -> Exception | None:
    """Return a failure as the `__cause__` of an error of this library, or `None` if its message may quote a server.

    Its frames and its own causes are dropped: they can hold the bytes of the request, the key among them, and those of
    a response that quotes it.
    """
    if not isinstance(failure, _QUOTING_NOTHING):
        return None
    failure.__traceback__ = failure.__cause__ = failure.__context__ = None
    return failure
