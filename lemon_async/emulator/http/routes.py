"""Match request lines to endpoints."""

import re

from attrs import field, frozen

from lemon_async.emulator.service.messages import BodyKind, Call

# Paths under this prefix need a key, all others are public.
KEY_PREFIX = "/v1/"

# Regular expressions for the parameters of paths.
PARAMETERS = {"id": "[^/]+", "token": "[0-9a-f]+", "ext": "[a-z]+"}


@frozen
class RoutePattern:
    """A kind of request line; `route` is its name in faults, `endpoint` the name of the endpoint."""

    method: str
    template: str
    route: str
    endpoint: str
    operation_id: str
    body: BodyKind | None = None
    pattern: re.Pattern[str] = field(init=False)

    @pattern.default
    def _compile(self) -> re.Pattern[str]:
        escaped = self.template.replace(".", r"\.")
        return re.compile(re.sub(r"{(\w+)}", lambda name: f"(?P<{name[1]}>{PARAMETERS[name[1]]})", escaped))


PATTERNS = (
    RoutePattern("POST", "/v1/images/generations", "submit", "submit", "createImage", "json"),
    RoutePattern("POST", "/v1/images/edits", "edit", "edit", "createImageEdit", "either"),
    RoutePattern("POST", "/v1/images/variations", "edit", "vary", "createImageVariation", "form"),
    # Three paths, one response: see "Get image status".
    RoutePattern("GET", "/v1/tasks/{id}", "poll", "poll", "retrieveTask"),
    RoutePattern("GET", "/v1/images/generations/{id}", "poll", "poll", "retrieveImageGeneration"),
    RoutePattern("GET", "/v1/images/{id}", "poll", "poll", "retrieveImage"),
    RoutePattern("DELETE", "/v1/tasks/{id}", "cancel", "cancel", "cancelTask"),
    RoutePattern("GET", "/v1/models", "models", "list_models", "listModels"),
    RoutePattern("GET", "/v1/models/{id}", "models", "show_model", "retrieveModel"),
    RoutePattern("POST", "/v1/files", "files", "create_file", "createFile", "form"),
    RoutePattern("GET", "/v1/files", "files", "list_files", "listFiles"),
    RoutePattern("GET", "/v1/files/{id}", "files", "show_file", "retrieveFile"),
    RoutePattern("GET", "/v1/files/{id}/content", "files", "read_file", "downloadFile"),
    RoutePattern("DELETE", "/v1/files/{id}", "files", "delete_file", "deleteFile"),
    RoutePattern("GET", "/openapi.json", "openapi", "describe", "describe"),
    RoutePattern("GET", "/cdn/{token}.{ext}", "cdn", "download", "downloadImage"),
)


def match_request(method: str, path: str) -> Call:
    """Return a call of the endpoint that a request line matches; if none, route and endpoint are `unknown`."""
    for known, match in _matches(path):
        if known.method == method:
            return Call(known.route, known.endpoint, match.groupdict(), known.body)
    return Call("unknown", "unknown", {"method": method, "path": path})


def methods_of(path: str) -> list[str]:
    """Return the methods that a path supports."""
    return [known.method for known, _ in _matches(path)]


def _matches(path: str) -> list[tuple[RoutePattern, re.Match[str]]]:
    """Return the patterns that match a path; literal ones win, so that no part of them is read as an id."""
    found = [(known, match) for known in PATTERNS if (match := known.pattern.fullmatch(path))]
    return [pair for pair in found if not pair[1].groups()] or found
