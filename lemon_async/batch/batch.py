"""`Batch`: the rows of a journal as a loop over their outcomes. `runner.py` does the work."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from os import PathLike
from types import TracebackType
from typing import Self

import anyio

from lemon_async._images.images import Images
from lemon_async.batch.journal import Journal
from lemon_async.batch.outcome import BatchOutcome
from lemon_async.batch.plan import Plan, make_plan
from lemon_async.batch.prices import Prices, cost_in, no_price
from lemon_async.batch.records import JournalRow, Spending
from lemon_async.batch.rows.reader import RowReader, RowSource
from lemon_async.batch.running.account import Account
from lemon_async.batch.running.feed import Feed
from lemon_async.batch.running.intake import add_rows, check_rows, keys_of, learn_prices
from lemon_async.batch.running.job import Job
from lemon_async.batch.running.journal_source import JournalSource
from lemon_async.batch.running.options import BatchOptions
from lemon_async.batch.running.pause import describe_pause
from lemon_async.batch.running.runner import Runner, Session
from lemon_async.batch.running.saving import Saver
from lemon_async.batch.states import State
from lemon_async.batch.watching.summary import note_budget
from lemon_async.errors import BatchPaused, ContractError, JournalError, SessionError
from lemon_async.requests import Request
from lemon_async.types import Problem, Progress

__all__ = ["Batch"]


class Batch:
    """Rows that are bought at most once: `async with session.batch(...) as batch: async for outcome in batch`.

    Leaving the block buys nothing more; rows that are sold are resumed when the same batch runs again. Any number of
    coroutines may read; each outcome goes to one of them.
    """

    def __init__(
        self,
        session: Session,
        journal: str | PathLike[str] | Journal,
        rows: RowSource | None,
        options: BatchOptions,
    ) -> None:
        options.check(has_rows=rows is not None)
        self._session = session
        self._source = JournalSource(journal, session.base_url)
        self._options = options
        self._prices = Prices(options.price_usd)
        self._reader = None if rows is None else self._make_reader(rows)
        self._stack = AsyncExitStack()
        self._journal: Journal | None = None
        self._account = Account({}, Spending())
        self._runner: Runner | None = None
        self._task: asyncio.Task[None] | None = None
        self._closing: asyncio.Task[None] | None = None
        self._failure: Exception | None = None
        self._ready: deque[BatchOutcome] = deque()
        self._news = asyncio.Event()
        self._reporter = options.reporter(lambda: self.progress)
        self._events = options.events_of(self._source.name)
        self._total = self._done = self._failed = 0
        self._began_at: float | None = None
        self._ended_at: float | None = None
        self._is_entered = self._is_over = self._is_left = False

    def _make_reader(self, rows: RowSource) -> RowReader:
        options = self._options
        return RowReader(rows, validate=self._problems_of, key=options.key, fields=options.fields)

    def _problems_of(self, request: Request) -> Sequence[Problem]:
        """Return the problems of a request; under a cap, a row without a price is one."""
        problems = [*self._options.validate(request)]
        if self._options.budget_usd is not None and self._prices.to_reserve(request) is None:
            problems.append(no_price(request))
        return problems

    # State

    @property
    def counts(self) -> Mapping[State, int]:
        """The number of rows in every state; all zero before the block is entered."""
        return self._account.counts

    @property
    def spending(self) -> Spending:
        """The sums of money over all runs of the journal."""
        return self._account.spending

    @property
    def progress(self) -> Progress:
        """The current counts of this run; `total` is the number of rows that it had to do, at most."""
        runner = self._runner
        seconds = 0.0 if self._began_at is None else (self._ended_at or time.monotonic()) - self._began_at
        return Progress(
            total=self._total if self._is_entered else None,
            done=self._done,
            failed=self._failed,
            in_flight=runner.followed if runner else 0,
            submitting=len(runner.feed.jobs) if runner else 0,
            seconds=seconds,
        )

    async def doubtful(self) -> Sequence[JournalRow]:
        """Return the rows that may have been sold, at most 1,000; spends nothing, and may be cancelled.

        Only inside the block; before and after it, use `open_journal`.
        """
        return await self._opened().rows(State.DOUBTFUL)

    async def dead(self) -> Sequence[JournalRow]:
        """Return the rows that are given up, at most 1,000; spends nothing, and may be cancelled.

        Only inside the block, as `doubtful`.
        """
        return await self._opened().rows(State.DEAD)

    async def plan(self) -> Plan:
        """Return what the batch would do. Only before the block; writes nothing and spends nothing.

        Rows are read once, for the plan and the block together. Cancelling ends the reading.

        Raises:
            ContractError: The rows cannot be read at all.
            JournalError: The journal cannot be read.
            SessionError: The batch was entered before.
        """
        if self._is_entered:
            raise SessionError(message="plan the batch before entering it")
        async with self._source.opened(create=False) as journal:
            if journal is not None:
                await learn_prices(journal, self._prices)
            return await make_plan(self._reader, journal, self._options.price_usd)

    async def add(self) -> int:
        """Read and check all rows, add them to the journal, and return how many are new. Only before the block.

        Spends nothing: a later run buys them, perhaps in other processes. Entering the block adds rows, too.
        Cancelling leaves the rows in the journal that were added.

        Raises:
            ContractError: Of the rows or the file template; nothing was added.
            JournalError: The journal cannot be used.
            SessionError: The batch was entered before.
        """
        if self._is_entered:
            raise SessionError(message="add the rows before entering the batch, which does it by itself")
        async with self._source_opened() as journal:
            await learn_prices(journal, self._prices)
            _, added = await add_rows(journal, self._reader, self._options.save)
        return added

    @asynccontextmanager
    async def _source_opened(self) -> AsyncGenerator[Journal, None]:
        """Open the journal; check the rows first if a file would be made for them."""
        if self._reader is not None and await self._source.is_missing():
            await check_rows(self._reader, self._options.save)
        async with self._source.opened(create=self._reader is not None) as journal:
            if journal is None:
                raise self._source.nothing()
            yield journal

    def _opened(self) -> Journal:
        if self._journal is None or self._is_left:
            words = "the batch is not open: use this inside its block, or open_journal() before and after it"
            raise SessionError(message=words)
        return self._journal

    # The block

    async def __aenter__(self) -> Self:
        """Read and check all rows, add them to the journal, and begin to buy.

        Spends money from its end on, while outcomes are read. Cancelling it closes the batch; rows that were added stay
        in the journal.

        Raises:
            ContractError: Of the rows or the file template; nothing was added or sent.
            JournalError: The journal cannot be used; nothing was sent.
            SessionError: The batch was entered before.
        """
        if self._is_entered:
            raise SessionError(message="a batch runs once: call session.batch(...) again to continue from its journal")
        self._is_entered = True
        try:
            await self._open()
        except BaseException:
            await self.aclose()
            raise
        return self

    async def _open(self) -> None:
        options = self._options
        journal = self._journal = await self._stack.enter_async_context(self._source_opened())
        await learn_prices(journal, self._prices)
        save, _ = await add_rows(journal, self._reader, options.save)
        await note_budget(journal, options.budget_usd)
        keys = await keys_of(self._reader) if options.only_given and self._reader else None
        counts = await journal.counts()
        self._account = Account(counts, await journal.spending(), options.budget_usd)
        rows_open = sum(count for state, count in counts.items() if state.is_open)
        self._total = rows_open if keys is None else min(rows_open, len(keys))
        self._runner = self._make_runner(journal, save, keys)
        self._began_at = time.monotonic()
        map_options = {
            "in_flight": options.in_flight,
            "stop_on": options.stop_on,
            "check_contracts": options.check_contracts,
        }
        work = self._runner.run(**map_options)
        self._task = asyncio.get_running_loop().create_task(work, name="lemon_async batch")
        self._task.add_done_callback(self._ended)
        self._reporter.changed()
        if self._events is not None:
            self._events.opened(counts)

    def _make_runner(self, journal: Journal, save: str, keys: Sequence[str] | None) -> Runner:
        options = self._options
        saver = Saver(save, journal.folder, journal.owner_of, options.provenance)
        runner = Runner(
            session=self._session,
            journal=journal,
            account=self._account,
            saver=saver,
            attempts=options.attempts,
            cap_usd=options.budget_usd,
            close_s=options.close_s,
            save_s=options.save_s,
            cost_of=self._cost_of,
            deliver=self._deliver,
            events=self._events,
        )
        runner.feed = Feed(
            journal=journal,
            account=self._account,
            in_flight=options.in_flight,
            price_of=self._prices.to_reserve,
            is_capped=options.budget_usd is not None,
            resume=runner.resume,
            settle=runner.settle,
            on_full=partial(self._full, runner),
            on_change=self._reporter.changed,
            keys=keys,
            look_s=options.look_s,
            patience_s=options.patience_s,
        )
        return runner

    def _cost_of(self, job: Job, images: Images) -> float | None:
        cost = cost_in(images.billing.headers)
        self._prices.learn(job.request, len(images), cost)
        return cost

    def _full(self, runner: Runner, job: Job) -> None:
        """Stop: the next row has no price, or does not fit into the budget."""
        if job.price_usd is None:
            runner.stop(ContractError(problems=(no_price(job.request),)))
        else:
            runner.pause(f"the budget is used up: the next row, {job.key}, costs ${job.price_usd:.4g}")

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Buy nothing more, and close the journal; may be called again.

        Waits at most a few times `Timeouts.close_s` for responses to paid requests and for pictures that are being
        saved, and `Timeouts.download_s` for those of inline responses, which no later run could fetch. Tasks that have
        not ended stay in the journal, and are resumed when the batch runs again. Spends nothing more. Cancelling stops
        the waiting; the closing continues.

        Raises:
            JournalError: The last changes could not be recorded, and no outcome has said so.
        """
        if not self._is_entered:
            return
        self._is_left = True
        if self._closing is None:
            self._closing = asyncio.get_running_loop().create_task(self._close(), name="lemon_async batch")
            self._closing.add_done_callback(lambda closing: closing.cancelled() or closing.exception())
        # In a cancelled scope of anyio every await is cancelled: without the shield, responses due would be lost.
        with anyio.CancelScope(shield=True):
            await asyncio.shield(self._closing)

    async def _close(self) -> None:
        try:
            await self._end_run()
        finally:
            await self._release()

    async def _end_run(self) -> None:
        if self._task is None or self._runner is None or self._task.done():
            return
        self._runner.leave()
        for _ in range(2):
            await asyncio.wait([self._task], timeout=4 * self._options.close_s + self._options.save_s)
            self._task.cancel()

    async def _release(self) -> None:
        """Close the journal, and what else is open."""
        self._ended_at = self._ended_at or time.monotonic()
        self._reporter.close()
        if self._reader is not None:
            self._reader.close()
        if self._journal is not None:
            # What was recorded while its waiter was cancelled; a disk may hang.
            with suppress(JournalError, TimeoutError):
                async with asyncio.timeout(self._options.close_s):
                    if self._runner is not None:  # it may have been cancelled
                        await self._journal.release(self._runner.feed.run)
                    self._account = Account(await self._journal.counts(), await self._journal.spending())
        self._is_over = True
        self._news.set()
        if self._events is not None and self._runner is not None:
            self._events.closed(self.counts)
        await self._stack.aclose()

    # The loop

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> BatchOutcome:
        """Wait for the next outcome.

        Spends nothing itself, but lets the next row be bought. Cancelling ends this wait only; nothing is lost.

        Raises:
            BatchPaused: After the last outcome: the budget, the account or refusals have stopped the batch.
            JournalError: Likewise: the journal cannot be written.
            SessionError: The block was not entered, or the session was closed.
        """
        while not self._ready:
            if not self._is_entered:
                raise SessionError(message="enter the batch first: async with session.batch(...) as batch")
            if self._is_over:
                raise self._failure or StopAsyncIteration  # in every reader
            self._news.clear()
            await self._news.wait()
        if self._runner is not None:
            self._runner.feed.release()
        return self._ready.popleft()

    def _deliver(self, outcome: BatchOutcome) -> None:
        self._done += 1
        self._failed += outcome.error is not None
        self._ready.append(outcome)
        self._reporter.changed()
        self._news.set()

    def _ended(self, task: "asyncio.Task[None]") -> None:
        """Let the readers end, with what has stopped the run."""
        failure: BaseException | None = self._runner.failure if self._runner else None
        if task.cancelled():
            words = "the batch was cancelled by the program; run it again to continue"
            failure = failure or (None if self._is_left else SessionError(message=words))
        else:
            failure = failure or task.exception()
        if isinstance(failure, BatchPaused):
            failure = self._explained(failure)
        if isinstance(failure, StopAsyncIteration) or not isinstance(failure, Exception | None):
            failure = RuntimeError(f"the batch has failed: {failure!r}")
        self._failure = failure
        self._is_over = True
        self._ended_at = time.monotonic()
        self._reporter.changed()
        self._news.set()

    def _explained(self, failure: BatchPaused) -> BatchPaused:
        cause = failure.__cause__
        words = describe_pause(
            failure.message, self.counts, self.spending, cause=cause, cap_usd=self._options.budget_usd
        )
        explained = BatchPaused(message=words)
        explained.__cause__ = cause
        return explained

    def __repr__(self) -> str:
        state = (
            "not entered" if not self._is_entered
            else "left" if self._is_left
            else "over" if self._is_over
            else "running" if self._task
            else "reading rows"
        )  # fmt: skip
        counts = ", ".join(f"{count:,} {state}" for state, count in self.counts.items() if count)
        return f"<Batch {self._source.name!r} {state}{f' | {counts}' if counts else ''}>"
