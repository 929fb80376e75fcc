"""Push the rows of a journal through `LemonSession.map` and `LemonSession.task`, and record what happens to them.

Problem: a row costs money, takes a minute, and the process may be killed at any moment. The journal is the fence: its
intent is durable before the first byte is sent, and its token before anything waits for the task. See `states.py`.

Design: the runner is the input of a map, and its journal. As input it resumes rows that are sold already, and hands out
the others; as journal it records their events. A done callback follows each task, and one short asyncio task saves its
pictures. Of the map's own outcomes it uses those of requests that were not accepted.

Invariants:
* At most `in_flight` rows are between being handed out and their outcome being taken: a slow reader slows the spending
  down.
* What stops a run (an error of the journal, a full budget, refusals of every row) stops buying only: tasks are still
  awaited, and their pictures saved.
* Leaving waits, within bounds, for responses to paid requests and for pictures that are being saved; what is cut off
  stays in the journal as it is.
"""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, Protocol

import attrs

from lemon_async._images.images import Images
from lemon_async._tasks.map import Outcomes
from lemon_async._tasks.outcome import Outcome
from lemon_async._tasks.task import ImageTask
from lemon_async.batch.journal import Journal, pages_of
from lemon_async.batch.outcome import BatchOutcome, event_of
from lemon_async.batch.records import Change
from lemon_async.batch.running.account import Account
from lemon_async.batch.running.feed import Feed, Job
from lemon_async.batch.running.saving import SavedRow, Saver
from lemon_async.batch.states import Event, State
from lemon_async.errors import (
    ApiError,
    BatchPaused,
    ContractError,
    JournalError,
    LemonError,
    PartialSaveError,
    SaveError,
    SessionError,
    SubmissionUnknown,
    TransportError,
)
from lemon_async.types import ResumableTask

__all__ = ["Runner", "Session"]

_MAX_UNSOLD = 20
_MAX_UNSAVED = 3
_MAX_REASON_CHARS = 500
_NOT_REFUSALS = (SessionError, ContractError, JournalError, BatchPaused)
_CUT_OFF = "the batch was left before the response to its request came"


class Session(Protocol):
    """What a batch uses of a `LemonSession`."""

    base_url: str

    def map(self, *args: Any, **options: Any) -> Outcomes:
        """Submit many requests."""

    def task(self, reference: str) -> ImageTask:
        """Resume a task."""


