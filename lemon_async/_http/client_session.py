"""What every HTTP exchange of the library has in common, with the key or without."""

from collections.abc import Sequence
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver
from aiohttp.http_exceptions import BadStatusLine, InvalidHeader, LineTooLong
from yarl import URL

from lemon_async._api.response import Unreadable
from lemon_async._formats.safe_text import one_line
from lemon_async._http.connections import CheckedConnector, UnusableConnection
from lemon_async._version import __version__

__all__ = ["TooLarge", "cause_of", "open_session", "reason_of"]

_LONGEST_REASON = 200
# What aiohttp says of these quotes the server.
_IN_OUR_WORDS: tuple[tuple[type[Exception], str], ...] = (
    (aiohttp.ServerDisconnectedError, "Server disconnected"),
    (UnusableConnection, "the server closed the connection or sent data before the request"),
    (aiohttp.ClientConnectionError, "Connection closed"),
    (aiohttp.ClientPayloadError, "the answer broke off before its end"),
    (BadStatusLine, "the answer has no HTTP status line"),
    (InvalidHeader, "the answer has a header that is not HTTP"),
    (LineTooLong, "the head of the answer has a line that is too long"),
    (aiohttp.ClientResponseError, "the head of the answer is not HTTP"),
)


class TooLarge(Exception):
    """An answer is larger than any that makes sense."""


_SILENT = (OSError, TooLarge, Unreadable)  # the words of the system, and ours


class _Arrived(aiohttp.ClientResponse):
    """An answer that does not show its reason phrase and headers in tracebacks: they may quote the key."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.status}>"


class _NoCookies(aiohttp.DummyCookieJar):
    """Cookies are not even read: of odd ones aiohttp would quote the names in its log."""

    def update_cookies_from_headers(self, headers: Sequence[str], response_url: URL) -> None:
        pass


def open_session(
    headers: dict[str, str],
    *,
    idle_s: float | None,
    connector: type[CheckedConnector] = CheckedConnector,
    resolver: AbstractResolver | None = None,
    **options: Any,
) -> aiohttp.ClientSession:
    """Return an aiohttp session that does nothing by itself.

    No cookies are kept, no proxy or netrc credentials taken from the environment, nothing is decompressed, and
    concurrency is limited before a request's clock starts to run, not by waiting for a connection. Compressed answers
    are not asked for: JSON of links is small, pictures are compressed already, and a truncated gzip stream looks whole
    to most readers.

    Args:
        headers: Headers of every request.
        idle_s: Seconds for which an idle connection is kept; `None`: each request gets a new one.
        connector: What makes the connections.
        resolver: What looks host names up.
        options: Further options of `aiohttp.ClientSession`.
    """
    keeping: dict[str, Any] = {"force_close": True} if idle_s is None else {"keepalive_timeout": idle_s}
    return aiohttp.ClientSession(
        connector=connector(limit=0, resolver=resolver, **keeping),
        headers={"User-Agent": f"lemon-async/{__version__}", "Accept-Encoding": "identity", **headers},
        cookie_jar=_NoCookies(),
        response_class=_Arrived,
        trust_env=False,
        auto_decompress=False,
        **options,
    )


def reason_of(failure: Exception, bound_s: float) -> str:
    """Return one printable line for what aiohttp raised, without a word of the server; `bound_s` is its time."""
    if isinstance(failure, TimeoutError):
        return f"no answer within {round(bound_s, 2):g} s"
    if isinstance(failure, aiohttp.ClientConnectorError):
        return f"cannot connect to {failure.host}:{failure.port}: {one_line(str(failure.os_error))}"[:_LONGEST_REASON]
    if isinstance(failure, _SILENT):
        return (one_line(str(failure)) or type(failure).__name__)[:_LONGEST_REASON]
    for kind, words in _IN_OUR_WORDS:
        if isinstance(failure, kind) or isinstance(failure.__cause__, kind):
            return words
    return type(failure).__name__


def cause_of(failure: Exception) -> Exception | None:
    """Return what a failure of ours may have as its cause: the failure alone, if it quotes nothing that a server sent.

    Neither its frames nor what led to it come along: they can hold the bytes of the request, the key among them, and
    of an answer that quotes it.
    """
    if not isinstance(failure, _SILENT):
        return None
    failure.__traceback__ = failure.__cause__ = failure.__context__ = None
    return failure
