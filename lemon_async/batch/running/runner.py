"""Push the rows of a journal through `LemonSession.map` and `LemonSession.task`, and record what happens to them.

Problem: a row costs money, takes a minute, and the process may be killed at any moment. The journal is the fence: its
intent is durable before the first byte is sent, and its token before anything waits for the task. See `states.py`.

Design: the runner is the input of a map, and its journal. As input it resumes rows that are sold already, and hands out
the others; as journal it records their transitions. A done callback follows each task, and one short asyncio task saves
its pictures. Of the map's own outcomes it uses those of requests that were not accepted.

Invariants:
* At most `in_flight` rows are between being handed out and their outcome being taken: a slow reader slows the spending
  down.
* What stops a run (an error of the journal, a full budget, refusals of every row) stops buying only: tasks are still
  awaited, and their pictures saved.
* Leaving waits, within bounds, for responses to paid requests and for pictures that are being saved; what is cut off
  stays in the journal as it is.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import attrs

from lemon_async._images.images import Images
from lemon_async._tasks.map import Outcomes
from lemon_async._tasks.outcome import Outcome
from lemon_async._tasks.task import ImageTask
from lemon_async.batch.journal import Journal
from lemon_async.batch.outcome import BatchOutcome, transition_of
from lemon_async.batch.records import Change
from lemon_async.batch.running.account import Account
from lemon_async.batch.running.feed import Feed
from lemon_async.batch.running.job import Job
from lemon_async.batch.running.pause import PauseRule
from lemon_async.batch.running.saving import SavedRow, Saver
from lemon_async.batch.states import State, Transition
from lemon_async.errors import BatchPaused, ContractError, JournalError, LemonError, SessionError
from lemon_async.types import ResumableTask

if TYPE_CHECKING:
    from lemon_async.batch.running.batch_events import BatchEvents

__all__ = ["Runner", "Session"]

logger: logging.Logger = logging.getLogger("lemon_async")
_MAX_REASON_CHARS = 500
_REFRESH_S = 1.0
_NOT_REFUSALS = (SessionError, ContractError, JournalError, BatchPaused)
_SURPLUS = "the row {} was bought by this run, and its journal says otherwise by now: look at both"
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
        events: Emits the changes of rows.

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
    events: "BatchEvents | None" = None
    feed: Feed = attrs.field(init=False)
    followed: int = attrs.field(default=0, init=False)
    failure: Exception | None = attrs.field(default=None, init=False)
    _outcomes: Outcomes | None = attrs.field(default=None, init=False)
    _endings: set[asyncio.Task[None]] = attrs.field(factory=set[asyncio.Task[None]], init=False)
    _inline: set[asyncio.Task[None]] = attrs.field(factory=set[asyncio.Task[None]], init=False)
    _news: asyncio.Event = attrs.field(factory=asyncio.Event, init=False)
    _is_left: bool = attrs.field(default=False, init=False)
    _has_sold: bool = attrs.field(default=False, init=False)
    _rule: PauseRule = attrs.field(factory=PauseRule, init=False)

    async def run(self, **options: Any) -> None:
        """Run every row to its end, or until something stops the run; `failure` is what did.

        Args:
            **options: Those of `LemonSession.map`.
        """
        refreshing = asyncio.get_running_loop().create_task(self._refresh(), name="lemon_async batch")
        try:
            await self._run_map(options)
            await self._finish()
            with suppress(JournalError):  # the rows that were not taken are for other runs
                await self.journal.release(self.feed.run)
        finally:
            for task in (refreshing, *self._endings):
                task.cancel()

    async def _refresh(self) -> None:
        """Keep counts and sums up to date if other processes change them, too."""
        with suppress(JournalError):  # the next change will say so
            while self.journal.is_shared:
                await asyncio.sleep(_REFRESH_S)
                await self.feed.refresh()

    async def _run_map(self, options: Mapping[str, Any]) -> None:
        try:
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
        if await self._record(job, Transition.INTEND, **facts) is None:
            await self._refused(self.feed.jobs.pop(index))
            return False
        self.feed.return_pledge(job)
        if self.failure is not None:  # perhaps of another row, meanwhile
            await self._record(job, Transition.WITHDRAW)
            raise self.failure
        return True

    async def _refused(self, job: Job) -> None:
        """Let another run have the row, or take it again when the budget has room for it."""
        try:
            claim = await self.journal.claim(self.feed.run, State.NEW, keys=[job.key])
            row = next(iter(claim.rows), None)
            if row is None and not claim.held_elsewhere and self.cap_usd is not None:
                row = await self.journal.find(job.key)
            if row is not None and row.state is State.NEW:
                await self.feed.refresh()
                await self.feed.take(Job.of(row))
        finally:
            self.feed.ended(job)
            self.feed.release()

    async def withdraw(self, index: int, reason: Exception) -> None:
        """Record that an attempt has sold nothing; see `SubmissionJournal`."""
        job = self.feed.jobs[index]
        await self._record(job, Transition.WITHDRAW, error=_line(reason))
        self.feed.pledge(job)

    async def accept(self, index: int, task: ResumableTask) -> None:
        """Record a task, and follow it; see `SubmissionJournal`."""
        job = self.feed.jobs.pop(index)
        self._has_sold = True
        self._rule.observe_sold()
        try:
            token = task.resume_token() if task.id is not None else None
            job.is_surplus = await self._record(job, Transition.ACCEPT, task=token) is None
            if job.is_surplus:  # workers drop outcomes, and the journal has no place for a second task
                words = "the row %r was bought twice: its journal has another task than %s"
                extra = {"task_id": task.id, "model": job.request.model, "attempt": job.facts.attempt}
                logger.error(words, job.key, task.id, extra=extra)
        finally:  # also if it cannot be recorded: then the run has stopped, and the pictures are still saved
            self._follow(job, task)  # type: ignore[arg-type]  # the task of a map is an `ImageTask`

    # How jobs end

    def resume(self, job: Job) -> None:
        """Follow the task of a row that was sold in an earlier run."""
        try:
            task = self.session.task(job.token or "")
        except LemonError as failure:
            self._start(self._end(job, None, None, failure))
        else:
            task._see()  # no report of what a session leaves need list it: the journal has it
            self._follow(job, task)

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
            transition = self._transition_of(job, task, error)
            if task is None:
                self._judge(self._rule.observe_unsold(error), error)
            try:
                if transition is not None:
                    reason = None if error is None else _line(error)
                    await self._record(job, transition, error=reason, cost_usd=cost, pictures=saved.pictures)
                if job.state is State.FAILED:
                    await self.settle(job)
            except JournalError as failure:
                error = error or failure
            if job.is_surplus:
                error = error or JournalError(message=_SURPLUS.format(job.key))
            if job.is_lost and not job.is_surplus:
                await self._give_way(job, saved)
            elif job.state is State.NEW and transition is Transition.FAIL:
                self.feed.repeat(job)
            else:
                self.feed.leave(job)
                self.deliver(job.outcome(task=task, images=images, error=error, paths=saved.paths, cost_usd=cost))
        finally:
            self.feed.ended(job)

    async def _give_way(self, job: Job, saved: SavedRow) -> None:
        """Leave a row to the run that has it; if that has finished it, remove our copy of its pictures."""
        self.feed.release()
        with suppress(JournalError, OSError):
            row = await self.journal.find(job.key)
            if row is not None and row.state is State.DONE:  # until then, that run may adopt them
                await self.saver.discard(saved)

    async def _save(self, job: Job, images: Images) -> tuple[SavedRow, Exception | None]:
        try:
            saved = await self.saver.save(images, job)
        except (LemonError, OSError) as failure:
            self._judge(self._rule.observe_unsaved(failure), failure)
            return SavedRow(), failure
        self._rule.observe_saved()
        return saved, None

    def _transition_of(self, job: Job, task: ImageTask | None, error: Exception | None) -> Transition | None:
        if job.state is State.SOLD and task is None:  # it could not even be resumed
            return None
        return transition_of(error, task, has_sold=self._has_sold)

    def _judge(self, reason: str | None, cause: Exception | None) -> None:
        if reason is not None:
            self.pause(reason, cause=cause)

    # The journal

    async def settle(self, job: Job) -> None:
        """Decide about a row that had failed when an earlier run ended: repeat it, or give it up."""
        await self._record(job, Transition.REPEAT if job.facts.attempt < self.attempts else Transition.GIVE_UP)

    async def _record(self, job: Job, transition: Transition, **facts: Any) -> State | None:
        """Record a transition, and return the new state of the row, or `None` if the journal refuses it.

        Raises:
            JournalError: It cannot be recorded; the run is stopped.
        """
        change = Change(key=job.key, transition=transition, run=self.feed.run, **facts)
        try:
            recording = self.journal.record(change)
            if self.events is not None:
                recording = self.events.recorded(recording, job.key, job.state, change.error)
            state = await recording
        except JournalError as failure:
            self.stop(failure)
            raise
        if state is None:
            job.is_lost = True
        else:
            before = job.state
            self.account.apply(job.facts, change)
            if self.events is not None:
                self.events.changed(job.key, before, job.state, change.error)
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
        with suppress(JournalError, TimeoutError):  # otherwise the next opening records them; a disk may hang
            async with asyncio.timeout(self.close_s):
                for job in self.feed.jobs.values():
                    if job.state is State.INTENT:
                        await self._record(job, Transition.DOUBT, error=_CUT_OFF)
        self.feed.jobs.clear()


def _line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:_MAX_REASON_CHARS]
