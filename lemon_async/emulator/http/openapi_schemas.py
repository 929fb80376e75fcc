"""JSON schemas of requests and responses, for the OpenAPI document.

Request schemas are derived from the model families and their field checks. A JSON request must match the schema of one
family; null counts as not sent, so every field allows it, and fields of other families allow nothing else. Forms have
one schema for all families: generators of clients and of test data cannot choose between several schemas with files.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Literal

from lemon_async.emulator.pictures.picture import CONTENT_TYPES
from lemon_async.emulator.service.edits import DEFAULT_EDIT_MODEL
from lemon_async.emulator.service.files import DEFAULT_FILE_MODEL, EXPIRY, PURPOSES
from lemon_async.emulator.service.job_spec import DEFAULT_MODEL, MAX_PROMPT_CHARS, checks_of
from lemon_async.emulator.service.model_families import DOCUMENTED_FIELDS, FAMILIES, Family
from lemon_async.emulator.service.tasks import TERMINAL
from lemon_async.emulator.service_errors import ERROR_TYPES

Schema = dict[str, Any]
Operation = Literal["generate", "edit", "variation"]

_DEFAULT_MODELS = {"generate": DEFAULT_MODEL, "edit": DEFAULT_EDIT_MODEL}
_SOURCE_FIELDS = ("image_url", "image_urls", "images")

_NOTHING: Schema = {"type": "null"}
_TEXT: Schema = {"type": "string"}
_COUNT: Schema = {"type": "integer", "minimum": 0}
_FILE: Schema = {"type": "string", "format": "binary"}
_PROMPT: Schema = {**_TEXT, "minLength": 1, "maxLength": MAX_PROMPT_CHARS, "pattern": r"\S"}


def ref(name: str) -> Schema:
    """Return a reference to a schema of the document."""
    return {"$ref": f"#/components/schemas/{name}"}


def object_schema(required: Mapping[str, Any], optional: Mapping[str, Any] | None = None) -> Schema:
    """Return the schema of an object with these fields, and any others."""
    return {"type": "object", "required": list(required), "properties": {**required, **(optional or {})}}


def _list(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def _one_of(*values: str) -> Schema:
    return {"type": "string", "enum": list(values)}


def _or_null(schema: Mapping[str, Any]) -> Schema:
    if "type" not in schema:
        return dict(schema)
    choices = {"enum": [*schema["enum"], None]} if "enum" in schema else {}
    return {**schema, "type": [schema["type"], "null"], **choices}


# Requests


def job_in_json(operation: Operation) -> Schema:
    """Return the schema of a JSON body that requests images."""
    return {"anyOf": [_json_job(family, operation) for family in _families_for(operation)]}


def job_in_form(operation: Operation) -> Schema:
    """Return the schema of a form that requests images; it does not say which family takes which field."""
    families = _families_for(operation)
    fields = [_fields(family) for family in families]
    names = dict.fromkeys(name for known in fields for name in known)
    optional = {name: _either([known[name] for known in fields if name in known]) for name in names}
    optional["model"] = _either([_model_of(family) for family in families])
    if operation == "variation":
        return object_schema({"image": _FILE}, optional)
    sources = {**_list(_FILE), "minItems": 1, "maxItems": max(family.max_sources for family in families)}
    return object_schema({"image": sources, "prompt": _PROMPT}, {"mask": _FILE, **optional})


def new_file() -> Schema:
    """Return the schema of a form that uploads a file."""
    model = _either([_model_of(family) for family in _families_for("edit")])
    expiry = {name: dict(check.schema) for name, check in EXPIRY.items()}
    optional = {"model": {**model, "default": DEFAULT_FILE_MODEL}, **expiry}
    both = {name: list(EXPIRY) for name in EXPIRY}
    return {**object_schema({"file": _FILE, "purpose": _one_of(*PURPOSES)}, optional), "dependentRequired": both}


def _families_for(operation: Operation) -> list[Family]:
    return [family for family in FAMILIES if operation in family.operations]


def _either(schemas: Iterable[Schema]) -> Schema:
    """Return a schema for any of these, without duplicates."""
    distinct: list[Schema] = []
    for schema in schemas:
        distinct += [part for part in schema.get("anyOf", [schema]) if part not in distinct]
    return distinct[0] if len(distinct) == 1 else {"anyOf": distinct}


def _json_job(family: Family, operation: Operation) -> Schema:
    """Return the schema of a JSON body for one family."""
    properties = {name: _or_null(schema) for name, schema in _fields(family).items()}
    properties |= dict.fromkeys(sorted(DOCUMENTED_FIELDS - properties.keys()), _NOTHING)
    properties |= {"model": _model_of(family), "prompt": _PROMPT}
    is_default = _DEFAULT_MODELS[operation] in family.ids
    schema: Schema = {
        "title": family.name,
        "type": "object",
        "properties": properties,
        "required": ["prompt"] if is_default else ["prompt", "model"],
    }
    if family.is_async_allowed and family.is_stream_allowed:
        modes = ("async", "stream")
        schema["not"] = {"required": list(modes), "properties": {name: {"const": True} for name in modes}}
    if operation == "edit":
        properties["mask"] = _NOTHING
        schema["anyOf"] = [_source_in(name, family) for name in _SOURCE_FIELDS]
    return schema


def _fields(family: Family) -> dict[str, Any]:
    """Return the optional fields of a family; `async` and `stream` allow only false where they are not supported."""
    fields = {name: dict(check.schema) for name, check in checks_of(family).items()}
    able = {"async": family.is_async_allowed, "stream": family.is_stream_allowed}
    return fields | {name: {"type": "boolean", "enum": [False]} for name, is_able in able.items() if not is_able}


def _model_of(family: Family) -> Schema:
    """Return the schema of a family's model names; all its patterns end in an asterisk."""
    patterns = [{**_TEXT, "pattern": f"^{pattern.removesuffix('*')}"} for pattern in family.patterns]
    ids = _one_of(*family.ids)
    return {"anyOf": [ids, *patterns]} if patterns else ids


