"""Simulate what many workers share: a journal whose transactions take turns at one lock, and slots of a rate limit."""

import heapq
import itertools
import math
import random
from collections import deque
from collections.abc import Callable
from functools import partial

import attrs

from lemon_async._pace.leases import HORIZON_S, Ask, Lease, LeasedBudget, leased_interval_s

# As in the journal: after a smaller group a worker lets changes gather, but not for some groups if that was in vain.
LARGE = 32
SKIPPED = 16
BACKLOG = 1_000  # requests that wait in each worker
SHORTEST_SLEEP_S = 0.001


@attrs.frozen
class Commit:
    """What a group of changes costs, in seconds.

    Attributes:
        trip_s: From the worker to the server and back, while it has no lock.
        hold_s: How long it has the lock: read, compute, write, sync.
        change_s: How much longer for each change.
        gather_s: How long a worker lets changes gather after a small group.
    """

    trip_s: float
    hold_s: float
    change_s: float
    gather_s: float = 0.008


@attrs.frozen
class JournalLoad:
    """What a journal does under a load.

    Attributes:
        changes_per_s: What became durable.
        groups_per_s: Transactions.
        changes_per_group: Their mean size.
        p50_ms: Until a change is durable, in the median.
        p99_ms: Until 99 of 100 are.
        busy: Share of the time in which the lock is held.
    """

    changes_per_s: float
    groups_per_s: float
    changes_per_group: float
    p50_ms: float
    p99_ms: float
    busy: float


@attrs.define(eq=False)
class _Writer:
    """A worker: when its waiting changes came, and those of the group that is under way."""

    waiting: list[float] = attrs.field(factory=list)
    group: list[float] = attrs.field(factory=list)
    is_busy: bool = False
    to_skip: int = 0


