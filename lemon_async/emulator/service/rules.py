"""Validation of a generation request: a JSON body goes in, an `Order` or a `Problem` comes out."""

from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from math import sqrt
from typing import Any

from attrs import frozen

from lemon_async.emulator.pictures.picture import SourceImage
from lemon_async.emulator.problems import Complaint, Problem, excerpt
from lemon_async.emulator.service.families import (
    COMMON_FIELDS,
    DOCUMENTED_FIELDS,
    MODEL_IDS,
    Family,
    family_of,
)
from lemon_async.emulator.service.field_checks import Check, integer, parse_ratio, parse_size

DEFAULT_MODEL = "dall-e-3"
MAX_PROMPT_CHARS = 4_000
MAX_IMAGES = 10
MAX_FETCHED_BYTES = 200 * 2**20

_DEFAULT_SIZE = (1024, 1024)
_EDGE_PX = {"1k": 1024, "2k": 2048, "4k": 4096}


@frozen
class Order:
    """A request the service has accepted: what to draw, how to answer, whom to bill."""

    model: str
    family: Family
    prompt: str
    user: str | None = None
    n: int = 1
    size: tuple[int, int] = _DEFAULT_SIZE
    quality: str = "auto"
    format: str = "png"
    compression: int | None = None
    is_transparent: bool = False
    is_base64: bool = False
    is_task: bool = False
    is_stream: bool = False
    previews: int = 0
    operation: str = "generate"
    sources: tuple[SourceImage, ...] = ()
    mask: SourceImage | None = None

    @property
    def job(self) -> str:
        """What the client would call one job: its `user` when it sent one, else the prompt."""
        return self.user or self.prompt or self.operation


def read_order(
    body: Mapping[str, Any],
    *,
    operation: str = "generate",
    default_model: str = DEFAULT_MODEL,
    others: Sequence[Complaint] = (),
) -> Order:
    """Turn the fields of a request into an order; its sources come later.

    Args:
        body: The fields.
        operation: What is to be done: `generate`, `edit` or `variation`.
        default_model: The model of a request that names none.
        others: What has been found wrong already, to be told with the rest.

    Raises:
        Problem: 400, naming every bad field in `validation_errors` and the first one in `param`.
    """
    model = body.get("model", default_model)
    family = _family(model)
    if operation not in family.operations:
        raise Problem.of([Complaint("model", f"{excerpt(model)} does not support the operation '{operation}'")])
    given = {name: value for name, value in body.items() if value is not None}
    prompt = [] if operation == "variation" else _prompt_complaints(given)
    complaints = [*prompt, *others, *_field_complaints(given, family)]
    if complaints:
        raise Problem.of(complaints)
    return _order(given, family, operation, model)


def checks_of(family: Family) -> dict[str, Check]:
    """The optional fields of a request, each with its check."""
    return {**COMMON_FIELDS, "n": integer(1, MAX_IMAGES), **family.fields}


def _family(model: Any) -> Family:
    """The family of a model that may be misspelt or no string at all."""
    if not isinstance(model, str):
        raise Problem.of([Complaint("model", "must be a string", "invalid_type")])
    family = family_of(model)
    if family is None:
        raise unknown_model(model, status=400)
    return family


def unknown_model(model: str, *, status: int) -> Problem:
    """The refusal of a model nobody knows, with the ids that look alike."""
    name = excerpt(model)
    alike = get_close_matches(name, MODEL_IDS, n=3, cutoff=0.6)
    extras: dict[str, Any] = {"hint": "GET /v1/models lists the models of this service."}
    if alike:
        extras |= {"did_you_mean": alike[0], "suggestions": [{"id": id_} for id_ in alike]}
    return Problem(
        status,
        "model_not_found",
        f"The model '{name}' does not exist.",
        "model",
        extras=extras,
    )


def _prompt_complaints(given: Mapping[str, Any]) -> Iterator[Complaint]:
    prompt = given.get("prompt")
    if prompt is None:
        yield Complaint("prompt", "is required", "missing")
    elif not isinstance(prompt, str):
        yield Complaint("prompt", "must be a string", "invalid_type")
    elif not prompt.strip():
        yield Complaint("prompt", "must not be empty")
    elif len(prompt) > MAX_PROMPT_CHARS:
        yield Complaint("prompt", f"must be at most {MAX_PROMPT_CHARS} characters", "too_long")


def _field_complaints(given: Mapping[str, Any], family: Family) -> Iterator[Complaint]:
    """Check each field that this family, or any other, documents."""
    checks = checks_of(family)
    for name, value in given.items():
        if name in checks:
            wrong = checks[name](value)
            if wrong:
                yield Complaint(name, wrong)
        elif name in DOCUMENTED_FIELDS:
            yield Complaint(name, f"is not supported by {family.name} models", "unsupported_field")
    yield from _mode_complaints(given, family)


def _mode_complaints(given: Mapping[str, Any], family: Family) -> Iterator[Complaint]:
    """Check how the answer is wanted: as a task, as a stream, or neither."""
    is_task, is_stream = (given.get(name) is True for name in ("async", "stream"))
    if is_task and not family.is_async_allowed:
        yield Complaint("async", f"is not supported by {family.name} models", "unsupported_field")
    if is_stream and not family.is_stream_allowed:
        yield Complaint("stream", f"is not supported by {family.name} models", "unsupported_field")
    if is_task and is_stream:
        yield Complaint("stream", "cannot be combined with async", "conflicting_fields")


def _order(given: Mapping[str, Any], family: Family, operation: str, model: str) -> Order:
    return Order(
        model=model,
        family=family,
        operation=operation,
        prompt=given["prompt"] if operation != "variation" else "",
        user=given.get("user"),
        n=given.get("n", 1),
        size=pixels(given),
        quality=given.get("quality", "auto"),
        format=given.get("output_format", "png"),
        compression=given.get("output_compression", given.get("compression")),
        is_transparent=given.get("background") == "transparent",
        is_base64=given.get("response_format") == "b64_json",
        is_task=family.is_task_based or given.get("async", False),
        is_stream=given.get("stream", False),
        previews=given.get("partial_images", 0),
    )


def pixels(given: Mapping[str, Any]) -> tuple[int, int]:
    """Width and height of the picture.

    `aspect_ratio` wins over `size`, which Gemini models take as a compatibility alias only. The ratio
    is met exactly; the area comes as close to the square of that resolution as the ratio lets it.
    """
    sides = parse_ratio(given.get("aspect_ratio", ""))
    edge = _EDGE_PX[given.get("resolution", "1k")]
    if sides is None:
        size = parse_size(given.get("size", ""))
        return size or (edge, edge)
    scale = round(edge / sqrt(sides[0] * sides[1]))
    return sides[0] * scale, sides[1] * scale
