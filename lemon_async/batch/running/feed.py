"""The rows of a run, in the order in which a map takes them: those that are sold already are resumed on the way.

    room      fewer than `in_flight` rows are between being taken and their outcome being read
    order     rows that are sold; rows to repeat; rows that are new
    budget    a row that does not fit waits while rows in flight may still cost less or fail, and else stops the run
    end       when no row is left, and none in flight could still have to be repeated

Each row is taken once, however long the run: rows are read from the journal by their numbers, in chunks, and a row that
an earlier chunk cannot have held is left out of the later one if it was repeated meanwhile.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Self

import attrs

from lemon_async.batch.journal import Journal
from lemon_async.batch.outcome import BatchOutcome
from lemon_async.batch.records import JournalRow
from lemon_async.batch.rows.builder import columns_of, request_of
from lemon_async.batch.running.account import Account, facts_of
from lemon_async.batch.states import State
from lemon_async.batch.store.ledger import RowFacts
from lemon_async.requests import Request

__all__ = ["Feed", "Job"]

_CHUNK = 500


@attrs.define(eq=False)
class Job:
    """A row in flight.

    Attributes:
        facts: What changes of it.
        request: Its request.
        columns: The other columns.
        price_usd: What to reserve for it, or what was reserved for a row that is sold.
        token: The token of its task, if it was sold in an earlier run.
        is_pledged: Whether its price is set aside.
    """

    facts: RowFacts
    request: Request
    columns: Mapping[str, Any]
    price_usd: float | None = None
    token: str | None = None
    is_pledged: bool = False

    @classmethod
    def of(cls, row: JournalRow) -> Self:
        """Return the job of a row."""
        return cls(facts_of(row), request_of(row), columns_of(row), row.price_usd, row.task)

    @property
    def key(self) -> str:
        """The key of the row."""
        return self.facts.key

    @property
    def state(self) -> State:
        """Its state in the journal."""
        return self.facts.state

    def outcome(self, **facts: Any) -> BatchOutcome:
        """Return its outcome."""
        return BatchOutcome(
            key=self.key,
            status=self.state,
            request=self.request,
            columns=self.columns,
            attempt=self.facts.attempt,
            price_usd=self.price_usd,
            **facts,
        )


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
        on_full: Called when no row fits into the budget any more, or with a row that has no price.
        on_change: Called when counts have changed.

    Attributes:
        jobs: The rows that were handed out and are not accepted, by their position in the input of the map.
    """

    journal: Journal
    account: Account
    in_flight: int
    price_of: Callable[[Request], float | None]
    is_capped: bool
    resume: Callable[[Job], None]
    on_full: Callable[[Job], object]
    on_change: Callable[[], None]
    jobs: dict[int, Job] = attrs.field(factory=dict[int, Job], init=False)
    _open: int = attrs.field(default=0, init=False)
    _held: int = attrs.field(default=0, init=False)
    _taken: int = attrs.field(default=0, init=False)
    _rows: deque[JournalRow] = attrs.field(factory=deque[JournalRow], init=False)
    _repeats: deque[Job] = attrs.field(factory=deque[Job], init=False)
    _repeated: set[int] = attrs.field(factory=set[int], init=False)
    _phases: list[State] = attrs.field(factory=lambda: [State.SOLD, State.NEW], init=False)
    _last: int = attrs.field(default=-1, init=False)
    _is_closed: bool = attrs.field(default=False, init=False)
    _news: asyncio.Event = attrs.field(factory=asyncio.Event, init=False)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Request:
        """Return the next request, for the map.

        Raises:
            StopAsyncIteration: There is none, or the feed was closed.
            JournalError: The rows cannot be read.
        """
        while True:
            while self._held >= self.in_flight and not self._is_closed:
                await self._change()
            job = await self._next_job()
            if job is None:
                if not self._open or self._is_closed:
                    raise StopAsyncIteration
                await self._change()
            elif job.state is State.SOLD:
                self._begin()
                self.resume(job)
            elif await self._fits(job):
                self._begin()
                self.pledge(job)
                self.jobs[self._taken] = job
                self._taken += 1
                return job.request

    async def _next_job(self) -> Job | None:
        """Return the next row, or `None` if there is none now."""
        while not self._is_closed:
            if self._repeats:
                return self._priced(self._repeats.popleft())
            if self._rows:
                row = self._rows.popleft()
                if row.number not in self._repeated:
                    job = Job.of(row)
                    return job if job.state is State.SOLD else self._priced(job)
            elif self._phases:
                await self._read()
            else:
                return None
        return None

    def _priced(self, job: Job) -> Job:
        job.price_usd = self.price_of(job.request)
        return job

    async def _read(self) -> None:
        rows = await self.journal.rows(self._phases[0], after=self._last, limit=_CHUNK)
        if rows:
            self._last = rows[-1].number
            self._rows.extend(rows)
        else:
            self._phases.pop(0)
            self._last = -1 if self._phases else self._last

    async def _fits(self, job: Job) -> bool:
        """Wait until a row fits into the budget; return false if it never will in this run."""
        while not self._is_closed and not (self.is_capped and job.price_usd is None):
            if self.account.fits(job.price_usd):
                return True
            if not self._open:
                break
            await self._change()
        if not self._is_closed:
            self.on_full(job)
            self.close()
        return False

    def _begin(self) -> None:
        self._open += 1
        self._held += 1
        self.on_change()

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
        if self._phases and (self._phases[0] is State.SOLD or job.facts.number > self._last):
            self._repeated.add(job.facts.number)
        job.token = None
        self._repeats.append(job)
        self.release()

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

    async def _change(self) -> None:
        self._news.clear()
        await self._news.wait()
