"""Calls and replies: what the HTTP server and the endpoints exchange."""

from collections.abc import AsyncGenerator, Mapping
from typing import IO, Any, Literal

import orjson
from attrs import define, evolve, field, frozen
from multidict import CIMultiDict

from lemon_async.emulator.actions import TaskAction

JSON_TYPE = "application/json"

BodyKind = Literal["json", "form", "either"]

MAX_FILE_BYTES = 50 * 2**20

# The routes whose requests cost money.
PAID_ROUTES = ("submit", "edit")


@frozen
class Upload:
    """A file of a multipart form; `name` is the name of its field."""

    name: str
    filename: str
    file: IO[bytes]


@define
class Call:
    """A parsed request.

    `origin` is the address at which the client reached the emulator; result links begin with it. `body` holds the
    fields of a JSON object or of a form, `uploads` the files of a form. `script` holds the task actions of the fault
    that hit the request.
    """

    route: str
    endpoint: str
    args: Mapping[str, str] = field(factory=dict)
    body_kind: BodyKind | None = None
    query: Mapping[str, str] = field(factory=dict)
    key: str = ""
    origin: str = ""
    headers: Mapping[str, str] = field(factory=dict)
    body: Mapping[str, Any] = field(factory=dict)
    uploads: list[Upload] = field(factory=list)
    is_form: bool = False
    script: tuple[TaskAction, ...] = ()

    @property
    def is_paid(self) -> bool:
        """Whether accepting the request costs money."""
        return self.route in PAID_ROUTES


def _ignore_case(headers: Mapping[str, str]) -> CIMultiDict[str]:
    return CIMultiDict(headers)


@frozen
class Reply:
    """Status, headers and body of a response; `chunks` yields the body of a streamed one."""

    status: int
    body: bytes = b""
    content_type: str = JSON_TYPE
    headers: Mapping[str, str] = field(factory=dict, converter=_ignore_case)
    chunks: AsyncGenerator[bytes] | None = None

    def with_headers(self, headers: Mapping[str, str]) -> "Reply":
        """Return a copy with these headers added; headers that the reply already has win."""
        merged = _ignore_case(headers)
        merged.update(self.headers)
        return evolve(self, headers=merged)


def json_reply(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Reply:
    """Return a reply with a JSON body."""
    return Reply(status, orjson.dumps(value), headers=headers or {})
