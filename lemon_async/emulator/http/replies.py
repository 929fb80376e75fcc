"""Answers before they are sent: made by an endpoint, or replaced by a fault."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from http import HTTPStatus
from typing import Any

import orjson
from aiohttp import web
from attrs import evolve, field, frozen

from lemon_async.emulator.actions import Body, Expire, Redirect, Status
from lemon_async.emulator.http.faults import Fault
from lemon_async.emulator.problems import Problem, error_json

JSON_TYPE = "application/json"

_HUGE_BYTES = 8 * 2**20
_HTML = (
    "<html>\r\n<head><title>{status} {phrase}</title></head>\r\n<body>\r\n"
    "<center><h1>{status} {phrase}</h1></center>\r\n<hr><center>nginx</center>\r\n"
    "</body>\r\n</html>\r\n"
)
_SUCCESS = 299
_RETRY_AFTER_S = 1


@frozen
class Reply:
    """Status, headers and body of an answer; `chunks` are the body of one that is sent while it comes into being."""

    status: int
    body: bytes = b""
    content_type: str = JSON_TYPE
    headers: Mapping[str, str] = field(factory=dict)
    chunks: AsyncGenerator[bytes] | None = None

    def plus(self, headers: Mapping[str, str]) -> "Reply":
        """The same with these headers, unless it has its own."""
        own = {name.lower() for name in self.headers}
        added = {name: value for name, value in headers.items() if name.lower() not in own}
        return evolve(self, headers={**added, **self.headers})

    @property
    def has_own_length(self) -> bool:
        """Whether a fault has written a Content-Length of its own, true or not."""
        return _has(self.headers, "content-length")

    def all_headers(self) -> dict[str, str]:
        """The headers with those that describe the body; a fault's own ones win."""
        described = self.plus({"Content-Type": self.content_type} if self.content_type else {})
        return {**described.headers}

    async def whole(self) -> "Reply":
        """The same with its whole body, which may take as long as the job."""
        if self.chunks is None:
            return self
        return evolve(self, body=b"".join([chunk async for chunk in self.chunks]), chunks=None)

    async def send(self, request: web.BaseRequest) -> web.StreamResponse:
        """Let aiohttp answer; chunks go out one by one, behind a head that goes out at once."""
        if self.chunks is None:
            return web.Response(status=self.status, body=self.body, headers=self.all_headers())
        response = web.StreamResponse(status=self.status, headers=self.all_headers())
        await response.prepare(request)
        async with aclosing(self.chunks) as chunks:
            async for chunk in chunks:
                await response.write(chunk)
        await response.write_eof()
        return response

    def head(self) -> bytes:
        """The head as it goes over the wire when aiohttp is not asked."""
        headers = {
            "Content-Length": str(len(self.body)),
            "Connection": "close",
            **self.all_headers(),
        }
        lines = [
            f"HTTP/1.1 {self.status} {phrase(self.status)}",
            *(f"{name}: {value}" for name, value in headers.items()),
        ]
        return "\r\n".join([*lines, "", ""]).encode("utf-8", "surrogateescape")


def phrase(status: int) -> str:
    """The reason phrase of a status, also of those nobody has registered."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"


def json_reply(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Reply:
    """Answer with JSON."""
    return Reply(status, orjson.dumps(value), headers=headers or {})


def refusal(problem: Problem) -> Reply:
    """Answer with an error object."""
    return json_reply(problem.as_json(), problem.status, problem.headers)


def canned(fault: Fault) -> Reply | None:
    """The answer a fault puts in place of the real one."""
    match fault.replacement:
        case Status() as action:
            return _status(action)
        case Redirect(location, status):
            return Reply(status, content_type="", headers={"Location": location})
        case Body(content, content_type, headers):
            return Reply(200, content, content_type, headers)
        case Expire():
            return refusal(Problem(410))
        case _:
            return None


def _status(action: Status) -> Reply:
    """A bare status with the body a service, a gateway or a broken proxy puts under it."""
    if action.body == "empty":
        return Reply(action.status, content_type="", headers=action.headers)
    if action.body == "html":
        page = _HTML.format(status=action.status, phrase=phrase(action.status))
        return Reply(action.status, page.encode(), "text/html; charset=utf-8", action.headers)
    return _service_error(action)


def _service_error(action: Status) -> Reply:
    """The JSON of the service itself, with its usual hints unless the fault gives others."""
    hints, headers = dict(action.error), dict(action.headers)
    if action.status == 503:
        hints.setdefault("retryable", True)
    if action.status == 429 and "retry_after" not in hints and not _has(headers, "retry-after"):
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


def _has(headers: Mapping[str, str], name: str) -> bool:
    return any(own.lower() == name for own in headers)
