"""Validate the fields of a paid request into a `JobSpec`."""

from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from math import sqrt
from typing import Any

from attrs import frozen

from lemon_async.emulator.pictures.picture import Picture
from lemon_async.emulator.service.field_checks import Check, integer, parse_ratio, parse_size
from lemon_async.emulator.service.model_families import (
    COMMON_FIELDS,
    DOCUMENTED_FIELDS,
    MODEL_IDS,
    Family,
    family_of,
)
from lemon_async.emulator.service_errors import FieldError, ServiceError, excerpt

DEFAULT_MODEL = "dall-e-3"
MAX_PROMPT_CHARS = 4_000
MAX_IMAGES = 10
MAX_FETCHED_BYTES = 200 * 2**20

_EDGE_PX = {"1k": 1024, "2k": 2048, "4k": 4096}


@frozen
class JobSpec:
    """A valid paid request: the first picture to draw, how many, and how to respond."""

    model: str
    family: Family
    picture: Picture
    user: str | None = None
    n: int = 1
    quality: str = "auto"
    is_base64: bool = False
    is_task: bool = False
    is_stream: bool = False
    previews: int = 0
    operation: str = "generate"

    @property
    def job(self) -> str:
        """The name of the job in the ledger: `user` if the client sent it, else the prompt."""
        return self.user or self.picture.prompt or self.operation


def parse_job(
    body: Mapping[str, Any],
    *,
    operation: str = "generate",
    default_model: str = DEFAULT_MODEL,
    other_errors: Sequence[FieldError] = (),
) -> JobSpec:
    """Validate the fields of a request; its source pictures are added later.

    Args:
        body: The fields.
        operation: `generate`, `edit` or `variation`.
        default_model: The model of a request that names none.
        other_errors: Errors that the caller has found, to be reported together with those found here.

    Raises:
        ServiceError: 400, naming every bad field in `validation_errors` and the first one in `param`.
    """
    model = body.get("model", default_model)
    family = known_family(model)
    if operation not in family.operations:
        message = f"{excerpt(model)} does not support the operation '{operation}'"
        raise ServiceError.invalid(FieldError("model", message))
    given = {name: value for name, value in body.items() if value is not None}
    prompt_errors = () if operation == "variation" else _prompt_errors(given)
    errors = [*prompt_errors, *other_errors, *_field_errors(given, family)]
    if errors:
        raise ServiceError.invalid(*errors)
    return JobSpec(
        model=model,
        family=family,
        operation=operation,
        picture=Picture(
            given["prompt"] if operation != "variation" else "",
            *pixels(given),
            format=given.get("output_format", "png"),
            compression=given.get("output_compression", given.get("compression")),
            is_transparent=given.get("background") == "transparent",
        ),
        user=given.get("user"),
        n=given.get("n", 1),
        quality=given.get("quality", "auto"),
        is_base64=given.get("response_format") == "b64_json",
        is_task=family.is_task_based or given.get("async", False),
        is_stream=given.get("stream", False),
        previews=given.get("partial_images", 0),
    )


def checks_of(family: Family) -> dict[str, Check]:
    """Return the optional fields of a request, each with its check."""
    return {**COMMON_FIELDS, "n": integer(1, MAX_IMAGES), **family.fields}


def known_family(model: Any, *, status: int = 400) -> Family:
    """Return the family of a model.

    Raises:
        ServiceError: `status`, with ids that look similar, if the model is unknown; 400 if it is not a string.
    """
    if not isinstance(model, str):
        raise ServiceError.invalid(FieldError("model", "must be a string", "invalid_type"))
    family = family_of(model)
    if family is not None:
        return family
    name = excerpt(model)
    similar = get_close_matches(name, MODEL_IDS, n=3, cutoff=0.6)
    extras: dict[str, Any] = {"hint": "GET /v1/models lists the models of this service."}
    if similar:
        extras |= {"did_you_mean": similar[0], "suggestions": [{"id": id_} for id_ in similar]}
    raise ServiceError(status, "model_not_found", f"The model '{name}' does not exist.", "model", extras=extras)


def _prompt_errors(given: Mapping[str, Any]) -> Iterator[FieldError]:
    prompt = given.get("prompt")
    if prompt is None:
        yield FieldError("prompt", "is required", "missing")
    elif not isinstance(prompt, str):
        yield FieldError("prompt", "must be a string", "invalid_type")
    elif not prompt.strip():
        yield FieldError("prompt", "must not be empty")
    elif len(prompt) > MAX_PROMPT_CHARS:
        yield FieldError("prompt", f"must be at most {MAX_PROMPT_CHARS} characters", "too_long")


def _field_errors(given: Mapping[str, Any], family: Family) -> Iterator[FieldError]:
    """Check every field that this family or any other documents."""
    checks = checks_of(family)
    for name, value in given.items():
        if name in checks:
            message = checks[name](value)
            if message:
                yield FieldError(name, message)
        elif name in DOCUMENTED_FIELDS:
            yield _unsupported(name, family)
    yield from _mode_errors(given, family)


def _mode_errors(given: Mapping[str, Any], family: Family) -> Iterator[FieldError]:
    """Check the combination of `async` and `stream`."""
    is_task, is_stream = (given.get(name) is True for name in ("async", "stream"))
    if is_task and not family.is_async_allowed:
        yield _unsupported("async", family)
    if is_stream and not family.is_stream_allowed:
        yield _unsupported("stream", family)
    if is_task and is_stream:
        yield FieldError("stream", "cannot be combined with async", "conflicting_fields")


def _unsupported(name: str, family: Family) -> FieldError:
    return FieldError(name, f"is not supported by {family.name} models", "unsupported_field")


def pixels(given: Mapping[str, Any]) -> tuple[int, int]:
    """Return width and height of the picture.

    `aspect_ratio` takes precedence over `size`, which Gemini models accept as a compatibility alias only. The ratio
    is exact; the area is as close to the square of the resolution as the ratio allows.
    """
    ratio = parse_ratio(given.get("aspect_ratio", ""))
    edge = _EDGE_PX[given.get("resolution", "1k")]
    if ratio is None:
        return parse_size(given.get("size", "")) or (edge, edge)
    scale = round(edge / sqrt(ratio[0] * ratio[1]))
    return ratio[0] * scale, ratio[1] * scale
