"""Serialize and send replies, build those that a fault puts in place of an endpoint's, and cut byte ranges."""

import re
import zlib
from collections.abc import Mapping
from contextlib import aclosing
from http import HTTPStatus
from typing import Any

import orjson
from aiohttp import web
from attrs import evolve
from multidict import CIMultiDict

from lemon_async.emulator.actions import Body, Expire, Redirect, Status
from lemon_async.emulator.http.faults import Fault
from lemon_async.emulator.service.messages import Reply, json_reply
from lemon_async.emulator.service_errors import ServiceError, error_json

_HUGE_BYTES = 8 * 2**20
_HTML = (
    "<html>\r\n<head><title>{status} {phrase}</title></head>\r\n<body>\r\n"
    "<center><h1>{status} {phrase}</h1></center>\r\n<hr><center>nginx</center>\r\n"
    "</body>\r\n</html>\r\n"
)
_SUCCESS = 299
_RETRY_AFTER_S = 1
_ONE_RANGE = re.compile(r"bytes=(?!-$)(\d{0,18})-(\d{0,18})", re.ASCII | re.IGNORECASE)


async def send(reply: Reply, request: web.BaseRequest) -> web.StreamResponse:
    """Send a reply through aiohttp; chunks are sent one by one."""
    if reply.chunks is None:
        return web.Response(status=reply.status, body=reply.body, headers=_all_headers(reply))
    response = web.StreamResponse(status=reply.status, headers=_all_headers(reply))
    await response.prepare(request)
    async with aclosing(reply.chunks) as chunks:
        async for chunk in chunks:
            await response.write(chunk)
    await response.write_eof()
    return response


async def read_whole(reply: Reply) -> Reply:
    """Return the reply with its whole body, which may take as long as the job."""
    if reply.chunks is None:
        return reply
    return evolve(reply, body=b"".join([chunk async for chunk in reply.chunks]), chunks=None)


def raw_head(reply: Reply) -> bytes:
    """Return the response head as bytes, for replies that are sent past aiohttp."""
    headers = {"Content-Length": str(len(reply.body)), "Connection": "close", **_all_headers(reply)}
    lines = [
        f"HTTP/1.1 {reply.status} {phrase(reply.status)}",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    return "\r\n".join([*lines, "", ""]).encode("utf-8", "surrogateescape")


def _all_headers(reply: Reply) -> Mapping[str, str]:
    """Return the headers, with a `Content-Type` unless a fault has set one."""
    return reply.with_headers({"Content-Type": reply.content_type} if reply.content_type else {}).headers


def phrase(status: int) -> str:
    """Return the reason phrase of a status, registered or not."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"


def error_reply(error: ServiceError) -> Reply:
    """Return a reply with an error object."""
    return json_reply(error.as_json(), error.status, error.headers)


def replacement_reply(fault: Fault) -> Reply | None:
    """Return the reply that a fault puts in place of the endpoint's, if any."""
    match fault.replacement:
        case Status() as action:
            return _status(action)
        case Redirect(location, status):
            return Reply(status, content_type="", headers={"Location": location})
        case Body(content, content_type, headers):
            return Reply(200, content, content_type, headers)
        case Expire():
            return error_reply(ServiceError(410))
        case _:
            return None


def _status(action: Status) -> Reply:
    """Return a status with the body that the service, a gateway or a broken proxy would send."""
    if action.body == "empty":
        return Reply(action.status, content_type="", headers=action.headers)
    if action.body == "html":
        page = _HTML.format(status=action.status, phrase=phrase(action.status))
        return Reply(action.status, page.encode(), "text/html; charset=utf-8", action.headers)
    return _service_error(action)


def _service_error(action: Status) -> Reply:
    """Return the JSON error of the service, with its usual hints unless the fault sets others."""
    hints, headers = dict(action.error), CIMultiDict(action.headers)
    if action.status == 503:
        hints.setdefault("retryable", True)
    if action.status == 429 and "retry_after" not in hints and "Retry-After" not in headers:
        hints["retry_after"], headers["Retry-After"] = _RETRY_AFTER_S, str(_RETRY_AFTER_S)
    body = orjson.dumps(_body(action, {name: hint for name, hint in hints.items() if hint is not None}))
    if action.body == "truncated":
        body = body[: len(body) // 2]
    return Reply(action.status, body, headers=headers)


def _body(action: Status, hints: Mapping[str, Any]) -> dict[str, Any]:
    message = "x" * _HUGE_BYTES if action.body == "huge" else action.message
    if action.status <= _SUCCESS:
        return {"object": "nothing", "message": message or "A success without a shape."}
    return error_json(action.status, code=action.code, message=message, extras=hints)


# Ranges


def part_of(file: Reply, headers: Mapping[str, str]) -> Reply:
    """Return the byte range that a request asks for, as a CDN does (RFC 9110, 14).

    The whole file if there is no range, the range cannot be parsed, or `If-Range` names another file; 416 if the
    range begins behind the end; 206 otherwise.
    """
    tag = f'"{len(file.body):x}-{zlib.crc32(file.body):08x}"'
    whole = file.with_headers({"ETag": tag, "Accept-Ranges": "bytes"})
    asked = _ONE_RANGE.fullmatch(headers.get("Range", "").strip())
    if asked is None or headers.get("If-Range", tag).strip() != tag:
        return whole
    size = len(file.body)
    first, last = asked.groups()
    if first and last and int(last) < int(first):
        return whole
    start = int(first) if first else max(size - int(last), 0)
    end = min(int(last) + 1, size) if first and last else size
    if start >= end:
        return evolve(whole, status=416, body=b"").with_headers({"Content-Range": f"bytes */{size}"})
    part = evolve(whole, status=206, body=file.body[start:end])
    return part.with_headers({"Content-Range": f"bytes {start}-{end - 1}/{size}"})
