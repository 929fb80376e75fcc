"""Measure the journal of a batch: intents a second, their delay at a low rate, and a million rows.

`intents`: a thousand waiters record intents one after another, of rows that were read before, as a run reads them.
`delay`: one intent every 50 ms; beside each, a thread writes and syncs as many bytes by hand (`disk`). `row`: the CPU
time of the whole process for a row, from being added to being done. A million rows are added in one process; another
one opens the journal, counts, reads the first chunk of new rows, and adds the same rows again, which changes nothing.
The files are in the temporary folder (`TMPDIR`). The same, with 200,000 rows, is measured with a PostgreSQL server that
syncs its commits, if its programs are installed; the bars are those of SQLite.
"""

import asyncio
import hashlib
import importlib
import itertools
import json
import os
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from io import FileIO
from pathlib import Path
from typing import Any

import orjson

from benchmarks.processes import measured
from benchmarks.progress import progress
from lemon_async.batch.journal import Journal
from lemon_async.batch.opening import open_journal
from lemon_async.batch.records import Change, NewRow, SavedPicture
from lemon_async.batch.states import State, Transition

WAITERS = 1_000
INTENTS = 20_000
ROUNDS, QUICK_ROUNDS = 3, 1
DELAYS, QUICK_DELAYS = 300, 50
COMMIT_BYTES = 4 * 4_120  # pages in the log
GAP_S = 0.05
BILLED_ROWS = 10_000
IN_FLIGHT = 100
ROWS, QUICK_ROWS = 1_000_000, 50_000
ROWS_IN_POSTGRES = 200_000
CHUNK = 2_000
BARS = {
    "intents_per_s": ("least", 50_000),
    "delay_p99_ms": ("most", 5.0),
    "row_cpu_us": ("most", 100.0),
    "resume_s": ("most", 10.0),
    "resident_mb": ("most", 200.0),
}


def chunks(number: int) -> Iterator[list[NewRow]]:
    """Yield rows like those of a file with a key, a prompt and two other columns."""
    for first in range(0, number, CHUNK):
        yield [new_row(index) for index in range(first, min(first + CHUNK, number))]


def new_row(index: int) -> NewRow:
    """Return one row, with a key that is not in order."""
    key = f"sku-{index * 7_919 % 1_000_003:07d}"
    request = orjson.dumps(
        {"model": "flux-pro", "prompt": f"A product photo of item {index} on white", "type": "generate"}
    )
    columns = orjson.dumps({"sku": key, "category": f"c{index % 40}"})
    return NewRow(key, request, columns, hashlib.sha256(request + columns).digest())


async def fill(journal: Journal, number: int) -> list[str]:
    """Add rows, and return their keys."""
    keys = []
    for rows in chunks(number):
        await journal.add(rows)
        keys += [row.key for row in rows]
    return keys


def intent(key: str) -> Change:
    """Return the change before a request, under a cap."""
    return Change(key=key, transition=Transition.INTEND, fingerprint="f" * 64, price_usd=0.04, cap_usd=1e6)


async def intents(path: str) -> tuple[float, float]:
    """Return the intents a second of many waiters, and the microseconds of CPU for each."""
    async with open_journal(path, create=True) as journal:
        await fill(journal, INTENTS)
        keys = iter([row.key for row in await journal.rows(State.NEW, limit=INTENTS)])

        async def wait() -> None:
            for key in keys:
                await journal.record(intent(key))

        started, cpu = time.perf_counter(), time.process_time()
        await asyncio.gather(*(wait() for _ in range(WAITERS)))
        return INTENTS / (time.perf_counter() - started), (time.process_time() - cpu) / INTENTS * 1e6


async def delays(folder: str, path: str, number: int) -> tuple[list[float], list[float]]:
    """Return the milliseconds until an intent is durable, at a low rate, and those of the disk alone."""
    found, disk = [], []
    with Path(folder, "by-hand").open("wb", buffering=0) as file:
        async with open_journal(path, create=True) as journal:
            for index, key in enumerate(await fill(journal, number)):
                await asyncio.sleep(GAP_S)
                if index % 2:  # the second sync of two has less to do
                    disk.append(await lap_ms(asyncio.to_thread(sync, file)))
                found.append(await lap_ms(journal.record(intent(key))))
                if not index % 2:
                    disk.append(await lap_ms(asyncio.to_thread(sync, file)))
    return sorted(found), sorted(disk)


async def lap_ms(work: Awaitable[object]) -> float:
    """Return the milliseconds that something takes."""
    started = time.perf_counter()
    await work
    return (time.perf_counter() - started) * 1e3


def sync(file: FileIO) -> None:
    """Append what a commit of one change appends, and wait for the disk."""
    file.write(bytes(COMMIT_BYTES))
    os.fsync(file.fileno())


