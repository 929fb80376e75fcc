"""Measure 10,000 waiting tasks: memory while they wait, and lag of the event loop while they end.

The client runs in a separate process and completes some jobs before the first reading, so that its connections are open
and its code is warm. Every task has a different prompt. All tasks end together; while they are polled and awaited, a
coroutine that sleeps for a millisecond at a time records how late it wakes. Reads `/proc`, so Linux only.
"""

import asyncio
import gc
import json
import statistics
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.charts import panels
from benchmarks.edit_memory import resident_mb
from benchmarks.processes import measured, served
from benchmarks.stub import HELD_MODEL, TASK_MODEL, release, requests_so_far
from lemon_async import ImageTask, LemonSession, PollPolicy

RUNS = 3
TASKS = 10_000
WARM_UP_TASKS = 500
SUBMITS = 50
RPM = 1_000_000  # no limit in practice: this does not measure pacing
KEY = "sk-benchmark-0123456789"
TICK_S = 0.001
BAR_BYTES = 3 * 1024
BAR_LAG_MS = 20.0
POLLING = PollPolicy(max_gap_s=10.0)


async def submitted(session: LemonSession, prompts: Iterable[str], model: str) -> list[ImageTask]:
    """Submit all prompts with bounded concurrency."""
    tasks: list[ImageTask] = []
    queue: Iterator[str] = iter(prompts)

    async def work() -> None:
        for prompt in queue:
            tasks.append(await session.submit(prompt, model=model))  # noqa: PERF401 - others append between

    await asyncio.gather(*(work() for _ in range(SUBMITS)))
    return tasks


def resident_bytes() -> float:
    """Return the resident size after a garbage collection."""
    gc.collect()
    return resident_mb("VmRSS") * 2**20


async def note_lags(lags_s: list[float]) -> None:
    """Sleep repeatedly, and record by how much each sleep is too long."""
    while True:
        started = time.perf_counter()
        await asyncio.sleep(TICK_S)
        lags_s.append(time.perf_counter() - started - TICK_S)


async def finished(session: LemonSession, tasks: list[ImageTask], base_url: str) -> list[float]:
    """Let all tasks end, await their images, and return the lags of the event loop during that time."""
    lags_s: list[float] = []
    await asyncio.to_thread(release, base_url)
    ticker = asyncio.create_task(note_lags(lags_s))
    async for task in session.as_completed(tasks):
        await task
    ticker.cancel()
    return lags_s


async def measure(base_url: str) -> None:
    """Measure in this process, and print the figures."""
    async with LemonSession(KEY, base_url=base_url, polling=POLLING, requests_per_minute=RPM) as session:
        for task in await submitted(session, (f"A cat, number {n}" for n in range(WARM_UP_TASKS)), TASK_MODEL):
            await task
        idle_bytes = resident_bytes()
        tasks = await submitted(session, (f"A dog, number {n}" for n in range(TASKS)), HELD_MODEL)
        waiting_bytes = resident_bytes()
        assert len(session.pending) == TASKS  # noqa: S101 - otherwise this measures something else
        started, requests = time.perf_counter(), requests_so_far(base_url)
        lags_s = await finished(session, tasks, base_url)
        figures = {
            "bytes_per_task": (waiting_bytes - idle_bytes) / TASKS,
            "lag_p50_ms": statistics.median(lags_s) * 1e3,
            "lag_p99_ms": statistics.quantiles(lags_s, n=100)[-1] * 1e3,
            "lag_max_ms": max(lags_s) * 1e3,
            "ticks": len(lags_s),
            "finish_s": time.perf_counter() - started,
            "polls_per_task_at_the_end": (requests_so_far(base_url) - requests) / TASKS,
        }
    print(json.dumps(figures))


async def measure_apart() -> dict[str, Any]:
    """Measure in a new process with a new server."""
    async with served() as base_url:
        return await measured("benchmarks.inflight", base_url)


def run(quick: bool = False) -> dict[str, Any]:  # noqa: ARG001
    """Return the medians, and the figures that miss their limits."""
    runs = [asyncio.run(measure_apart()) for _ in range(RUNS)]
    medians = {name: round(statistics.median(each[name] for each in runs), 2) for name in runs[0]}
    bars = {"bytes_per_task": BAR_BYTES, "lag_p99_ms": BAR_LAG_MS}
    missed = [name for name, bar in bars.items() if medians[name] > bar]
    return {"runs": RUNS, "tasks": TASKS, **medians, "bars": bars, "missed": missed}


def chart(figures: dict[str, Any], path: Path) -> None:
    """Draw the memory of a waiting task and the lags, with their limits, as a PNG."""
    with panels(path, 2) as (upper, lower):
        upper.bars(
            f"Memory per waiting task, {figures['tasks']:,} of them, bytes",
            {"measured": figures["bytes_per_task"]},
            bar=figures["bars"]["bytes_per_task"],
        )
        lower.bars(
            "Lag of the event loop while all of them end, ms",
            {"median": figures["lag_p50_ms"], "99 of 100 below": figures["lag_p99_ms"], "max": figures["lag_max_ms"]},
            bar=figures["bars"]["lag_p99_ms"],
        )


if __name__ == "__main__":
    asyncio.run(measure(sys.argv[1]))
