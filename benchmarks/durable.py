"""Measure what durability costs: the CPU of a batch, and the start of a large one.

`cpu`: 1,000 jobs with `LemonSession.batch`, and with `map` and `save` by as many readers as rows may be in flight.
Every measurement runs in a new process, the service in another; both clients of a round have the same service, and
ratios are taken within a round.
`start`: 1,000,000 rows from a CSV file, of which all but the last hundred are then marked as done: seconds and peak
memory from opening the journal to the first outcome, in a new process that reads the same file. Reads `/proc`, so Linux
only.
"""

import asyncio
import csv
import json
import sqlite3
import statistics
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from benchmarks.cdn import KINDS, linked
from benchmarks.edit_memory import resident_mb
from benchmarks.processes import measured
from benchmarks.progress import progress
from lemon_async import LemonSession, Outcomes
from lemon_async.batch import State, open_journal

ROUNDS, QUICK_ROUNDS = 3, 1
JOBS, QUICK_JOBS = 1_000, 300
WARM_UP_JOBS = 200
PICTURE_BYTES = 2_000
IN_FLIGHT = 100
ROWS, QUICK_ROWS = 1_000_000, 20_000
ROWS_LEFT = 100
BAR_RATIO = 1.3
BAR_START_S = 10.0
BAR_START_MB = 200.0
KEY = "sk-benchmark-0123456789"
RPM = 1_000_000  # no limit in practice: this does not measure pacing
MODEL = "dall-e-3"
MARK_DONE = (
    "UPDATE rows SET state = 'done', attempt = 1, task = 'lemon1.token', fingerprint = hex(zeroblob(32)) "
    "WHERE number <= (SELECT max(number) FROM rows) - ?"
)
ADD_PICTURES = (
    "INSERT OR IGNORE INTO pictures SELECT number, 0, 'a' || number || '.png', 1, hex(zeroblob(32)) FROM rows "
    "WHERE state = 'done'"
)


async def map_and_save(lemon: LemonSession, folder: Path, jobs: int) -> None:
    """Buy and save pictures without a journal."""

    async def save(outcomes: Outcomes) -> None:
        async for outcome in outcomes:
            if outcome.images is None:
                raise RuntimeError(f"no picture: {outcome.error}")
            await outcome.images.save(folder, str(outcome.index))

    prompts = [f"cat {number}" for number in range(jobs)]
    async with lemon.map(prompts, model=MODEL, in_flight=IN_FLIGHT) as outcomes, asyncio.TaskGroup() as group:
        for _ in range(IN_FLIGHT):
            group.create_task(save(outcomes))


async def batch(lemon: LemonSession, folder: Path, jobs: int) -> None:
    """Buy and save pictures with a journal."""
    prompts = [f"cat {number}" for number in range(jobs)]
    journal = folder / "run.db"
    async with lemon.batch(journal, prompts, save=str(folder / "{key}"), model=MODEL, in_flight=IN_FLIGHT) as rows:
        done = [outcome.status async for outcome in rows].count(State.DONE)
    if done != jobs:
        raise RuntimeError(f"{done} of {jobs} rows are done")


CLIENTS = {"map_and_save": map_and_save, "batch": batch}


async def measure(client: str, base_url: str, number: str) -> dict[str, Any]:
    """Return the CPU of a client in this process, per job."""
    jobs = int(number)
    async with LemonSession(KEY, base_url=base_url, requests_per_minute=RPM) as lemon:
        with tempfile.TemporaryDirectory() as name:
            await CLIENTS[client](lemon, Path(name), WARM_UP_JOBS)
        with tempfile.TemporaryDirectory() as name:
            started, cpu = time.monotonic(), time.process_time()
            await CLIENTS[client](lemon, Path(name), jobs)
            seconds, cpu_s = time.monotonic() - started, time.process_time() - cpu
    return {"us_per_job": cpu_s / jobs * 1e6, "jobs_per_s": jobs / seconds}


async def play_round(number: int, kind: str, jobs: int) -> dict[str, dict[str, Any]]:
    """Return the figures of both clients; their order changes from round to round."""
    async with linked(PICTURE_BYTES, kind) as base_url:
        names = list(CLIENTS)[:: 1 if number % 2 else -1]
        return {name: await measured("benchmarks.durable", "measure", name, base_url, str(jobs)) for name in names}


