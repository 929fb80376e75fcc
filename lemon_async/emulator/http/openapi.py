"""Build the document of `GET /openapi.json` from the tables that the emulator works with.

Paths come from `routes`, fields and their bounds from `model_families` and `field_checks` through `openapi_schemas`,
error codes from `service_errors`. This module adds what no other table holds: names, summaries, the statuses of each
endpoint, and examples.
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
from lemon_async.emulator.service.messages import JSON_TYPE
from lemon_async.emulator.service.model_families import FAMILIES
from lemon_async.emulator.service.model_list import CATEGORY
from lemon_async.emulator.service.streaming import STREAM_TYPE
from lemon_async.emulator.service_errors import error_json

DOCUMENT_VERSION = "3.1.0"

_FORM_TYPE = "multipart/form-data"
_KEY_STATUSES = (401, 429, 500, 502, 503, 504)  # of every endpoint that asks for a key
_EVERYWHERE = (421,)


@frozen
class Operation:
    """The description of an endpoint, with one operation id for each of its paths.

    `success` and `body` hold a schema for each media type; `example` is a JSON body.
    """

    ids: tuple[str, ...]
    summary: str
    success: Mapping[str, Schema]
    statuses: tuple[int, ...] = ()
    body: Mapping[str, Schema] | None = None
    example: Any = None
    query: Mapping[str, Schema] = field(factory=dict)
    headers: tuple[str, ...] = ()


def _json(name: str) -> dict[str, Schema]:
    return {JSON_TYPE: ref(name)}


def _pictures() -> dict[str, Schema]:
    return {content_type: {"type": "string", "format": "binary"} for content_type in CONTENT_TYPES.values()}


def _images(kind: str | None) -> dict[str, Schema]:
    """Inline images, a task, or a stream of events."""
    inline = {JSON_TYPE: {"anyOf": [ref("NewTask"), ref("Images")]}}
    return inline if kind is None else {**inline, STREAM_TYPE: stream_of(kind)}


_TEXT: Schema = {"type": "string"}
_PAID_STATUSES = (400, 402, 413)
_PAID_HEADERS = (COST_HEADER, ESTIMATE_HEADER)
_POLL_HEADERS = (COST_HEADER, TRANSACTION_HEADER)
_LINK = "https://example.com/cat.png"

_OPERATIONS: Mapping[str, Operation] = {
    "submit": Operation(
        ids=("createImage",),
        summary="Create images from a prompt",
        success=_images("image_generation"),
        statuses=_PAID_STATUSES,
        body={JSON_TYPE: job_in_json("generate")},
        example={"model": "gpt-image-2", "prompt": "A white cat on a windowsill", "size": "1024x640", "quality": "low"},
        headers=_PAID_HEADERS,
    ),
    "edit": Operation(
        ids=("createImageEdit",),
        summary="Edit images",
        success=_images("image_edit"),
        statuses=(*_PAID_STATUSES, 404),
        body={JSON_TYPE: job_in_json("edit"), _FORM_TYPE: job_in_form("edit")},
        example={"model": "gpt-image-2", "prompt": "Add a red hat", "images": [{"image_url": _LINK}]},
        headers=_PAID_HEADERS,
    ),
    "vary": Operation(
        ids=("createImageVariation",),
        summary="Vary a square image",
        success=_images(None),
        statuses=_PAID_STATUSES,
        body={_FORM_TYPE: job_in_form("variation")},
        headers=_PAID_HEADERS,
    ),
    "poll": Operation(
        ids=("retrieveTask", "retrieveImageGeneration", "retrieveImage"),
        summary="Retrieve a task",
        success=_json("Task"),
        statuses=(404,),
        headers=_POLL_HEADERS,
    ),
    "cancel": Operation(
        ids=("cancelTask",),
        summary="Cancel a task, if its model supports that",
        success=_json("Task"),
        statuses=(400, 403, 404, 409),
    ),
    "list_models": Operation(
        ids=("listModels",),
        summary="List the models",
        success=_json("Models"),
        query={
            "recommended_for": {**_TEXT, "examples": [CATEGORY]},
            "category": _TEXT,
            "provider": {**_TEXT, "examples": sorted({family.provider for family in FAMILIES})},
            "tag": _TEXT,
        },
    ),
    "show_model": Operation(
        ids=("retrieveModel",),
        summary="Retrieve a model",
        success=_json("Model"),
        statuses=(404,),
    ),
    "create_file": Operation(
        ids=("createFile",),
        summary="Upload an image for later edits",
        success=_json("File"),
        statuses=(400, 413),
        body={_FORM_TYPE: new_file()},
    ),
    "list_files": Operation(
        ids=("listFiles",),
        summary="List the uploaded files",
        success=_json("Files"),
        statuses=(400,),
        query={
            "purpose": {**_TEXT, "examples": list(PURPOSES)},
            "limit": {"type": "integer", "minimum": 1, "maximum": MAX_PAGE},
            "after": _TEXT,
            "order": {**_TEXT, "enum": list(SORT_ORDERS)},
        },
    ),
    "show_file": Operation(
        ids=("retrieveFile",),
        summary="Retrieve an uploaded file",
        success=_json("File"),
        statuses=(404,),
    ),
    "read_file": Operation(
        ids=("downloadFile",),
        summary="Download an uploaded file",
        success=_pictures(),
        statuses=(404,),
    ),
    "delete_file": Operation(
        ids=("deleteFile",),
        summary="Delete an uploaded file",
        success=_json("DeletedFile"),
        statuses=(404,),
    ),
    "describe": Operation(
        ids=("describe",),
        summary="This document",
        success={JSON_TYPE: {"type": "object", "required": ["openapi", "paths"]}},
    ),
    "download": Operation(
        ids=("downloadImage",),
        summary="Download a result",
        success=_pictures(),
        statuses=(404, 410),
    ),
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
    ids = {endpoint: iter(operation.ids) for endpoint, operation in _OPERATIONS.items()}
    for known in PATTERNS:
        operation = _operation(known, _OPERATIONS[known.endpoint], next(ids[known.endpoint]))
        paths.setdefault(known.template, {})[known.method.lower()] = operation
    return paths


def _operation(known: RoutePattern, operation: Operation, id_: str) -> dict[str, Any]:
    is_public = not known.template.startswith(KEY_PREFIX)
    statuses = {*operation.statuses, *_EVERYWHERE, *(() if is_public else _KEY_STATUSES)}
    described: dict[str, Any] = {
        "operationId": id_,
        "summary": operation.summary,
        "parameters": [
            *_path_parameters(known.template),
            *({"name": name, "in": "query", "schema": schema} for name, schema in operation.query.items()),
        ],
        "responses": {"200": _success(operation), **{str(status): _error(status) for status in sorted(statuses)}},
    }
    if operation.body is not None:
        described["requestBody"] = {"required": True, "content": _content(operation.body)}
    if operation.example is not None:
        described["requestBody"]["content"][JSON_TYPE]["example"] = operation.example
    return described | ({"security": []} if is_public else {})


def _path_parameters(template: str) -> Iterator[dict[str, Any]]:
    for name in re.findall(r"{(\w+)}", template):
        schema = {**_TEXT, "pattern": f"^{PARAMETERS[name]}$"}
        yield {"name": name, "in": "path", "required": True, "schema": schema}


def _content(schemas: Mapping[str, Schema]) -> dict[str, Any]:
    return {media_type: {"schema": schema} for media_type, schema in schemas.items()}


def _success(operation: Operation) -> dict[str, Any]:
    described: dict[str, Any] = {
        "description": "Success.",
        "content": _content(operation.success),
    }
    if operation.headers:
        described["headers"] = {name: {"schema": _TEXT} for name in operation.headers}
    return described


def _error(status: int) -> dict[str, Any]:
    example = error_json(status)
    return {
        "description": example["error"]["message"],
        "content": {JSON_TYPE: {"schema": ref("Error"), "example": example}},
    }
