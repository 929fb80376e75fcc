"""The one poller of a session.

Problem: thousands of handles wait for tasks that only answer when asked, on an account with a request budget.

Shape: `Schedule` decides (pure, time passed in), this shell does. One asyncio task runs the decisions; each poll is
a short-lived child of it, and a semaphore bounds how many there are, so that an answer that drips in delays no other
poll. No asyncio task belongs to a waiting job.

Invariants:
* A poll never ends a job. Only the service's word about the task does (completed, failed, repeatedly unknown, key
  denied), or the deadline.
* Everything is kept by handle, not by id: a task that was resumed has a new handle, and what arrives late for the old
  one must not touch it.
* The runner starts with the first pending task and ends after the last poll. It starts in an empty context, because it
  serves whoever comes later too. It is a child of nobody's cancel scope: the session cancels it when it closes.
* Whatever happens to the runner, nobody waits for ever: one that crashes or is cancelled by somebody else ends every
  pending task, each with an error that can be resumed from.

Rejected: polling only while somebody waits. A handle must tell the truth about `task.done()` to who only looks.
"""

import asyncio
import contextvars
import logging
import time
from collections.abc import Callable

import anyio
import attrs

from lemon_async._api.error_responses import classify
from lemon_async._api.job_responses import PollFailure, PollSuccess, read_poll
from lemon_async._http.rate_limiter import RateLimiter
from lemon_async._http.transport import Transport
from lemon_async._pace.learned_durations import LearnedDurations
from lemon_async._pace.priority import Priority
from lemon_async._pace.retry import NextStep, RequestKind, next_step
from lemon_async._pace.schedule import PollPolicy, Schedule
from lemon_async._tasks.task import ImageTask
from lemon_async._tasks.unfinished import SESSION_CLOSED, log_unfinished
from lemon_async.errors import (
    LemonError,
    SessionError,
    TaskError,
    TaskLost,
    TaskTimeout,
    TransportError,
)
from lemon_async.types import TaskSnapshot

__all__ = ["Poller"]

logger: logging.Logger = logging.getLogger("lemon_async")
_KNOWN_WORDS = frozenset({"pending", "processing", "completed", "failed"})
_MOST_ODD_WORDS = 100
_LONGEST_AGE_S = 86_400.0


