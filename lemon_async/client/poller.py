"""The one poller of a session.

Problem: thousands of handles wait for tasks that only answer when asked, on an account with a request budget.

Shape: `Schedule` decides (pure, time passed in), this shell does. One asyncio task runs the decisions; each poll is
a short-lived child of it, and a semaphore bounds how many there are, so that an answer that drips in delays no other
poll. No asyncio task belongs to a waiting job.

Invariants:
* A poll never ends a job. Only the service's word about the task does (completed, failed, repeatedly unknown, key
  denied), or the deadline.
* The runner starts with the first pending task and ends with the last. It starts in an empty context, because it
  serves whoever comes later too. It is a child of nobody's cancel scope: the session cancels it when it closes.
* Whatever happens to the runner, nobody waits for ever: its end without a plan ends every pending task.

Rejected: polling only while somebody waits. A handle must tell the truth about `task.done` to who only looks.
"""

import asyncio
import contextvars
import logging

import anyio
import attrs

from lemon_async.api.errors import (
    LemonError,
    SessionMisuse,
    TaskError,
    TaskLost,
    TaskTimeout,
    TransportError,
)
from lemon_async.api.wire import Alive, Denied, Missing, Noise, read_poll
from lemon_async.client.task import ImageTask
from lemon_async.client.transport import Transport
from lemon_async.pace.budget import Budget
from lemon_async.pace.schedule import PollPolicy, Schedule

__all__ = ["Poller"]

logger: logging.Logger = logging.getLogger("lemon_async")
_KNOWN_WORDS = frozenset({"pending", "processing", "completed", "failed"})


class Poller:
    """Looks after the pending tasks of one session.

    Args:
        transport: What sends the polls.
        policy: When a task is polled, and for how long.
        budget: Whose pauses the polls respect.
        at_once: Number of polls under way at once.
    """

    def __init__(self, transport: Transport, policy: PollPolicy, budget: Budget, *, at_once: int) -> None:
        self._transport = transport
        self._policy = policy
        self._budget = budget
        self._schedule: Schedule[ImageTask] = Schedule(policy)
        self._slots = anyio.Semaphore(at_once, max_value=at_once)
        self._at_once = at_once
        self._runner: asyncio.Task[None] | None = None
        self._news = asyncio.Event()
        self._last_noise: dict[ImageTask, str] = {}
        self._odd_words: set[str] = set()

    @property
    def pending(self) -> tuple[ImageTask, ...]:
        """The tasks that are not over, oldest first."""
        return tuple(self._schedule)

    @property
    def under_way(self) -> int:
        """Number of polls under way."""
        return self._at_once - self._slots.value

    def add(self, task: ImageTask, *, is_fresh: bool) -> None:
        """Take a pending task in, and start running if idle; needs the running event loop."""
        loop = asyncio.get_running_loop()
        self._schedule.add(task, loop.time(), is_fresh=is_fresh)
        self._news.set()
        if self._runner is None:
            self._runner = loop.create_task(self._run(), name="lemon_async poller", context=contextvars.Context())

    def discard(self, task: ImageTask) -> None:
        """Stop polling a task that is over."""
        self._schedule.discard(task)
        self._last_noise.pop(task, None)
        self._news.set()

    async def aclose(self) -> None:
        """Stop; every task that is still pending ends with `SessionMisuse` and stays resumable."""
        runner = self._runner
        if runner is not None:
            runner.cancel()
            await asyncio.wait([runner])
        message = "the session was closed while the task was pending; its resume_token picks it up again"
        for task in self.pending:
            self._end(task, SessionMisuse(message=message, task=task))

    async def _run(self) -> None:
        try:
            async with asyncio.TaskGroup() as polls:
                while len(self._schedule):
                    self._news.clear()
                    wake_at = self._decide(polls)
                    await self._sleep_until(wake_at)
                # No await between finding nothing to do and this line: whoever comes later starts a new runner.
                self._runner = None
        except BaseExceptionGroup as crash:
            logger.exception("the poller crashed; its tasks are resumable")
            self._runner = None
            for task in self.pending:
                error = TaskError(task=task, reason="the poller crashed, which is a bug of this library")
                error.__cause__ = crash
                self._end(task, error)

    def _decide(self, polls: asyncio.TaskGroup) -> float | None:
        now = asyncio.get_running_loop().time()
        decision = self._schedule.decide(now, slots=self._slots.value, clear_at=self._budget.clear_at)
        for task in decision.expired:
            self._expire(task)
        for task in decision.polls:
            self._slots.acquire_nowait()
            polls.create_task(self._poll(task, self._schedule.deadline(task) - now))
        return decision.wake_at

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
        try:
            reading = await self._ask(task, time_left_s)
        finally:
            self._slots.release()
            self._news.set()
        now = asyncio.get_running_loop().time()
        match reading:
            case Alive(snapshot):
                self._warn_of_odd_word(snapshot.status)
                self._last_noise.pop(task, None)
                task.see(snapshot)
                if task.done:
                    self._schedule.discard(task)
                else:
                    self._schedule.seen(task, now)
            case Missing(error):
                if self._schedule.missing(task, now):
                    self._end(task, TaskLost(task=task, reason=f"the service said repeatedly: {error.message}"))
            case Denied(error):
                self._end(task, attrs.evolve(error, task=task))
            case Noise(reason, _, retry_after_s):
                if task in self._schedule:
                    self._last_noise[task] = reason
                self._schedule.faulted(task, now, retry_after_s=retry_after_s)

    async def _ask(self, task: ImageTask, time_left_s: float) -> Alive | Missing | Denied | Noise:
        try:
            return read_poll(await self._transport.call("GET", task.path, timeout_s=max(time_left_s, 0.001)))
        except TransportError as failure:
            return Noise(failure.message)

    def _expire(self, task: ImageTask) -> None:
        noise = self._last_noise.pop(task, None)
        heard = f"last heard: {noise}" if noise else f"last status: {task.status}"
        task.fail(TaskTimeout(task=task, reason=f"{self._policy.deadline_s:g} s have passed; {heard}"))

    def _end(self, task: ImageTask, failure: LemonError) -> None:
        self.discard(task)
        task.fail(failure)

    def _warn_of_odd_word(self, status: str) -> None:
        if status not in _KNOWN_WORDS and status not in self._odd_words:
            self._odd_words.add(status)
            logger.warning("the service sent the unknown task status %.40r; it counts as pending", status)
