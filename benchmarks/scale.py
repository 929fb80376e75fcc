"""Say what limits a batch at 10, 100 and 1,000 workers, from costs that are measured here.

Measured, on servers in temporary folders: a transaction of the PostgreSQL journal, alone and with many changes; how
many come through when several processes take turns (`turns`, beside what the simulation in `queueing.py` predicts from
the costs of one process alone); reservations of the shared limit in Redis and PostgreSQL; and the memory of a
connection. `plan` simulates larger fleets with these costs, and a network between workers and servers; `table` has it
in Markdown.

A disk that others use may take a second for one sync. So small and large groups alternate, and times are medians of
many; rates are medians of windows, in which all processes are at work: they wait for each other before they start.
Times from which no costs can follow are an error.
"""

import asyncio
import hashlib
import importlib
import multiprocessing
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from itertools import cycle
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any, Self

import attrs
import orjson
import psycopg

from benchmarks.journal import intent
from benchmarks.progress import progress
from benchmarks.queueing import Commit, JournalSimulation, LimitSimulation
from lemon_async._http.shared_limit.opening import open_store
from lemon_async.batch import open_journal
from lemon_async.batch.journal import Journal
from lemon_async.batch.records import Change, NewRow
from lemon_async.batch.states import Transition

SUPPORT = Path(__file__).parents[1] / "tests" / "support"
WORKERS = (10, 100, 1_000)
RATES_RPM = (10_000, 100_000)
REQUESTS_PER_ROW = 2.2  # as counted in `fleet`
CHANGES_PER_ROW = 3  # intent, task, pictures
PICTURE_MB = 1.5
NETWORK_S = 0.0005  # to a server in the same data centre, and back
SECONDS, QUICK_SECONDS = 4.0, 1.0
WINDOW_S = 0.5
SIMULATED_S, QUICK_SIMULATED_S = 20.0, 4.0
PROCESSES, QUICK_PROCESSES = (1, 2, 4), (1, 4)
SINGLE_LAPS, GROUP_LAPS = 20, 10  # in turn; the first of them waits for changes that the journal lets gather
GROUP = 50
JOURNALS = (1, 2, 4, 8, 16, 32)
SLOT_GOOD_FOR_MS = 200.0  # a slower intent takes another slot of the limit
ACCOUNT = "0123456789abcdef"
PATIENCE_S = 60.0

_barriers: dict[int, Barrier] = {}


def take_barriers(barriers: dict[int, Barrier]) -> None:
    """Keep what the processes of a pool wait at, by their number."""
    _barriers.update(barriers)


