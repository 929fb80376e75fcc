"""Which request line leads to which endpoint."""

import re

from attrs import frozen

from lemon_async.emulator.service.messages import BodyKind, Call

# Addresses under this need a key, all others are public.
KEY_PREFIX = "/v1/"


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


def match_request(method: str, path: str) -> Call:
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
