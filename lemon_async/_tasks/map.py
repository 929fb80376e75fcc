"""`LemonSession.map`: submit many requests, and yield their outcomes.

Problem: an iterable, perhaps an endless one, has thousands of requests, which cost money and end each in its own way.

Design: one asyncio task reads the iterable, because an iterable may hold cancel scopes that belong to the task in which
they were entered. A short-lived task submits each request. An accepted job needs no task: a done callback of its
`ImageTask` turns it into an `Outcome`.

Invariants:
* The next request is read only while fewer than `in_flight` jobs are open. A job is open until its outcome is taken, so
  a slow reader slows the spending down.
* No accepted job is lost: its outcome is yielded, or it is in `pending`.
* Refusals of the account, and errors of the caller's journal, stop the submitting only: what was accepted is yielded.
* At most one request of a map waits for the rate limit, so that another request of the session waits for one, not all.
* Leaving the map does not cancel a request that may have been sent: it waits for the response, within bounds.
* No cancel scope is held, and all tasks end with the session.
"""

import asyncio
import contextvars
import copy
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import suppress
from functools import cached_property, partial
from types import TracebackType
from typing import Any, Self

import anyio
import attrs

from lemon_async._pace.stop_rule import PROBE_S, StopRule
from lemon_async._tasks.journal_entry import HookFailed, HookRefused, JournalEntry
from lemon_async._tasks.map_input import Items, MapOptions, checked_item, key_function, length_of, pull_function
from lemon_async._tasks.outcome import Outcome
from lemon_async._tasks.progress import Reporter, Tally
from lemon_async._tasks.task import Callbacks, ImageTask
from lemon_async._tasks.unfinished import MAP_LEFT, report_unfinished
from lemon_async._uploads.preparation import request_from
from lemon_async.errors import LemonError, SessionError
from lemon_async.requests import Request
from lemon_async.types import Progress

__all__ = ["Maps", "Outcomes"]


