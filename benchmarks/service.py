"""Simulate a service and its clients in virtual time, with one heap of events and one random generator."""

import heapq
import random
from collections import Counter, deque
from collections.abc import Callable
from itertools import count

from benchmarks.windows import MINUTE_S, Verdict, Window
from lemon_async._api.response import read_rate_headers
from lemon_async._pace.budget import RequestBudget
from lemon_async._pace.priority import Priority, PriorityPolicy
from lemon_async._pace.schedule import PollPolicy, Schedule

LATENCY_S = (0.02, 0.12)
NAIVE_GAP_S = 3.0


class World:
    """A simulated service: jobs with fixed durations behind one rate-limit window, and a queue of events."""

    def __init__(self, window: Window, durations: list[float], seed: int) -> None:
        self.now = 0.0
        self.window = window
        self.durations = durations
        self.finished_at: dict[int, float] = {}
        self.seen_at: list[float] = []
        self.sent: Counter[str] = Counter()
        self._random = random.Random(seed)  # noqa: S311 - a seeded simulation
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._serial = count()

    def at(self, time: float, action: Callable[[], None]) -> None:
        """Schedule an action."""
        heapq.heappush(self._events, (time, next(self._serial), action))

    def run(self) -> None:
        """Process events until the picture of every job has been received."""
        while len(self.seen_at) < len(self.durations):
            self.now, _, action = heapq.heappop(self._events)
            action()

    def exchange(self, job: int, kind: str, on_response: Callable[[Verdict, bool], None]) -> None:
        """Send a request; `on_response` is called with the verdict and whether the job was over."""

        def arrive() -> None:
            verdict = self.window.request(self.now)
            self._count(kind, verdict)
            if verdict.is_granted and kind == "submit":
                self.finished_at[job] = self.now + self.durations[job]
            is_over = kind == "poll" and verdict.is_granted and self.now >= self.finished_at[job]
            self.at(self.now + self._latency(), lambda: on_response(verdict, is_over))

        self.at(self.now + self._latency(), arrive)

    def _latency(self) -> float:
        return self._random.uniform(*LATENCY_S)

    def _count(self, kind: str, verdict: Verdict) -> None:
        self.sent[kind] += 1
        self.sent["all"] += 1
        self.sent["429"] += not verdict.is_granted
        if self.now > MINUTE_S:
            self.sent["late"] += 1
            self.sent["late_429"] += not verdict.is_granted


class PacedClient:
    """The library's scheduling decisions, driven by events instead of coroutines."""

    def __init__(
        self, world: World, *, in_flight: int, limit: int | None, reads_headers: bool, reads_retry_after: bool = True
    ) -> None:
        self._world = world
        self._room = in_flight
        self._reads_headers = reads_headers
        self._reads_retry_after = reads_retry_after
        self._queue = deque(range(len(world.durations)))
        self._in_flight = 0
        self._timer_at = 0.0
        self.budget = RequestBudget(limit)
        self._priorities = PriorityPolicy()
        self._schedule: Schedule[int] = Schedule(PollPolicy())
        self._wake(0.0)

    def _pump(self) -> None:
        now = self._world.now
        self._schedule.room_rpm = self.budget.room_rpm(now)
        while True:
            decision = self._schedule.decide(now, slots=0)
            waiting = [Priority.SUBMIT] if self._queue and self._in_flight < self._room else []
            waiting += [Priority.POLL] if decision.waiting else []
            if not waiting or not self.budget.available(now):
                times = [self.budget.next_at(now)] if waiting else []
                times += [] if decision.wake_at is None else [decision.wake_at]
                if times:
                    self._wake(min(times))
                return
            self._grant(self._priorities.next(waiting))

    def _grant(self, priority: Priority) -> None:
        now = self._world.now
        self.budget.consume(now)
        if priority is Priority.SUBMIT:
            self._in_flight += 1
            job, kind = self._queue.popleft(), "submit"
        else:
            (job,), kind = self._schedule.decide(now, slots=1).polls, "poll"
        self._world.exchange(job, kind, lambda verdict, is_over: self._on_response(job, kind, verdict, is_over))

    def _on_response(self, job: int, kind: str, verdict: Verdict, is_over: bool) -> None:
        now = self._world.now
        reported = read_rate_headers(verdict.headers(), received_at=now) if self._reads_headers else None
        if not verdict.is_granted:
            wait_s = verdict.retry_after_s() if self._reads_retry_after else None
            self.budget.observe_429(now, wait_s, report=reported)
            self._refused(job, kind, wait_s)
        else:
            self.budget.observe(now, reported)
            self._accepted(job, kind, is_over)
        self._pump()

    def _refused(self, job: int, kind: str, wait_s: float | None) -> None:
        if kind == "submit":
            self._in_flight -= 1
            self._queue.appendleft(job)
        else:
            self._schedule.faulted(job, self._world.now, retry_after_s=wait_s)

    def _accepted(self, job: int, kind: str, is_over: bool) -> None:
        now = self._world.now
        self._schedule.room_rpm = self.budget.room_rpm(now)
        if kind == "submit":
            self._schedule.add(job, now)
        elif is_over:
            self._in_flight -= 1
            self._world.seen_at.append(now)
            self._schedule.ended(job, now, is_success=True)
        else:
            self._schedule.seen(job, now)

    def _wake(self, time: float) -> None:
        """Set the timer; earlier ones then do nothing."""
        self._timer_at = time
        self._world.at(time, lambda: self._pump() if self._timer_at == time else None)


class NaiveClient:
    """A coroutine per job: submit, poll every three seconds, and sleep for `Retry-After` on a 429."""

    def __init__(self, world: World, *, in_flight: int) -> None:
        self._world = world
        self._queue = deque(range(len(world.durations)))
        for _ in range(in_flight):
            self._start_next()

    def _start_next(self) -> None:
        if self._queue:
            self._send(self._queue.popleft(), "submit")

    def _send(self, job: int, kind: str) -> None:
        self._world.exchange(job, kind, lambda verdict, is_over: self._on_response(job, kind, verdict, is_over))

    def _on_response(self, job: int, kind: str, verdict: Verdict, is_over: bool) -> None:
        now = self._world.now
        if is_over:
            self._world.seen_at.append(now)
            self._start_next()
        elif verdict.is_granted:
            self._world.at(now + NAIVE_GAP_S, lambda: self._send(job, "poll"))
        else:
            self._world.at(now + verdict.retry_after_s(), lambda: self._send(job, kind))


class Clairvoyant:
    """A client that knows window and durations: one submit and one poll per job, no latency, no refusals.

    Args:
        world: The simulated service.
        in_flight: Maximum number of concurrent jobs.
        gap_s: Seconds between two requests; 0 sends as many as the window allows.
    """

    def __init__(self, world: World, *, in_flight: int, gap_s: float = 0.0) -> None:
        self._world = world
        self._room = in_flight
        self._gap_s = gap_s
        self._queue = deque(range(len(world.durations)))
        self._in_flight: list[float] = []
        world.at(0.0, self._step)

    def _step(self) -> None:
        world, now = self._world, self._world.now
        can_submit = bool(self._queue) and len(self._in_flight) < self._room
        if not can_submit and not self._in_flight:
            return
        start = world.window.room_at(now if can_submit else max(now, self._in_flight[0]))
        if start > now:
            world.at(start, self._step)
            return
        world.window.request(now)
        if can_submit:
            heapq.heappush(self._in_flight, now + world.durations[self._queue.popleft()])
        else:
            heapq.heappop(self._in_flight)
            world.seen_at.append(now)
        world.at(now + self._gap_s, self._step)