async def row_cpu(path: str) -> float:
    """Return the microseconds of CPU that a row takes from being added to being done."""
    async with open_journal(path, create=True) as journal:
        started = time.process_time()
        keys = iter(await fill(journal, BILLED_ROWS))

        async def run() -> None:
            for key in keys:
                await journal.record(intent(key))
                await journal.record(Change(key=key, transition=Transition.ACCEPT, task="t" * 120))
                picture = SavedPicture(f"out/{key}.png", 1_000_000, "0" * 64)
                await journal.record(Change(key=key, transition=Transition.SAVE, cost_usd=0.04, pictures=(picture,)))

        await asyncio.gather(*(run() for _ in range(IN_FLIGHT)))
        return (time.process_time() - started) / BILLED_ROWS * 1e6


async def add_all(path: str, number: int) -> dict[str, float]:
    """Add a million rows to a new journal."""
    started = time.perf_counter()
    async with open_journal(path, create=True) as journal:
        await fill(journal, number)
    return {"add_s": time.perf_counter() - started}


async def resume(path: str, number: int) -> dict[str, float]:
    """Open the journal of a million rows as a second run does; the time to make the rows is not counted."""
    laps = {}
    started = time.perf_counter()
    async with open_journal(path) as journal:
        laps["open_s"] = time.perf_counter() - started
        started = time.perf_counter()
        assert (await journal.counts())[State.NEW] == number  # noqa: S101 - otherwise it measures something else
        assert len(await journal.rows(State.NEW)) == 1_000  # noqa: S101 - likewise
        laps["first_chunk_s"] = time.perf_counter() - started
        laps["add_again_s"] = 0.0
        for rows in chunks(number):
            started = time.perf_counter()
            assert not await journal.add(rows)  # noqa: S101 - likewise
            laps["add_again_s"] += time.perf_counter() - started
        started = time.perf_counter()
    laps["close_s"] = time.perf_counter() - started
    return laps | {"resident_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


async def million(path: str, number: int) -> dict[str, float]:
    """Return the figures of a million rows, each step in a process of its own."""
    figures = {**await measured("benchmarks.journal", "add_all", path, str(number))}
    if (file := Path(path)).exists():
        figures["file_mb"] = file.stat().st_size / 1e6
    figures |= await measured("benchmarks.journal", "resume", path, str(number))
    figures["resume_s"] = sum(figures[name] for name in ("open_s", "first_chunk_s", "add_again_s"))
    return {name: round(value, 3) for name, value in figures.items()}


def measure(name: str, folder: str, new_path: Callable[[], str], rows: int, *, quick: bool) -> dict[str, float]:
    """Return the medians for journals at new paths or URLs."""
    rounds, number = (QUICK_ROUNDS, QUICK_DELAYS) if quick else (ROUNDS, DELAYS)
    rates, cpu, waits, disk, large = [], [], [0.0], [0.0], {}
    for part in progress(f"journal, {name}", [*["round"] * rounds, "delays", "rows"]):
        if part == "round":
            rates.append(asyncio.run(intents(new_path())))
            cpu.append(asyncio.run(row_cpu(new_path())))
        elif part == "delays":
            waits, disk = asyncio.run(delays(folder, new_path(), number))
        else:
            large = asyncio.run(million(new_path(), rows))
    return {
        "intents_per_s": round(statistics.median(rate for rate, _ in rates)),
        "intent_cpu_us": round(statistics.median(each for _, each in rates), 1),
        "delay_p50_ms": round(statistics.median(waits), 2),
        "delay_p99_ms": round(waits[number * 99 // 100 - 1], 2),
        "disk_p50_ms": round(statistics.median(disk), 2),
        "disk_p99_ms": round(disk[number * 99 // 100 - 1], 2),
        "row_cpu_us": round(statistics.median(cpu), 1),
        "rows": rows,
        **large,
    }


def measure_postgres(folder: str, quick: bool) -> dict[str, float] | str:
    """Return the same for PostgreSQL with synced commits, or why there is nothing to measure."""
    sys.path.append(str(Path(__file__).parents[1] / "tests" / "support"))
    servers = importlib.import_module("postgres_server")
    if not servers.is_installed():
        return str(servers.MISSING)
    server = servers.PostgresServer(fsync=True)
    try:
        return measure("postgres", folder, server.new_journal, QUICK_ROWS if quick else ROWS_IN_POSTGRES, quick=quick)
    finally:
        server.remove()


def run(quick: bool = False) -> dict[str, Any]:
    """Return the medians, and how those of SQLite compare with the bars."""
    with tempfile.TemporaryDirectory() as folder:
        numbers = itertools.count()
        figures = measure(
            "sqlite",
            folder,
            lambda: str(Path(folder, f"{next(numbers)}.db")),
            QUICK_ROWS if quick else ROWS,
            quick=quick,
        )
        postgres = measure_postgres(folder, quick)
    bars = {
        name: {"value": figures[name], word: bound, "is_met": (figures[name] >= bound) is (word == "least")}
        for name, (word, bound) in BARS.items()
    }
    missed = [name for name, bar in bars.items() if not bar["is_met"]]
    return {**figures, "postgres": postgres, "bars": bars, "missed": missed}


if __name__ == "__main__":
    step = {"add_all": add_all, "resume": resume}[sys.argv[1]]
    print(json.dumps(asyncio.run(step(sys.argv[2], int(sys.argv[3])))))
