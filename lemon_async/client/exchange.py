"""What every HTTP exchange of the library has in common, with the key or without."""

from importlib.metadata import version
from typing import Any

import aiohttp

__all__ = ["HEADERS", "quiet", "read_body", "reason_of"]

# Compressed answers are not asked for: JSON of links is small, pictures are compressed already, and a truncated
# gzip stream looks whole to most readers.
HEADERS = {"User-Agent": f"lemon-async/{version('lemon-async')}", "Accept-Encoding": "identity"}
_LONGEST_REASON = 200


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


def reason_of(failure: Exception, bound_s: float) -> str:
    """Return one printable line for what aiohttp raised; `bound_s` is the time it had."""
    if isinstance(failure, TimeoutError):
        return f"no answer within {bound_s:g} s"
    words = " ".join("".join(c if c.isprintable() else " " for c in str(failure)).split())
    return words[:_LONGEST_REASON] or type(failure).__name__
