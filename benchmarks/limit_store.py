"""What a lease costs at the stores of a shared rate limit: Redis and PostgreSQL, each on this machine.

One client makes reserve after reserve, with 8 and with 1,000 workers on the account. Then two processes with 16
connections each make as many as they can, all for one account, whose state is the bottleneck. The CPU of the server is
that of all its processes.
"""

import asyncio
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import AsyncExitStack
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from benchmarks.progress import progress
from lemon_async._http.shared_limit.opening import open_store
from lemon_async._http.shared_limit.store import LimitStore

SUPPORT = Path(__file__).parent.parent / "tests" / "support"
PROCESSES, CONNECTIONS = 2, 16
RESERVES, QUICK_RESERVES = 3000, 500
SECONDS, QUICK_SECONDS = 4.0, 1.0
# No wait grows long enough to meet the horizon.
OPTIONS: dict[str, Any] = {"rpm": 1000, "interval_s": 1e-6, "horizon_s": 1e6, "on_pause": lambda _: None}


def _open(url: str) -> Any:
    return open_store(url, account="0" * 16, **OPTIONS)


async def _one_client(url: str, workers: int, reserves: int, server_cpu_s: Callable[[], float]) -> dict[str, float]:
    """Return the time and CPU of a reserve."""
    store, times = _open(url), []
    for number in range(workers):
        store._worker = f"{number}"
        await store.reserve(1, epoch=None, owed=0)
    cpu_s, served_s = time.process_time(), server_cpu_s()
    for _ in range(reserves):
        began = time.perf_counter()
        lease = await store.reserve(1, epoch=None, owed=0)
        times.append(time.perf_counter() - began)
    cpu_s, served_s = time.process_time() - cpu_s, server_cpu_s() - served_s
    await store.aclose()
    return {
        "workers": lease.workers,
        "median_us": round(median(times) * 1e6),
        "p99_us": round(quantiles(times, n=100)[98] * 1e6),
        "client_cpu_us": round(cpu_s / reserves * 1e6),
        "server_cpu_us": round(served_s / reserves * 1e6),
    }


async def _reserve_until(store: LimitStore, ends_at: float) -> int:
    count = 0
    while time.monotonic() < ends_at:
        await store.reserve(1, epoch=None, owed=0)
        count += 1
    return count


async def _many(url: str, seconds: float) -> float:
    async with AsyncExitStack() as stack:
        stores = [_open(url) for _ in range(CONNECTIONS)]
        for store in stores:
            stack.push_async_callback(store.aclose)
            await store.reserve(1, epoch=None, owed=0)
        ends_at = time.monotonic() + seconds
        return sum(await asyncio.gather(*(_reserve_until(store, ends_at) for store in stores))) / seconds


def _rate(url: str, seconds: float) -> float:
    """Return the reserves per second of one process with many connections."""
    return asyncio.run(_many(url, seconds))


def _measure(url: str, pid: int, quick: bool) -> dict[str, Any]:
    import psutil  # noqa: PLC0415 - of the development environment

    def server_cpu_s() -> float:
        server = psutil.Process(pid)
        times = [process.cpu_times() for process in (server, *server.children(recursive=True))]
        return float(sum(spent.user + spent.system for spent in times))

    reserves, seconds = (QUICK_RESERVES, QUICK_SECONDS) if quick else (RESERVES, SECONDS)
    alone = [asyncio.run(_one_client(url, workers, reserves, server_cpu_s)) for workers in (8, 1000)]
    with ProcessPoolExecutor(PROCESSES) as pool:
        most = sum(pool.map(_rate, [url] * PROCESSES, [seconds] * PROCESSES))
    return {"one client": alone, "most_reserves_per_s": round(most)}


def run(quick: bool = False) -> dict[str, Any]:
    """Return the figures of each store."""
    return {
        name: measure(quick)
        for name, measure in progress("limit_store", [("redis", redis), ("postgresql", postgresql)])
    }


def redis(quick: bool) -> dict[str, Any]:
    """Return the figures of Redis."""
    sys.path.append(str(SUPPORT))
    from redis_server import RedisServer  # type: ignore[import-not-found] # noqa: PLC0415 - a folder of the tests

    with RedisServer() as server:
        return _measure(server.url, server.pid, quick)


def postgresql(quick: bool) -> dict[str, Any]:
    """Return the figures of PostgreSQL."""
    sys.path.append(str(SUPPORT))
    from postgres_server import PostgresServer  # type: ignore[import-not-found] # noqa: PLC0415 - a folder of the tests

    server = PostgresServer(fsync=True)
    try:
        return _measure(server.new_database(), server.process.pid, quick)
    finally:
        server.remove()
