"""Kill batches with `kill -9`, run them again until they end, and check what the service sold.

`random`: 150 kills at random moments, with 50 rows in flight. `edges`: a kill at each moment where one makes a
difference (before and after each commit, each piece sent or received, each rename), and another somewhere in the second
run; once with tasks, once with inline responses. `table`: README's example with 3,000 rows, killed twice. The ledger of
the emulator is the oracle; every check is that of the tests, in `tests/support/kills.py`. Random kills run beside the
other parts. Linux only.
"""

import asyncio
import importlib
import random
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import attrs

from benchmarks.edit_memory import padded_png
from benchmarks.progress import progress
from lemon_async.emulator import Emulator

KILLS, QUICK_KILLS = 150, 6
PARTS = 6
ROWS = 200
EDGE_ROWS = 3
MOST_S = 1.0
IN_FLIGHT = 50
EVERY_EDGE, QUICK_EVERY_EDGE = 1, 40
TABLE_ROWS, QUICK_TABLE_ROWS = 3_000, 100
SUPPORT = Path(__file__).parents[1] / "tests" / "support"
TASKS: dict[str, Any] = {"price_usd": 0.05}
INLINE: dict[str, Any] = {"model": "flux-schnell", "response_format": "b64_json", "price_usd": 0.003}
EDGES = {"tasks": TASKS, "inline responses": INLINE}


def service() -> Emulator:
    """Return a service whose tasks take about 100 ms."""
    return Emulator(speed=600, durations=60.0)


async def at_random(kills: Any, processes: Any, folder: Path, quick: bool) -> dict[str, Any]:
    """Kill batches at random moments."""
    dice = random.Random(13)  # noqa: S311 - reproducible
    totals, most = kills.Totals(), QUICK_KILLS if quick else KILLS
    for part in progress("kill, random", range(PARTS)):
        while totals.kills < most * (part + 1) // PARTS:
            async with service() as emulator:  # a new one for each batch: its ledger is read at every check
                folder_of_batch = folder / f"{totals.rows}"
                folder_of_batch.mkdir()
                batches = kills.Batches(processes, emulator, folder_of_batch, in_flight=IN_FLIGHT, **TASKS)
                await batches.kill_at_random(batches.new(ROWS), dice, MOST_S)
                totals = totals + batches.totals
    return figures(totals)


async def at_edges(kills: Any, processes: Any, folder: Path, quick: bool, *, kind: str) -> dict[str, Any]:
    """Kill a small batch at each of its edges."""
    dice = random.Random(13)  # noqa: S311 - reproducible
    async with service() as emulator:
        batches = kills.Batches(processes, emulator, folder, **EDGES[kind])
        edges = await batches.edges_of(batches.new(EDGE_ROWS))
        every = QUICK_EVERY_EDGE if quick else EVERY_EDGE
        for parts in progress(f"kill, {kind}", [range(first, len(edges), PARTS) for first in range(PARTS)]):
            for edge in parts[::every]:
                await batches.kill_at_edges(batches.new(EDGE_ROWS), edge, dice.randrange(len(edges)))
    return {"edges": len(edges), **figures(batches.totals)}


async def table(kills: Any, processes: Any, folder: Path, quick: bool) -> dict[str, Any]:
    """Kill README's example twice."""
    started, rows = time.monotonic(), QUICK_TABLE_ROWS if quick else TABLE_ROWS
    totals = await kills.kill_example(processes, folder, rows=rows, picture=padded_png(2_000))
    return {"seconds": round(time.monotonic() - started, 1), **figures(totals)}


def figures(totals: Any) -> dict[str, Any]:
    """Return the sums, and the share of doubtful rows in what may have been in flight."""
    return {**attrs.asdict(totals), "doubtful_per_kill": round(totals.doubtful / max(1, totals.kills), 1)}


async def play(quick: bool, *names: str) -> dict[str, Any]:
    """Run parts one after another."""
    kills = importlib.import_module("kills")
    processes = kills.Processes()
    done = {}
    try:
        for name in names:
            with tempfile.TemporaryDirectory() as folder:
                done[name] = await STEPS[name](kills, processes, Path(folder), quick)
    finally:
        processes.close()
    return done


async def play_all(quick: bool) -> dict[str, Any]:
    """Run all parts."""
    first, *others = STEPS
    done = await asyncio.gather(play(quick, first), play(quick, *others))
    return done[0] | done[1]


STEPS: dict[str, Callable[..., Awaitable[dict[str, Any]]]] = {
    "random": at_random,
    "edges_with_tasks": partial(at_edges, kind="tasks"),
    "edges_with_inline_responses": partial(at_edges, kind="inline responses"),
    "table": table,
}


def run(quick: bool = False) -> dict[str, Any]:
    """Return the figures; a row that was sold twice or forgotten raises `AssertionError`."""
    sys.path.append(str(SUPPORT))
    parts = asyncio.run(play_all(quick))
    sums = {name: sum(part[name] for part in parts.values()) for name in ("kills", "twice", "lost")}
    return {**parts, "all": sums, "missed": [name for name in ("twice", "lost") if sums[name]]}
