"""`run_batch`: the driver of a batch on Ray. The journal shares the rows out; the driver starts workers and watches."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Mapping
from collections.abc import Set as AbstractSet
from typing import Any

import anyio
import attrs

from lemon_async._http.transport import Timeouts
from lemon_async._pace.retry import RetryPolicy
from lemon_async._pace.schedule import PollPolicy
from lemon_async._tasks.progress import Reporter, make_display
from lemon_async.batch.journal import Journal
from lemon_async.batch.opening import open_journal
from lemon_async.batch.prices import PriceOption
from lemon_async.batch.rows.builder import KeyOption
from lemon_async.batch.rows.reader import RowSource
from lemon_async.batch.states import State
from lemon_async.distributed.fleet import Fleet, load_ray
from lemon_async.distributed.options import WorkerOptions
from lemon_async.distributed.summary import BatchSummary, summarise
from lemon_async.errors import ContractError
from lemon_async.session import LemonSession
from lemon_async.types import Progress, ProgressOption, StopOn

__all__ = ["run_batch"]

_LOOK_S = 1.0
_NO_KEY = "the-driver-sends-nothing"  # a session needs a key, and this one only checks rows


async def run_batch(
    rows: RowSource | None = None,
    *,
    journal: str,
    save: str | None = None,
    key: KeyOption = None,
    workers: int = 4,
    in_flight: int = 100,
    attempts: int = 3,
    budget_usd: float | None = None,
    price_usd: PriceOption = None,
    provenance: bool = False,
    check_contracts: bool | None = None,
    stop_on: StopOn = "account",
    base_url: str | None = None,
    allow_http: AbstractSet[str] = frozenset(),
    polling: PollPolicy = PollPolicy(),
    retry: RetryPolicy = RetryPolicy(),
    timeouts: Timeouts = Timeouts(),
    requests_per_minute: int | None = None,
    shared_limit: str | None = None,
    max_submits: int = 100,
    max_polls: int = 10,
    max_downloads: int = 8,
    actor_options: Mapping[str, Any] | None = None,
    start_s: float = 300.0,
    progress: ProgressOption = False,
    **fields: Any,
) -> BatchSummary:
    """Buy rows at most once, on many workers, and save their pictures. Spends money, once for each row.

    Adds the rows to the journal, starts the workers as Ray actors, checks that each of them has the key, sees the
    folder and reaches journal and shared limit, and only then lets them buy. A worker that dies is started again;
    its rows go to the others, and those whose request was being sent are `doubtful`. Run it again to continue.

    Uses the Ray that the program has connected to, or else calls `ray.init()`, and `ray.shutdown()` at the end.
    The workers take the key from their environment variable `LEMONDATA_API_KEY`; the driver needs none.

    Cancelling stops all workers within bounds (see `Batch.aclose`), and buys nothing more. If the driver dies, Ray
    stops them. Both leave a journal with which a further call continues.

    Args:
        rows: As for `LemonSession.batch`; without it, the batch continues with the rows of the journal.
        journal: The URL of a PostgreSQL database, `postgresql://host/database`. Give its password in the environment
            (`PGPASSWORD`) or a password file of the workers.
        save: As for `LemonSession.batch`, in a folder that all workers share.
        key: As for `LemonSession.batch`.
        workers: Number of processes.
        in_flight: Maximum number of rows in flight of each worker.
        attempts: As for `LemonSession.batch`, as are `budget_usd`, `price_usd`, `provenance`, `check_contracts` and
            `stop_on`.
        budget_usd: Limit of all spending of the journal, over all workers.
        price_usd: Prices; a function is pickled.
        provenance: Write into the files where they come from.
        check_contracts: Validate requests before spending money.
        stop_on: After which error a worker buys nothing more; then the others do not, either.
        base_url: As for `LemonSession`, as are all options that follow; the driver's default is that of the workers.
        allow_http: Hosts without `https`.
        polling: How pending tasks are polled.
        retry: When a request is sent again.
        timeouts: Time limits.
        requests_per_minute: The rate limit of the account; with `shared_limit` that of all workers together, and
            otherwise that of each.
        shared_limit: Where the workers share it.
        max_submits: Of each worker, as are `max_polls` and `max_downloads`.
        max_polls: Concurrent polls.
        max_downloads: Concurrent downloads.
        actor_options: Options of Ray for each worker, such as `num_cpus`, `resources` or `runtime_env`.
        start_s: How long the workers may take to start, as in a cluster that grows.
        progress: As for `LemonSession.generate`, for the rows of the journal.
        **fields: Fields of every request that has no such column, as for `LemonSession.batch`.

    Raises:
        ContractError: An argument or a row is invalid, or a worker lacks key or folder; nothing was sent.
        BatchPaused: The budget, the account or refusals have stopped a worker, and with it the batch.
        JournalError: The journal cannot be used. Errors of a worker name its machine.
        SessionError: The workers have not started in time.
        ImportError: Ray is not installed.
    """
    load_ray()
    _check_workers(workers)
    session = {
        "base_url": base_url,
        "allow_http": allow_http,
        "polling": polling,
        "retry": retry,
        "timeouts": timeouts,
        "requests_per_minute": requests_per_minute,
        "shared_limit": shared_limit,
        "max_submits": max_submits,
        "max_polls": max_polls,
        "max_downloads": max_downloads,
    }
    batch = {
        "in_flight": in_flight,
        "attempts": attempts,
        "budget_usd": budget_usd,
        "price_usd": price_usd,
        "provenance": provenance,
        "check_contracts": check_contracts,
        "stop_on": stop_on,
    }
    options = WorkerOptions.of(journal, session, batch, fields)
    display = make_display(progress)
    began_at = time.monotonic()
    base_url = await _add(options, rows, key, save)
    options = attrs.evolve(options, session={**options.session, "base_url": base_url})
    stop_s = 8 * timeouts.close_s + 2 * timeouts.download_s
    fleet = Fleet(options=options, workers=workers, actor_options=actor_options or {}, start_s=start_s, stop_s=stop_s)
    async with open_journal(journal, base_url=base_url) as opened:
        watch = _Watch(opened, fleet)
        with contextlib.closing(Reporter(display, lambda: watch.progress)) as reporter:
            await _run(fleet, watch.look(reporter))
            await watch.refresh()
        seconds = time.monotonic() - began_at
        return await summarise(opened, workers=workers, restarts=fleet.restarts, seconds=seconds)


def _check_workers(workers: object) -> None:
    if not isinstance(workers, int) or isinstance(workers, bool) or workers < 1:
        raise ContractError.of("workers", f"must be a whole number from 1, not {workers!r:.80}", undone="started")


async def _add(options: WorkerOptions, rows: RowSource | None, key: KeyOption, save: str | None) -> str:
    """Check the rows, and add them to the journal; return the address of the service."""
    session = {name: value for name, value in options.session.items() if name != "shared_limit"}
    async with LemonSession(_NO_KEY, **session) as lemon:
        await lemon.batch(options.journal, rows, key=key, save=save, **options.batch).add()
        return lemon.base_url


async def _run(fleet: Fleet, looking: Awaitable[None]) -> None:
    """Start the workers, let them run to their end, and stop them."""
    watching = asyncio.ensure_future(looking)
    running = asyncio.ensure_future(_run_in_ray(fleet))
    try:
        await asyncio.wait([running, watching], return_when=asyncio.FIRST_COMPLETED)
        for task in (watching, running):
            if task.done():
                task.result()
    finally:
        watching.cancel()
        running.cancel()
        with anyio.CancelScope(shield=True):
            await asyncio.wait([running, watching])
        _ = [task.cancelled() or task.exception() for task in (running, watching)]  # or else they are logged


async def _run_in_ray(fleet: Fleet) -> None:
    async with _started_ray():
        try:
            await fleet.start()
            await fleet.run()
        finally:
            stopping = asyncio.ensure_future(fleet.stop())
            with anyio.CancelScope(shield=True):
                await asyncio.shield(stopping)


@contextlib.asynccontextmanager
async def _started_ray() -> AsyncIterator[None]:
    """Connect to Ray unless the program has, and disconnect at the end what was connected here."""
    ray = load_ray()
    if ray.is_initialized():
        yield
        return
    starting = asyncio.ensure_future(asyncio.to_thread(ray.init))
    try:
        await asyncio.shield(starting)
        yield
    finally:
        with anyio.CancelScope(shield=True):
            await asyncio.wait([starting])  # what begins to start cannot be stopped yet
            await asyncio.to_thread(ray.shutdown)


class _Watch:
    """The counts of the journal, while workers change them."""

    def __init__(self, journal: Journal, fleet: Fleet) -> None:
        self._journal = journal
        self._fleet = fleet
        self._began_at = time.monotonic()
        self._counts: Mapping[State, int] = {}
        self._closed_before = self._failed_before = 0

    @property
    def progress(self) -> Progress:
        """The rows of the journal that were open when this call began, as far as it is known."""
        return Progress(
            total=sum(self._counts.values()) - self._closed_before,
            done=self._closed - self._closed_before,
            failed=self._closed - self._counts.get(State.DONE, 0) - self._failed_before,
            in_flight=self._counts.get(State.SOLD, 0),
            submitting=self._counts.get(State.INTENT, 0),
            seconds=time.monotonic() - self._began_at,
        )

    @property
    def _closed(self) -> int:
        return sum(count for state, count in self._counts.items() if not state.is_open)

    async def look(self, reporter: Reporter) -> None:
        """Look at the journal about once a second."""
        await self.refresh()
        self._closed_before = self._closed
        self._failed_before = self._closed - self._counts.get(State.DONE, 0)
        while True:
            reporter.changed()
            await asyncio.sleep(_LOOK_S)
            before = self._closed
            await self.refresh()
            if self._closed != before:
                self._fleet.progressed()

    async def refresh(self) -> None:
        """Look at the journal."""
        self._counts = await self._journal.counts()