class JournalSimulation:
    """Writers that each group their own changes, and take turns at the lock.

    Args:
        workers: Number of writers.
        changes_per_s: What comes, at random moments; `None`: each writer always has `backlog` changes.
        commit: What a group costs.
        backlog: See `changes_per_s`.
    """

    def __init__(self, workers: int, changes_per_s: float | None, commit: Commit, *, backlog: int = 0) -> None:
        self._commit = commit
        self._rate = None if changes_per_s is None else changes_per_s / workers
        self._backlog = backlog
        self._dice = random.Random(workers)  # noqa: S311 - reproducible
        self._writers = [_Writer() for _ in range(workers)]
        self._queue: deque[_Writer] = deque()
        self._is_locked = False
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._now = 0.0
        self._held_s = 0.0
        self._groups = 0
        self._waits: list[float] = []

    def run(self, seconds: float) -> JournalLoad:
        """Simulate so many seconds, after half as many more to become steady."""
        for writer in self._writers:
            self._begin(writer) if self._rate is None else self._later(self._gap(), partial(self._arrive, writer))
        warm_up_s = seconds / 2
        while self._events and self._events[0][0] < warm_up_s + seconds:
            before, (self._now, _, happen) = self._now, heapq.heappop(self._events)
            if before < warm_up_s <= self._now:
                self._held_s, self._groups, self._waits = 0.0, 0, []
            happen()
        waits = sorted(self._waits)
        return JournalLoad(
            changes_per_s=len(waits) / seconds,
            groups_per_s=self._groups / seconds,
            changes_per_group=len(waits) / max(1, self._groups),
            p50_ms=waits[len(waits) // 2] * 1e3,
            p99_ms=waits[len(waits) * 99 // 100] * 1e3,
            busy=self._held_s / seconds,
        )

    def _gap(self) -> float:
        return self._dice.expovariate(self._rate or 1.0)

    def _later(self, delay_s: float, happen: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self._now + delay_s, next(self._order), happen))

    def _arrive(self, writer: _Writer) -> None:
        writer.waiting.append(self._now)
        self._later(self._gap(), partial(self._arrive, writer))
        if not writer.is_busy:
            self._begin(writer)

    def _begin(self, writer: _Writer) -> None:
        """Take all changes that wait, and go to the server."""
        if self._rate is None:
            writer.waiting = [self._now] * self._backlog
        writer.is_busy = bool(writer.waiting)
        if writer.is_busy:
            writer.group, writer.waiting = writer.waiting, []
            self._later(self._commit.trip_s / 2, partial(self._ask, writer))

    def _ask(self, writer: _Writer) -> None:
        self._queue.append(writer)
        self._lock()

    def _lock(self) -> None:
        if self._queue and not self._is_locked:
            self._is_locked = True
            writer = self._queue.popleft()
            hold_s = self._commit.hold_s + self._commit.change_s * len(writer.group)
            self._held_s += hold_s
            self._later(hold_s, partial(self._unlock, writer))

    def _unlock(self, writer: _Writer) -> None:
        self._is_locked = False
        self._lock()
        self._later(self._commit.trip_s / 2, partial(self._written, writer))

    def _written(self, writer: _Writer) -> None:
        self._groups += 1
        self._waits += [self._now - came for came in writer.group]
        if len(writer.group) >= LARGE:
            self._begin(writer)
        elif writer.to_skip:
            writer.to_skip -= 1
            self._begin(writer)
        else:
            self._later(self._commit.gather_s, partial(self._gathered, writer))

    def _gathered(self, writer: _Writer) -> None:
        if len(writer.waiting) < 2:
            writer.to_skip = SKIPPED
        self._begin(writer)


@attrs.frozen
class LimitLoad:
    """What a shared rate limit does under a load that is always more than it admits.

    Attributes:
        share: Of the limit, that is used.
        trips_per_s: Reservations.
        trips_per_request: The same, for each request.
    """

    share: float
    trips_per_s: float
    trips_per_request: float


class LimitSimulation:
    """Workers that always have requests, and lease slots for them.

    Args:
        workers: Their number.
        rpm: The limit.
        trip_s: From a worker to the store and back.
    """

    def __init__(self, workers: int, rpm: int, trip_s: float) -> None:
        self._rpm = rpm
        self._trip_s = trip_s
        self._interval_s = leased_interval_s(rpm)
        self._due = 0.0
        self._budgets = [LeasedBudget(rpm) for _ in range(workers)]
        self._is_asking = [False] * workers
        self._wakes = [0.0] * workers
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._now = 0.0
        self._starts = self._trips = 0

    def run(self, seconds: float) -> LimitLoad:
        """Simulate so many seconds, after half as many more to become steady."""
        for worker in range(len(self._budgets)):
            self._later(worker * 0.01, partial(self._send, worker))
        warm_up_s = seconds / 2
        while self._events and self._events[0][0] < warm_up_s + seconds:
            before, (self._now, _, happen) = self._now, heapq.heappop(self._events)
            if before < warm_up_s <= self._now:
                self._starts = self._trips = 0
            happen()
        return LimitLoad(
            share=self._starts * 60 / self._rpm / seconds,
            trips_per_s=self._trips / seconds,
            trips_per_request=self._trips / max(1, self._starts),
        )

    def _later(self, delay_s: float, happen: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self._now + max(delay_s, 0.0), next(self._order), happen))

    def _send(self, worker: int) -> None:
        """Send what the slots allow, and ask for more."""
        budget = self._budgets[worker]
        for _ in range(budget.available(self._now)):
            budget.consume(self._now)
            self._starts += 1
        if budget.wants_lease(self._now, BACKLOG) and not self._is_asking[worker]:
            self._is_asking[worker] = True
            self._later(budget.retry_at - self._now, partial(self._ask, worker))
        self._wakes[worker] = wake_at = max(budget.wake_at(self._now, has_polls=True), self._now + SHORTEST_SLEEP_S)
        if wake_at < math.inf:
            self._later(wake_at - self._now, partial(self._wake, worker, wake_at))

    def _wake(self, worker: int, at: float) -> None:
        if self._wakes[worker] == at:  # nothing has happened meanwhile
            self._send(worker)

    def _ask(self, worker: int) -> None:
        ask = self._budgets[worker].ask(self._now, BACKLOG)
        self._later(self._trip_s / 2, partial(self._reserve, worker, ask))

    def _reserve(self, worker: int, ask: Ask) -> None:
        """Grant a lease; see `_http/shared_limit/store.py`."""
        self._trips += 1
        first = max(self._now, self._due)
        slots = ask.slots if first <= self._now + HORIZON_S else 0
        if slots:
            self._due = first + slots * self._interval_s
        facts = {"spacing_s": self._interval_s, "epoch": "0", "workers": len(self._budgets)}
        lease = Lease(slots=slots, wait_s=first - self._now, **facts)
        self._later(self._trip_s / 2, partial(self._take, worker, ask, lease))

    def _take(self, worker: int, ask: Ask, lease: Lease) -> None:
        self._is_asking[worker] = False
        self._budgets[worker].take(self._now, ask, lease)
        self._send(worker)
