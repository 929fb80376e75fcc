"""What every HTTP exchange of the library has in common, with the key or without."""

from typing import Any

import aiohttp

__all__ = ["common_headers", "quiet", "read_body", "reason_of", "without_frames"]

_LONGEST_REASON = 200


def common_headers() -> dict[str, str]:
    """Return the headers of every request.

    Compressed answers are not asked for: JSON of links is small, pictures are compressed already, and a truncated
    gzip stream looks whole to most readers.
    """
    from importlib.metadata import version  # noqa: PLC0415 - dear to import, needed once per session

    return {"User-Agent": f"lemon-async/{version('lemon-async')}", "Accept-Encoding": "identity"}


def quiet() -> dict[str, Any]:
    """No cookies kept, no proxy or netrc credentials from the environment, no hidden decompression."""
    return {"cookie_jar": aiohttp.DummyCookieJar(), "trust_env": False, "auto_decompress": False}


async def read_body(response: aiohttp.ClientResponse, most: int) -> bytes:
    """Read an answer to its end.

    Raises:
        ValueError: When it is larger than `most` bytes.
    """
    chunks, total = [], 0
    async for chunk in response.content.iter_any():
        total += len(chunk)
        if total > most:
            raise ValueError(f"the answer is larger than {most:,} bytes")
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
        return f"no answer within {bound_s:g} s"
    words = " ".join("".join(c if c.isprintable() else " " for c in str(failure)).split())
    return words[:_LONGEST_REASON] or type(failure).__name__
