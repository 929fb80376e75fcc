"""Poll the pending tasks of a session.

Problem: the state of thousands of tasks is only known by polling, on an account with a rate limit.

Design: `Schedule` decides, and is pure; this module acts. One asyncio task, the runner, asks for decisions. Each poll
is a short-lived child of it, and a semaphore bounds their number, so that a slow response delays no other poll.
Waiting jobs have no asyncio tasks.

Invariants:
* A poll never ends a job. Only the service's report about the task does (completed, failed, unknown twice, access
  denied), or the deadline.
* Everything is keyed by handle, not by id: a task that was resumed has a new handle, and late responses for the old one
  must not affect it.
* The runner starts with the first pending task and ends after the last poll. It starts in an empty context, because it
  also serves later callers, and outside of any cancel scope; the session cancels it when it is closed.
* No wait is endless: if the runner crashes or the program cancels it, every pending task ends with an error that can be
  resumed from.

Rejected: polling only while a caller waits. `task.done()` must be right without a wait.
"""

import asyncio
import contextvars
import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import anyio
import attrs

from lemon_async._api.error_responses import classify
from lemon_async._api.job_responses import CREATED, MODEL, PollFailure, PollSuccess, read_poll
from lemon_async._http.log_facts import about_job
from lemon_async._http.rate_limiter import RateLimiter
from lemon_async._http.transport import Transport
from lemon_async._pace.learned_durations import LearnedDurations
from lemon_async._pace.priority import Priority
from lemon_async._pace.retry import NextStep, RequestKind, next_step
from lemon_async._pace.schedule import PollPolicy, Schedule
from lemon_async._tasks.task import ImageTask
from lemon_async._tasks.unfinished import SESSION_CLOSED, UnreadOutcomes, log_unfinished
from lemon_async.errors import LemonError, SessionError, TaskError, TaskLost, TransportError
from lemon_async.types import TaskSnapshot

if TYPE_CHECKING:
    from lemon_async._http.emitter import Emitter

__all__ = ["Poller"]

logger: logging.Logger = logging.getLogger("lemon_async")
_MAX_STATUSES = 100
_MAX_AGE_S = 86_400.0
_FAILURES_BEFORE_WARNING = 3


