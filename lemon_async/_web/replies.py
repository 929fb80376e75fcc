"""Replies of pages: JSON, errors, files, and the headers that keep a page apart from everything else."""

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import orjson
from aiohttp import web
from attrs import field, frozen

NOT_STORED = "no-store"
MAX_JSON_BYTES = 64 * 2**10

# A page loads nothing from elsewhere, runs no inline script and cannot be framed; no other page reads its replies.
SECURITY_HEADERS: Mapping[str, str] = MappingProxyType(
    {
        "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; form-action 'none'; frame-ancestors 'none'; base-uri 'none'",
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Cross-Origin-Opener-Policy": "same-origin",
    }
)


@frozen(eq=False)
class PageError(Exception):
    """A refusal; it becomes a JSON object wherever it is raised."""

    status: int
    message: str
    headers: Mapping[str, str] = field(factory=dict)

    def reply(self) -> web.Response:
        """Return the response."""
        return json_reply({"error": {"message": self.message}}, self.status, self.headers)


def json_reply(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """Return a response with a JSON body."""
    return web.Response(status=status, body=json_bytes(value), content_type="application/json", headers=headers)


def json_bytes(value: Any) -> bytes:
    """Return JSON, also of text with lone surrogates, which UTF-8 cannot hold."""
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError:
        return json.dumps(value).encode()


def file_reply(content: bytes, content_type: str, cache: str = NOT_STORED) -> web.Response:
    """Return a response with the content of a file; `cache` is its `Cache-Control`."""
    return web.Response(body=content, content_type=content_type, headers={"Cache-Control": cache})


async def read_json(request: web.BaseRequest, most: int = MAX_JSON_BYTES) -> Any:
    """Read a JSON body of at most `most` bytes.

    Raises:
        PageError: 415 another content type, 413 too large, 400 not JSON.
    """
    if request.content_type != "application/json":
        raise PageError(415, "the body must be application/json")
    body = bytearray()
    if (request.content_length or 0) <= most:
        async for chunk in request.content.iter_any():
            body += chunk
            if len(body) > most:
                break
    if (request.content_length or len(body)) > most or len(body) > most:
        raise PageError(413, f"the body holds more than {most} bytes")
    try:
        return orjson.loads(bytes(body))
    except orjson.JSONDecodeError as error:
        raise PageError(400, f"the body is not valid JSON: {error}") from error
