"""Many jobs at once: `LemonSession.map` has them made and hands them out as they end.

Problem: thousands of requests come from an iterable that may be endless; each costs money, lasts a minute and ends in
its own way.

Shape: one asyncio task pulls the requests, because an iterable may have scopes of its own that belong to the task in
which they were entered. Each request is submitted by a short-lived task. A job that was accepted costs none: a callback
of its `ImageTask` turns it into an `Outcome`.

Invariants:
* A request is pulled only when fewer than `in_flight` jobs are out; one counts until its outcome is taken, so a slow
  reader slows the spending down.
* What was sold is never lost: its outcome is handed out, or it stands in `pending`.
* One request of a map stands in line for the rate limit: who submits beside it waits for one other, not for all.
* A request that may be on its way is not cancelled by leaving: its answer is waited for, within bounds.
* Nothing here holds a cancel scope; the tasks belong to the session, and end with it.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from functools import cached_property
from types import TracebackType
from typing import Any, Self

import anyio
import attrs

from lemon_async._display.bundle import Bundle, failure_bundle
from lemon_async._formats.safe_text import safe_repr, safe_str
from lemon_async._images.images import Images
from lemon_async._tasks.map_input import Items, check_map, checked_item, length_of, puller
from lemon_async._tasks.progress import Display, Reporter, Tally
from lemon_async._tasks.task import ImageTask
from lemon_async._tasks.unfinished import MAP_LEFT, report_unfinished
from lemon_async._uploads.preparation import request_from
from lemon_async.errors import SessionError
from lemon_async.requests import Request
from lemon_async.types import Progress

__all__ = ["Maps", "Outcome", "Outcomes"]

_LONGEST_STATE = 90


@attrs.frozen(eq=False)
class Outcome:
    """How one job of `LemonSession.map` ended.

    Attributes:
        index: Place of its request in the input, from 0.
        request: What was asked for; `None` when none could be made of the item.
        task: Its task; `None` when it was not accepted.
        images: The pictures; `None` when there is an error.
        error: What it ended with instead of pictures: as `generate` raises it.
    """

    index: int
    request: Request | None
    task: ImageTask | None = None
    images: Images | None = None
    error: Exception | None = None

    def _repr_mimebundle_(self, **_: object) -> Bundle:
        if self.images is None:
            return failure_bundle(self._state(), label=repr(self))
        data, metadata = self.images._repr_mimebundle_()
        return {**data, "text/plain": repr(self)}, metadata

    def _state(self) -> str:
        if self.error is not None:
            return f"{type(self.error).__name__}: {safe_str(self.error)}"
        return f"{len(self.images or ())} image{'s' * (len(self.images or ()) != 1)}"

    def __repr__(self) -> str:
        prompt = getattr(self.request, "prompt", None)
        return f"<Outcome {self.index}{f' {safe_repr(prompt)}' if prompt else ''} {self._state()[:_LONGEST_STATE]}>"


@attrs.frozen(kw_only=True)
class Plan:
    """What a map was asked for; see `LemonSession.map`."""

    fields: Mapping[str, Any]
    check_contracts: bool | None
    in_flight: int
    ordered: bool
    fail_fast: bool
    on_submitted: Callable[[int, ImageTask], object] | None = None
    display: Display | None = None


class Outcomes:
    """The jobs of one `LemonSession.map`: `async with session.map(...) as outcomes: async for outcome in outcomes`.

    Leaving the block submits nothing more; what was sold and not handed out stands in `pending`. Any number of
    coroutines may read, each outcome goes to one of them.
    """

    def __init__(self, items: Items, plan: Plan, owner: "Maps") -> None:
        self._items = items
        self._pull_item = puller(items)
        self._plan = plan
        self._owner = owner
        self._ready = _InOrder() if plan.ordered else _AsTheyEnd()
        self._tasks: set[asyncio.Task[None]] = set()
        self._feeder: asyncio.Task[None] | None = None
        self._queue = asyncio.Lock()
        self._tally = Tally()
        self._reporter = Reporter(plan.display, lambda: self.progress)
        self._pulled = 0
        self._open = 0
        self._sold: dict[int, ImageTask] = {}
        self._failure: BaseException | None = None
        self._is_entered = self._is_read_out = self._is_fed = self._is_left = False
        self._room = asyncio.Event()
        self._news = asyncio.Event()

    @property
    def pending(self) -> tuple[ImageTask, ...]:
        """The tasks that were sold and whose outcome was not handed out, oldest first; some may be over."""
        return tuple(self._sold[index] for index in sorted(self._sold))

    @property
    def progress(self) -> Progress:
        """How far it has come, since the block was entered and until it was left.

        `total` is what `len()` says of the iterable, if it can, or what was pulled once that is all.
        """
        return self._tally.progress(self._total())

    async def __aenter__(self) -> Self:
        if self._is_entered:
            raise SessionError(message="a map runs once: call session.map(...) again, with a new iterable")
        if self._owner.is_closed:
            raise SessionError(message="the session is closed; open a new one, and map there")
        self._is_entered = True
        self._owner.running.add(self)
        self._tally.start()
        self._reporter.changed()
        self._feeder = self._start(self._feed())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # In a cancelled scope of anyio every await is cancelled: without the shield, what is on its way is not known.
        try:
            with report_unfinished(lambda: self.pending, MAP_LEFT, error), anyio.CancelScope(shield=True):
                await self.aclose()
        finally:
            self._tally.stop()
            self._reporter.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Outcome:
        """Wait for the next outcome.

        Spends nothing by itself, but makes room for the next request. Cancelling ends this wait only; nothing is lost.

        Raises:
            Exception: What the iterable raised, once every job before it has been handed out; with `fail_fast`, the
                first error of a job.
            SessionError: The block was not entered, or the session was closed.
        """
        while (outcome := self._ready.take()) is None:
            if not self._is_entered:
                raise SessionError(message="enter the map first: async with session.map(...) as outcomes")
            if self._is_left or (self._is_fed and not self._open):
                raise self._failure or StopAsyncIteration  # every reader hears of it
            self._news.clear()
            await self._news.wait()
        self._open -= 1
        self._sold.pop(outcome.index, None)
        self._room.set()
        if not self._open:
            self._news.set()  # the end is news for other readers
        return outcome

    def close(self, failure: BaseException | None = None) -> None:
        """Pull nothing more, cancel what has not been sent, and end the reading, with `failure` if there is one."""
        if self._is_left:
            return  # a second cancel would break off how others clean up after the first
        self._is_left = True
        self._end_feed(failure)
        if not self._tasks:
            self._owner.running.discard(self)
        for task in self._tasks:
            if not self._owner.is_sending(task):
                task.cancel()

    async def aclose(self) -> None:
        """Submit nothing more, and wait for the answers to what is on its way; after `close_s` they are in doubt.

        Cancelling stops the waiting; those answers are taken in all the same. Spends nothing more.
        """
        self.close()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=self._owner.close_s)
        for task in self._tasks:
            task.cancel()
        if self._tasks:  # bounded: an iterable of the caller may take its cancelling lightly
            await asyncio.wait(self._tasks, timeout=self._owner.close_s)

    async def _feed(self) -> None:
        """Pull one item after the other, as room comes, and have each submitted by an asyncio task of its own."""
        try:
            while await self._has_room():
                item = await self._pull_item()
                self._open += 1
                self._start(self._submit(self._pulled, item))
                self._pulled += 1
        except StopAsyncIteration:
            self._is_read_out = True
            self._reporter.changed()
            self._end_feed()
        except Exception as failure:  # noqa: BLE001 - the caller's own code: the reader hears of it in its turn
            self._end_feed(failure)

    async def _has_room(self) -> bool:
        """Wait until one more job may be under way; tell whether that is still wanted."""
        while not self._is_fed and (self._open >= self._plan.in_flight or len(self._tasks) > self._owner.workers):
            self._room.clear()
            await self._room.wait()
        return not self._is_fed

    def _start(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        task = asyncio.get_running_loop().create_task(work, name="lemon_async map")
        self._tasks.add(task)
        task.add_done_callback(self._task_ended)
        return task

    def _task_ended(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        self._room.set()
        if task.cancelled():
            if not self._is_left:  # otherwise we did
                self._cancelled(task)
        elif (crash := task.exception()) is not None:
            self.close(crash)
        if self._is_left and not self._tasks:
            self._owner.running.discard(self)

    def _cancelled(self, task: "asyncio.Task[None]") -> None:
        """Let nobody wait for what somebody else has cancelled."""
        if task is self._feeder:
            reason = (
                "reading the requests was cancelled: by the program, or by a timeout around a yield of the iterable"
            )
            self._end_feed(SessionError(message=reason))
        else:
            self.close(SessionError(message="a request of the map was cancelled by the program"))

    def _end_feed(self, failure: BaseException | None = None) -> None:
        self._is_fed = True
        self._failure = self._failure or failure
        self._room.set()
        self._news.set()

    async def _submit(self, index: int, item: str | Request) -> None:
        """Have a job accepted; its outcome follows when it ends."""
        request: Request | None = None
        self._tally.begun()
        self._reporter.changed()
        try:
            request = request_from(checked_item(item, index), self._plan.fields)
            task = await self._owner.submit(
                request, self._plan.check_contracts, is_wanted=self._is_wanted, queue=self._queue
            )
        except asyncio.CancelledError:
            self._open -= 1
            self._tally.withdrawn()
            self._reporter.changed()
            raise
        except Exception as error:  # noqa: BLE001 - one failure never ends the rest
            self._tally.refused()
            self._deliver(Outcome(index, request, error=error))
            return
        self._sold[index] = task
        self._tally.accepted()
        self._reporter.changed()
        task.add_done_callback(lambda ended: self._ended(index, request, ended))
        if self._plan.on_submitted is not None:
            self._plan.on_submitted(index, task)

    def _ended(self, index: int, request: Request | None, task: ImageTask) -> None:
        error = task.exception()
        self._tally.ended(is_failed=error is not None)
        images = task.result() if error is None else None
        self._deliver(Outcome(index, request, task, images=images, error=error))

    def _is_wanted(self) -> bool:
        return not self._is_left

    def _deliver(self, outcome: Outcome) -> None:
        self._reporter.changed()
        if self._plan.fail_fast and outcome.error is not None and not self._is_left:
            self._sold.pop(outcome.index, None)
            self.close(outcome.error)
            return
        self._ready.put(outcome)
        self._news.set()

    def _total(self) -> int | None:
        if self._is_read_out:
            return self._pulled
        return None if self._length is None else max(self._length, self._pulled)

    @cached_property
    def _length(self) -> int | None:
        return length_of(self._items)

    def __repr__(self) -> str:
        state = "left" if self._is_left else "ended" if self._is_fed else "open"
        counts = (
            f"{self._open} in flight, {len(self._ready)} ready, {len(self._sold)} pending, {len(self._tasks)} tasks"
        )
        return f"<Outcomes {state} | {counts}>"


class Maps:
    """The maps of one session; those that run end with it.

    Args:
        submit: Has a request accepted; see `Engine.submit`.
        is_sending: Tells whether an asyncio task has a paid request that may be on its way.
        workers: Number of requests that are being submitted at once.
        close_s: How long leaving a map waits for answers.
    """

    def __init__(
        self,
        submit: Callable[..., Awaitable[ImageTask]],
        *,
        is_sending: Callable[["asyncio.Task[Any]"], bool],
        workers: int,
        close_s: float,
    ) -> None:
        self.submit: Callable[..., Awaitable[ImageTask]] = submit
        self.is_sending: Callable[[asyncio.Task[Any]], bool] = is_sending
        self.workers: int = workers
        self.close_s: float = close_s
        self.running: set[Outcomes] = set()
        self.is_closed: bool = False

    def open(self, items: Items, fields: Mapping[str, Any], **options: Any) -> Outcomes:
        """Return a map that has not begun.

        Raises:
            ContractError: It cannot work.
        """
        check_map(items, options["in_flight"], fields)
        return Outcomes(items, Plan(fields=fields, **options), self)

    def close(self) -> None:
        """End every map."""
        self.is_closed = True
        for outcomes in tuple(self.running):
            outcomes.close(SessionError(message="the session was closed while a map was running"))

    async def aclose(self) -> None:
        """Wait until every map has ended."""
        await asyncio.gather(*(outcomes.aclose() for outcomes in tuple(self.running)))


class _AsTheyEnd:
    """Outcomes in the order in which they came."""

    def __init__(self) -> None:
        self._outcomes: deque[Outcome] = deque()

    def __len__(self) -> int:
        return len(self._outcomes)

    def put(self, outcome: Outcome) -> None:
        self._outcomes.append(outcome)

    def take(self) -> Outcome | None:
        return self._outcomes.popleft() if self._outcomes else None


class _InOrder:
    """Outcomes in the order of the input: each waits for those before it."""

    def __init__(self) -> None:
        self._outcomes: dict[int, Outcome] = {}
        self._next = 0

    def __len__(self) -> int:
        return len(self._outcomes)

    def put(self, outcome: Outcome) -> None:
        self._outcomes[outcome.index] = outcome

    def take(self) -> Outcome | None:
        outcome = self._outcomes.pop(self._next, None)
        self._next += outcome is not None
        return outcome
