"""Measure 10,000 jobs in flight: their memory while they wait, and lag of the event loop while they end.

Three ways of waiting, and code by hand with one asyncio task per job, each polled every ten seconds, and more often if
there are fewer jobs. Each runs in a separate process and completes some jobs before the first reading, so that its
connections are open and its code is warm. Every job has a different prompt. All jobs end together; while they are
polled and awaited, a coroutine that sleeps for a millisecond at a time records how late it wakes. Half-way through
there is a full garbage collection, which holds up the loop while it visits every object that it tracks. Results are
kept. Reads `/proc`, so Linux only.
"""

import asyncio
import gc
import json
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp

from benchmarks.charts import panels
from benchmarks.edit_memory import resident_mb
from benchmarks.processes import measured, served
from benchmarks.progress import progress
from benchmarks.stub import HELD_MODEL, TASK_MODEL, release, requests_so_far
from lemon_async import Images, ImageTask, LemonSession, Outcome, PollPolicy

TASKS, QUICK_TASKS = 10_000, 1_000
WARM_UP_TASKS = 500
SUBMITS = 50
RPM = 1_000_000  # no limit in practice: this does not measure pacing
KEY = "sk-benchmark-0123456789"
TICK_S = 0.001
HAND_POLLS_PER_S = 1_000  # 10,000 jobs every ten seconds; every three would take a core
COLLECTIONS = 3
BARS = {"bytes_per_task": 2.2 * 1024, "lag_p99_ms": 10.0, "lag_max_ms": 60.0}
POLLING = PollPolicy(max_gap_s=10.0)

Finish = Callable[[], Awaitable[object]]
Start = Callable[[list[str], str], Awaitable[Finish]]
"""Submit jobs to a model, and return, when all are accepted, what waits for all of them."""


async def submitted(session: LemonSession, prompts: Iterable[str], model: str) -> list[ImageTask]:
    """Submit all prompts with bounded concurrency."""
    tasks: list[ImageTask] = []
    queue: Iterator[str] = iter(prompts)

    async def work() -> None:
        for prompt in queue:
            tasks.append(await session.submit(prompt, model=model))  # noqa: PERF401 - others append between

    await asyncio.gather(*(work() for _ in range(SUBMITS)))
    return tasks


async def lemon(held: AsyncExitStack, base_url: str) -> LemonSession:
    """Open a session."""
    return await held.enter_async_context(
        LemonSession(KEY, base_url=base_url, polling=POLLING, requests_per_minute=RPM)
    )


async def submit(held: AsyncExitStack, base_url: str) -> Start:
    """`LemonSession.submit`, and `LemonSession.as_completed` for all handles."""
    session = await lemon(held, base_url)

    async def start(prompts: list[str], model: str) -> Finish:
        tasks = await submitted(session, prompts, model)

        async def finish() -> list[Images]:
            return [await task async for task in session.as_completed(tasks)]

        return finish

    return start


async def generate(held: AsyncExitStack, base_url: str) -> Start:
    """`LemonSession.generate` in an asyncio task per job."""
    session = await lemon(held, base_url)

    async def start(prompts: list[str], model: str) -> Finish:
        sold = session.submission_counts.sold + len(prompts)
        jobs = [asyncio.create_task(session.generate(prompt, model=model)) for prompt in prompts]
        await until(lambda: session.submission_counts.sold == sold)
        return lambda: asyncio.gather(*jobs)

    return start


async def mapped(held: AsyncExitStack, base_url: str) -> Start:
    """`LemonSession.map`."""
    session = await lemon(held, base_url)

    async def start(prompts: list[str], model: str) -> Finish:
        outcomes = await held.enter_async_context(session.map(prompts, model=model, in_flight=len(prompts)))
        await until(lambda: len(outcomes.pending) == len(prompts))

        async def finish() -> list[Outcome]:
            return [outcome async for outcome in outcomes]

        return finish

    return start


async def by_hand(held: AsyncExitStack, base_url: str) -> Start:
    """An asyncio task per job that polls at a fixed interval."""
    session = await held.enter_async_context(aiohttp.ClientSession(base_url, headers={"Authorization": KEY}))
    slots = asyncio.Semaphore(SUBMITS)

    async def job(prompt: str, model: str, gap_s: float, accepted: list[str]) -> Any:
        async with slots, session.post("/v1/images/generations", json={"prompt": prompt, "model": model}) as response:
            task = await response.json()
        accepted.append(task["id"])
        while True:
            await asyncio.sleep(gap_s)
            async with session.get(task["poll_url"]) as response:
                task = {**task, **await response.json()}
            if task["status"] == "completed":
                return task

    async def start(prompts: list[str], model: str) -> Finish:
        accepted: list[str] = []
        gap_s = len(prompts) / HAND_POLLS_PER_S
        jobs = [asyncio.create_task(job(prompt, model, gap_s, accepted)) for prompt in prompts]
        await until(lambda: len(accepted) == len(prompts))
        return lambda: asyncio.gather(*jobs)

    return start


WAYS = {"submit": submit, "generate": generate, "map": mapped, "by hand": by_hand}
ORDER = ("submit", "generate", "submit", "map", "submit", "by hand")  # the limits are for the first


