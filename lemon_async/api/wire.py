"""Requests to bytes, answers to facts: the only place that knows the service's JSON.

`read_submission` and `read_poll` say which of a few possible facts an answer is; which deed follows is the
business of `client`. Reading is liberal, because a paid result must not be lost to an odd optional field;
what decides about money (accepted, refused, garbled) is strict.
"""

import hashlib
from collections.abc import Mapping
from functools import cache
from typing import Any

import attrs
import cattrs
import orjson
from cattrs.gen import make_dict_structure_fn, make_dict_unstructure_fn, override

from lemon_async.api.errors import ApiError, ContractError, Problem
from lemon_async.api.models import Billing, GenerateRequest, ImageData, TaskFault, TaskSnapshot
from lemon_async.api.refusals import api_error, stated_error
from lemon_async.api.response import Response, Unreadable, one_line

__all__ = [
    "Accepted",
    "Alive",
    "Denied",
    "Garbled",
    "Missing",
    "Noise",
    "Refused",
    "encode",
    "fingerprint",
    "read_poll",
    "read_submission",
]

GENERATIONS_PATH = "/v1/images/generations"
_MOST_IMAGES = 100  # ten can be asked for
_LONGEST_WORD = 64


def encode(request: GenerateRequest) -> bytes:
    """Return the JSON body of a request: what was set, and nothing else.

    Raises:
        ContractError: When a value cannot be written as JSON.
    """
    try:
        return orjson.dumps({**_converter().unstructure(request), **request.extra}, option=orjson.OPT_SORT_KEYS)
    except TypeError as fault:
        raise ContractError(problems=(Problem("request", f"cannot be sent as JSON: {fault}"),)) from None


def fingerprint(body: bytes) -> str:
    """Return the SHA-256 of an encoded request; equal requests have equal fingerprints."""
    return hashlib.sha256(body).hexdigest()


@attrs.frozen
class Accepted:
    """The service took the job: it is sold, and never to be submitted again."""

    snapshot: TaskSnapshot


@attrs.frozen
class Refused:
    """The service said in its own words that it did not take the job."""

    error: ApiError


@attrs.frozen
class Garbled:
    """The answer to a paid request cannot be read: nobody knows whether the job is sold."""

    reason: str
    error: ApiError


def read_submission(response: Response) -> Accepted | Refused | Garbled:
    """Say what became of a paid request ("Create image", "Response")."""
    try:
        parsed = response.json()
    except Unreadable as fault:
        return Garbled(f"HTTP {response.status} with {fault}", api_error(response))
    if response.is_success:
        snapshot = _snapshot(parsed, response)
        if snapshot is not None and snapshot.images and not snapshot.task_id and snapshot.status != "failed":
            # Images that no task will repeat are the result, whatever word stands beside them.
            snapshot = attrs.evolve(snapshot, status="completed")
        if snapshot is not None and (snapshot.task_id or snapshot.images):
            return Accepted(snapshot)
        return Garbled(f"HTTP {response.status} with neither an image nor a task", api_error(response))
    error = api_error(response)
    if response.status >= 400 and stated_error(parsed) is not None:
        return Refused(error)
    return Garbled(f"HTTP {response.status} without an error of the service", error)


@attrs.frozen
class Alive:
    """The service knows the task and tells how it is; it may be done."""

    snapshot: TaskSnapshot


@attrs.frozen
class Missing:
    """The service does not know the task, which may be lag right after its creation."""

    error: ApiError


@attrs.frozen
class Denied:
    """The key may not ask for this task; asking again will not help."""

    error: ApiError


@attrs.frozen
class Noise:
    """Something between us and the task went wrong; it says nothing about the task."""

    reason: str
    retry_after_s: float | None = None


def read_poll(response: Response) -> Alive | Missing | Denied | Noise:
    """Say what a poll tells about its task ("Get image status")."""
    try:
        parsed = response.json()
    except Unreadable as fault:
        parsed, reason = None, f"HTTP {response.status} with {fault}"
    else:
        reason = f"HTTP {response.status} without a task"
    snapshot = _snapshot(parsed, response) if response.is_success else None
    if snapshot is not None:
        return Alive(snapshot)
    error = api_error(response)
    match response.status:
        case 401 | 403 if stated_error(parsed) is not None:
            return Denied(error)
        case 404 if error.code == "async_task_not_found":
            return Missing(error)
        case _:
            return Noise(reason, error.retry_after)


