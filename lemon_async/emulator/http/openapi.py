"""Build the document of `GET /openapi.json` from the tables that the emulator works with.

Paths come from `routes`, fields and their bounds from `model_families` and `field_checks` through `openapi_schemas`,
error codes from `service_errors`. This module adds what no other table holds: summaries, unusual statuses and examples.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from attrs import field, frozen

from lemon_async.emulator.http.openapi_schemas import (
    Schema,
    job_in_form,
    job_in_json,
    new_file,
    ref,
    response_schemas,
    stream_of,
)
from lemon_async.emulator.http.routes import KEY_PREFIX, PARAMETERS, PATTERNS, RoutePattern
from lemon_async.emulator.pictures.picture import CONTENT_TYPES
from lemon_async.emulator.service.files import MAX_PAGE, PURPOSES, SORT_ORDERS
from lemon_async.emulator.service.image_jobs import COST_HEADER, ESTIMATE_HEADER, TRANSACTION_HEADER
from lemon_async.emulator.service.messages import JSON_TYPE, PAID_ROUTES
from lemon_async.emulator.service.model_families import FAMILIES
from lemon_async.emulator.service.model_list import CATEGORY
from lemon_async.emulator.service.streaming import STREAM_TYPE
from lemon_async.emulator.service_errors import error_json

DOCUMENT_VERSION = "3.1.0"

_FORM_TYPE = "multipart/form-data"


@frozen
class Operation:
    """The description of an endpoint.

    `success` and `body` hold a schema for each media type; `example` is a JSON body; `statuses` are those that do not
    follow from the route.
    """

    summary: str
    success: Mapping[str, Schema]
    body: Mapping[str, Schema] | None = None
    statuses: tuple[int, ...] = ()
    example: Any = None
    query: Mapping[str, Schema] = field(factory=dict)


def _json(name: str) -> dict[str, Schema]:
    return {JSON_TYPE: ref(name)}


_TEXT: Schema = {"type": "string"}
_LINK = "https://example.com/cat.png"
_PICTURES = {content_type: {"type": "string", "format": "binary"} for content_type in CONTENT_TYPES.values()}
_IMAGES = {JSON_TYPE: {"anyOf": [ref("NewTask"), ref("Images")]}}
_PAID_HEADERS = (COST_HEADER, ESTIMATE_HEADER)
_HEADERS = {"submit": _PAID_HEADERS, "edit": _PAID_HEADERS, "poll": (COST_HEADER, TRANSACTION_HEADER)}

_OPERATIONS: Mapping[str, Operation] = {
    "submit": Operation(
        "Create images from a prompt",
        {**_IMAGES, STREAM_TYPE: stream_of("image_generation")},
        {JSON_TYPE: job_in_json("generate")},
        example={"model": "gpt-image-2", "prompt": "A white cat on a windowsill", "size": "1024x640", "quality": "low"},
    ),
    "edit": Operation(
        "Edit images",
        {**_IMAGES, STREAM_TYPE: stream_of("image_edit")},
        {JSON_TYPE: job_in_json("edit"), _FORM_TYPE: job_in_form("edit")},
        statuses=(404,),
        example={"model": "gpt-image-2", "prompt": "Add a red hat", "images": [{"image_url": _LINK}]},
    ),
    "vary": Operation("Vary a square image", _IMAGES, {_FORM_TYPE: job_in_form("variation")}),
    "poll": Operation("Retrieve a task", _json("Task")),
    "cancel": Operation("Cancel a task, if its model supports that", _json("Task"), statuses=(400, 403, 409)),
    "list_models": Operation(
        "List the models",
        _json("Models"),
        query={
            "recommended_for": {**_TEXT, "examples": [CATEGORY]},
            "category": _TEXT,
            "provider": {**_TEXT, "examples": sorted({family.provider for family in FAMILIES})},
            "tag": _TEXT,
        },
    ),
    "show_model": Operation("Retrieve a model", _json("Model")),
    "create_file": Operation("Upload an image for later edits", _json("File"), {_FORM_TYPE: new_file()}),
    "list_files": Operation(
        "List the uploaded files",
        _json("Files"),
        statuses=(400,),
        query={
            "purpose": {**_TEXT, "examples": list(PURPOSES)},
            "limit": {"type": "integer", "minimum": 1, "maximum": MAX_PAGE},
            "after": _TEXT,
            "order": {**_TEXT, "enum": list(SORT_ORDERS)},
        },
    ),
    "show_file": Operation("Retrieve an uploaded file", _json("File")),
    "read_file": Operation("Download an uploaded file", _PICTURES),
    "delete_file": Operation("Delete an uploaded file", _json("DeletedFile")),
    "describe": Operation("This document", {JSON_TYPE: {"type": "object", "required": ["openapi", "paths"]}}),
    "download": Operation("Download a result", _PICTURES, statuses=(404, 410)),
}


def document(origin: str) -> dict[str, Any]:
    """Return the OpenAPI document of the emulator at `origin`."""
    return {
        "openapi": DOCUMENT_VERSION,
        "info": {
            "title": "LemonData image API, emulated",
            "version": "1",
            "description": "Requests that the emulator on this machine accepts, and its responses.",
        },
        "servers": [{"url": origin}],
        "security": [{"key": []}],
        "paths": _paths(),
        "components": {
            "schemas": response_schemas(),
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


def _paths() -> dict[str, dict[str, Any]]:
    paths: dict[str, dict[str, Any]] = {}
    for route in PATTERNS:
        paths.setdefault(route.template, {})[route.method.lower()] = _describe(route, _OPERATIONS[route.endpoint])
    return paths


def _describe(route: RoutePattern, operation: Operation) -> dict[str, Any]:
    is_public = not route.template.startswith(KEY_PREFIX)
    described: dict[str, Any] = {
        "operationId": route.operation_id,
        "summary": operation.summary,
        "parameters": [
            *_path_parameters(route.template),
            *({"name": name, "in": "query", "schema": schema} for name, schema in operation.query.items()),
        ],
        "responses": {
            "200": {
                "description": "Success.",
                "content": _content(operation.success),
                "headers": {name: {"schema": _TEXT} for name in _HEADERS.get(route.route, ())},
            },
            **{str(status): _error(status) for status in sorted(_error_statuses(route, operation))},
        },
    }
    if operation.body is not None:
        described["requestBody"] = {"required": True, "content": _content(operation.body)}
    if operation.example is not None:
        described["requestBody"]["content"][JSON_TYPE]["example"] = operation.example
    return described | ({"security": []} if is_public else {})


def _error_statuses(route: RoutePattern, operation: Operation) -> set[int]:
    rules = {
        (401, 429, 500, 502, 503, 504): route.template.startswith(KEY_PREFIX),
        (400, 413): operation.body is not None,
        (402,): route.route in PAID_ROUTES,
        (404,): "{id}" in route.template,
    }
    return {421, *operation.statuses, *(status for statuses, holds in rules.items() if holds for status in statuses)}


def _path_parameters(template: str) -> Iterator[dict[str, Any]]:
    for name in re.findall(r"{(\w+)}", template):
        schema = {**_TEXT, "pattern": f"^{PARAMETERS[name]}$"}
        yield {"name": name, "in": "path", "required": True, "schema": schema}


def _content(schemas: Mapping[str, Schema]) -> dict[str, Any]:
    return {media_type: {"schema": schema} for media_type, schema in schemas.items()}


def _error(status: int) -> dict[str, Any]:
    example = error_json(status)
    return {
        "description": example["error"]["message"],
        "content": {JSON_TYPE: {"schema": ref("Error"), "example": example}},
    }
