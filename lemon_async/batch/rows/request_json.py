"""Write requests as canonical JSON, and read them again: equal requests give equal bytes.

    {"image":["cat.png",{"path":"hat.png"}],"model":"gpt-image-2","operation":"edit","prompt":"a hat"}

Names are sorted, fields that are not set are absent, and `async_` has the service's name, `async`. A picture is kept as
a reference: an address, a path, or the id and model of a stored file. Bytes and streams are refused, because a journal
outlives them.
"""

import os
from collections.abc import Mapping
from operator import attrgetter
from pathlib import Path
from typing import Any

import attrs
import orjson

from lemon_async.errors import ContractError, JournalError
from lemon_async.requests import EditRequest, GenerateRequest, Request, VariationRequest
from lemon_async.types import Problem, StoredFile

__all__ = ["dump_request", "load_request"]

_KINDS = {kind.operation: kind for kind in (GenerateRequest, EditRequest, VariationRequest)}
_PLAIN = {
    kind: tuple(name for name in attrs.fields_dict(kind) if name not in {"image", "mask", "extra"})
    for kind in _KINDS.values()
}
_PUBLIC = {kind: tuple(name.rstrip("_") for name in names) for kind, names in _PLAIN.items()}
_VALUES = {kind: attrgetter(*names) for kind, names in _PLAIN.items()}
_REFERENCES = ({"image_url"}, {"file_id"})


def dump_request(request: Request) -> bytes:
    """Return a request as canonical JSON.

    Raises:
        ContractError: A picture is not a reference, or a value cannot be written as JSON.
    """
    kind = type(request)
    values = zip(_PUBLIC[kind], _VALUES[kind](request), strict=True)
    fields: dict[str, Any] = {name: value for name, value in values if value is not None}
    fields["operation"] = request.operation
    if request.extra:
        fields["extra"] = _checked_extra(request.extra)
    if not isinstance(request, GenerateRequest):
        fields["image"] = [_reference(f"image[{index}]", source) for index, source in enumerate(request.image)]
        if getattr(request, "mask", None) is not None:
            fields["mask"] = _reference("mask", getattr(request, "mask", None))
    try:
        return orjson.dumps(fields, option=orjson.OPT_SORT_KEYS)
    except TypeError:
        raise ContractError(problems=tuple(_find_faults(fields))) from None


def load_request(content: bytes) -> Request:
    """Return the request that was written.

    Raises:
        JournalError: It was written by a version that knows other fields.
    """
    try:
        fields = orjson.loads(content)
        kind = _KINDS[fields.pop("operation")]
        if "async" in fields:
            fields["async_"] = fields.pop("async")
        if "image" in fields:
            fields["image"] = [_source(source) for source in fields["image"]]
        if "mask" in fields:
            fields["mask"] = _source(fields["mask"])
        return kind(**fields)
    except (ValueError, KeyError, TypeError, AttributeError) as fault:
        raise JournalError(message=f"this version cannot read a request of the journal: {fault!r:.200}") from fault


def _checked_extra(extra: object) -> dict[str, Any]:
    if not isinstance(extra, Mapping):
        raise ContractError.of("extra", "must be a mapping from field names to values")
    return dict(extra)


def _find_faults(fields: Mapping[str, Any]) -> list[Problem]:
    faults = []
    for name, value in fields.items():
        try:
            orjson.dumps(value)
        except TypeError as fault:
            faults.append(Problem(name, f"cannot be written as JSON: {fault}"))
    return faults


def _reference(place: str, source: object) -> Any:
    """Return a picture as JSON.

    Raises:
        ContractError: It is not a reference.
    """
    if isinstance(source, str):
        return source
    if isinstance(source, StoredFile):
        return {"stored_file": source.id, **({"model": source.model} if source.model is not None else {})}
    if isinstance(source, os.PathLike) and isinstance(path := os.fspath(source), str):
        return {"path": path}
    if isinstance(source, Mapping) and set(source) in _REFERENCES:
        return dict(source)
    advice = f"is {type(source).__name__}; a journal keeps references only: write it to a file, and give its path"
    raise ContractError.of(place, advice)


def _source(reference: Any) -> Any:
    if isinstance(reference, str) or set(reference) in _REFERENCES:
        return reference
    if "path" in reference:
        return Path(reference["path"])
    return StoredFile(reference["stored_file"], model=reference.get("model"))
