"""Run one batch with four worker processes that are killed, on one journal and one rate limit, and check what was sold.

The journal is in PostgreSQL and the limit in Redis, both started in temporary folders; the emulator runs in this
process, and refuses what is beyond the limit. While 2,000 rows are bought, workers are killed with `kill -9` twenty
times at random moments and started again, the driver once (and its workers with it), and PostgreSQL and Redis are
restarted once each. The ledger of the emulator is the oracle, and every check is that of the tests, in
`tests/support/fleet.py`. A quick run has fewer rows and kills, and does not restart Redis, which costs a minute.
Linux only.
"""

import asyncio
import importlib
import sys
import tempfile
import time
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks.progress import progress
from lemon_async.emulator import Emulator

SUPPORT = Path(__file__).parents[1] / "tests" / "support"
ROWS, QUICK_ROWS = 2_000, 100
WORKERS = 4
KILLS, QUICK_KILLS = 20, 3
PARTS = 10
RPM = 3_600
SPEED = 20.0
DURATION_S = 60.0  # of the service
IN_FLIGHT, QUICK_IN_FLIGHT = 100, 15
WINDOW_S = 60.0
BUSY = 0.9  # afterwards there may be too few rows to use the rate
BAR_SHARE = 0.95
LEASE_S = 4.0  # how long slots that were leased may last


def used(starts: list[float], first: float, last: float, down: list[tuple[float, float]]) -> tuple[float, float]:
    """Return the share of the rate that was used, and the seconds that count, without those that were `down`."""
    up, at = [], first
    for began, back in sorted(down):
        up.append((at, max(at, min(began, last))))
        at = max(at, back)
    up.append((at, max(at, last)))
    seconds = sum(end - begin for begin, end in up)
    requests = sum(begin <= start < end for start in starts for begin, end in up)
    return round(requests * 60 / RPM / seconds, 3), round(seconds, 1)


def resumed(sales: list[float], began: float, back: float) -> float:
    """Return the end of the longest time without sales that began during an outage, or while leases were left."""
    gaps = [(end - begin, end) for begin, end in pairwise(sales) if end > began and begin < back + LEASE_S]
    return max(max(gaps)[1], back) if gaps else back


def most_in(window_s: float, starts: list[float]) -> int:
    """Return the largest number of requests in any window."""
    most = first = 0
    for last, start in enumerate(starts):
        while starts[first] <= start - window_s:
            first += 1
        most = max(most, last - first + 1)
    return most


async def play(fleet: Any, folder: Path, postgres: Any, redis: Any, quick: bool) -> dict[str, Any]:
    """Run the batch, and return the figures."""

    def restart_redis() -> None:
        redis.stop()
        redis.start()

    rows = QUICK_ROWS if quick else ROWS
    async with Emulator(speed=SPEED, durations=DURATION_S, requests_per_minute=RPM) as emulator:
        options = {
            "requests_per_minute": RPM,
            "shared_limit": redis.url,
            "run": {"in_flight": QUICK_IN_FLIGHT if quick else IN_FLIGHT},
        }
        plan = fleet.plan_of(emulator, folder, postgres.new_database(), rows, workers=WORKERS, **options)
        restarts = {"postgres": partial(asyncio.to_thread, postgres.restart)}
        if not quick:
            restarts["redis"] = partial(asyncio.to_thread, restart_redis)
        run = fleet.Fleet(emulator, plan, restarts)
        started, watching = time.monotonic(), asyncio.create_task(watch(emulator, rows))
        await run.run(worker_kills=QUICK_KILLS if quick else KILLS)
        watching.cancel()
        seconds = round(time.monotonic() - started, 1)
        return {"seconds": seconds, **await run.check(folder), **figures(emulator, run)}


async def watch(emulator: Emulator, rows: int) -> None:
    """Say how many of the rows have been sold."""
    for part in progress("fleet", range(PARTS)):
        while emulator.ledger.sold.total() < rows * (part + 1) // PARTS:
            await asyncio.sleep(0.1)


def figures(emulator: Emulator, run: Any) -> dict[str, Any]:
    """Return what became of the rate limit, until there may be too few rows to use it.

    A restart lasts until sales go on; after one of Redis, that is a minute. A worker that is killed takes its slots
    with it: `share` leaves out the seconds afterwards, `share_with_kills` does not.
    """
    requests = [seen for seen in emulator.requests if seen.route != "cdn"]
    starts = [seen.at_s / SPEED for seen in requests]
    sales = [seen.at_s / SPEED for seen in requests if seen.route == "submit"]
    first, last = sales[0], sales[min(int(len(run.plan.rows) * BUSY), len(sales)) - 1]
    outages = [(outage.began_s / SPEED, outage.back_s / SPEED) for outage in run.outages]
    outages = [(began, resumed(sales, began, back)) for began, back in outages]
    leases = [(at_s / SPEED, at_s / SPEED + LEASE_S) for at_s in run.killed_at]
    share, up_s = used(starts, first, last, [*outages, *leases])
    share_with_kills, servers_up_s = used(starts, first, last, outages)
    return {
        "requests": len(starts),
        "refused": sum(seen.status == 429 for seen in requests),
        "most_in_60_s": most_in(WINDOW_S, starts),
        "limit": RPM,
        "outages": {
            outage.name: round(back - began, 1) for outage, (began, back) in zip(run.outages, outages, strict=True)
        },
        "share": share,
        "up_s": up_s,
        "share_with_kills": share_with_kills,
        "servers_up_s": servers_up_s,
    }


def run(quick: bool = False) -> dict[str, Any]:
    """Return the figures; a row that was sold twice or forgotten raises `AssertionError`."""
    sys.path.append(str(SUPPORT))
    fleet, servers, stores = map(importlib.import_module, ("fleet", "postgres_server", "redis_server"))
    postgres = servers.PostgresServer(fsync=True)
    try:
        with tempfile.TemporaryDirectory() as folder, stores.RedisServer(is_persistent=True) as redis:
            found = asyncio.run(play(fleet, Path(folder), postgres, redis, quick))
    finally:
        postgres.remove()
    bars = {
        "sold_twice": {"value": found["sold_twice"], "most": 0},
        "refused": {"value": found["refused"], "most": 0},
        "most_in_60_s": {"value": found["most_in_60_s"], "most": RPM},
        "share": {"value": found["share"], "least": BAR_SHARE},
    }
    missed = [
        name for name, bar in bars.items() if not bar.get("least", 0) <= bar["value"] <= bar.get("most", sys.maxsize)
    ]
    return {**found, "bars": bars, "missed": missed}
