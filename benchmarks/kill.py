"""Kill batches with `kill -9`, run them again until they end, and check what the service sold.

`random`: 200 kills at random moments, with 50 rows in flight. `edges`: a kill at each moment where one makes a
difference (before and after each commit, each piece sent or received, each rename), and another somewhere in the second
run; once with tasks, once with inline responses. `table`: README's example with 3,000 rows, killed twice. The ledger of
the emulator is the oracle; every check is that of the tests, in `tests/support/kills.py`. Linux only.
"""

import asyncio
import importlib
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import attrs

from benchmarks.edit_memory import padded_png
from lemon_async.emulator import Emulator

KILLS = 200
ROWS = 200
EDGE_ROWS = 3
MOST_S = 1.0
IN_FLIGHT = 50
TABLE_ROWS = 3_000
SUPPORT = Path(__file__).parents[1] / "tests" / "support"
TASKS: dict[str, Any] = {"price_usd": 0.05}
INLINE: dict[str, Any] = {"model": "flux-schnell", "response_format": "b64_json", "price_usd": 0.003}


def service() -> Emulator:
    """Return a service whose tasks take about 100 ms."""
    return Emulator(speed=600, durations=60.0)


async def at_random(kills: Any, processes: Any, folder: str) -> dict[str, Any]:
    """Kill batches at random moments."""
    dice = random.Random(13)  # noqa: S311 - reproducible
    totals = kills.Totals()
    while totals.kills < KILLS:
        async with service() as emulator:  # a new one for each batch: its ledger is read at every check
            folder_of_batch = Path(folder) / f"{totals.kills}"
            folder_of_batch.mkdir()
            batches = kills.Batches(processes, emulator, folder_of_batch, in_flight=IN_FLIGHT, **TASKS)
            await batches.kill_at_random(batches.new(ROWS), dice, MOST_S)
            totals = totals + batches.totals
    return figures(totals)


async def at_edges(kills: Any, processes: Any, folder: str, options: dict[str, Any]) -> dict[str, Any]:
    """Kill a small batch at each of its edges."""
    dice = random.Random(13)  # noqa: S311 - reproducible
    async with service() as emulator:
        batches = kills.Batches(processes, emulator, folder, **options)
        edges = await batches.edges_of(batches.new(EDGE_ROWS))
        for edge in range(len(edges)):
            await batches.kill_at_edges(batches.new(EDGE_ROWS), edge, dice.randrange(len(edges)))
    return {"edges": len(edges), **figures(batches.totals)}


async def table(kills: Any, processes: Any, folder: str) -> dict[str, Any]:
    """Kill README's example twice."""
    started = time.monotonic()
    totals = await kills.kill_example(processes, Path(folder), rows=TABLE_ROWS, picture=padded_png(2_000))
    return {"seconds": round(time.monotonic() - started, 1), **figures(totals)}


def figures(totals: Any) -> dict[str, Any]:
    """Return the sums, and the share of doubtful rows in what may have been in flight."""
    return {**attrs.asdict(totals), "doubtful_per_kill": round(totals.doubtful / max(1, totals.kills), 1)}


async def play() -> dict[str, Any]:
    """Run all parts."""
    sys.path.append(str(SUPPORT))
    kills = importlib.import_module("kills")
    processes = kills.Processes()
    parts = {
        "random": at_random,
        "edges_with_tasks": lambda *parts: at_edges(*parts, TASKS),
        "edges_with_inline_responses": lambda *parts: at_edges(*parts, INLINE),
        "table": table,
    }
    done = {}
    try:
        for name, part in parts.items():
            with tempfile.TemporaryDirectory() as folder:
                done[name] = await part(kills, processes, folder)
    finally:
        processes.close()
    return done


def run(quick: bool = False) -> dict[str, Any]:  # noqa: ARG001
    """Return the figures; a row that was sold twice or forgotten raises `AssertionError`."""
    parts = asyncio.run(play())
    bars = {
        "kills": {"value": sum(part["kills"] for part in parts.values()), "least": KILLS},
        "sold_twice": {"value": sum(part["twice"] for part in parts.values()), "most": 0},
        "lost": {"value": sum(part["lost"] for part in parts.values()), "most": 0},
    }
    missed = [
        name for name, bar in bars.items() if not bar.get("least", 0) <= bar["value"] <= bar.get("most", sys.maxsize)
    ]
    return {**parts, "bars": bars, "missed": missed}