def compare(kind: str, rounds: int, jobs: int) -> dict[str, Any]:
    """Return the CPU per job of both clients, and their ratio."""
    measures = [asyncio.run(play_round(number, kind, jobs)) for number in progress(f"durable, {kind}", range(rounds))]
    ratios = [each["batch"]["us_per_job"] / each["map_and_save"]["us_per_job"] for each in measures]
    clients = {
        name: {
            figure: round(statistics.median(each[name][figure] for each in measures)) for figure in measures[0][name]
        }
        for name in CLIENTS
    }
    return {**clients, "ratio": round(statistics.median(ratios), 3), "ratios": [round(each, 3) for each in ratios]}


def write_rows(path: Path, number: int) -> None:
    """Write the rows of a list of products."""
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["sku", "category", "prompt", "size"])
        rows.writerows([f"sku-{n}", f"c{n % 2}", f"product {n} on a table", "1024x1024"] for n in range(number))


async def fill(base_url: str, folder: str) -> dict[str, Any]:
    """Add all rows to a journal by a batch that is left at its first outcome, and mark all but the last as done."""
    started = time.monotonic()
    await first_outcome(base_url, Path(folder))
    seconds = time.monotonic() - started
    with closing(sqlite3.connect(Path(folder) / "run.db")) as journal, journal:  # to record the changes takes minutes
        journal.execute(MARK_DONE, (ROWS_LEFT,))
        journal.execute(ADD_PICTURES)
    async with open_journal(Path(folder) / "run.db") as opened:
        counts = await opened.counts()
    return {"seconds_to_the_first_outcome": round(seconds, 2), "done": counts[State.DONE]}


async def first_outcome(base_url: str, folder: Path) -> None:
    """Run the batch until its first outcome."""
    async with (
        LemonSession(KEY, base_url=base_url, requests_per_minute=RPM) as lemon,
        lemon.batch(
            folder / "run.db",
            folder / "rows.csv",
            key="sku",
            save=f"{folder}/{{category}}/{{key}}",
            model=MODEL,
            in_flight=10,
        ) as rows,
    ):
        async for _ in rows:
            break


async def resume(base_url: str, folder: str) -> dict[str, Any]:
    """Return the seconds to the first outcome, and the peak of the resident size."""
    started = time.monotonic()
    await first_outcome(base_url, Path(folder))
    return {"seconds": round(time.monotonic() - started, 2), "peak_mb": round(resident_mb("VmHWM"), 1)}


async def start(rows: int) -> dict[str, Any]:
    """Fill a journal in one process, and resume it in another."""
    found: dict[str, Any] = {"rows": rows}
    with tempfile.TemporaryDirectory() as folder:
        write_rows(Path(folder) / "rows.csv", rows)
        async with linked(PICTURE_BYTES) as base_url:
            for name in progress("durable, start", ["fill", "resume"]):
                found[name] = await measured("benchmarks.durable", name, base_url, folder)
    return found


def run(quick: bool = False) -> dict[str, Any]:
    """Return the figures of both parts, and which bars they miss."""
    rounds, jobs = (QUICK_ROUNDS, QUICK_JOBS) if quick else (ROUNDS, JOBS)
    cpu = {kind: compare(kind, rounds, jobs) for kind in KINDS}
    started = asyncio.run(start(QUICK_ROWS if quick else ROWS))
    bars = {
        "cpu_ratio": {"value": max(each["ratio"] for each in cpu.values()), "most": BAR_RATIO},
        "start_s": {"value": started["resume"]["seconds"], "most": BAR_START_S},
        "start_mb": {"value": started["resume"]["peak_mb"], "most": BAR_START_MB},
    }
    for bar in bars.values():
        bar["is_met"] = bar["value"] <= bar["most"]
    return {
        "jobs": jobs,
        "rounds": rounds,
        "cpu": cpu,
        "start": started,
        "bars": bars,
        "missed": [name for name, bar in bars.items() if not bar["is_met"]],
    }


if __name__ == "__main__":
    print(json.dumps(asyncio.run({"measure": measure, "fill": fill, "resume": resume}[sys.argv[1]](*sys.argv[2:]))))
