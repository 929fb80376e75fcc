"""What every HTTP exchange of the library has in common, with the key or without."""

from functools import cache
from typing import Any

import aiohttp

from lemon_async.api.response import one_line

__all__ = ["TooLarge", "open_session", "read_body", "reason_of", "without_frames"]

_LONGEST_REASON = 200


class TooLarge(Exception):
    """An answer is larger than any that makes sense."""


def open_session(headers: dict[str, str], *, idle_s: float, **options: Any) -> aiohttp.ClientSession:
    """Return an aiohttp session that does nothing by itself.

    No cookies are kept, no proxy or netrc credentials taken from the environment, nothing is decompressed, and
    concurrency is limited before a request's clock starts to run, not by waiting for a connection. Compressed answers
    are not asked for: JSON of links is small, pictures are compressed already, and a truncated gzip stream looks whole
    to most readers.
    """
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=idle_s),
        headers={"User-Agent": _user_agent(), "Accept-Encoding": "identity", **headers},
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
        auto_decompress=False,
        **options,
    )


@cache
def _user_agent() -> str:
    from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415 - dear to import, needed once

    try:
        return f"lemon-async/{version('lemon-async')}"
    except PackageNotFoundError:  # copied into another program, without its metadata
        return "lemon-async"


async def read_body(response: aiohttp.ClientResponse, max_bytes: int) -> bytes:
    """Read an answer to its end.

    Raises:
        TooLarge: When it has more than `max_bytes`.
    """
    chunks, total = [], 0
    async for chunk in response.content.iter_any():
        total += len(chunk)
        if total > max_bytes:
            raise TooLarge(f"the answer is larger than {max_bytes:,} bytes")
        chunks.append(chunk)
    return b"".join(chunks)


def without_frames(failure: BaseException) -> BaseException:
    """Drop the tracebacks of an exception and of all that led to it, and return it.

    A socket that breaks while it is written to raises from a frame that holds the request's bytes, the key among
    them; a report that shows local variables would show it.
    """
    seen: list[BaseException | None] = [failure]
    for error in seen:
        if error is not None:
            error.__traceback__ = None
            seen += [other for other in (error.__cause__, error.__context__) if other not in seen]
    return failure


def reason_of(failure: Exception, bound_s: float) -> str:
    """Return one printable line for what aiohttp raised; `bound_s` is the time it had."""
    if isinstance(failure, TimeoutError):
        return f"no answer within {round(bound_s, 2):g} s"
    if isinstance(failure, aiohttp.ClientConnectorError):
        return f"cannot connect to {failure.host}:{failure.port}: {one_line(str(failure.os_error))}"[:_LONGEST_REASON]
    if isinstance(failure, aiohttp.ClientPayloadError):
        return "the answer broke off before its end"
    return (one_line(str(failure)) or type(failure).__name__)[:_LONGEST_REASON]
