"""Answers to facts: what the service says of a job, in one of a few possible readings.

`read_submission` and `read_poll` say what an answer is; which deed follows is the business of `client`. What decides
about money (accepted, refused, garbled) is strict.
"""

from collections.abc import Mapping
from typing import Any

import attrs

from lemon_async.api.converter import facts_of, id_of, text_of
from lemon_async.api.errors import ApiError
from lemon_async.api.models import Billing, TaskSnapshot, is_final
from lemon_async.api.refusals import api_error, stated_error
from lemon_async.api.response import Response, Unreadable, retry_after_s

__all__ = [
    "Accepted",
    "Alive",
    "Denied",
    "Garbled",
    "Missing",
    "Noise",
    "Refused",
    "billing_of",
    "read_poll",
    "read_submission",
]


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
        if snapshot is not None and snapshot.images and not (snapshot.task_id or snapshot.is_done):
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
    """The service knows the task and tells how it is; it may be done, or say how long to leave it alone."""

    snapshot: TaskSnapshot
    retry_after_s: float | None = None


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
        asked = response.headers.get("retry-after")
        return Alive(snapshot, retry_after_s(asked, received_at=response.received_at) if asked else None)
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
    facts = facts_of(parsed, response.lifted)
    images, task_id, poll_url = facts["images"], facts["task_id"], facts["poll_url"]
    if not (facts["status"] or images or task_id or poll_url):
        return None
    facts["status"] = facts["status"] or ("completed" if images else "pending")
    if task_id is None and (poll_url or not is_final(facts["status"])):
        facts["task_id"] = _other_id(poll_url, parsed)
    return TaskSnapshot(**facts, billing=billing_of(parsed, response.headers))


def billing_of(answer: Mapping[str, Any], headers: Mapping[str, str]) -> Billing:
    """Return what an answer says about money."""
    usage = answer.get("usage")
    return Billing(
        transaction_id=text_of(answer.get("billing_transaction_id")),
        usage=usage if isinstance(usage, Mapping) else None,
        headers={name: value for name, value in headers.items() if name.startswith("x-")},
    )


def _other_id(poll_url: str | None, parsed: Mapping[str, Any]) -> str | None:
    """`task_id` is documented; `id` stands beside it on newer pages; else the address ends in it."""
    tail = (poll_url or "").partition("?")[0].rstrip("/").rpartition("/")[2]
    return id_of(parsed.get("id")) or id_of(tail)