class Poller:
    """Polls the pending tasks of one session.

    Args:
        transport: Sends the polls.
        policy: When a task is polled, and for how long.
        rate_limiter: Admits polls, after paid requests.
        durations: The known durations of jobs.
        limit: Maximum number of concurrent polls.
        count_ended: Called with the last snapshot of each task that it stops polling.
        emitter: Passes on what happens.
    """

    def __init__(
        self,
        transport: Transport,
        policy: PollPolicy,
        rate_limiter: RateLimiter,
        *,
        durations: LearnedDurations,
        limit: int,
        count_ended: Callable[[TaskSnapshot], None] = lambda _: None,
        emitter: "Emitter | None" = None,
    ) -> None:
        self._transport = transport
        self._policy = policy
        self._rate_limiter = rate_limiter
        self._count_ended = count_ended
        self._emitter = emitter
        self.unread: UnreadOutcomes = UnreadOutcomes()
        self._queued: asyncio.Future[bool] | None = None
        self._queued_at = 0.0
        self._schedule: Schedule[ImageTask] = Schedule(policy, durations)
        self._tasks: dict[ImageTask, None] = {}
        self._by_key: dict[str, ImageTask] = {}
        self._known_statuses = {"pending", "processing", "completed", "failed"}
        self._slots = anyio.Semaphore(limit, max_value=limit)
        self._limit = limit
        self._is_closed = False
        self._runner: asyncio.Task[None] | None = None
        self._news = asyncio.Event()

    @property
    def pending(self) -> tuple[ImageTask, ...]:
        """The tasks that are not over, oldest first; once closed, those that were not over then."""
        return tuple(self._tasks)

    @property
    def under_way(self) -> int:
        """Number of concurrent polls."""
        return self._limit - self._slots.value

    def find(self, key: str) -> ImageTask | None:
        """Return the newest pending handle with this key; see `ImageTask._key`."""
        return self._by_key.get(key)

    def add(self, task: ImageTask, *, is_fresh: bool) -> None:
        """Begin to poll a task; call this in the event loop.

        If the poller is closed, the task ends as those that were pending then.
        """
        loop = asyncio.get_running_loop()
        self._tasks[task] = None
        if self._is_closed:
            task._fail(SessionError(message="the session was closed while the task was submitted", task=task))
            log_unfinished([task], SESSION_CLOSED)
            return
        self._by_key[task._key] = task
        age_s = None if is_fresh else _age_s(task)
        self._update_schedule(loop.time())
        self._schedule.add(task, loop.time(), model=_model_of(task), is_fresh=is_fresh, age_s=age_s)
        self._news.set()
        if self._runner is None or self._runner.done():
            self._runner = loop.create_task(self._run(), name="lemon_async poller", context=contextvars.Context())
            self._runner.add_done_callback(self._runner_ended)

    def end(self, task: ImageTask, failure: LemonError | None = None) -> None:
        """Stop polling a task, and end it with `failure` if it is not over."""
        self._schedule.discard(task)
        if not self._is_closed:
            self._tasks.pop(task, None)
        if self._by_key.get(task._key) is task:
            del self._by_key[task._key]
        if self._queued is not None and (self._is_closed or not self._tasks):
            self._queued.cancel()
            self._queued = None
        self._news.set()
        self._count_ended(task.snapshot)
        if failure is not None:
            task._fail(failure)
        self.unread.add(task)
        if self._emitter is not None:
            self._emitter.ended(task)

    def close(self) -> None:
        """Stop; every task that is still pending ends with `SessionError`, and stays resumable and listed."""
        if self._is_closed:
            return
        self._is_closed = True
        message = "the session was closed while the task was pending"
        log_unfinished(self.pending, SESSION_CLOSED)
        for task in self.pending:
            self.end(task, SessionError(message=message, task=task))
        if self._runner is not None:
            self._runner.cancel()

    async def aclose(self) -> None:
        """Stop, and wait for the runner to end."""
        self.close()
        if self._runner is not None:
            await asyncio.wait([self._runner])

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as polls:
            # It outlives the polls of ended tasks, so that there is never more than one runner. An eager runner can be
            # closed in its first step, before there is a task to cancel: then it ends with its polls.
            while (self._tasks and not self._is_closed) or self.under_way:
                self._news.clear()
                wake_at = self._decide(polls)
                await self._sleep_until(wake_at)
            # No await between the last check and this line: a later task starts a new runner.
            self._runner = None

    def _runner_ended(self, runner: asyncio.Task[None]) -> None:
        crash = None if runner.cancelled() else runner.exception()
        if runner.cancelled() or isinstance(crash, KeyboardInterrupt | SystemExit):
            reason = "the session's poller was cancelled by the program"
        elif crash is not None:
            reason = "the session's poller crashed, which is a bug of this library"
            logger.error("%s; its tasks are resumable", reason, exc_info=crash)
        else:
            return
        for task in () if self._is_closed else self.pending:
            error = TaskError(task=task, reason=reason)
            error.__cause__ = crash
            self.end(task, error)

    def _update_schedule(self, now: float) -> None:
        self._schedule.speed = self._transport.server_speed
        self._schedule.room_rpm = self._rate_limiter.budget.room_rpm(now)

    def _decide(self, polls: asyncio.TaskGroup) -> float | None:
        now = asyncio.get_running_loop().time()
        self._update_schedule(now)
        admitted = self._admitted_from_queue()
        slots = min(self._slots.value, admitted + self._rate_limiter.available())
        decision = self._schedule.decide(now, slots=slots)
        for task in decision.polls:
            self._slots.acquire_nowait()
            poll = polls.create_task(self._poll(task, self._schedule.deadline(task) - now))
            poll.add_done_callback(self._poll_ended)
        self._rate_limiter.consume(max(len(decision.polls) - admitted, 0))
        if decision.waiting and self._slots.value and self._queued is None:
            self._queued, self._queued_at = self._rate_limiter.enqueue(Priority.POLL), now
            self._queued.add_done_callback(lambda _: self._news.set())
        for task in decision.expired:
            self._expire(task)
        return decision.wake_at

    def _admitted_from_queue(self) -> int:
        """Return 1 if the rate limiter has admitted the poll in its queue, or 0."""
        if self._queued is None or not self._queued.done():
            return 0
        ticket, self._queued = self._queued, None
        if self._emitter is not None and ticket.result():
            self._emitter.waited("poll", asyncio.get_running_loop().time() - self._queued_at)
        return int(ticket.result())

    async def _sleep_until(self, wake_at: float | None) -> None:
        """Sleep until `wake_at` or until there is news; no cancel scope, no asyncio task, one timer."""
        loop = asyncio.get_running_loop()
        timer = None if wake_at is None else loop.call_at(wake_at, self._news.set)
        try:
            await self._news.wait()
        finally:
            if timer is not None:
                timer.cancel()

    async def _poll(self, task: ImageTask, time_left_s: float) -> None:
        reading: PollSuccess | PollFailure
        began_at = time.monotonic()
        try:
            timeout_s = max(time_left_s, 0.001)
            response = await self._transport.call("GET", task._path, priority=None, timeout_s=timeout_s)
            reading = read_poll(response, task._name)
        except TransportError as failure:
            reading = PollFailure(classify(failure), failure.message, failure)
        if self._emitter is not None:
            self._emitter.polled(task, reading, time.monotonic() - began_at)
        if not task.done():
            self._handle_reading(task, reading)

    def _poll_ended(self, _: "asyncio.Task[None]") -> None:
        """Release the slot; in a callback, because a poll that is cancelled before it begins runs no `finally`."""
        self._slots.release()
        if self._queued is None:  # otherwise no poll can start before the rate limit has room, which wakes the runner
            self._news.set()

    def _handle_reading(self, task: ImageTask, reading: PollSuccess | PollFailure) -> None:
        now = asyncio.get_running_loop().time()
        self._update_schedule(now)
        if isinstance(reading, PollFailure):
            self._handle_failure(task, reading, now)
            return
        snapshot = reading.snapshot
        self._warn_of_unknown_status(task, snapshot.status)
        task._poll_failure = None
        if task._failed_polls < _FAILURES_BEFORE_WARNING:  # otherwise it was warned of, which is done once
            task._failed_polls = 0
        task._update(snapshot)
        if task.done():
            self._schedule.ended(task, now, is_success=snapshot.status == "completed")
            self.end(task)
        else:
            self._schedule.seen(task, now, progress=snapshot.progress, retry_after_s=reading.retry_after_s)

    def _handle_failure(self, task: ImageTask, reading: PollFailure, now: float) -> None:
        match next_step(RequestKind.POLL, reading.failure):
            case NextStep.RAISE:
                self.end(task, attrs.evolve(reading.error, task=task))
            case NextStep.CONFIRM:
                if self._schedule.missing(task, now):
                    self.end(task, TaskLost(task=task, reason=f"the service said repeatedly: {reading.error.message}"))
            case NextStep.RETRY:
                if task._poll_failure is None or now < self._schedule.deadline(task):  # else the deadline cut it off
                    task._poll_failure = reading
                task._failed_polls += 1
                extra = _log_facts(task, attempt=task._failed_polls)
                logger.debug("poll of task %s failed: %s", task.id, reading.reason, extra=extra)
                if task._failed_polls == _FAILURES_BEFORE_WARNING:
                    words = "%d polls of task %s in a row have failed, the last with: %s; polling continues"
                    logger.warning(words, task._failed_polls, task.id, reading.reason, extra=extra)
                self._schedule.faulted(task, now, retry_after_s=reading.retry_after_s)

    def _expire(self, task: ImageTask) -> None:
        self.end(task, task._timeout_error(self._policy.deadline_s))

    def _warn_of_unknown_status(self, task: ImageTask, status: str) -> None:
        if status not in self._known_statuses and len(self._known_statuses) < _MAX_STATUSES:
            self._known_statuses.add(status)
            words = "the service sent the unknown task status %.40r; it counts as pending"
            logger.warning(words, status, extra=_log_facts(task))


def _age_s(task: ImageTask) -> float | None:
    """Return how long ago a task was created; `None` if that is unknown or implausible."""
    created = task._accepted[CREATED]
    age_s = None if created is None else time.time() - created
    return age_s if age_s is not None and 0 <= age_s <= _MAX_AGE_S else None


def _log_facts(task: ImageTask, attempt: int | None = None) -> dict[str, Any]:
    return about_job(task_id=task.id, model=_model_of(task), attempt=attempt)


def _model_of(task: ImageTask) -> str | None:
    """Return the model whose durations a task belongs to: that of the request, or else of the service."""
    asked = None if task.request is None else task.request.model
    model: str | None = asked or task._accepted[MODEL]
    return model