class Outcomes:
    """The jobs of one `LemonSession.map`: `async with session.map(...) as outcomes: async for outcome in outcomes`.

    Leaving the block submits nothing more; accepted jobs whose outcome was not yielded are in `pending`. Any number of
    coroutines may read; each outcome goes to one of them.
    """

    def __init__(self, items: Items, options: MapOptions, owner: "Maps") -> None:
        self._items = items
        self._next_item = pull_function(items)
        self._key_of = key_function(options.key)
        self._options = options
        self._rule = StopRule(options.stop_on, is_proven=owner.has_sold())
        self._owner = owner
        self._ready: OrderedDict[int, Outcome] = OrderedDict()
        self._next = 0
        self._dropped: set[int] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._writing: set[asyncio.Task[Any] | None] = set()
        self._reader: asyncio.Task[None] | None = None
        self._queue = asyncio.Lock()
        self._reporter = Reporter(options.display, lambda: self.progress)
        self._tally = Tally(self._reporter.changed)
        self._read = 0
        self._open = 0
        self._accepted: dict[int, ImageTask] = {}
        self._places: dict[ImageTask, tuple[int, Any]] = {}  # index and key
        self._callbacks: Callbacks = ()
        self._failure: BaseException | None = None
        self._is_entered = self._has_read_all = self._has_input_ended = self._is_stopped = self._is_left = False
        self._probing: asyncio.TimerHandle | None = None
        self._capacity = asyncio.Event()
        self._news = asyncio.Event()

    @property
    def pending(self) -> tuple[ImageTask, ...]:
        """The accepted tasks whose outcome was not yielded, oldest first; some may be over."""
        return tuple(self._accepted[index] for index in sorted(self._accepted))

    @property
    def progress(self) -> Progress:
        """The current counts; the clock runs from entering the block until leaving it.

        `total` is the `len()` of the iterable if it has one, or the number of requests once all have been read.
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
        self._callbacks = ((self._ended, contextvars.copy_context(), False),)  # one for all tasks
        self._reader = self._start(self._read_requests())
        if self._rule.allowance is not None:
            self._probing = asyncio.get_running_loop().call_later(PROBE_S, self._end_probe)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # In a cancelled scope of anyio every await is cancelled: without the shield, responses due would be lost.
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

        Spends nothing itself, but lets the next request be submitted. Cancelling ends this wait only; nothing is lost.

        Raises:
            Exception: What the iterable raised, after every outcome before that; the error that `stop_on` matches, or
                that `journal` raised, after the outcomes of all jobs in flight; with `fail_fast`, the first error of
                a job.
            SessionError: The block was not entered, or the session was closed.
        """
        while (outcome := self._take()) is None:
            if not self._is_entered:
                raise SessionError(message="enter the map first: async with session.map(...) as outcomes")
            if self._is_left or (self._has_input_ended and not self._open):
                raise self._failure or StopAsyncIteration  # in every reader
            self._news.clear()
            await self._news.wait()
        self._open -= 1
        if (task := self._accepted.pop(outcome.index, None)) is not None:
            task._see()
        self._capacity.set()
        if not self._open:
            self._news.set()  # wakes other readers, who are done
        return outcome

    def _take(self) -> Outcome | None:
        """Take the next outcome, in the order of the input or of completion; return `None` if there is none yet."""
        while self._next in self._dropped:
            self._next += 1
        index = self._next if self._options.ordered else next(iter(self._ready), -1)
        outcome = self._ready.pop(index, None)
        self._next += outcome is not None
        return outcome

    def close(self, failure: BaseException | None = None) -> None:
        """Read no more requests, cancel those not sent, and end the loop over the outcomes, with `failure` if given."""
        if self._is_left:
            return  # a second cancel would interrupt the clean-up after the first
        self._is_left = True
        self._end_input(failure)
        if not self._tasks:
            self._owner.running.discard(self)
        self._cancel_unsent({*self._tasks})

    def _stop(self, failure: Exception) -> None:
        """Submit nothing more, and end the loop with `failure` when all jobs in flight have ended."""
        if self._is_stopped or self._is_left:
            return
        self._is_stopped = True
        total = self._total()
        waiting = self._tasks - {self._reader, asyncio.current_task()}
        dropped = len(self._dropped) + self._cancel_unsent(waiting)
        if total is not None and (rest := total - self._read + dropped):
            with suppress(Exception):  # frozen exceptions take no notes
                failure.add_note(f"{rest:,} of {total:,} requests were not submitted")
        self._end_input(failure)

    def _cancel_unsent(self, tasks: "set[asyncio.Task[None]]") -> int:
        """Cancel those tasks whose request was not sent, and return how many these are."""
        unsent = [task for task in tasks if task not in self._writing and not self._owner.is_sending(task)]
        return sum(task.cancel() for task in unsent if task is self._reader or not task.cancelling())

    async def aclose(self) -> None:
        """Submit nothing more, and wait for responses that are due; after `close_s` their outcome is unknown.

        Cancelling stops the waiting; the responses are still processed. Spends nothing more.
        """
        self.close()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=self._owner.close_s)
        for task in self._tasks:
            task.cancel()
        if self._tasks:  # bounded: the caller's iterable may suppress its cancellation
            await asyncio.wait(self._tasks, timeout=self._owner.close_s)

    async def _read_requests(self) -> None:
        """Read the requests one by one, as capacity becomes free, and start a task to submit each."""
        try:
            while await self._has_capacity():
                key, item = self._key_of(await self._next_item())
                if self._is_stopped:
                    return
                self._open += 1
                self._start(self._submit(self._read, key, item), self._read)
                self._read += 1
        except StopAsyncIteration:
            self._has_read_all = True
            self._reporter.changed()
            self._end_input()
        except Exception as failure:  # noqa: BLE001 - raised by the caller's iterable, for the reader
            self._end_input(failure)

    async def _has_capacity(self) -> bool:
        """Wait until one more job may be opened; return whether that is still wanted."""
        while not self._has_input_ended and (
            self._open >= self._options.in_flight
            or len(self._tasks) > self._owner.workers
            or (self._rule.allowance is not None and self._read >= self._rule.allowance)
        ):
            self._capacity.clear()
            await self._capacity.wait()
        return not self._has_input_ended

    def _end_probe(self) -> None:
        """Submit more: no refusal has come within the time of one."""
        self._probing = None
        self._rule.allowance = None
        self._capacity.set()

    def _start(self, work: Coroutine[Any, Any, None], index: int | None = None) -> "asyncio.Task[None]":
        task = asyncio.get_running_loop().create_task(work, name="lemon_async map")
        self._tasks.add(task)
        task.add_done_callback(partial(self._task_ended, index))
        return task

    def _task_ended(self, index: int | None, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        self._capacity.set()
        if task.cancelled():
            if index is not None:
                self._drop(index)
            if not (self._is_left or self._is_stopped):  # otherwise we did
                self._cancelled(task)
        elif (crash := task.exception()) is not None:
            self.close(crash)
        if self._is_left and not self._tasks:
            self._owner.running.discard(self)

    def _drop(self, index: int) -> None:
        """Note that a request that was read will have no outcome."""
        self._dropped.add(index)
        self._open -= 1
        self._news.set()

    def _cancelled(self, task: "asyncio.Task[None]") -> None:
        """End the map when the program has cancelled one of its tasks: otherwise readers would wait forever."""
        if task is self._reader:
            reason = "reading the requests was cancelled by the program, or by a timeout around a yield of the iterable"
            self._end_input(SessionError(message=reason))
        else:
            self.close(SessionError(message="a request of the map was cancelled by the program"))

    def _end_input(self, failure: BaseException | None = None) -> None:
        if isinstance(failure, StopAsyncIteration):  # raised by `__anext__`, it would look like the end
            failure = RuntimeError("on_submitted or a job raised StopAsyncIteration")
        self._has_input_ended = True
        self._failure = self._failure or failure
        if self._probing is not None:
            self._probing.cancel()
        self._capacity.set()
        self._news.set()

    async def _submit(self, index: int, key: Any, item: str | Request) -> None:
        """Submit a request; its outcome follows when the job ends."""
        request: Request | None = None
        journal = self._options.journal
        entry = None if journal is None else JournalEntry(journal, index, self._writing)
        self._tally.move(None, "submitting")
        try:
            request = request_from(checked_item(item, index), self._options.fields)
            task = await self._owner.submit(
                request, self._options.check_contracts, is_wanted=self._is_wanted, queue=self._queue, entry=entry
            )
        except asyncio.CancelledError:
            self._tally.move("submitting", None)
            raise
        except (HookFailed, HookRefused) as failed:
            self._tally.move("submitting", None)
            self._drop(index)
            if isinstance(failed, HookFailed):
                self._stop(failed.failure)
            return
        except Exception as error:  # noqa: BLE001 - one failure never ends the rest
            self._tally.move("submitting", "failed")
            self._deliver(Outcome(index, request, error=error, key=key))
            return
        await self._accept(index, key, task, entry)

    async def _accept(self, index: int, key: Any, task: ImageTask, entry: JournalEntry | None) -> None:
        """Record an accepted task, and deliver its outcome when it ends."""
        self._accepted[index] = task
        self._places[task] = index, key
        self._tally.move("submitting", "in_flight")
        self._rule.observe_acceptance()
        try:
            if entry is not None:
                await entry.accept(task)
                task._see()
        except HookFailed as failed:
            self._stop(failed.failure)
        task._add_callbacks(self._callbacks)
        if self._options.on_submitted is not None:
            self._options.on_submitted(index, task)

    def _is_wanted(self) -> bool:
        return not (self._is_left or self._is_stopped)

    def _ended(self, task: ImageTask) -> None:
        index, key = self._places.pop(task)
        images, error = task._images, copy.copy(task._failure)
        self._tally.move("in_flight", "failed" if error else "succeeded")
        self._deliver(Outcome(index, task.request, task, images, error, key=key))

    def _deliver(self, outcome: Outcome) -> None:
        if outcome.error is not None and not self._is_left:
            if self._options.fail_fast:
                if (task := self._accepted.pop(outcome.index, None)) is not None:
                    task._see()
                self.close(outcome.error)
                return
            self._judge(outcome.error)
        self._ready[outcome.index] = outcome
        self._news.set()

    def _judge(self, error: Exception) -> None:
        """Stop the map if the rule says so."""
        try:
            if self._rule.stops(error):
                self._stop(copy.copy(error) if isinstance(error, LemonError) else error)
        except Exception as failure:  # noqa: BLE001 - raised by the caller's `stop_on`, for the reader
            self._stop(failure)
        self._capacity.set()

    def _total(self) -> int | None:
        if self._has_read_all:
            return self._read
        return None if self._length is None else max(self._length, self._read)

    @cached_property
    def _length(self) -> int | None:
        return length_of(self._items)

    def __repr__(self) -> str:
        state = "left" if self._is_left else "ended" if self._has_input_ended else "open"
        jobs = f"{self._open} in flight, {len(self._ready)} ready, {len(self._accepted)} pending"
        return f"<Outcomes {state} | {jobs}, {len(self._tasks)} tasks>"


@attrs.define(eq=False, repr=False, kw_only=True)
class Maps:
    """The maps of one session; those that run end with it.

    Args:
        submit: `Engine.submit`.
        is_sending: Returns whether an asyncio task has a paid request that may have been sent.
        has_sold: Returns whether the service has accepted a request of the session.
        workers: Maximum number of requests that are being submitted.
        close_s: How long leaving a map waits for responses.
    """

    submit: Callable[..., Awaitable[ImageTask]]
    is_sending: Callable[[asyncio.Task[Any]], bool]
    has_sold: Callable[[], bool]
    workers: int
    close_s: float
    running: set[Outcomes] = attrs.field(factory=set[Outcomes], init=False)
    is_closed: bool = attrs.field(default=False, init=False)

    def open(self, items: Items, fields: Mapping[str, Any], **options: Any) -> Outcomes:
        """Return a map that has not begun.

        Raises:
            ContractError: An argument is invalid.
        """
        chosen = MapOptions(fields=fields, **options)
        chosen.check(items)
        return Outcomes(items, chosen, self)

    def close(self) -> None:
        """End every map."""
        self.is_closed = True
        for outcomes in tuple(self.running):
            outcomes.close(SessionError(message="the session was closed while a map was running"))

    async def aclose(self) -> None:
        """Wait until every map has ended."""
        await asyncio.gather(*(outcomes.aclose() for outcomes in tuple(self.running)))
