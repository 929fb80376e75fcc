"""Requests to what goes over the wire: JSON, or the text fields of a form, and nothing that the caller did not set."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson

from lemon_async.api.converter import converter
from lemon_async.api.errors import ContractError, Problem
from lemon_async.api.requests import Request

__all__ = ["PATHS", "encode", "encode_form", "fingerprint"]

PATHS: Mapping[str, str] = {
    "generate": "/v1/images/generations",
    "edit": "/v1/images/edits",
    "variation": "/v1/images/variations",
}


def encode(request: Request, references: Sequence[Mapping[str, str]] = (), *, is_stream: bool = False) -> bytes:
    """Return the JSON body of a request.

    Args:
        request: The request.
        references: Its pictures, each as `{"image_url": ...}` or `{"file_id": ...}`.
        is_stream: Whether to ask for an answer in server-sent events.

    Raises:
        ContractError: When a value cannot be written as JSON.
    """
    try:
        return _dump({**_pictures(references), **_fields(request, is_stream=is_stream)})
    except TypeError as fault:
        raise _refusal(fault) from None


def encode_form(request: Request, *, is_stream: bool = False) -> dict[str, str]:
    """Return the text fields of a request that goes out as `multipart/form-data`.

    Raises:
        ContractError: When a value can be written neither as text nor as JSON, or a name would end its own header.
    """
    try:
        fields = _fields(request, is_stream=is_stream)
        _dump(fields)  # half a surrogate pair can be text of a form as little as of JSON
    except TypeError as fault:
        raise _refusal(fault) from None
    odd = [name for name in fields if not name.isprintable()]
    if odd:
        raise ContractError(problems=tuple(Problem("extra", f"no form has a field named {name!r}") for name in odd))
    return {name: value if isinstance(value, str) else _dump(value).decode() for name, value in fields.items()}


def fingerprint(body: bytes, digests: Iterable[str] = ()) -> str:
    """Return the SHA-256 of an encoded request and of the digests of its uploads; equal requests have equal ones."""
    return hashlib.sha256(b"\n".join([body, *(digest.encode() for digest in digests)])).hexdigest()


def _fields(request: Request, *, is_stream: bool) -> dict[str, Any]:
    stream = {"stream": True} if is_stream else {}
    return {**converter().unstructure(request), **stream, **request.extra}


def _pictures(references: Sequence[Mapping[str, str]]) -> dict[str, Any]:
    """Three spellings are documented ("Edit image", JSON); only the last one can hold a `file_id`."""
    urls = [reference["image_url"] for reference in references if "image_url" in reference]
    if len(urls) < len(references):
        return {"images": [dict(reference) for reference in references]}
    if len(urls) > 1:
        return {"image_urls": urls}
    return {"image_url": urls[0]} if urls else {}


def _dump(value: Any) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def _refusal(fault: TypeError) -> ContractError:
    return ContractError(problems=(Problem("request", f"cannot be sent as JSON: {fault}"),))
