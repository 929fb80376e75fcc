"""From what a caller wants to a body that can be sent: built, checked, and nothing of it sent yet."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from difflib import get_close_matches
from typing import Any, TypeVar

import attrs

from lemon_async._api.encoding import PATHS, encode, encode_form, fingerprint
from lemon_async._api.source_rules import SourceFacts, unreadable
from lemon_async._api.validation import check, check_label
from lemon_async._http.transport import Payload
from lemon_async._uploads.payload import File, Form, Json
from lemon_async._uploads.sources import ExaminedSource, look_at, pick, places
from lemon_async.errors import ContractError, Problem
from lemon_async.requests import EditRequest, GenerateRequest, Operation, Request, VariationRequest

__all__ = ["build", "find_problems", "look", "prepare", "requested"]

_UNKNOWN_TYPE = "application/octet-stream"

# A picture that was forgotten is a problem of the contract, not a `TypeError`.
_STARTS: Mapping[Operation, Callable[[Any], dict[str, Any]]] = {
    "generate": lambda prompt: {"prompt": prompt},
    "edit": lambda prompt: {"prompt": prompt, "image": ()},
    "variation": lambda picture: {"image": picture},
}

_FIELDS: Mapping[type[Request], Mapping[str, object]] = {
    kind: attrs.fields_dict(kind) for kind in (GenerateRequest, EditRequest, VariationRequest)
}

Kind = TypeVar("Kind", GenerateRequest, EditRequest, VariationRequest)


def build(kind: type[Kind], fields: Mapping[str, Any], start: object, /) -> Kind:
    """Return a request of a kind; fields that are given take precedence over those of a request.

    Args:
        kind: What it is to be.
        fields: What is set; a `None` unsets, but for pictures.
        start: What it starts from: a prompt, for a variation a picture, or a whole request.

    Raises:
        ContractError: A field that this kind of request does not have, or a request of another kind.
    """
    known = _FIELDS[kind]
    if not fields.keys() <= known.keys():
        unknown = tuple(Problem(name, _advice_on(name, list(known))) for name in fields if name not in known)
        raise ContractError(problems=unknown)
    given = {name: value for name, value in fields.items() if value is not None or name not in {"image", "mask"}}
    if isinstance(start, kind):
        return attrs.evolve(start, **given) if given else start
    if isinstance(start, Request):
        advice = f"is a {type(start).__name__}, and a {kind.__name__} goes here; see session.submit"
        raise ContractError.of("request", advice)
    return kind(**{**_STARTS[kind.operation](start), **given})


def requested(prompt: object, fields: Mapping[str, Any]) -> Request:
    """Return the request that a prompt, or a request, and fields make: with pictures to start from, an edit.

    Raises:
        ContractError: A field that this kind of request does not have.
    """
    if isinstance(prompt, VariationRequest):
        return build(VariationRequest, fields, prompt)
    if isinstance(prompt, EditRequest) or "image" in fields or "mask" in fields:
        return build(EditRequest, fields, prompt)
    return build(GenerateRequest, fields, prompt)


def look(request: Request) -> tuple[SourceFacts, ...]:
    """Return what shows of the pictures of a request without consuming anything; reads the beginnings of files."""
    if isinstance(request, GenerateRequest):
        return ()
    return tuple(look_at(place, source) for place, source in places(request))


async def prepare(request: Request, held: ExitStack, *, is_checked: bool, is_stream: bool = False) -> Payload:
    """Read what there is to read, check everything, and return the body.

    Args:
        request: The request.
        held: Keeps what was copied, until the request is done with.
        is_checked: Whether the documented rules are checked.
        is_stream: Whether the answer is to come event by event.

    Raises:
        ContractError: With every problem that was found, or when a picture cannot be read.
    """
    picked = () if isinstance(request, GenerateRequest) else await pick(request, held, is_checked=is_checked)
    facts = [source.facts for source in picked]
    try:
        payload = _payload(request, picked, is_stream=is_stream)
    except ContractError as refusal:
        problems = find_problems(request, facts, is_checked=is_checked, is_stream=is_stream) or refusal.problems
        raise ContractError(problems=problems) from None
    problems = find_problems(request, facts, is_checked=is_checked, is_stream=is_stream, is_written=True)
    if problems:
        raise ContractError(problems=problems)
    return payload


def find_problems(
    request: Request, facts: Sequence[SourceFacts], *, is_checked: bool, is_stream: bool, is_written: bool = False
) -> tuple[Problem, ...]:
    """Return what is wrong with a request; what this library itself cannot do is never left unchecked."""
    if is_checked:
        return check(request, facts, is_stream=is_stream, is_written=is_written)
    return (*check_label(request), *unreadable(facts))


def _payload(request: Request, picked: Sequence[ExaminedSource], *, is_stream: bool) -> Payload:
    """Pictures that the service fetches go as JSON, those that are uploaded as a form."""
    path = PATHS[request.operation]
    references = [source.reference for source in picked if source.reference is not None]
    if isinstance(request, GenerateRequest) or (references and len(references) == len(picked)):
        content = encode(request, references, is_stream=is_stream)
        return Json(path, content)
    digests = [f"{source.facts.place} {source.upload.digest}" for source in picked if source.upload]
    return Form(
        path=path,
        fingerprint=fingerprint(encode(request), digests),
        fields=encode_form(request, is_stream=is_stream),
        files=tuple(_file(source) for source in picked if source.upload),
    )


def _file(source: ExaminedSource) -> File:
    """The name says nothing about the caller's disk."""
    assert source.upload is not None  # noqa: S101 - asked by the caller
    place, picture = source.facts.place, source.facts.picture
    field = place.partition("[")[0]
    name = place.replace("[", "-").rstrip("]")
    if picture is None:
        return File(field, place, name, _UNKNOWN_TYPE, source.upload)
    return File(field, place, f"{name}.{picture.format}", f"image/{picture.format}", source.upload)


_ADVICE: Mapping[str, str] = {
    "input_fidelity": "is removed by the service for gpt-image-2; for other models, pass it in extra={...}",
    "stream": "is asked for with session.stream(...)",
    "timeout": "is no field: see Timeouts, PollPolicy and ImageTask.wait(timeout)",
    "timeout_s": "is no field: see Timeouts, PollPolicy and ImageTask.wait(timeout)",
}


def _advice_on(name: str, names: Sequence[str]) -> str:
    if name in _ADVICE:
        return _ADVICE[name]
    alike = get_close_matches(f"{name}_", names, n=1)
    guess = f" (did you mean {alike[0]}=?)" if alike else ""
    return f"is not a field of this version{guess}; pass unknown fields in extra={{...}}"
