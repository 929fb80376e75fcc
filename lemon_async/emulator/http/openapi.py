"""`GET /openapi.json`: the service described by its own tables.

Addresses come from `routes`, fields and bounds from `families` and `checks` by way of `schemas`, error
codes from `service_errors`. What stands here is only what no other table knows: names, summaries, which
statuses an endpoint can answer, and examples.
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
from lemon_async.emulator.http.routes import KEY_PREFIX, PATHS, Path
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

_GROUP = re.compile(r"\(\?P<(?P<name>\w+)>(?P<pattern>(?:\[[^]]*\]|[^)])*)\)")
_CHOICE = re.compile(r"\(\?:([^)]*)\)")


@frozen
class Body:
    """What is sent: a schema for each media type, and an example of the first one."""

    content: Mapping[str, Schema]
    example: Any = None


@frozen
class Operation:
    """What is said about an endpoint; one `id` for each of its addresses."""

    ids: tuple[str, ...]
    summary: str
    answer: Mapping[str, Schema]
    statuses: tuple[int, ...] = ()
    body: Body | None = None
    query: Mapping[str, Schema] = field(factory=dict)
    headers: tuple[str, ...] = ()


def _json(name: str) -> dict[str, Schema]:
    return {JSON_TYPE: ref(name)}


def _pictures() -> dict[str, Schema]:
    return {content_type: {"type": "string", "format": "binary"} for content_type in CONTENT_TYPES.values()}


def _images(kind: str | None) -> dict[str, Schema]:
    """Images at once, a task, or a stream of events."""
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
        answer=_images("image_generation"),
        statuses=_PAID_STATUSES,
        body=Body(
            {JSON_TYPE: job_in_json("generate")},
            {"model": "gpt-image-2", "prompt": "A white cat on a windowsill", "size": "1024x640", "quality": "low"},
        ),
        headers=_PAID_HEADERS,
    ),
    "edit": Operation(
        ids=("createImageEdit",),
        summary="Edit images",
        answer=_images("image_edit"),
        statuses=(*_PAID_STATUSES, 404),
        body=Body(
            {JSON_TYPE: job_in_json("edit"), _FORM_TYPE: job_in_form("edit")},
            {"model": "gpt-image-2", "prompt": "Add a red hat", "images": [{"image_url": _LINK}]},
        ),
        headers=_PAID_HEADERS,
    ),
    "vary": Operation(
        ids=("createImageVariation",),
        summary="Vary a square image",
        answer=_images(None),
        statuses=_PAID_STATUSES,
        body=Body({_FORM_TYPE: job_in_form("variation")}),
        headers=_PAID_HEADERS,
    ),
    "poll": Operation(
        ids=("retrieveTask", "retrieveImageGeneration", "retrieveImage"),
        summary="Look at a task",
        answer=_json("Task"),
        statuses=(404,),
        headers=_POLL_HEADERS,
    ),
    "cancel": Operation(
        ids=("cancelTask",),
        summary="Cancel a task, where the model can",
        answer=_json("Task"),
        statuses=(400, 403, 404, 409),
    ),
    "list_models": Operation(
        ids=("listModels",),
        summary="List the models",
        answer=_json("Models"),
        query={
            "recommended_for": {**_TEXT, "examples": [CATEGORY]},
            "category": _TEXT,
            "provider": {**_TEXT, "examples": sorted({family.provider for family in FAMILIES})},
            "tag": _TEXT,
        },
    ),
    "show_model": Operation(
        ids=("retrieveModel",),
        summary="Show a model",
        answer=_json("Model"),
        statuses=(404,),
    ),
    "create_file": Operation(
        ids=("createFile",),
        summary="Upload an image for edits to come",
        answer=_json("File"),
        statuses=(400, 413),
        body=Body({_FORM_TYPE: new_file()}),
    ),
    "list_files": Operation(
        ids=("listFiles",),
        summary="List the uploaded files",
        answer=_json("Files"),
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
        summary="Show an uploaded file",
        answer=_json("File"),
        statuses=(404,),
    ),
    "read_file": Operation(
        ids=("downloadFile",),
        summary="Download an uploaded file",
        answer=_pictures(),
        statuses=(404,),
    ),
    "delete_file": Operation(
        ids=("deleteFile",),
        summary="Delete an uploaded file",
        answer=_json("DeletedFile"),
        statuses=(404,),
    ),
    "describe": Operation(
        ids=("describe",),
        summary="This document",
        answer={JSON_TYPE: {"type": "object", "required": ["openapi", "paths"]}},
    ),
    "download": Operation(
        ids=("downloadImage",),
        summary="Download a result",
        answer=_pictures(),
        statuses=(404, 410),
    ),
}


def document(origin: str) -> dict[str, Any]:
    """The OpenAPI document of the service at `origin`."""
    return {
        "openapi": DOCUMENT_VERSION,
        "info": {
            "title": "LemonData image API, emulated",
            "version": "1",
            "description": "What the emulator on this machine takes and answers.",
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
    for path in PATHS:
        operation = _OPERATIONS[path.endpoint]
        for template, id_ in zip(_templates(path), operation.ids, strict=True):
            paths.setdefault(template, {})[path.method.lower()] = _operation(path, operation, id_)
    return paths


def _templates(path: Path) -> Iterator[str]:
    """The addresses of a path, its groups as `{names}` and each of its choices spelt out."""
    template = _GROUP.sub(r"{\g<name>}", path.pattern.pattern).replace("\\", "")
    choice = _CHOICE.search(template)
    for word in choice[1].split("|") if choice else [""]:
        yield _CHOICE.sub(word, template)


def _operation(path: Path, operation: Operation, id_: str) -> dict[str, Any]:
    is_public = not path.pattern.pattern.startswith(KEY_PREFIX)
    statuses = {*operation.statuses, *_EVERYWHERE, *(() if is_public else _KEY_STATUSES)}
    described: dict[str, Any] = {
        "operationId": id_,
        "summary": operation.summary,
        "parameters": [*_path_parameters(path), *_query_parameters(operation)],
        "responses": {"200": _answer(operation), **{str(status): _refusal(status) for status in sorted(statuses)}},
    }
    if operation.body is not None:
        described["requestBody"] = _body(operation.body)
    return described | ({"security": []} if is_public else {})


def _path_parameters(path: Path) -> Iterator[dict[str, Any]]:
    for group in _GROUP.finditer(path.pattern.pattern):
        schema = {**_TEXT, "pattern": f"^{group['pattern']}$"}
        yield {"name": group["name"], "in": "path", "required": True, "schema": schema}


def _query_parameters(operation: Operation) -> Iterator[dict[str, Any]]:
    for name, schema in operation.query.items():
        yield {"name": name, "in": "query", "schema": schema}


def _body(body: Body) -> dict[str, Any]:
    content = {media_type: {"schema": schema} for media_type, schema in body.content.items()}
    if body.example is not None:
        content[JSON_TYPE]["example"] = body.example
    return {"required": True, "content": content}


def _answer(operation: Operation) -> dict[str, Any]:
    answer: dict[str, Any] = {
        "description": "As asked.",
        "content": {media_type: {"schema": schema} for media_type, schema in operation.answer.items()},
    }
    if operation.headers:
        answer["headers"] = {name: {"schema": _TEXT} for name in operation.headers}
    return answer


def _refusal(status: int) -> dict[str, Any]:
    example = error_json(status)
    return {
        "description": example["error"]["message"],
        "content": {JSON_TYPE: {"schema": ref("Error"), "example": example}},
    }