async def until(condition: Callable[[], bool]) -> None:
    """Sleep until a condition holds."""
    await asyncio.sleep(0.1)
    while not condition():
        await asyncio.sleep(0.05)


def settled() -> tuple[float, int, float]:
    """Return the resident bytes and the tracked objects after a garbage collection, and its shortest time in ms."""
    times_s: list[float] = []
    for _ in range(COLLECTIONS):
        started = time.perf_counter()
        gc.collect()
        times_s.append(time.perf_counter() - started)
    return resident_mb("VmRSS") * 2**20, len(gc.get_objects()), min(times_s) * 1e3


async def note_lags(lags_s: list[float]) -> None:
    """Sleep repeatedly, and record by how much each sleep is too long."""
    while True:
        started = time.perf_counter()
        await asyncio.sleep(TICK_S)
        lags_s.append(time.perf_counter() - started - TICK_S)


async def collect_at(base_url: str, requests: int) -> None:
    """Run a full collection once the server has served this many requests."""
    while await asyncio.to_thread(requests_so_far, base_url) < requests:
        await asyncio.sleep(0.05)
    gc.collect()


async def finished(finish: Finish, base_url: str, jobs: int) -> list[float]:
    """Let all jobs end, await their images, and return the lags of the event loop during that time."""
    lags_s: list[float] = []
    requests = requests_so_far(base_url)
    await asyncio.to_thread(release, base_url)
    watchers = [
        asyncio.create_task(note_lags(lags_s)),
        asyncio.create_task(collect_at(base_url, requests + jobs // 2)),
    ]
    await finish()
    for watcher in watchers:
        watcher.cancel()
    return lags_s


async def measure(way: str, base_url: str, jobs: int) -> None:
    """Measure in this process, and print the figures."""
    collections: list[int] = []
    async with AsyncExitStack() as held:
        start = await WAYS[way](held, base_url)
        await (await start([f"A cat, number {number}" for number in range(WARM_UP_TASKS)], TASK_MODEL))()
        idle_bytes, idle_objects, idle_ms = settled()
        finish = await start([f"A dog, number {number}" for number in range(jobs)], HELD_MODEL)
        waiting_bytes, objects, collection_ms = settled()
        started, cpu_s, requests = time.perf_counter(), time.process_time(), requests_so_far(base_url)
        gc.callbacks.append(lambda phase, info: collections.append(info["generation"]) if phase == "stop" else None)
        lags_s = await finished(finish, base_url, jobs)
        figures = {
            "bytes_per_task": (waiting_bytes - idle_bytes) / jobs,
            "tracked_objects_per_task": (objects - idle_objects) / jobs,
            "collection_ms_idle": idle_ms,
            "collection_ms": collection_ms,
            "lag_p50_ms": statistics.median(lags_s) * 1e3,
            "lag_p99_ms": statistics.quantiles(lags_s, n=100)[-1] * 1e3,
            "lag_max_ms": max(lags_s) * 1e3,
            "full_collections_at_the_end": collections.count(2),
            "finish_s": time.perf_counter() - started,
            "finish_cpu_us_per_task": (time.process_time() - cpu_s) / jobs * 1e6,
            "polls_per_task_at_the_end": (requests_so_far(base_url) - requests) / jobs,
        }
    print(json.dumps(figures))


async def measure_apart(way: str, jobs: int) -> dict[str, Any]:
    """Measure in a new process with a new server."""
    async with served() as base_url:
        return await measured("benchmarks.inflight", way, base_url, str(jobs))


def run(quick: bool = False) -> dict[str, Any]:
    """Return the medians of each way of waiting, and the figures of `submit` that miss their limits."""
    jobs, order = (QUICK_TASKS, tuple(WAYS)) if quick else (TASKS, ORDER)
    runs: dict[str, list[dict[str, Any]]] = {way: [] for way in WAYS}
    for way in progress("inflight", order):
        runs[way].append(asyncio.run(measure_apart(way, jobs)))
    ways = {way: {name: _median(each, name) for name in each[0]} for way, each in runs.items()}
    missed = [name for name, bar in BARS.items() if ways["submit"][name] > bar]
    return {"runs": {way: order.count(way) for way in WAYS}, "tasks": jobs, **ways, "bars": BARS, "missed": missed}


def _median(runs: list[dict[str, Any]], name: str) -> float:
    return round(statistics.median(each[name] for each in runs), 2)


def chart(figures: dict[str, Any], path: Path) -> None:
    """Draw the memory of a waiting task and the longest lag of each way, with their limits, as a PNG."""
    with panels(path, 2) as (upper, lower):
        upper.bars(
            f"Memory per waiting task, {figures['tasks']:,} of them, bytes",
            {way: figures[way]["bytes_per_task"] for way in WAYS},
            grey=["by hand"],
            bar=BARS["bytes_per_task"],
        )
        lower.bars(
            "Longest lag of the event loop while all of them end, ms",
            {way: figures[way]["lag_max_ms"] for way in WAYS},
            grey=["by hand"],
            bar=BARS["lag_max_ms"],
        )


if __name__ == "__main__":
    asyncio.run(measure(sys.argv[1], sys.argv[2], int(sys.argv[3])))
