"""Write requests as JSON or as the text fields of a form, without the fields that the caller did not set."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any

import attrs
import cattrs
import orjson
from cattrs.gen import make_dict_unstructure_fn, override

from lemon_async._formats.safe_text import safe_repr, safe_str
from lemon_async.errors import ContractError, Problem
from lemon_async.requests import EditRequest, GenerateRequest, Request, VariationRequest

__all__ = ["PATHS", "encode", "encode_form", "find_encoding_problems", "fingerprint"]

PATHS: Mapping[str, str] = {
    "generate": "/v1/images/generations",
    "edit": "/v1/images/edits",
    "variation": "/v1/images/variations",
}
_FILE_PARTS = ("image", "mask")


def encode(request: Request, references: Sequence[Mapping[str, str]] = (), *, is_stream: bool = False) -> bytes:
    """Return the JSON body of a request.

    Args:
        request: The request.
        references: Its pictures, each as `{"image_url": ...}` or `{"file_id": ...}`.
        is_stream: Whether to request server-sent events.

    Raises:
        ContractError: A value cannot be written as JSON.
    """
    return _written(request, {**_pictures(references), **_fields(request, is_stream=is_stream)})


def encode_form(request: Request, *, is_stream: bool = False) -> dict[str, str]:
    """Return the text fields of a request that goes out as `multipart/form-data`.

    Raises:
        ContractError: A value is neither text nor JSON, or a name would break its header or could be taken for a file.
    """
    fields = _fields(request, is_stream=is_stream)
    _written(request, fields)  # forms cannot hold half a surrogate pair either
    problems = tuple(Problem("extra", fault) for fault in map(_name_fault, fields) if fault)
    if problems:
        raise ContractError(problems=problems)
    return {name: value if isinstance(value, str) else _dump(value).decode() for name, value in fields.items()}


def find_encoding_problems(request: Request, *, is_form: bool) -> tuple[Problem, ...]:
    """Return why a request cannot be written as JSON or as a form; empty if it can."""
    try:
        (encode_form if is_form else encode)(request)
    except ContractError as refusal:
        return refusal.problems
    return ()


def fingerprint(body: bytes, digests: Iterable[str] = ()) -> str:
    """Return the SHA-256 of an encoded request and the digests of its uploads."""
    return hashlib.sha256(b"\n".join([body, *(digest.encode() for digest in digests)])).hexdigest()


def _fields(request: Request, *, is_stream: bool) -> dict[str, Any]:
    stream = {"stream": True} if is_stream else {}
    try:
        return {**_converter().unstructure(request), **stream, **request.extra}
    except Exception as fault:  # noqa: BLE001 - a mapping of the caller's may raise anything
        raise _unwritable("extra", safe_str(fault)) from None


def _pictures(references: Sequence[Mapping[str, str]]) -> dict[str, Any]:
    """Return pictures in the shortest of the three documented spellings; only `images` can hold a `file_id`."""
    urls = [reference["image_url"] for reference in references if "image_url" in reference]
    if len(urls) < len(references):
        return {"images": [dict(reference) for reference in references]}
    if len(urls) > 1:
        return {"image_urls": urls}
    return {"image_url": urls[0]} if urls else {}


def _written(request: Request, fields: Mapping[Any, Any]) -> bytes:
    try:
        return _dump(fields)
    except TypeError as fault:
        problems = tuple(_value_faults(request, fields))
        raise ContractError(problems=problems) if problems else _unwritable("request", str(fault)) from None


def _value_faults(request: Request, fields: Mapping[Any, Any]) -> Iterator[Problem]:
    for name, value in fields.items():
        try:
            _dump({name: value})
        except TypeError as fault:
            is_extra = name in request.extra
            what = f"{safe_repr(name)} cannot" if is_extra else "cannot"
            yield Problem("extra" if is_extra else name, f"{what} be sent as JSON: {fault}")


def _name_fault(name: str) -> str | None:
    """Return why a form cannot have a field of this name, which becomes part of a header."""
    if not name.strip() or not name.isprintable():
        return f"no form has a field named {safe_repr(name)}"
    if name.partition("[")[0].strip().casefold() in _FILE_PARTS:
        return f"{safe_repr(name)} could be taken for a file of the form"
    return None


def _dump(value: Any) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def _unwritable(field: str, reason: str) -> ContractError:
    return ContractError.of(field, f"cannot be sent as JSON: {reason}")


@cache
def _converter() -> cattrs.Converter:
    """Return the converter of requests, made at first use because generating its code would slow down the import."""
    converter = cattrs.Converter(detailed_validation=False)
    for kind in (GenerateRequest, EditRequest, VariationRequest):
        rules: dict[str, Any] = {name: override(omit=True) for name in ("image", "mask", "label", "extra")}
        rules = {name: rule for name, rule in rules.items() if name in attrs.fields_dict(kind)}
        if "async_" in attrs.fields_dict(kind):
            rules["async_"] = override(rename="async")
        hook = make_dict_unstructure_fn(kind, converter, _cattrs_omit_if_default=True, **rules)
        converter.register_unstructure_hook(kind, hook)
    return converter