def _source_in(name: str, family: Family) -> Schema:
    """Return the schema of a JSON edit whose sources are in the field `name`."""
    entry = {"oneOf": [object_schema({"image_url": _TEXT}), object_schema({"file_id": _TEXT})]}
    shapes = {"image_url": _TEXT, "image_urls": _list(_TEXT), "images": _list(entry)}
    bounds = {} if name == "image_url" else {"minItems": 1, "maxItems": family.max_sources}
    others = {other: _NOTHING for other in _SOURCE_FIELDS if other != name}
    return {"required": [name], "properties": {name: {**shapes[name], **bounds}, **others}}


# Responses


_TOKENS = object_schema({"text_tokens": _COUNT, "image_tokens": _COUNT})
_USAGE = object_schema(
    dict.fromkeys(("total_tokens", "input_tokens", "output_tokens"), _COUNT)
    | dict.fromkeys(("input_tokens_details", "output_tokens_details"), _TOKENS),
)
_IMAGE = {
    "type": "object",
    "properties": {"url": _TEXT, "b64_json": _TEXT, "revised_prompt": _TEXT},
    "anyOf": [{"required": ["url"]}, {"required": ["b64_json"]}],
}
_TASK_HEAD = {"created": _COUNT, "id": _TEXT, "task_id": _TEXT, "poll_url": _TEXT}
_FAILURE = {"type": ["string", "object"], "description": "The reason: text, or `{code, message}`"}
_TASK = object_schema(
    {**_TASK_HEAD, "status": _one_of("pending", "processing", *TERMINAL), "data": _list(ref("Image"))},
    {
        "model": _TEXT,
        "progress": {**_COUNT, "maximum": 100},
        "error": _FAILURE,
        "usage": ref("Usage"),
        "billing_transaction_id": _TEXT,
        "cancelled": {"type": "boolean"},
        "cancellation_status": _TEXT,
    },
)
_ERROR = object_schema(
    {
        "error": object_schema(
            {"message": _TEXT, "type": _one_of(*ERROR_TYPES), "code": _TEXT, "param": _or_null(_TEXT)},
            {"hint": _TEXT, "retry_after": {"type": "number"}, "retryable": {"type": "boolean"}},
        ),
    },
    {"validation_errors": _list(object_schema({"field": _TEXT, "message": _TEXT, "code": _TEXT}))},
)
_MODEL = object_schema(
    {"id": _TEXT, "object": {"const": "model"}, "created": _COUNT, "owned_by": _TEXT},
    {"lemondata": {"type": "object"}},
)
_STORED_FILE = object_schema(
    {
        "id": _TEXT,
        "object": {"const": "file"},
        "bytes": _COUNT,
        "created_at": _COUNT,
        "filename": _TEXT,
        "purpose": _one_of(*PURPOSES),
        "status": {"const": "processed"},
    },
    {"expires_at": _COUNT},
)


def stream_of(kind: str) -> Schema:
    """Return the schema of one event of a stream; OpenAPI 3.1 cannot describe a sequence of them."""
    about = {
        **dict.fromkeys(("size", "quality", "b64_json"), _TEXT),
        "created_at": _COUNT,
        "background": _one_of("transparent", "opaque"),
        "output_format": _one_of(*CONTENT_TYPES),
    }
    events = [
        object_schema({"type": {"const": f"{kind}.partial_image"}, **about, "partial_image_index": _COUNT}),
        object_schema({"type": {"const": f"{kind}.completed"}, **about, "usage": ref("Usage")}),
        object_schema({"type": {"const": "error"}, "error": _ERROR["properties"]["error"]}),
    ]
    data = {**_TEXT, "contentMediaType": "application/json", "contentSchema": {"oneOf": events}}
    return object_schema({"event": _TEXT, "data": data})


def response_schemas() -> dict[str, Schema]:
    """Return the schemas that others refer to."""
    pages = {"object": {"const": "list"}}
    id_or_null = {"type": ["string", "null"]}
    return {
        "Error": _ERROR,
        "Usage": _USAGE,
        "Image": _IMAGE,
        "Images": object_schema({"created": _COUNT, "data": _list(ref("Image"))}, {"usage": ref("Usage")}),
        "NewTask": object_schema({**_TASK_HEAD, "status": {"const": "pending"}, "data": _list(ref("Image"))}),
        "Task": _TASK,
        "Model": _MODEL,
        "Models": object_schema({**pages, "data": _list(ref("Model"))}),
        "File": _STORED_FILE,
        "Files": object_schema(
            {**pages, "data": _list(ref("File")), "has_more": {"type": "boolean"}},
            {"first_id": id_or_null, "last_id": id_or_null},
        ),
        "DeletedFile": object_schema({"id": _TEXT, "object": {"const": "file"}, "deleted": {"const": True}}),
    }
