"""Check a request against the documented rules before any money is spent, and write it as JSON or as a form.

Generic rules hold for every model, and a family's rules for its models; a model of no family is checked by the generic
ones alone. Callers can switch the check off, and the service decides in the end. The result is data: a `Problem` for
each fault, all of them together. What is written has no field that the caller did not set.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from operator import attrgetter
from typing import Any

import attrs
import cattrs
import orjson
from cattrs.gen import make_dict_unstructure_fn, override

from lemon_async._api.families import LABEL, RULES, Family, Rule, family_of
from lemon_async._api.source_rules import SourceFacts, check_sources
from lemon_async._formats.json_documents import safe_repr, safe_str
from lemon_async.errors import ContractError
from lemon_async.requests import EditRequest, GenerateRequest, Request, VariationRequest
from lemon_async.types import Problem

__all__ = ["PATHS", "check", "check_label", "encode", "encode_form", "find_encoding_problems", "fingerprint"]

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
    _written(request, fields)  # forms cannot hold a lone surrogate either
    problems = tuple(Problem("extra", fault) for fault in map(_name_fault, fields) if fault)
    if problems:
        raise ContractError(problems=problems)
    return {name: value if isinstance(value, str) else _dump(value).decode() for name, value in fields.items()}


def find_encoding_problems(request: Request, *, is_form: bool) -> tuple[Problem, ...]:
    """Return why a request cannot be written as JSON or as a form; empty if it can."""
    try:
        (encode_form if is_form else encode)(request)
    except ContractError as error:
        return error.problems
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
    overrides = dict.fromkeys(("image", "mask", "label", "extra"), override(omit=True))
    overrides["async_"] = override(rename="async")
    for kind in _KINDS:
        rules: dict[str, Any] = {name: overrides[name] for name in attrs.fields_dict(kind) if name in overrides}
        hook = make_dict_unstructure_fn(kind, converter, _cattrs_omit_if_default=True, **rules)
        converter.register_unstructure_hook(kind, hook)
    return converter


_KINDS = (GenerateRequest, EditRequest, VariationRequest)
_RULES_OF: Mapping[str, tuple[tuple[str, Rule], ...]] = {
    kind.operation: tuple((name, RULES[name]) for name in RULES if name in attrs.fields_dict(kind)) for kind in _KINDS
}
_VALUES_OF = {operation: attrgetter(*(name for name, _ in rules)) for operation, rules in _RULES_OF.items()}
_SPELLINGS = dict.fromkeys(("image", "image_url", "image_urls", "images"), "image") | {"mask": "mask"}
_PICTURES: Mapping[str, Mapping[str, str]] = {
    "generate": {"image": "image", "mask": "mask"},  # with pictures it is an edit
    "edit": _SPELLINGS,
    "variation": {"image": "image"},
}
_ADVICE: Mapping[str, Mapping[str, str]] = {
    operation: {
        **{name.rstrip("_"): f"pass it as {name}=" for name, _ in rules},
        **{name: f"pass it as {keyword}=" for name, keyword in _PICTURES[operation].items()},
        "stream": "use session.stream(...)",  # other calls could not read the response, which is paid for
    }
    for operation, rules in _RULES_OF.items()
}
_PLURALS = {"generate": "generations", "edit": "edits", "variation": "variations"}


def check(
    request: Request, sources: Sequence[SourceFacts] = (), *, is_stream: bool = False, is_written: bool = False
) -> tuple[Problem, ...]:
    """Return every problem of a request, in the order of its fields; nothing is sent.

    Args:
        request: The request.
        sources: The facts about its pictures, in their order, a mask last.
        is_stream: Whether the response is to be a stream of events.
        is_written: Whether it has been encoded already, so that the encoding has no problems.
    """
    family = family_of(request.default_model if request.model is None else request.model)
    problems = [*_field_problems(request, family), *_mode_problems(request, family, is_stream=is_stream)]
    if not isinstance(request, GenerateRequest):
        problems += check_sources(request, family, sources)
    problems += [*check_label(request), *_extra_problems(request)]
    if is_written:
        return tuple(problems)
    named = {problem.field for problem in problems}
    refusals = find_encoding_problems(request, is_form=any(source.kind == "upload" for source in sources))
    return (*problems, *(problem for problem in refusals if problem.field not in named))


def check_label(request: Request) -> tuple[Problem, ...]:
    """Return the problem of a label, which is not sent: a rule of this library, not of the service."""
    if request.label is None or LABEL.accepts(request.label):
        return ()
    return (Problem("label", f"must be {LABEL.words}"),)


def _field_problems(request: Request, family: Family | None) -> Iterator[Problem]:
    for (name, rule), value in zip(_RULES_OF[request.operation], _VALUES_OF[request.operation](request), strict=True):
        if value is None and name != "prompt":
            continue
        fault = _family_fault(family, name, value) if rule.accepts(value) else f"must be {rule.words}"
        if fault:
            yield Problem(name.rstrip("_"), fault)


def _mode_problems(request: Request, family: Family | None, *, is_stream: bool) -> Iterator[Problem]:
    """Yield the problems of fields that exclude each other."""
    if family is not None and request.operation not in family.operations:
        yield Problem("model", f"{family.name} does not do {_PLURALS[request.operation]}")
    if is_stream and family is not None and "partial_images" not in family.fields:
        yield Problem("model", f"{family.name} does not stream; gpt-image-2 does")
    if isinstance(request, VariationRequest):
        return
    if is_stream and request.async_:
        yield Problem("async", "is the opposite of a stream; leave it out")
    if request.compression is not None and request.output_compression is not None:
        yield Problem("compression", "is another name of output_compression; give one of them")


def _family_fault(family: Family | None, name: str, value: str | int) -> str | None:
    if family is None:
        return None
    if name not in family.fields:
        if value is False:  # every family supports `async` off
            return None
        return f"{family.name} does not have this field; leave it out"
    accepted = family.values.get(name)
    if accepted is not None and value not in accepted:
        return f"{family.name} takes {', '.join(accepted)}, not {safe_repr(value)}"
    if name == "size" and family.size_fault is not None and value != "auto":
        width, height = str(value).split("x")
        return family.size_fault(int(width), int(height))
    return None


def _extra_problems(request: Request) -> list[Problem]:
    names = _names_of(request.extra)
    if names is None:
        return [Problem("extra", "must be a mapping from field names to values")]
    advice = _ADVICE[request.operation]
    return [Problem("extra", f"{name!r} is a separate field; {advice[name]}") for name in names if name in advice]


def _names_of(extra: object) -> list[str] | None:
    """Return the names in a mapping; `None` if it is not a mapping from names."""
    try:
        names: list[Any] = list(extra) if isinstance(extra, Mapping) else [None]
    except Exception:  # noqa: BLE001 - a mapping of the caller's may raise anything
        return None
    return names if all(isinstance(name, str) for name in names) else None
