"""Hold back requests to the API until the rate limit has room for them, the most urgent first.

A budget decides how many may start now and `PriorityPolicy` which priority is next; this shell holds the queues,
one per priority, each in order of arrival. Waiting takes a future, no asyncio task; one timer serves all queues.
"""

import asyncio
import math
from collections import deque
from collections.abc import Iterable
from typing import Protocol

from lemon_async._api.response import RateReport
from lemon_async._http.attempt import NoResponse
from lemon_async._pace.priority import Priority, PriorityPolicy

__all__ = ["SHORTEST_SLEEP_S", "Budget", "RateLimiter"]

SHORTEST_SLEEP_S = 0.001


class Budget(Protocol):
    """How many requests may start; `RequestBudget` or `LeasedBudget`."""

    @property
    def requests_per_minute(self) -> int | None:
        """The limit that is currently assumed."""

    def room_rpm(self, now: float, /) -> float:
        """Return how many requests the coming minute has room for, as far as is known."""

    def available(self, now: float, /) -> int:
        """Return how many requests may start at `now`."""

    def next_at(self, now: float, /) -> float:
        """Return when the next request may start, as far as is known."""

    def consume(self, now: float, /) -> None:
        """Count a request that starts."""

    def observe(self, now: float, report: RateReport | None = None, /) -> None:
        """Observe a response that is no 429."""

    def observe_429(
        self, now: float, retry_after_s: float | None = None, /, *, report: RateReport | None = None
    ) -> None:
        """Pause after a 429."""


class RateLimiter:
    """The one rate limit that all API requests of a session pass."""

    def __init__(self, budget: Budget) -> None:
        self.budget: Budget = budget
        self._policy = PriorityPolicy()
        self._queues: dict[Priority, deque[asyncio.Future[bool]]] = {priority: deque() for priority in Priority}
        self._timer: asyncio.TimerHandle | None = None
        self._is_closed: bool = False

    @property
    def name(self) -> str | None:
        """The store of a limit that is shared, without credentials."""
        return None

    def available(self) -> int:
        """Return how many requests may start now; none while others wait."""
        return 0 if self._timer is not None else self.budget.available(asyncio.get_running_loop().time())

    def consume(self, requests: int) -> None:
        """Count requests that start now, at most as many as are available."""
        now = asyncio.get_running_loop().time()
        for _ in range(requests):
            self.budget.consume(now)

    def acquire_nowait(self) -> bool:
        """Count a request and return true if it may start now."""
        now = asyncio.get_running_loop().time()
        if self._timer is not None or self._is_closed or not self.budget.available(now):
            return False
        self.budget.consume(now)
        return True

    async def acquire(self, priority: Priority, patience_s: float) -> None:
        """Wait until a request may start; cancelling leaves the queue.

        Raises:
            NoResponse: A pause would last longer than `patience_s` seconds, not counting the time that the requests
                ahead in the queues take; or the session was closed.
            ContractError: See `SharedRateLimiter`.
        """
        if self.acquire_nowait():
            return
        loop = asyncio.get_running_loop()
        paused_s = self.budget.next_at(loop.time()) - loop.time()
        if paused_s > patience_s and not self._is_closed:
            reason = f"requests are paused by the rate limit for {paused_s:.0f} s more"
            raise NoResponse(reason, was_sent=False, retry_after_s=paused_s)
        bound_s = patience_s + self._queue_s()
        waiter = self.enqueue(priority)
        timer = loop.call_later(bound_s, _reject, waiter)
        try:
            is_granted = await waiter
        finally:
            timer.cancel()
        if not is_granted:
            raise self._refusal(bound_s)

    def enqueue(self, priority: Priority) -> asyncio.Future[bool]:
        """Return a future: true once one request may start (it is counted then), false if the session is closed."""
        waiter = asyncio.get_running_loop().create_future()
        self._queues[priority].append(waiter)
        if self._is_closed:
            _reject(waiter)
        elif self._timer is None:
            self._serve()
        return waiter

    def observe(self, report: RateReport | None) -> None:
        """Let the budget learn from a response that is no 429."""
        self.budget.observe(asyncio.get_running_loop().time(), report)
        if report is not None and self._timer is not None:  # there may be room sooner than was expected
            self._serve()

    def observe_429(self, retry_after_s: float | None, report: RateReport | None) -> None:
        """Let the budget learn from a 429; it pauses all requests."""
        self.budget.observe_429(asyncio.get_running_loop().time(), retry_after_s, report=report)

    async def aclose(self) -> None:
        """Close; there is nothing to wait for."""
        self.close()

    def close(self) -> None:
        """Reject all requests that wait, and every later one."""
        self._is_closed = True
        if self._timer is not None:
            self._timer.cancel()
        self._reject_waiting(Priority)

    def _reject_waiting(self, priorities: Iterable[Priority]) -> None:
        for queue in (self._queues[priority] for priority in priorities):
            for waiter in queue:
                _reject(waiter)
            queue.clear()

    def _refusal(self, bound_s: float) -> Exception:
        """Return the error of a request that waited in vain, `bound_s` at most."""
        reason = "the session is closed" if self._is_closed else f"rate limit: no slot within {bound_s:.0f} s"
        return NoResponse(reason, was_sent=False)

    def _serve(self) -> None:
        """Release as many requests as the budget allows, and set the timer for the rest."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while waiting := self._waiting():
            if not self.budget.available(now):
                self._timer = loop.call_at(max(self.budget.next_at(now), now + SHORTEST_SLEEP_S), self._serve)
                return
            self._queues[self._policy.next(waiting)].popleft().set_result(True)
            self.budget.consume(now)

    def _queue_s(self) -> float:
        """Return how long the queues take at the present rate, with as many other requests in between."""
        waiting = sum(len(queue) for queue in self._queues.values())
        return 2 * 60 * waiting / (self.budget.requests_per_minute or math.inf)

    def _waiting(self) -> list[Priority]:
        """Return the priorities with requests that wait, and drop cancelled ones from the heads of the queues."""
        for queue in self._queues.values():
            while queue and queue[0].done():
                queue.popleft()
        return [priority for priority, queue in self._queues.items() if queue]


def _reject(waiter: asyncio.Future[bool]) -> None:
    if not waiter.done():
        waiter.set_result(False)