class Pool:
    """Processes that do the same thing at the same time."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")  # this process has threads
        barriers = {number: context.Barrier(number) for number in PROCESSES}
        self._pool = ProcessPoolExecutor(max(PROCESSES), context, take_barriers, (barriers,))

    def rate(self, number: int, seconds: float, step: Callable[..., list[float]], *arguments: Any) -> float:
        """Return how often a second a step came to its end in so many processes, the median of all windows."""
        runs = [self._pool.submit(step, number, seconds, f"p{index}", *arguments) for index in range(number)]
        ends = [end for run in runs for end in run.result()]
        began = min(ends)
        windows = Counter(int((end - began) / WINDOW_S) for end in ends)
        return statistics.median(windows[each] for each in range(int(seconds / WINDOW_S))) / WINDOW_S

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()


def write(number: int, seconds: float, name: str, url: str, group: int) -> list[float]:
    """Record groups of changes one after another; return when each was durable."""
    return asyncio.run(_write(number, seconds, name, url, group))


async def _write(number: int, seconds: float, name: str, url: str, group: int) -> list[float]:
    keys = [f"{name}-{index}" for index in range(group)]
    changes = cycle([intent, withdraw])
    async with open_journal(url, create=True) as journal:
        await journal.add([new_row(key) for key in keys])
        _barriers[number].wait(PATIENCE_S)
        ends, ends_at = [], time.perf_counter() + seconds
        while time.perf_counter() < ends_at:
            await lap_s(journal, keys, next(changes))
            ends.append(time.perf_counter())
    return ends


async def lap_s(journal: Journal, keys: list[str], change: Callable[[str], Change]) -> float:
    """Return the seconds until changes that come together are durable."""
    began = time.perf_counter()
    await asyncio.gather(*(journal.record(change(key)) for key in keys))
    return time.perf_counter() - began


async def laps(url: str, seconds: float) -> tuple[float, float]:
    """Return the median time of a change alone, and of a group."""
    keys = [f"row-{index}" for index in range(GROUP)]
    singles, groups = [], []
    ends_at = time.perf_counter() + seconds
    async with open_journal(url, create=True) as journal:
        await journal.add([new_row(key) for key in keys])
        while time.perf_counter() < ends_at:
            singles += [await lap_s(journal, keys[:1], (intent, withdraw)[lap % 2]) for lap in range(SINGLE_LAPS)][1:]
            groups += [await lap_s(journal, keys, (intent, withdraw)[lap % 2]) for lap in range(GROUP_LAPS)][1:]
    return statistics.median(singles), statistics.median(groups)


def fitted(alone_s: float, group_s: float, trip_s: float) -> Commit:
    """Return the costs of a transaction that takes so long with one change and with a group of them.

    Raises:
        RuntimeError: No costs can take these times.
    """
    change_s = (group_s - alone_s) / (GROUP - 1)
    hold_s = alone_s - trip_s - change_s
    if min(change_s, hold_s) < 0:
        times = (
            f"{alone_s * 1e3:.2f} ms for 1 change, {group_s * 1e3:.2f} for {GROUP}, {trip_s * 1e3:.2f} for a round trip"
        )
        raise RuntimeError(f"no transaction costs {times}: the machine was too busy; run it again")
    return Commit(trip_s=trip_s, hold_s=hold_s, change_s=change_s)


def withdraw(key: str) -> Change:
    """Return the change after a request that was not sent."""
    return Change(key=key, transition=Transition.WITHDRAW)


def new_row(key: str) -> NewRow:
    """Return a row like that of a file with a key and a prompt."""
    request = orjson.dumps({"model": "flux-pro", "prompt": f"A product photo of {key} on white", "type": "generate"})
    return NewRow(key, request, b"", hashlib.sha256(request).digest())


def reserve(number: int, seconds: float, _name: str, url: str) -> list[float]:
    """Reserve one slot after another, as a process does whose requests come slowly; return when each was granted."""
    return asyncio.run(_reserve(number, seconds, url))


async def _reserve(number: int, seconds: float, url: str) -> list[float]:
    options: dict[str, Any] = {"account": ACCOUNT, "rpm": 60_000_000, "interval_s": 1e-6, "horizon_s": 60.0}
    store = open_store(url, **options, on_pause=lambda _: None)
    try:
        lease = await store.reserve(1, epoch=None, owed=0)
        _barriers[number].wait(PATIENCE_S)
        ends, ends_at = [], time.perf_counter() + seconds
        while time.perf_counter() < ends_at:
            lease = await store.reserve(1, epoch=lease.epoch, owed=0)
            ends.append(time.perf_counter())
    finally:
        await store.aclose()
    return ends


async def trip(url: str) -> float:
    """Return the seconds of a round trip to the server that asks for nothing."""
    laps = []
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        for _ in range(300):
            began = time.perf_counter()
            await connection.execute("SELECT 1")
            laps.append(time.perf_counter() - began)
    return statistics.median(laps)


def connection_mb(url: str) -> float:
    """Return the memory that the server takes for a connection: that of its process, without what two of them share."""
    with psycopg.connect(url) as other, psycopg.connect(url, autocommit=True) as connection:
        for each in (other, connection):
            each.execute("SELECT count(*) FROM lemon_async.rows")
        row = connection.execute("SELECT pg_backend_pid()").fetchone()
        assert row is not None  # noqa: S101 - it has one
        memory = Path(f"/proc/{row[0]}/smaps_rollup").read_text()
    private = sum(int(line.split()[1]) for line in memory.splitlines() if line.startswith("Private"))
    return private / 1024


def plan(commit: Commit, figures: dict[str, Any], seconds: float) -> list[dict[str, Any]]:
    """Return what a fleet of each size does at each rate, with a network between it and its servers."""
    far = attrs.evolve(commit, trip_s=commit.trip_s + NETWORK_S, hold_s=commit.hold_s + NETWORK_S)
    sizes = [(workers, rpm) for rpm in RATES_RPM for workers in WORKERS]
    return [size(workers, rpm, far, figures, seconds) for workers, rpm in progress("scale, plan", sizes)]


def size(workers: int, rpm: int, commit: Commit, figures: dict[str, Any], seconds: float) -> dict[str, Any]:
    """Return what a fleet of this size does, and the smallest number of journals that keep up."""
    rows_per_s = rpm / 60 / REQUESTS_PER_ROW
    changes_per_s = rows_per_s * CHANGES_PER_ROW
    loads = {
        journals: JournalSimulation(workers // journals, changes_per_s / journals, commit).run(seconds)
        for journals in JOURNALS
        if journals <= workers
    }
    limit = LimitSimulation(workers, rpm, NETWORK_S).run(seconds)
    return {
        "workers": workers,
        "requests_per_minute": rpm,
        "rows_per_s": round(rows_per_s, 1),
        "journal": rounded(attrs.asdict(loads[1])),
        "journals_that_keep_up": next((each for each, load in loads.items() if load.p99_ms < SLOT_GOOD_FOR_MS), None),
        "limit": rounded(attrs.asdict(limit)),
        "redis_busy": round(limit.trips_per_s / figures["redis_reservations_per_s"], 3),
        "postgres_busy": round(limit.trips_per_s / figures["postgres_reservations_per_s"], 3),
        "connections_to_postgres": workers,
        "connections_gb": round(workers * figures["connection_mb"] / 1024, 2),
        "downloads_mbit_per_s": round(rows_per_s * PICTURE_MB * 8),
    }


def table(sizes: list[dict[str, Any]]) -> list[str]:
    """Return the plan in Markdown."""
    lines = [
        "| requests/min | workers | rows/s | 99 of 100 intents | journals needed | reservations/request | downloads |",
        "|---|---|---|---|---|---|---|",
    ]
    for each in sizes:
        wait_ms = each["journal"]["p99_ms"]
        cells = (
            f"{each['requests_per_minute']:,}",
            f"{each['workers']:,}",
            f"{each['rows_per_s']:.0f}",
            f"{wait_ms:.0f} ms" if wait_ms < 1_000 else f"{wait_ms / 1e3:.0f} s",
            str(each["journals_that_keep_up"] or f"more than {max(JOURNALS)}"),
            f"{each['limit']['trips_per_request']:.2g}",
            f"{each['downloads_mbit_per_s'] / 1e3:.1f} Gbit/s",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def costs(postgres: Any, redis: Any, quick: bool) -> tuple[Commit, dict[str, Any]]:
    """Measure everything; return what a transaction costs, and all figures."""
    seconds, url = QUICK_SECONDS if quick else SECONDS, postgres.new_database()
    commit = fitted(*asyncio.run(laps(url, 2 * seconds)), asyncio.run(trip(url)))
    numbers = QUICK_PROCESSES if quick else PROCESSES
    with Pool() as pool:
        turns = [
            turn(pool, commit, number, group, postgres.new_database(), seconds=seconds)
            for number, group in progress(
                "scale, turns", [(number, group) for group in (1, GROUP) for number in numbers]
            )
        ]
        rates = {
            f"{name}_reservations_per_s": round(pool.rate(max(PROCESSES), seconds, reserve, address))
            for name, address in progress("scale, reservations", [("redis", redis.url), ("postgres", url)])
        }
    milliseconds = {
        f"{name.removesuffix('_s')}_ms": round(value * 1e3, 3) for name, value in attrs.asdict(commit).items()
    }
    memory_mb = round(connection_mb(url), 2)
    return commit, {"transaction": milliseconds, "turns": turns, "connection_mb": memory_mb, **rates}


def turn(pool: Pool, commit: Commit, number: int, group: int, url: str, *, seconds: float) -> dict[str, Any]:
    """Return how many transactions of several processes come through, beside the prediction."""
    measured = pool.rate(number, seconds, write, url, group)
    predicted = JournalSimulation(number, None, commit, backlog=group).run(SIMULATED_S)
    return {
        "processes": number,
        "changes_per_group": group,
        "groups_per_s_predicted": round(predicted.groups_per_s),
        "groups_per_s_measured": round(measured),
    }


def run(quick: bool = False) -> dict[str, Any]:
    """Return the measured costs, and the plan."""
    sys.path.append(str(SUPPORT))
    servers, stores = map(importlib.import_module, ("postgres_server", "redis_server"))
    postgres = servers.PostgresServer(fsync=True)
    try:
        with stores.RedisServer() as redis:
            commit, figures = costs(postgres, redis, quick)
    finally:
        postgres.remove()
    sizes = plan(commit, figures, QUICK_SIMULATED_S if quick else SIMULATED_S)
    return {**figures, "plan": sizes, "table": table(sizes)}


def rounded(figures: dict[str, float]) -> dict[str, float]:
    """Return figures with four digits."""
    return {name: float(f"{value:.4g}") for name, value in figures.items()}
