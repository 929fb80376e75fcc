"""Read the requests of a map from any iterable, one at a time."""

import inspect
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Iterator, Mapping, Sized
from typing import Any, NamedTuple

from lemon_async._formats.json_documents import safe_repr
from lemon_async._pace.stop_rule import find_stop_fault
from lemon_async._pace.validators import find_callback_fault
from lemon_async._tasks.progress import Display
from lemon_async._tasks.task import ImageTask
from lemon_async._uploads.preparation import request_from
from lemon_async.errors import ContractError
from lemon_async.requests import Request
from lemon_async.types import Problem, StopOn, SubmissionJournal

__all__ = ["Item", "Items", "MapOptions", "checked_item", "key_function", "length_of", "pull_function"]

Item = str | Request | tuple[Any, str | Request]
Items = Iterable[Item] | AsyncIterable[Item]
_HOOKS = ("intend", "withdraw", "accept")


class MapOptions(NamedTuple):
    """The options of a map; see `LemonSession.map`."""

    fields: Mapping[str, Any]
    check_contracts: bool | None
    in_flight: int
    ordered: bool
    fail_fast: bool
    stop_on: StopOn = None
    key: Callable[[Any], Any] | None = None
    journal: SubmissionJournal | None = None
    on_submitted: Callable[[int, ImageTask], object] | None = None
    display: Display | None = None

    def check(self, items: object) -> None:
        """Check the options, the iterable, and the fields that would otherwise be refused with every request.

        Raises:
            ContractError: With all problems.
        """
        problems = [*_iterable_problems(items)]
        if type(self.in_flight) is not int or self.in_flight < 1:
            problems.append(Problem("in_flight", f"must be a whole number from 1, not {self.in_flight!r:.80}"))
        if fault := find_stop_fault(self.stop_on):
            problems.append(Problem("stop_on", fault))
        for name in ("key", "on_submitted"):
            callback = getattr(self, name)
            if callback is not None and (fault := find_callback_fault(callback)):
                problems.append(Problem(name, fault))
        hooks = [getattr(self.journal, name, None) for name in _HOOKS]
        if self.journal is not None and not all(map(inspect.iscoroutinefunction, hooks)):
            advice = f"must have the coroutine functions {', '.join(_HOOKS)}, not be {safe_repr(self.journal)}"
            problems.append(Problem("journal", advice))
        if "prompt" in self.fields:
            problems.append(Problem("prompt", "would apply to every request; prompts come from the iterable"))
        if problems:
            raise ContractError(problems=tuple(problems))
        request_from("", self.fields)


def _iterable_problems(items: object) -> Iterator[Problem]:
    kind = type(items).__name__
    if isinstance(items, str | bytes | Mapping | Request):
        advice = f"must be an iterable of prompts or requests, not one {kind}; {_way_round(items)}"
        yield Problem("requests", advice)
    elif not isinstance(items, Iterable | AsyncIterable):
        yield Problem("requests", f"must be an iterable or async iterable of prompts or requests, not {kind}")
    elif _is_spent(items):
        yield Problem("requests", "is an exhausted generator; make a new one")


def _way_round(items: object) -> str:
    return "for (key, prompt) pairs, pass its items()" if isinstance(items, Mapping) else "put it into a list"


def key_function(key: Callable[[Any], Any] | None) -> Callable[[Any], tuple[Any, Any]]:
    """Return a function that returns the key and the request of an item: those of a pair, or what `key` returns."""
    if key is not None:
        return lambda item: (key(item), item)
    return lambda item: item if isinstance(item, tuple) and len(item) == 2 else (None, item)


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


def pull_function(items: Items) -> Callable[[], Awaitable[Item]]:
    """Return a coroutine function that returns the next item, or raises `StopAsyncIteration`."""
    if isinstance(items, AsyncIterable):
        return aiter(items).__anext__
    iterator = iter(items)

    async def pull() -> Item:
        for item in iterator:
            return item
        raise StopAsyncIteration

    return pull
