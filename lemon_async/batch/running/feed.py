"""The rows of a run, in the order in which a map takes them: those that are sold already are resumed on the way.

    room      fewer than `in_flight` rows are between being taken and their outcome being read
    order     rows that are sold; rows to repeat; rows that have failed; rows that are new
    budget    a row that does not fit waits while rows in flight may still cost less or fail, and else stops the run
    end       when no row is left, none in flight could still have to be repeated, and no other run holds any

The run claims the rows that it takes, so that several runs can share a journal. While others hold rows, it looks again
every second or so: a run that ends or dies leaves its rows to the others. A row that this run has left open, as after
an error of the disk, is for the others, too, once nothing else is in flight; this run does not take it again. A run
that is alone reads the journal once, and once more at its end.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Self
from uuid import uuid4

import attrs

from lemon_async.batch.journal import Journal
from lemon_async.batch.running.account import Account
from lemon_async.batch.running.job import Job
from lemon_async.batch.running.sweep import Sweep
from lemon_async.batch.states import State
from lemon_async.requests import Request

__all__ = ["Feed"]

logger: logging.Logger = logging.getLogger("lemon_async")
_MAX_LOAD = 0.1  # of the time, for looking again


@attrs.define(eq=False, kw_only=True)
class Feed:
    """Rows of a journal as the input of a map.

    Args:
        journal: The journal.
        account: Counts and sums.
        in_flight: Maximum number of rows in flight.
        price_of: Returns the price of a request, `None` if it is not known.
        is_capped: Whether a row without a price stops the run.
        resume: Called with a row that is sold.
        settle: Called with a row that has failed; decides whether it is repeated.
        on_full: Called when no row fits into the budget any more, or with a row that has no price.
        on_change: Called when counts have changed.
        keys: The keys of the rows to take; `None` for all rows of the journal.
        look_s: How often to look for rows that other runs have let go of.
        patience_s: How long to wait for rows of other runs while no row of the journal changes.

    Attributes:
        run: The name of the run in the journal.
        jobs: The rows that were handed out and are not accepted, by their position in the input of the map.
    """

    journal: Journal
    account: Account
    in_flight: int
    price_of: Callable[[Request], float | None]
    is_capped: bool
    resume: Callable[[Job], None]
    settle: Callable[[Job], Awaitable[None]]
    on_full: Callable[[Job], object]
    on_change: Callable[[], None]
    keys: Sequence[str] | None = None
    look_s: float
    patience_s: float
    run: str = attrs.field(factory=lambda: uuid4().hex, init=False)
    jobs: dict[int, Job] = attrs.field(factory=dict[int, Job], init=False)
    _open: int = attrs.field(default=0, init=False)
    _held: int = attrs.field(default=0, init=False)
    _taken: int = attrs.field(default=0, init=False)
    _sold: deque[Job] = attrs.field(factory=deque[Job], init=False)
    _new: deque[Job] = attrs.field(factory=deque[Job], init=False)
    _left: dict[int, int] = attrs.field(factory=dict[int, int], init=False)
    _sweep: Sweep = attrs.field(init=False)
    _is_last_sweep: bool = attrs.field(default=False, init=False)
    _look_at: float = attrs.field(default=0.0, init=False)
    _seen: tuple[int, Mapping[State, int]] = attrs.field(factory=lambda: (0, {}), init=False)
    _seen_at: float = attrs.field(default=0.0, init=False)
    _is_closed: bool = attrs.field(default=False, init=False)
    _news: asyncio.Event = attrs.field(factory=asyncio.Event, init=False)

    def __attrs_post_init__(self) -> None:
        self._sweep = Sweep.of(self.journal, self.run, self.in_flight, self.keys)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Request:
        """Return the next request, for the map.

        Raises:
            StopAsyncIteration: There is none, or the feed was closed.
            JournalError: The rows cannot be read.
        """
        while not self._is_closed:
            if self._held >= self.in_flight:
                await self._change()
            elif self._sold:
                self._begin()
                self.resume(self._sold.popleft())
                await asyncio.sleep(0)  # hundreds of them would hold up the event loop
            elif self._new and self._must_stop(self._new[0]):
                self._stop()
            elif self._new and self.account.fits(self._new[0].price_usd):
                return self._hand_out(self._new.popleft())
            elif self._has_more():
                await self._claim()
            elif self._open:
                await self._wait()
            elif not self._is_last_sweep:
                await self._look()
            elif self._may_wait():
                await self._wait()
            else:
                self._stop()
        raise StopAsyncIteration

    def _must_stop(self, job: Job) -> bool:
        """Return whether the price of a row is not known, and has to be."""
        job.price_usd = self.price_of(job.request)
        return self.is_capped and job.price_usd is None

    def _stop(self) -> None:
        if self._new:
            self.on_full(self._new[0])
        self.close()

    def _hand_out(self, job: Job) -> Request:
        self._begin()
        self.pledge(job)
        self.jobs[self._taken] = job
        self._taken += 1
        return job.request

    def _begin(self) -> None:
        self._open += 1
        self._held += 1
        self._is_last_sweep = False
        self.on_change()

    # Which rows there are

    def _has_more(self) -> bool:
        """Return whether there are rows to claim; new ones only if the budget has room."""
        return self._sweep.has_more(but_not=State.NEW if self._new else None)

    async def _claim(self) -> None:
        for row in await self._sweep.claim():
            if row.number not in self._left:
                await self.take(Job.of(row))

    async def take(self, job: Job) -> None:
        """Take a row that this run has claimed."""
        if job.state is State.FAILED:
            await self.settle(job)
        if job.state is State.SOLD:
            self._sold.append(job)
        elif job.state is State.NEW:
            self._new.append(job)

    async def _wait(self) -> None:
        """Wait for a change; if other runs hold rows, also look at the journal again when it is time."""
        if not self._sweep.held_elsewhere:
            await self._change()
            return
        loop = asyncio.get_running_loop()
        await self._change(self._look_at - loop.time())
        if loop.time() >= self._look_at:
            await self._look()

    async def _look(self) -> None:
        """Begin a new sweep; when nothing is in flight, it decides whether the run has come to its end."""
        began = asyncio.get_running_loop().time()
        if self._left and not self._open:  # other runs may have more luck
            self._new.clear()
            await self.journal.release(self.run)
        held_before = self._sweep.held_elsewhere
        self._sweep = Sweep.of(self.journal, self.run, self.in_flight, self.keys)
        self._is_last_sweep = not self._open
        while self._has_more() and not self._sold and not self._is_closed:
            await self._claim()
        # Not before: whoever has let go of a row meanwhile may have released its money.
        if self._new or held_before or self._sweep.held_elsewhere or self.journal.is_shared:
            await self.refresh()
        now = asyncio.get_running_loop().time()
        self._look_at = now + max(self.look_s, (now - began) / _MAX_LOAD)

    def _may_wait(self) -> bool:
        """Return whether another run may leave rows to this one, or money for its rows."""
        held, now = self._sweep.held_elsewhere, asyncio.get_running_loop().time()
        if not held or (self._new and not self.account.has_reserved_besides(sum(self._left.values()))):
            return False
        seen = held, dict(self.account.counts)
        if seen != self._seen:
            self._seen, self._seen_at = seen, now
        if now - self._seen_at < self.patience_s:
            return True
        words = "other runs hold %d rows of the journal, of which none has changed for %.0f minutes; run it again later"
        logger.warning(words, held, self.patience_s / 60)
        return False

    async def refresh(self) -> None:
        """Bring the account up to date with what other runs have done.

        Raises:
            JournalError: The journal cannot be used.
        """
        self.account.replace(await self.journal.counts(), await self.journal.spending())
        self._wake()

    # What becomes of them

    def pledge(self, job: Job) -> None:
        """Set aside the price of a row that will be bought."""
        if not job.is_pledged:
            job.is_pledged = True
            self.account.pledge(job.price_usd)

    def return_pledge(self, job: Job) -> None:
        """Return the price of a row, which the journal has reserved, or which will not be bought."""
        if job.is_pledged:
            job.is_pledged = False
            self.account.pledge(job.price_usd, -1)

    def repeat(self, job: Job) -> None:
        """Take a row again."""
        job.token = None
        self._new.appendleft(job)
        self.release()

    def leave(self, job: Job) -> None:
        """Note that the outcome of a row is delivered; if it is still open, this run does not take it again."""
        if job.state.is_open:
            self._left[job.facts.number] = (job.facts.amount or 0) if job.state is State.SOLD else 0

    def ended(self, job: Job) -> None:
        """Note that a row is no longer in flight."""
        self.return_pledge(job)
        self._open -= 1
        self._wake()

    def release(self) -> None:
        """Make room: the outcome of a row was read, or it has none."""
        self._held -= 1
        self._wake()

    def close(self) -> None:
        """Take no more rows."""
        self._is_closed = True
        self._wake()

    def _wake(self) -> None:
        self._news.set()
        self.on_change()

    async def _change(self, timeout_s: float | None = None) -> None:
        self._news.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._news.wait()