@attrs.define(eq=False, kw_only=True)
class Runner:
    """One run of a batch: its journal as the map sees it, and its outcomes.

    Args:
        session: Where the jobs run.
        journal: Where they are recorded.
        account: Counts and sums.
        saver: Saves pictures.
        attempts: Maximum number of paid requests of a row whose tasks fail.
        cap_usd: What all spending must not exceed.
        close_s: How long leaving waits for responses and pictures.
        save_s: How long it waits for pictures that came inline, or by links that only their response had.
        cost_of: Returns what the service reported as the cost of a row, if it did.
        deliver: Takes the outcomes.

    Attributes:
        feed: The rows.
        followed: Number of tasks that have not ended.
        failure: What has stopped the run, if anything has.
    """

    session: Session
    journal: Journal
    account: Account
    saver: Saver
    attempts: int
    cap_usd: float | None
    close_s: float
    save_s: float
    cost_of: Callable[[Job, Images], float | None]
    deliver: Callable[[BatchOutcome], None]
    feed: Feed = attrs.field(init=False)
    followed: int = attrs.field(default=0, init=False)
    failure: Exception | None = attrs.field(default=None, init=False)
    _outcomes: Outcomes | None = attrs.field(default=None, init=False)
    _endings: set[asyncio.Task[None]] = attrs.field(factory=set[asyncio.Task[None]], init=False)
    _inline: set[asyncio.Task[None]] = attrs.field(factory=set[asyncio.Task[None]], init=False)
    _news: asyncio.Event = attrs.field(factory=asyncio.Event, init=False)
    _is_left: bool = attrs.field(default=False, init=False)
    _has_sold: bool = attrs.field(default=False, init=False)
    _unsold: int = attrs.field(default=0, init=False)
    _unsaved: int = attrs.field(default=0, init=False)

    async def run(self, **options: Any) -> None:
        """Run every row to its end, or until something stops the run; `failure` is what did.

        Args:
            **options: Those of `LemonSession.map`.
        """
        try:
            await self._run_map(options)
            await self._finish()
        finally:
            for task in self._endings:
                task.cancel()

    async def _run_map(self, options: Mapping[str, Any]) -> None:
        try:
            await self._settle_failed_rows()
            async with self.session.map(self.feed, journal=self, **options) as outcomes:
                self._outcomes = outcomes
                if self._is_left:
                    outcomes.close()
                async for outcome in outcomes:
                    self._map_ended(outcome)
        except Exception as failure:  # noqa: BLE001 - raised by the loop over the outcomes of the batch
            self._stopped_by(failure)

    def _stopped_by(self, failure: Exception) -> None:
        """Note what has ended the map: a refusal that `stop_on` matches can be put right, and the batch continued."""
        if isinstance(failure, LemonError) and not isinstance(failure, _NOT_REFUSALS):
            self.pause(str(failure), cause=failure)
        else:
            self.stop(failure)

    def stop(self, failure: Exception) -> None:
        """Buy nothing more, and let everything that is sold end."""
        self.failure = self.failure or failure
        self.feed.close()

    def pause(self, reason: str, *, cause: BaseException | None = None) -> None:
        """Stop with a `BatchPaused`."""
        failure = BatchPaused(message=reason)
        failure.__cause__ = cause
        self.stop(failure)

    def leave(self) -> None:
        """Buy nothing more, and wait for nothing but responses that are due and pictures that are being saved."""
        self._is_left = True
        self.feed.close()
        self._news.set()
        if self._outcomes is not None:
            self._outcomes.close()

    # The hooks of the map

    async def intend(self, index: int, fingerprint: str) -> bool:
        """Record that a request is about to be sent; see `SubmissionJournal`."""
        if self.failure is not None:
            raise self.failure
        job = self.feed.jobs[index]
        facts = {"fingerprint": fingerprint, "price_usd": job.price_usd, "cap_usd": self.cap_usd}
        if await self._record(job, Event.INTEND, **facts) is None:
            in_use = f"another batch of this journal has taken the row {job.key}"
            self.pause(in_use if self.cap_usd is None else "the budget is used up")
        else:
            self.feed.return_pledge(job)
        if self.failure is not None:  # perhaps of another row, meanwhile
            await self._record(job, Event.WITHDRAW)
            raise self.failure
        return True

    async def withdraw(self, index: int, reason: Exception) -> None:
        """Record that an attempt has sold nothing; see `SubmissionJournal`."""
        job = self.feed.jobs[index]
        await self._record(job, Event.WITHDRAW, error=_line(reason))
        self.feed.pledge(job)

    async def accept(self, index: int, task: ResumableTask) -> None:
        """Record a task, and follow it; see `SubmissionJournal`."""
        job = self.feed.jobs.pop(index)
        self._has_sold, self._unsold = True, 0
        try:
            token = task.resume_token() if task.id is not None else None
            await self._record(job, Event.ACCEPT, task=token)
        finally:  # also if it cannot be recorded: then the run has stopped, and the pictures are still saved
            self._follow(job, task)  # type: ignore[arg-type]  # the task of a map is an `ImageTask`

    # How jobs end

    def resume(self, job: Job) -> None:
        """Follow the task of a row that was sold in an earlier run."""
        try:
            self._follow(job, self.session.task(job.token or ""))
        except LemonError as failure:
            self._start(self._end(job, None, None, failure))

    def _follow(self, job: Job, task: ImageTask) -> None:
        self.followed += 1
        task.add_done_callback(partial(self._task_ended, job))

    def _task_ended(self, job: Job, task: ImageTask) -> None:
        self.followed -= 1
        self._news.set()
        if self._is_left and task.id is not None:  # the next run resumes it
            self.feed.ended(job)
            return
        error = task.exception()
        ending = self._start(self._end(job, task, None if error else task.result(), error))
        if task.id is None:
            self._inline.add(ending)
            ending.add_done_callback(self._inline.discard)

    def _map_ended(self, outcome: Outcome) -> None:
        if outcome.task is None:
            self._start(self._end(self.feed.jobs.pop(outcome.index), None, None, outcome.error))

    def _start(self, ending: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        task = asyncio.get_running_loop().create_task(ending, name="lemon_async batch")
        self._endings.add(task)
        task.add_done_callback(self._ending_ended)
        return task

    def _ending_ended(self, task: "asyncio.Task[None]") -> None:
        self._endings.discard(task)
        self._news.set()
        if not task.cancelled() and (crash := task.exception()) is not None:
            self.stop(crash if isinstance(crash, Exception) else RuntimeError(repr(crash)))

    async def _end(self, job: Job, task: ImageTask | None, images: Images | None, error: Exception | None) -> None:
        """Save the pictures of a job, record how it ended, and deliver its outcome, or repeat it."""
        saved, cost = SavedRow(), None
        try:
            if images is not None:
                cost = self.cost_of(job, images)
                saved, error = await self._save(job, images)
            event = self._event_of(job, task, error)
            if task is None:
                self._judge_unsold(error)
            try:
                if event is not None:
                    reason = None if error is None else _line(error)
                    await self._record(job, event, error=reason, cost_usd=cost, pictures=saved.pictures)
                if event is Event.FAIL:
                    await self._repeat_or_give_up(job)
            except JournalError as failure:
                error = error or failure
            if event is Event.FAIL and job.state is State.NEW:
                self.feed.repeat(job)
            else:
                self.deliver(job.outcome(task=task, images=images, error=error, paths=saved.paths, cost_usd=cost))
        finally:
            self.feed.ended(job)

    async def _save(self, job: Job, images: Images) -> tuple[SavedRow, Exception | None]:
        try:
            saved = await self.saver.save(images, job)
        except (LemonError, OSError) as failure:
            self._judge_saving(failure)
            return SavedRow(), failure
        self._unsaved = 0
        return saved, None

    def _event_of(self, job: Job, task: ImageTask | None, error: Exception | None) -> Event | None:
        if job.state is State.SOLD and task is None:  # it could not even be resumed
            return None
        return event_of(error, task, has_sold=self._has_sold)

    async def _repeat_or_give_up(self, job: Job) -> None:
        await self._record(job, Event.REPEAT if job.facts.attempt < self.attempts else Event.GIVE_UP)

    def _judge_unsold(self, error: Exception | None) -> None:
        """Pause when many rows in a row were not accepted, for reasons that are not their own."""
        if isinstance(error, ApiError | TransportError | SubmissionUnknown):
            self._unsold += 1
            if self._unsold == _MAX_UNSOLD:
                self.pause(f"{_MAX_UNSOLD} rows in a row were not accepted; the last: {error}", cause=error)

    def _judge_saving(self, failure: Exception) -> None:
        """Pause when pictures cannot be written: the next ones could not, either."""
        causes = failure.errors.values() if isinstance(failure, PartialSaveError) else [failure]
        cause = next((cause for cause in causes if isinstance(cause, SaveError | OSError)), None)
        if cause is not None:
            self._unsaved += 1
            if self._unsaved == _MAX_UNSAVED:
                self.pause(f"the pictures of {_MAX_UNSAVED} rows in a row could not be written: {cause}", cause=failure)

    # The journal

    async def _settle_failed_rows(self) -> None:
        """Decide about rows that had failed when an earlier run ended."""
        async for rows in pages_of(self.journal, State.FAILED):
            for row in rows:
                await self._repeat_or_give_up(Job.of(row))

    async def _record(self, job: Job, event: Event, **facts: Any) -> State | None:
        """Record an event, and return the new state of the row, or `None` if the journal refuses it.

        Raises:
            JournalError: It cannot be recorded; the run is stopped.
        """
        change = Change(key=job.key, event=event, **facts)
        try:
            state = await self.journal.record(change)
        except JournalError as failure:
            self.stop(failure)
            raise
        if state is not None:
            self.account.apply(job.facts, change)
        return state

    async def _finish(self) -> None:
        """Wait for what is sold, unless the batch is left; then record requests whose outcome is unknown."""
        while (self.followed or self._endings) and not self._is_left:
            self._news.clear()
            await self._news.wait()
        if self._endings:
            await asyncio.wait(self._endings, timeout=self.close_s)
        if self._inline:  # no later run could fetch these
            await asyncio.wait(self._inline, timeout=self.save_s)
        for job in self.feed.jobs.values():
            if job.state is State.INTENT:
                with suppress(JournalError):
                    await self._record(job, Event.DOUBT, error=_CUT_OFF)
        self.feed.jobs.clear()


def _line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:_MAX_REASON_CHARS]
