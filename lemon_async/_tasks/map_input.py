"""Read the requests of a map from any iterable, one at a time."""

import inspect
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Mapping, Sized
from typing import Any

from lemon_async._pace.validators import find_callback_fault
from lemon_async._uploads.preparation import request_from
from lemon_async.errors import ContractError
from lemon_async.requests import Request
from lemon_async.types import Problem

__all__ = ["Items", "check_map", "checked_item", "length_of", "pull_function"]

Items = Iterable[str | Request] | AsyncIterable[str | Request]


def check_map(items: object, in_flight: object, on_submitted: object, fields: Mapping[str, Any]) -> None:
    """Check the arguments of a map, and the fields that would otherwise be refused with every request.

    Raises:
        ContractError: With all problems.
    """
    problems = []
    if isinstance(items, str | bytes | Mapping | Request):
        advice = f"must be an iterable of prompts or requests, not one {type(items).__name__}; put it into a list"
        problems.append(Problem("requests", advice))
    elif not isinstance(items, Iterable | AsyncIterable):
        advice = f"must be an iterable or async iterable of prompts or requests, not {type(items).__name__}"
        problems.append(Problem("requests", advice))
    elif _is_spent(items):
        problems.append(Problem("requests", "is an exhausted generator; make a new one"))
    if type(in_flight) is not int or in_flight < 1:
        problems.append(Problem("in_flight", f"must be a whole number from 1, not {in_flight!r:.80}"))
    if on_submitted is not None and (fault := find_callback_fault(on_submitted)):
        problems.append(Problem("on_submitted", fault))
    if "prompt" in fields:
        problems.append(Problem("prompt", "would apply to every request; prompts come from the iterable"))
    if problems:
        raise ContractError(problems=tuple(problems))
    request_from("", fields)


def checked_item(item: object, index: int) -> str | Request:
    """Return the item.

    Raises:
        ContractError: It is neither a prompt nor a request.
    """
    if isinstance(item, str | Request):
        return item
    advice = f"item {index} must be a prompt or a request, not {type(item).__name__}"
    raise ContractError.of("requests", advice)


def length_of(items: object) -> int | None:
    """Return the number of items, if the iterable reports it."""
    try:
        return len(items) if isinstance(items, Sized) else None
    except Exception:  # noqa: BLE001 - raised by the caller's `__len__`, which is only displayed
        return None


def _is_spent(items: object) -> bool:
    if inspect.isgenerator(items):
        return items.gi_frame is None
    return inspect.isasyncgen(items) and items.ag_frame is None


def pull_function(items: Items) -> Callable[[], Awaitable[str | Request]]:
    """Return a coroutine function that returns the next item, or raises `StopAsyncIteration`."""
    if isinstance(items, AsyncIterable):
        return aiter(items).__anext__
    iterator = iter(items)

    async def pull() -> str | Request:
        for item in iterator:
            return item
        raise StopAsyncIteration

    return pull
