"""Read responses to submissions and polls as one of a few outcomes.

Callers decide what to do about an outcome. The reading is strict where money is at stake (accepted, refused or unknown)
and where a task would end. `pack` makes the states of tasks small, because thousands of them wait.
"""

import re
from collections import deque
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, NamedTuple
from urllib.parse import unquote

import attrs

from lemon_async._api.error_responses import Failure, api_error, error_object, is_proof_of_refusal
from lemon_async._api.response import Response, Unreadable, id_of, retry_after_s, snapshot_fields, text_of
from lemon_async.errors import ApiError, TransportError
from lemon_async.types import Billing, ImageData, TaskFault, TaskSnapshot, is_final

__all__ = [
    "CREATED",
    "IMAGES",
    "IS_ID_GUESSED",
    "MODEL",
    "POLL_URL",
    "STATUS",
    "TASK_ID",
    "VISIBLE",
    "Accepted",
    "Packed",
    "PollFailure",
    "PollSuccess",
    "Refused",
    "UnknownOutcome",
    "billing_of",
    "pack",
    "read_poll",
    "read_snapshot",
    "read_submission",
    "unpack",
    "unpack_billing",
    "unpack_image",
]


_TASK_WORDS = frozenset({"pending", "processing", "completed"})
_LONGEST_ID = 512
_MAX_PARTS = 200
_POLL_URL = re.compile(r"/v1/(?:tasks|images/generations|images)/([^/?#]+)/?\Z")


class Accepted(NamedTuple):
    """The service accepted the job: it must not be submitted again."""

    snapshot: TaskSnapshot


class Refused(NamedTuple):
    """The service refused the job, which costs nothing."""

    error: ApiError


class UnknownOutcome(NamedTuple):
    """The response to a paid request does not say whether the job was accepted."""

    reason: str
    error: ApiError


def read_submission(response: Response) -> Accepted | Refused | UnknownOutcome:
    """Return the outcome of a paid request ("Create image", "Response")."""
    try:
        parsed = response.json()
    except Unreadable as fault:
        return UnknownOutcome(f"HTTP {response.status} with {fault}", api_error(response))
    if response.is_success:
        snapshot = _snapshot(parsed, response)
        if snapshot is not None and snapshot.images and not (snapshot.task_id or snapshot.is_done):
            # Images without a task are the result, whatever the status says.
            snapshot = attrs.evolve(snapshot, status="completed")
        if snapshot is not None and (snapshot.task_id or snapshot.images):
            return Accepted(snapshot)
        return UnknownOutcome(f"HTTP {response.status} with neither an image nor a task", api_error(response))
    error = api_error(response)
    trace = _trace_of_job(parsed) if isinstance(parsed, Mapping) else None
    if trace is not None:
        return UnknownOutcome(f"HTTP {response.status} with {trace}", error)
    if is_proof_of_refusal(response.status, parsed):
        return Refused(error)
    return UnknownOutcome(f"HTTP {response.status} without an error of the service", error)


def _trace_of_job(body: Mapping[str, Any]) -> str | None:
    """Describe the trace of an accepted job in an error response; `None` if there is none.

    A `task_id` or a `poll_url` counts anywhere, a status only in the outer objects, because inner ones have one, too.
    """
    outer = (body, body.get("error"), body.get("data"))
    for part in _mappings_in(body):
        poll_url, status = text_of(part.get("poll_url")), text_of(part.get("status"))
        is_task = poll_url is not None or (status in _TASK_WORDS and any(part is other for other in outer))
        task_id = _stated_id(part.get("task_id"))
        if task_id is None and is_task:
            task_id = _stated_id(part.get("id")) or _tail_of(poll_url)
        if task_id is not None:
            return f"task {task_id[:_LONGEST_ID]!r}: `session.task` resumes it by this id"
        if is_task:
            return "a task without an id"
    return "data" if body.get("data") else None


