"""A model of a store of a shared rate limit: the rules of `_http/shared_limit/store.py`, in memory."""

import asyncio
from functools import partial

import attrs

from lemon_async._http.shared_limit.store import StoreUnavailable
from lemon_async._pace.leases import HORIZON_S, Lease, leased_interval_s

LOST_WAIT_S = 60.0


@attrs.define
class LimitState:
    """The state of one account; `now` is the store's clock."""

    interval_s: float
    horizon_s: float
    epoch: float
    due: float
    clear_until: float
    workers: dict[object, float]

    @classmethod
    def create(cls, now, *, interval_s, horizon_s=HORIZON_S):
        """Return the state that the first `reserve` creates."""
        return cls(interval_s, horizon_s, now, now, now, {})

    def reserve(self, now, slots, *, epoch, owed, worker):
        """Return the lease."""
        is_ahead = max(self.due, self.clear_until) > now + self.horizon_s + 120 + 10 * self.interval_s
        if is_ahead:
            self.epoch = self.due = self.clear_until = now
        if is_ahead or (epoch is not None and epoch != repr(self.epoch)):
            self.clear_until = max(self.clear_until, self.epoch + LOST_WAIT_S)
        self.workers[worker] = now
        first = max(now, self.due, self.clear_until) + owed * self.interval_s
        granted = slots if first <= now + self.horizon_s else 0
        if granted or owed:
            self.due = first + granted * self.interval_s
        return Lease(
            slots=granted,
            wait_s=first - now,
            spacing_s=self.interval_s,
            epoch=repr(self.epoch),
            workers=sum(seen > now - 60 for seen in self.workers.values()),
        )

    def pause(self, now, seconds):
        """Grant no slot before the pause ends."""
        self.clear_until = max(self.clear_until, now + seconds)


class ModelServer:
    """The store that several clients reach through `client()`, on the clock of the running loop.

    Args:
        rpm: The limit.
        delay_s: Returns the seconds that a message takes.
        clock_s: What its clock is ahead of everybody else's.
    """

    def __init__(self, rpm, *, delay_s=lambda: 0.001, clock_s=0.0):
        self.interval_s = leased_interval_s(rpm)
        self.delay_s, self.clock_s = delay_s, clock_s
        self.state = None
        self.fault = None  # what is raised instead of an answer
        self.refused_s = 0.001  # how long that takes
        self.calls = []
        self.refused = 0  # of these
        self.clients = []

    def now(self):
        """Return the time of its clock."""
        return asyncio.get_running_loop().time() + self.clock_s

    async def answer(self, name, method):
        """Return what a method of the state returns, with the delays of both ways."""
        self.calls.append(name)
        if self.fault is None:
            await asyncio.sleep(self.delay_s())
        if fault := self.fault:
            self.refused += 1
            await asyncio.sleep(self.refused_s)
            raise fault
        if self.state is None:
            self.state = LimitState.create(self.now(), interval_s=self.interval_s)
        result = method(self.state, self.now())
        await asyncio.sleep(self.delay_s())
        return result

    def stop(self, reason="connection refused"):
        """Answer no more."""
        self.fault = StoreUnavailable(reason)

    def start(self, *, is_lost=False):
        """Answer again, possibly without the former state."""
        self.fault = None
        if is_lost:
            self.state = None

    def open(self, on_pause):
        """Return the store of one client."""
        self.clients.append(client := ModelStore(self, on_pause))
        return client


class ModelStore:
    """The `LimitStore` of one client."""

    name = "model://store"

    def __init__(self, server, on_pause):
        self._server, self._on_pause = server, on_pause
        self.is_closed = False

    async def reserve(self, slots, *, epoch, owed):
        """See `LimitStore`."""
        reserve = partial(LimitState.reserve, slots=slots, epoch=epoch, owed=owed, worker=self)
        return await self._server.answer("reserve", reserve)

    async def pause(self, seconds):
        """See `LimitStore`."""
        await self._server.answer("pause", partial(LimitState.pause, seconds=seconds))
        for client in self._server.clients:
            asyncio.get_running_loop().call_later(self._server.delay_s(), client._on_pause, seconds)

    async def aclose(self):
        """See `LimitStore`."""
        self.is_closed = True
