"""Which request line leads where, and what an endpoint gets to see of a request."""

import re
from collections.abc import Mapping
from typing import Any, Literal

from attrs import define, field, frozen

from lemon_async.emulator.actions import TaskAction
from lemon_async.emulator.http.bodies import Upload

BodyKind = Literal["json", "form", "either"]

# Addresses under this need a key, all others are public.
KEY_PREFIX = "/v1/"

# The routes whose requests cost money.
PAID_ROUTES = ("submit", "edit")


@define
class Call:
    """A request as the endpoints see it.

    `origin` is where the client reached us, and where it will find the files; `headers` are those that ask for
    a part of a file; `body` holds the fields of a JSON object or of a form, `uploads` the files of a form;
    `script` is what a fault has in mind for the task.
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
    uploads: tuple[Upload, ...] = ()
    is_form: bool = False
    script: tuple[TaskAction, ...] = ()

    @property
    def is_paid(self) -> bool:
        """Whether accepting it sells something."""
        return self.route in PAID_ROUTES


@frozen
class Path:
    """One kind of request line; `route` is its name in faults, `endpoint` the method that answers."""

    method: str
    pattern: re.Pattern[str]
    route: str
    endpoint: str
    body: BodyKind | None = None


def _path(method: str, pattern: str, route: str, endpoint: str, body: BodyKind | None = None) -> Path:
    return Path(method, re.compile(pattern), route, endpoint, body)


PATHS = (
    _path("POST", r"/v1/images/generations", "submit", "submit", "json"),
    _path("POST", r"/v1/images/edits", "edit", "edit", "either"),
    _path("POST", r"/v1/images/variations", "edit", "vary", "form"),
    # Three addresses, one answer: see "Get image status".
    _path("GET", r"/v1/(?:tasks|images/generations|images)/(?P<id>[^/]+)", "poll", "poll"),
    _path("DELETE", r"/v1/tasks/(?P<id>[^/]+)", "cancel", "cancel"),
    _path("GET", r"/v1/models", "models", "list_models"),
    _path("GET", r"/v1/models/(?P<id>[^/]+)", "models", "show_model"),
    _path("POST", r"/v1/files", "files", "create_file", "form"),
    _path("GET", r"/v1/files", "files", "list_files"),
    _path("GET", r"/v1/files/(?P<id>[^/]+)", "files", "show_file"),
    _path("GET", r"/v1/files/(?P<id>[^/]+)/content", "files", "read_file"),
    _path("DELETE", r"/v1/files/(?P<id>[^/]+)", "files", "delete_file"),
    _path("GET", r"/openapi\.json", "openapi", "describe"),
    _path("GET", r"/cdn/(?P<token>[0-9a-f]+)\.(?P<ext>[a-z]+)", "cdn", "download"),
)


def find_call(method: str, path: str) -> Call:
    """The endpoint of a request line; route and endpoint are `unknown` when there is none."""
    for known, match in _served(path):
        if known.method == method:
            return Call(known.route, known.endpoint, match.groupdict(), known.body)
    return Call("unknown", "unknown", {"method": method, "path": path})


def methods_of(path: str) -> list[str]:
    """The methods that lead somewhere from this address."""
    return [known.method for known, _ in _served(path)]


def _served(path: str) -> list[tuple[Path, re.Match[str]]]:
    """What is served at an address; one that is spelt out in a pattern is never the id in another."""
    found = [(known, match) for known in PATHS if (match := known.pattern.fullmatch(path))]
    return [pair for pair in found if not pair[1].groups()] or found