def _mappings_in(body: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield a response and the mappings in it, the outer ones first, up to a bound."""
    values: deque[object] = deque([body])
    for _ in range(_MAX_PARTS):
        match values.popleft() if values else None:
            case Mapping() as part:
                yield part
                values.extend(islice(part.values(), _MAX_PARTS))
            case list() as entries:
                values.extend(islice(entries, _MAX_PARTS))


class PollSuccess(NamedTuple):
    """A poll that returned the state of its task, perhaps with the time to wait before the next one."""

    snapshot: TaskSnapshot
    retry_after_s: float | None = None


class PollFailure(NamedTuple):
    """A poll that did not return the state of its task.

    Attributes:
        failure: `REFUSED` if the key may not read the task, `NOT_FOUND` if the service does not know it; any other
            failure says nothing about the task.
        reason: The failure in one line.
        error: The response, or the lack of one, as an error.
        retry_after_s: Seconds to wait before the next poll, if the service says so.
    """

    failure: Failure
    reason: str
    error: ApiError | TransportError
    retry_after_s: float | None = None


def read_poll(response: Response, polled_id: str | None) -> PollSuccess | PollFailure:
    """Return the outcome of a poll ("Get image status").

    A response names its task by `task_id`, else by `id`, else by a `poll_url` that ends in the id. A response that
    names another task is a transient failure. `failed`, and `completed` without a picture, end the task only if the
    response names it or has the service's `cancelled: true`; a gateway's `{"status": "failed", "message": ...}` does
    not. A picture, and any other status, counts without a name.

    Args:
        response: The response.
        polled_id: Id of the task; `None` if only its address is known: then any id is accepted.
    """
    try:
        parsed = response.json()
    except Unreadable as fault:
        parsed, reason = None, f"HTTP {response.status} with {fault}"
    else:
        reason = f"HTTP {response.status} without a task"
    snapshot = _snapshot(parsed, response) if response.is_success else None
    if snapshot is not None:
        wait = response.headers.get("retry-after")
        wait_s = retry_after_s(wait, received_at=response.received_at) if wait else None
        mismatch = _find_mismatch(parsed, snapshot, polled_id)
        if mismatch is None:
            return PollSuccess(snapshot, wait_s)
        return PollFailure(Failure.TRANSIENT, f"HTTP {response.status} {mismatch}", api_error(response), wait_s)
    error, failure = api_error(response), Failure.TRANSIENT
    match response.status:
        case 401 | 403 if error_object(parsed) is not None:
            failure = Failure.REFUSED
        case 404 if error.code == "async_task_not_found":
            failure = Failure.NOT_FOUND
    return PollFailure(failure, reason, error, error.retry_after)


def read_snapshot(response: Response, polled_id: str | None) -> TaskSnapshot:
    """Return the state of a task, or raise.

    Raises:
        ApiError: The response says nothing about the task.
    """
    reading = read_poll(response, polled_id)
    if isinstance(reading, PollSuccess):
        return reading.snapshot
    raise api_error(response)


def _find_mismatch(body: Mapping[str, Any], snapshot: TaskSnapshot, polled_id: str | None) -> str | None:
    """Return why a response is not about the polled task, or `None` if it is."""
    name = _stated_id(body.get("task_id"), body.get("id"))
    if polled_id and name and not _is_same(name, polled_id):
        return f"about another task, {name[:_LONGEST_ID]!r}"
    name = name or _tail_of(snapshot.poll_url)
    is_named = name is not None and (not polled_id or _is_same(name, polled_id))
    has_result = snapshot.status == "completed" and snapshot.images
    if snapshot.is_done and not (is_named or has_result or snapshot.is_cancelled):
        return f"with status {snapshot.status!r} and without the task's id"
    return None


def _stated_id(*values: object) -> str | None:
    """Return the first text that can be an id, else the first number."""
    for value in values:
        if found := id_of(value):
            return found
    return next((str(value) for value in values if type(value) is int), None)


def _is_same(name: str, polled_id: str) -> bool:
    """Return whether two ids are equal apart from what gateways change: percent-encoding, white space and case."""
    return name == polled_id or _plain(name) == _plain(polled_id)


def _plain(task_id: str) -> str:
    return unquote(task_id).strip().casefold()


def _snapshot(parsed: object, response: Response) -> TaskSnapshot | None:
    """Read a task or an inline response; `None` if it is neither.

    "Create image" and "Get image status" share one shape. Any of `status`, `task_id` and `poll_url` makes it a
    task; without them, usable images make it an inline response, which is a completed job.
    """
    if not isinstance(parsed, dict):
        return None
    facts = snapshot_fields(parsed, response.pictures)
    images, task_id, poll_url = facts["images"], facts["task_id"], facts["poll_url"]
    if not (facts["status"] or images or task_id or poll_url):
        return None
    facts["status"] = facts["status"] or ("completed" if images else "pending")
    if task_id is None and (poll_url or not is_final(facts["status"])):
        facts["task_id"] = found = _other_id(poll_url, parsed)
        facts["is_id_guessed"] = poll_url is not None and found != _documented_id(poll_url)
    return TaskSnapshot(**facts, billing=billing_of(parsed, response.headers))


def billing_of(body: Mapping[str, Any], headers: Mapping[str, str]) -> Billing:
    """Return the billing facts of a response."""
    usage = body.get("usage")
    return Billing(
        transaction_id=text_of(body.get("billing_transaction_id")),
        usage=usage if isinstance(usage, dict) else None,
        headers={name: value for name, value in headers.items() if name.startswith("x-")},
    )


def _other_id(poll_url: str | None, parsed: Mapping[str, Any]) -> str | None:
    """Return the id in a response without a `task_id`: from `id`, from the end of its address, or from a number."""
    found = id_of(parsed.get("id")) or _tail_of(poll_url)
    return found or _stated_id(parsed.get("task_id"), parsed.get("id"))


def _documented_id(poll_url: str) -> str | None:
    """Return the id in a `poll_url` of a documented form."""
    found = _POLL_URL.search(poll_url.partition("?")[0])
    return found[1] if found else None


def _tail_of(poll_url: str | None) -> str | None:
    return id_of((poll_url or "").partition("?")[0].rstrip("/").rpartition("/")[2])


# The garbage collector follows every object that may refer to others. It stops following a plain tuple whose items it
# need not follow either, such as text and numbers, but never an instance of a class. Ten thousand snapshots with their
# parts are fifty thousand objects, and a full collection stops the event loop for as long as it takes to visit them.
Packed = tuple[Any, ...]
"""The fields of a `TaskSnapshot` in the order of the following positions, with tuples instead of their parts."""

STATUS, PROGRESS, IMAGES, FAULT, TASK_ID, IS_ID_GUESSED, POLL_URL, CREATED, MODEL, IS_CANCELLED = range(10)
_TRANSACTION_ID, _USAGE, _HEADERS = range(10, 13)
VISIBLE = slice(STATUS, TASK_ID)
"""The fields whose change is worth waking waiters."""


def pack(snapshot: TaskSnapshot) -> Packed:
    """Return a snapshot as a tuple."""
    fault, billing = snapshot.fault, snapshot.billing
    return (
        snapshot.status,
        snapshot.progress,
        tuple([(image.url, image.inline, image.revised_prompt) for image in snapshot.images]),
        None if fault is None else (fault.message, fault.code),
        snapshot.task_id,
        snapshot.is_id_guessed,
        snapshot.poll_url,
        snapshot.created,
        snapshot.model,
        snapshot.is_cancelled,
        billing.transaction_id,
        billing.usage,
        tuple(billing.headers.items()),
    )


def unpack(packed: Packed) -> TaskSnapshot:
    """Return a snapshot that equals the one that was packed; it shares its inline pictures and `usage`."""
    fault = packed[FAULT]
    return TaskSnapshot(
        status=packed[STATUS],
        task_id=packed[TASK_ID],
        is_id_guessed=packed[IS_ID_GUESSED],
        poll_url=packed[POLL_URL],
        images=tuple(map(unpack_image, packed[IMAGES])),
        created=packed[CREATED],
        model=packed[MODEL],
        progress=packed[PROGRESS],
        fault=None if fault is None else TaskFault(*fault),
        is_cancelled=packed[IS_CANCELLED],
        billing=unpack_billing(packed),
    )


def unpack_billing(packed: Packed) -> Billing:
    """Return the billing facts of a snapshot that was packed."""
    return Billing(packed[_TRANSACTION_ID], packed[_USAGE], dict(packed[_HEADERS]))


def unpack_image(entry: tuple[Any, ...]) -> ImageData:
    """Return one of the entries at `IMAGES`."""
    return ImageData(*entry)
