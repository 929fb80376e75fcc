"""Where every request to the API waits for its turn: one budget, the most urgent kind first.

`Budget` knows how many may start now, `Turns` knows whose turn it is, this shell holds who waits. Each kind is served
in the order of arrival. Nobody who waits owns an asyncio task; one timer serves them all.
"""

import asyncio
import math
from collections import deque

from lemon_async._api.rate_headers import RateReport
from lemon_async._http.attempt import NoResponse
from lemon_async._pace.budget import RequestBudget
from lemon_async._pace.priority import Priority, PriorityPolicy

__all__ = ["RateLimiter"]

_SHORTEST_SLEEP_S = 0.001


class RateLimiter:
    """Lets the requests of one session through, at the pace of its budget."""

    def __init__(self, budget: RequestBudget) -> None:
        self.budget: RequestBudget = budget
        self._turns = PriorityPolicy()
        self._queues: dict[Priority, deque[asyncio.Future[bool]]] = {kind: deque() for kind in Priority}
        self._timer: asyncio.TimerHandle | None = None
        self._is_closed: bool = False

    def room(self) -> int:
        """Return how many requests may start now; none while others wait."""
        return 0 if self._timer is not None else self.budget.room(asyncio.get_running_loop().time())

    def take(self, requests: int) -> None:
        """Count requests that start now, within what `room` has allowed."""
        now = asyncio.get_running_loop().time()
        for _ in range(requests):
            self.budget.take(now)

    def take_nowait(self) -> bool:
        """Count a request and tell that it may start, if nothing holds it back; otherwise its `turn` comes later."""
        now = asyncio.get_running_loop().time()
        if self._timer is not None or self._is_closed or not self.budget.room(now):
            return False
        self.budget.take(now)
        return True

    async def turn(self, kind: Priority, patience_s: float) -> None:
        """Wait until a request of this kind may start; cancelling gives the place in the queue up.

        Raises:
            NoAnswer: The limit would pause it for longer than `patience_s` seconds, which do not count the time that
                those before it take; or the session was closed.
        """
        if self.take_nowait():
            return
        loop = asyncio.get_running_loop()
        paused_s = self.budget.next_at(loop.time()) - loop.time()
        if paused_s > patience_s and not self._is_closed:
            reason = f"requests are paused by the rate limit for {paused_s:.0f} s more"
            raise NoResponse(reason, was_sent=False, retry_after_s=paused_s)
        bound_s = patience_s + self._queue_s()
        ticket = self.ticket(kind)
        out_of_patience = loop.call_later(bound_s, _refuse, ticket)
        try:
            is_granted = await ticket
        finally:
            out_of_patience.cancel()
        if not is_granted:
            reason = "the session is closed" if self._is_closed else f"no turn within {bound_s:.0f} s: rate limit"
            raise NoResponse(reason, was_sent=False)

    def ticket(self, kind: Priority) -> asyncio.Future[bool]:
        """Queue up; the future tells in its time that one request may start, or, as `False`, that none will."""
        ticket = asyncio.get_running_loop().create_future()
        self._queues[kind].append(ticket)
        if self._is_closed:
            _refuse(ticket)
        elif self._timer is None:
            self._serve()
        return ticket

    def answered(self, reported: RateReport | None) -> None:
        """Let the budget learn from an answer that is no 429."""
        self.budget.answered(asyncio.get_running_loop().time(), reported)
        if reported is not None and self._timer is not None:  # there may be room sooner than was thought
            self._serve()

    def limited(self, retry_after_s: float | None, reported: RateReport | None) -> None:
        """Let the budget learn from a 429."""
        self.budget.limited(asyncio.get_running_loop().time(), retry_after_s, reported=reported)

    def close(self) -> None:
        """Let nothing through from now on, and tell everybody who waits."""
        self._is_closed = True
        if self._timer is not None:
            self._timer.cancel()
        for queue in self._queues.values():
            for ticket in queue:
                _refuse(ticket)
            queue.clear()

    def _serve(self) -> None:
        """Let as many through as the budget has room for, and come back when it has more."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while waiting := self._waiting():
            if not self.budget.room(now):
                self._timer = loop.call_at(max(self.budget.next_at(now), now + _SHORTEST_SLEEP_S), self._serve)
                return
            self._queues[self._turns.next(waiting)].popleft().set_result(True)
            self.budget.take(now)

    def _queue_s(self) -> float:
        """Return how long those who wait take at the present limit, with as many of other kinds between them."""
        waiting = sum(len(queue) for queue in self._queues.values())
        return 2 * 60 * waiting / (self.budget.requests_per_minute or math.inf)

    def _waiting(self) -> list[Priority]:
        """Return the kinds that somebody waits for, without those who have given up."""
        for queue in self._queues.values():
            while queue and queue[0].done():
                queue.popleft()
        return [kind for kind, queue in self._queues.items() if queue]


def _refuse(ticket: asyncio.Future[bool]) -> None:
    if not ticket.done():
        ticket.set_result(False)