class Poller:
    """Looks after the pending tasks of one session.

    Args:
        transport: What sends the polls.
        policy: When a task is polled, and for how long.
        rate_limiter: Where polls wait for the rate limit, after paid requests.
        durations: What is known of how long jobs last.
        limit: Number of polls under way at once.
        count_ended: Called with the last snapshot of each task that it stops polling.
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
    ) -> None:
        self._transport = transport
        self._policy = policy
        self._rate_limiter = rate_limiter
        self._count_ended = count_ended
        self._ticket: asyncio.Future[bool] | None = None
        self._schedule: Schedule[ImageTask] = Schedule(policy, durations)
        self._tasks: dict[ImageTask, None] = {}
        self._by_key: dict[str, ImageTask] = {}
        self._last_noise: dict[ImageTask, str] = {}
        self._odd_words: set[str] = set()
        self._slots = anyio.Semaphore(limit, max_value=limit)
        self._limit = limit
        self._is_closed = False
        self._runner: asyncio.Task[None] | None = None
        self._news = asyncio.Event()

    def __len__(self) -> int:
        return len(self._tasks)

    @property
    def pending(self) -> tuple[ImageTask, ...]:
        """The tasks that are not over, oldest first; once closed, those that were not over then."""
        return tuple(self._tasks)

    @property
    def under_way(self) -> int:
        """Number of polls under way."""
        return self._limit - self._slots.value

    def find(self, key: str) -> ImageTask | None:
        """Return the newest pending handle on the task of this name or, if it has none, of this path."""
        return self._by_key.get(key)

    def add(self, task: ImageTask, *, is_fresh: bool) -> None:
        """Take a pending task in, and start running if idle; needs the running event loop.

        One that comes when the poller is closed ends like those that were pending then.
        """
        loop = asyncio.get_running_loop()
        self._tasks[task] = None
        if self._is_closed:
            task._fail(SessionError(message="the session was closed while the task was submitted", task=task))
            log_unfinished([task], SESSION_CLOSED)
            return
        self._by_key[task._key] = task
        age_s = None if is_fresh else _age_s(task)
        self._schedule.speed = self._transport.server_speed
        self._schedule.add(task, loop.time(), model=_model_of(task), is_fresh=is_fresh, age_s=age_s)
        self._news.set()
        if self._runner is None or self._runner.done():
            self._runner = loop.create_task(self._run(), name="lemon_async poller", context=contextvars.Context())
            self._runner.add_done_callback(self._runner_ended)

    def end(self, task: ImageTask, failure: LemonError | None = None) -> None:
        """Stop looking after a task, and tell its waiters if it ends without an answer of the service."""
        self._schedule.discard(task)
        if not self._is_closed:
            self._tasks.pop(task, None)
        self._last_noise.pop(task, None)
        if self._by_key.get(task._key) is task:
            del self._by_key[task._key]
        if self._ticket is not None and (self._is_closed or not self._tasks):
            self._ticket.cancel()
            self._ticket = None
        self._news.set()
        self._count_ended(task.snapshot)
        if failure is not None:
            task._fail(failure)

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
            # Polls of tasks that are over by now keep it, so that there is never more than one runner to end. An eager
            # one can be closed in its first step, before there is a task to cancel: it ends with its polls.
            while (self._tasks and not self._is_closed) or self.under_way:
                self._news.clear()
                wake_at = self._decide(polls)
                await self._sleep_until(wake_at)
            # No await between finding nothing to do and this line: whoever comes later starts a new runner.
            self._runner = None

    def _runner_ended(self, runner: asyncio.Task[None]) -> None:
        if runner.cancelled():
            crash, reason = None, "the session's poller was cancelled by the program"
        elif (crash := runner.exception()) is not None:
            reason = "the session's poller crashed, which is a bug of this library"
            logger.error("%s; its tasks are resumable", reason, exc_info=crash)
        else:
            return
        for task in () if self._is_closed else self.pending:
            error = TaskError(task=task, reason=reason)
            error.__cause__ = crash
            self.end(task, error)

    def _decide(self, polls: asyncio.TaskGroup) -> float | None:
        now = asyncio.get_running_loop().time()
        granted = self._turns_granted()
        slots = min(self._slots.value, granted + self._rate_limiter.available())
        decision = self._schedule.decide(now, slots=slots)
        for task in decision.expired:
            self._expire(task)
        for task in decision.polls:
            self._slots.acquire_nowait()
            poll = polls.create_task(self._poll(task, self._schedule.deadline(task) - now))
            poll.add_done_callback(self._poll_ended)
        self._rate_limiter.consume(max(len(decision.polls) - granted, 0))
        if decision.waiting and self._slots.value and self._ticket is None:
            self._ticket = self._rate_limiter.enqueue(Priority.POLL)
            self._ticket.add_done_callback(lambda _: self._news.set())
        return decision.wake_at

    def _turns_granted(self) -> int:
        """Return the number of polls that the gate has let through since it was asked: one, or none."""
        if self._ticket is None or not self._ticket.done():
            return 0
        ticket, self._ticket = self._ticket, None
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
        reading = await self._ask(task, time_left_s)
        if not task.done():
            self._take_in(task, reading)

    def _poll_ended(self, _: "asyncio.Task[None]") -> None:
        """Give the slot back; in a callback, because a poll that is cancelled before it begins runs no `finally`."""
        self._slots.release()
        self._news.set()

    async def _ask(self, task: ImageTask, time_left_s: float) -> PollSuccess | PollFailure:
        try:
            timeout_s = max(time_left_s, 0.001)
            response = await self._transport.call("GET", task._path, priority=None, timeout_s=timeout_s)
            return read_poll(response, task._name)
        except TransportError as failure:
            return PollFailure(classify(failure), failure.message, failure)

    def _take_in(self, task: ImageTask, reading: PollSuccess | PollFailure) -> None:
        now = asyncio.get_running_loop().time()
        self._schedule.speed = self._transport.server_speed
        if isinstance(reading, PollFailure):
            self._take_failure_in(task, reading, now)
            return
        snapshot = reading.snapshot
        self._warn_of_odd_word(snapshot.status)
        self._last_noise.pop(task, None)
        task._update(snapshot)
        if task.done():
            self._schedule.ended(task, now, is_success=snapshot.status == "completed")
            self.end(task)
        else:
            self._schedule.seen(task, now, progress=snapshot.progress, retry_after_s=reading.retry_after_s)

    def _take_failure_in(self, task: ImageTask, reading: PollFailure, now: float) -> None:
        match next_step(RequestKind.POLL, reading.failure):
            case NextStep.RAISE:
                self.end(task, attrs.evolve(reading.error, task=task))
            case NextStep.CONFIRM:
                if self._schedule.missing(task, now):
                    self.end(task, TaskLost(task=task, reason=f"the service said repeatedly: {reading.error.message}"))
            case NextStep.RETRY:
                self._last_noise[task] = reading.reason
                logger.debug("poll of task %s told nothing: %s", task.id, reading.reason)
                self._schedule.faulted(task, now, retry_after_s=reading.retry_after_s)

    def _expire(self, task: ImageTask) -> None:
        noise = self._last_noise.get(task)
        heard = f"last heard: {noise}" if noise else f"last status: {task.status}"
        self.end(task, TaskTimeout(task=task, reason=f"{self._policy.deadline_s:g} s have passed; {heard}"))

    def _warn_of_odd_word(self, status: str) -> None:
        if status not in _KNOWN_WORDS | self._odd_words and len(self._odd_words) < _MOST_ODD_WORDS:
            self._odd_words.add(status)
            logger.warning("the service sent the unknown task status %.40r; it counts as pending", status)


def _age_s(task: ImageTask) -> float | None:
    """Return for how long a task has been at work; `None` if that is not known, or makes no sense."""
    created = task._reference.created
    age_s = None if created is None else time.time() - created
    return age_s if age_s is not None and 0 <= age_s <= _LONGEST_AGE_S else None


def _model_of(task: ImageTask) -> str | None:
    """Return the name under which a task's duration is learned: as it was asked for, else as the service has it."""
    asked = None if task.request is None else task.request.model
    return asked or task._reference.model