def _snapshot(parsed: object, response: Response) -> TaskSnapshot | None:
    """Read a task or inline answer, or return `None` when it is neither.

    "Create image" and "Get image status" answer in one shape. A task is told by any of `status`, `task_id`
    and `poll_url`; without them, usable images make it the inline answer, a job that is complete already.
    """
    if not isinstance(parsed, Mapping):
        return None
    snapshot = _converter().structure(parsed, TaskSnapshot)
    if not snapshot.status:
        if not (snapshot.images or snapshot.task_id or snapshot.poll_url):
            return None
        snapshot = attrs.evolve(snapshot, status="completed" if snapshot.images else "pending")
    is_task = snapshot.task_id or snapshot.poll_url or not snapshot.is_done
    billing = Billing(
        transaction_id=_text(parsed.get("billing_transaction_id")),
        headers={name: value for name, value in response.headers.items() if name.startswith("x-")},
    )
    return attrs.evolve(snapshot, task_id=_task_id(snapshot, parsed) if is_task else None, billing=billing)


def _task_id(snapshot: TaskSnapshot, parsed: Mapping[str, Any]) -> str | None:
    """`task_id` is documented; `id` stands beside it on newer pages; else the address ends in it."""
    tail = (snapshot.poll_url or "").partition("?")[0].rstrip("/").rpartition("/")[2]
    return snapshot.task_id or _id(parsed.get("id")) or _id(tail)


def _text(value: object, _: type[Any] | None = None) -> str | None:
    return value if isinstance(value, str) and value else None


def _word(value: object, _: type[Any]) -> str:
    return (one_line(value) or "")[:_LONGEST_WORD]


def _id(value: object, _: type[Any] | None = None) -> str | None:
    return value if isinstance(value, str) and value and value.isprintable() else None


def _whole(value: object, _: type[Any]) -> int | None:
    number = _number(value, _)
    return None if number is None else int(number)


def _number(value: object, _: type[Any]) -> float | None:
    """A number, or text that begins with one, as in "45%"."""
    if isinstance(value, str):
        try:
            value = float(value.strip().rstrip("%"))
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 10**12:
        return None
    return float(value)


def _mapping(value: object, _: type[Any]) -> Mapping[str, Any] | None:
    return value if isinstance(value, Mapping) else None


def _truth(value: object, _: type[Any]) -> bool:
    return value is True


def _images(value: object, _: type[Any]) -> tuple[ImageData, ...]:
    if not isinstance(value, list):
        return ()
    entries = (item for item in value[:_MOST_IMAGES] if isinstance(item, Mapping))
    images = (_without_data_url(_converter().structure(item, ImageData)) for item in entries)
    return tuple(image for image in images if image.is_usable)


def _without_data_url(image: ImageData) -> ImageData:
    """Some gateways put base64 into `url`, or a `data:` prefix before `b64_json`."""
    for text in (image.b64_json, image.url):
        head, comma, _ = (text or "")[:100].partition(",")
        if text and comma and head.startswith("data:") and head.endswith(";base64"):
            return attrs.evolve(image, url=None, b64_json=text[len(head) + 1 :])
    return image


def _fault(value: object, _: type[Any]) -> TaskFault | None:
    """A failed task's `error` is a string on one page and an object on another; both read the same."""
    if isinstance(value, Mapping):
        code = one_line(value.get("code"))
        message = one_line(value.get("message")) or code
    else:
        code, message = None, one_line(value)
    return TaskFault(message, code) if message else None


@cache
def _converter() -> cattrs.Converter:
    """Return the one converter; built at first use, because generating its code would slow down the import."""
    converter = cattrs.Converter()
    lenient = override(struct_hook=_text)
    converter.register_structure_hook(
        ImageData,
        make_dict_structure_fn(ImageData, converter, url=lenient, b64_json=lenient, revised_prompt=lenient),
    )
    converter.register_structure_hook(
        TaskSnapshot,
        make_dict_structure_fn(
            TaskSnapshot,
            converter,
            status=override(struct_hook=_word),
            task_id=override(struct_hook=_id),
            poll_url=lenient,
            images=override(rename="data", struct_hook=_images),
            created=override(struct_hook=_whole),
            model=lenient,
            progress=override(struct_hook=_number),
            fault=override(rename="error", struct_hook=_fault),
            is_cancelled=override(rename="cancelled", struct_hook=_truth),
            usage=override(struct_hook=_mapping),
            billing=override(omit=True),
        ),
    )
    converter.register_unstructure_hook(
        GenerateRequest,
        make_dict_unstructure_fn(
            GenerateRequest,
            converter,
            _cattrs_omit_if_default=True,
            async_=override(rename="async"),
            extra=override(omit=True),
        ),
    )
    return converter
