"""Measure what durability costs: the CPU of a batch, and the start of a large one.

`cpu`: 10,000 jobs with `LemonSession.batch`, and with `map` and `save` by as many readers as rows may be in flight.
Every measurement runs in a new process, the service in another; both clients of a round have the same service, and
ratios are taken within a round.
`start`: 1,000,000 rows from a CSV file, of which all but the last hundred are done: seconds and peak memory from
opening the journal to the first outcome, in a new process that reads the same file. Reads `/proc`, so Linux only.
"""

import asyncio
import csv
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.cdn import KINDS, linked
from benchmarks.edit_memory import resident_mb
from benchmarks.processes import measured
from lemon_async import LemonSession, Outcomes
from lemon_async.batch import SavedPicture, State, open_journal
from lemon_async.batch.records import Change
from lemon_async.batch.states import Event

ROUNDS = 5
JOBS = 10_000
WARM_UP_JOBS = 500
PICTURE_BYTES = 2_000
IN_FLIGHT = 100
ROWS = 1_000_000
ROWS_LEFT = 100
CHUNK = 10_000
BAR_RATIO = 1.3
BAR_START_S = 10.0
BAR_START_MB = 200.0
KEY = "sk-benchmark-0123456789"
RPM = 1_000_000  # no limit in practice: this does not measure pacing
MODEL = "dall-e-3"


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


async def measure(client: str, base_url: str) -> dict[str, Any]:
    """Return the CPU of a client in this process, per job."""
    async with LemonSession(KEY, base_url=base_url, requests_per_minute=RPM) as lemon:
        with tempfile.TemporaryDirectory() as name:
            await CLIENTS[client](lemon, Path(name), WARM_UP_JOBS)
        with tempfile.TemporaryDirectory() as name:
            started, cpu = time.monotonic(), time.process_time()
            await CLIENTS[client](lemon, Path(name), JOBS)
            seconds, cpu_s = time.monotonic() - started, time.process_time() - cpu
    return {"us_per_job": cpu_s / JOBS * 1e6, "jobs_per_s": JOBS / seconds}


async def play_round(number: int, kind: str) -> dict[str, dict[str, Any]]:
    """Return the figures of both clients; their order changes from round to round."""
    async with linked(PICTURE_BYTES, kind) as base_url:
        names = list(CLIENTS)[:: 1 if number % 2 else -1]
        return {name: await measured("benchmarks.durable", "measure", name, base_url) for name in names}


def compare(kind: str) -> dict[str, Any]:
    """Return the CPU per job of both clients, and their ratio."""
    rounds = [asyncio.run(play_round(number, kind)) for number in range(ROUNDS)]
    ratios = [each["batch"]["us_per_job"] / each["map_and_save"]["us_per_job"] for each in rounds]
    clients = {
        name: {figure: round(statistics.median(each[name][figure] for each in rounds)) for figure in rounds[0][name]}
        for name in CLIENTS
    }
    return {**clients, "ratio": round(statistics.median(ratios), 3), "ratios": [round(each, 3) for each in ratios]}


def write_rows(path: Path) -> None:
    """Write the rows of a list of products."""
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["sku", "category", "prompt", "size"])
        rows.writerows([f"sku-{n}", f"c{n % 2}", f"product {n} on a table", "1024x1024"] for n in range(ROWS))


async def fill(base_url: str, folder: str) -> dict[str, Any]:
    """Add all rows to a journal by a batch that is left at its first outcome, and finish all but the last of them."""
    started = time.monotonic()
    await first_outcome(base_url, Path(folder))
    seconds = time.monotonic() - started
    picture = (SavedPicture(path="a.png", size_bytes=1, sha256="0" * 64),)
    async with open_journal(Path(folder) / "run.db") as journal:
        for start in range(0, ROWS - ROWS_LEFT, CHUNK):
            keys = [f"sku-{number}" for number in range(start, min(start + CHUNK, ROWS - ROWS_LEFT))]
            changes = [
                journal.record(change)
                for key in keys
                for change in (
                    Change(key=key, event=Event.INTEND, fingerprint="0" * 64),
                    Change(key=key, event=Event.ACCEPT, task="lemon1.token"),
                    Change(key=key, event=Event.SAVE, pictures=picture),
                )
            ]
            for change in changes:
                await change
        counts = await journal.counts()
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


async def start() -> dict[str, Any]:
    """Fill a journal in one process, and resume it in another."""
    with tempfile.TemporaryDirectory() as folder:
        write_rows(Path(folder) / "rows.csv")
        async with linked(PICTURE_BYTES) as base_url:
            filled = await measured("benchmarks.durable", "fill", base_url, folder)
            return {"rows": ROWS, "first": filled, **await measured("benchmarks.durable", "resume", base_url, folder)}


def run(quick: bool = False) -> dict[str, Any]:  # noqa: ARG001
    """Return the figures of both parts, and which bars they miss."""
    cpu = {kind: compare(kind) for kind in KINDS}
    started = asyncio.run(start())
    bars = {
        "cpu_ratio": {"value": max(each["ratio"] for each in cpu.values()), "most": BAR_RATIO},
        "start_s": {"value": started["seconds"], "most": BAR_START_S},
        "start_mb": {"value": started["peak_mb"], "most": BAR_START_MB},
    }
    for bar in bars.values():
        bar["is_met"] = bar["value"] <= bar["most"]
    return {
        "jobs": JOBS,
        "rounds": ROUNDS,
        "cpu": cpu,
        "start": started,
        "bars": bars,
        "missed": [name for name, bar in bars.items() if not bar["is_met"]],
    }


if __name__ == "__main__":
    print(json.dumps(asyncio.run({"measure": measure, "fill": fill, "resume": resume}[sys.argv[1]](*sys.argv[2:]))))
