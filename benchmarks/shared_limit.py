"""Eight processes share 1,000 requests a minute, for ten minutes of virtual time, with and without stops of the store.

Each process is a `SharedRateLimiter` with more submits and polls than it may send; a store is modelled in memory, with
replies that take 1-30 ms and sometimes half a second, and requests take 20-120 ms each way. The server refuses with 429
what exceeds its limit in any 60 s. The store stops 20 times, for 1-8 s, once for 30 s; in another run one of the stops
loses its state, which costs the minute that is waited out. Where `redis-server` is installed, the clients also share a
real one for 75 s of real time, each with connections of its own.
"""

import asyncio
import logging
import random
import shutil
import sys
from bisect import bisect_right
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import attrs

from benchmarks.progress import progress
from benchmarks.windows import MINUTE_S, SlidingWindow
from lemon_async._http.attempt import NoResponse
from lemon_async._http.shared_limit.client import SharedRateLimiter
from lemon_async._http.shared_limit.opening import open_store
from lemon_async._http.shared_limit.store import LimitStore
from lemon_async._pace.leases import HORIZON_S, leased_interval_s
from lemon_async._pace.priority import Priority

SUPPORT = Path(__file__).parent.parent / "tests" / "support"
RPM, PROCESSES, MINUTES, STOPS = 1000, 8, 10, 20
WAITING = 20  # of each process
LATENCY_S = (0.02, 0.12)
PATIENCE_S = 300.0
REAL_S, QUICK_REAL_S = 75.0, 10.0
OpenStore = Callable[[Callable[[float], None]], LimitStore]
BARS = {"refused": 0, "most_in_60_s": RPM, "share_used": 0.97, "round_trips_per_request": 0.15}


@attrs.define
class Api:
    """The service: a strict sliding window."""

    chance: random.Random
    window: SlidingWindow = attrs.field(factory=lambda: SlidingWindow(RPM, 0.0))
    arrivals: list[float] = attrs.field(factory=list)
    starts: list[tuple[float, Priority]] = attrs.field(factory=list)
    refused: int = 0

    async def request(self, limiter: SharedRateLimiter, priority: Priority) -> None:
        """Pass the limiter, and send a request."""
        loop = asyncio.get_running_loop()
        try:
            await limiter.acquire(priority, PATIENCE_S)
        except NoResponse:
            await asyncio.sleep(1.0)
            return
        self.starts.append((loop.time(), priority))
        await asyncio.sleep(self.chance.uniform(*LATENCY_S))
        self.arrivals.append(loop.time())
        verdict = self.window.request(loop.time())
        await asyncio.sleep(self.chance.uniform(*LATENCY_S))
        if verdict.is_granted:
            limiter.observe(None)
        else:
            self.refused += 1
            limiter.observe_429(verdict.retry_after_s(), None)

    def most_in_a_minute(self) -> int:
        """Return the most arrivals in any 60 s."""
        self.arrivals.sort()
        return max(bisect_right(self.arrivals, at + MINUTE_S - 1e-9) - i for i, at in enumerate(self.arrivals))


async def _worker(api: Api, limiter: SharedRateLimiter, number: int) -> None:
    while True:
        await api.request(limiter, Priority.SUBMIT if number % 4 == 0 else Priority.POLL)


def stops_of(chance: random.Random) -> list[tuple[float, float]]:
    """Return beginning and length of each stop: spread over the run, the tenth is long."""
    gap_s = MINUTES * MINUTE_S / STOPS
    lengths = [30.0 if number == STOPS // 2 else chance.uniform(1.0, 8.0) for number in range(STOPS)]
    stops, at = [], 5.0
    for length_s in lengths:
        stops.append((at, length_s))
        at += max(gap_s * chance.uniform(0.7, 1.0), length_s + 2.0)
    return stops


async def _stop_and_start(server: Any, stops: list[tuple[float, float]], lost: int | None) -> None:
    loop = asyncio.get_running_loop()
    for number, (at, length_s) in enumerate(stops):
        await asyncio.sleep(at - loop.time())
        server.stop()
        await asyncio.sleep(length_s)
        server.start(is_lost=number == lost)


async def _play(opened: OpenStore, api: Api, seconds: float) -> None:
    """Let all processes send as much as they may."""
    limiters = [SharedRateLimiter(RPM, opened) for _ in range(PROCESSES)]
    tasks = [asyncio.create_task(_worker(api, limiter, n)) for limiter in limiters for n in range(WAITING)]
    await asyncio.sleep(seconds)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for limiter in limiters:
        await limiter.aclose()


async def _play_with_stops(server: Any, api: Api, stops: list[tuple[float, float]], lost: int | None) -> None:
    stopping = asyncio.create_task(_stop_and_start(server, stops, lost))
    await _play(server.open, api, MINUTES * MINUTE_S)
    stopping.cancel()


def simulate(seed: int, *, has_stops: bool, lost: int | None = None) -> dict[str, float]:
    """Return the figures of one run."""
    sys.path.append(str(SUPPORT))
    from limit_store import ModelServer  # type: ignore[import-not-found] # noqa: PLC0415 - a folder of the tests
    from virtual_time import run_virtually  # type: ignore[import-not-found] # noqa: PLC0415 - likewise

    chance = random.Random(seed)  # noqa: S311 - a seeded simulation
    server = ModelServer(RPM, delay_s=lambda: 0.5 if chance.random() < 0.005 else chance.uniform(0.0005, 0.015))
    api = Api(chance)
    stops = stops_of(chance) if has_stops else []
    run_virtually(_play_with_stops(server, api, stops, lost))
    up_s = MINUTES * MINUTE_S - sum(length_s for _, length_s in stops)
    down = [priority for start, priority in api.starts if any(at <= start < at + length for at, length in stops)]
    sent = len(api.starts)
    return {
        "requests": sent,
        "refused": api.refused,
        "most_in_60_s": api.most_in_a_minute(),
        "share_used": round((sent - len(down)) / (RPM / MINUTE_S * up_s), 4),
        "share_used_of_all_time": round(sent / (RPM * MINUTES), 4),
        "round_trips_per_request": round((len(server.calls) - server.refused) / sent, 4),
        "vain_attempts": server.refused,
        "seconds_down": round(MINUTES * MINUTE_S - up_s),
        "submits_while_down": down.count(Priority.SUBMIT),
        "polls_while_down": down.count(Priority.POLL),
    }


async def _play_on_redis(url: str, api: Api, seconds: float) -> int:
    """Return how many scripts Redis has run."""
    from redis.asyncio import Redis  # noqa: PLC0415 - an extra

    opened = partial(open_store, url, account="0" * 16, rpm=RPM, interval_s=leased_interval_s(RPM), horizon_s=HORIZON_S)
    await _play(lambda on_pause: opened(on_pause=on_pause), api, seconds)
    async with Redis.from_url(url) as redis:
        commands = await redis.info("commandstats")
    return sum(commands.get(f"cmdstat_{name}", {"calls": 0})["calls"] for name in ("eval", "evalsha"))


def measure_redis(seconds: float) -> dict[str, float]:
    """Return the figures with a real server, in real time."""
    sys.path.append(str(SUPPORT))
    from redis_server import RedisServer  # type: ignore[import-not-found] # noqa: PLC0415 - a folder of the tests

    api = Api(random.Random(1))  # noqa: S311 - latencies
    with RedisServer() as server:
        round_trips = asyncio.run(_play_on_redis(server.url, api, seconds))
    return {
        "requests": len(api.starts),
        "refused": api.refused,
        "most_in_60_s": api.most_in_a_minute(),
        "share_used": round(len(api.starts) / (RPM / MINUTE_S * seconds), 4),
        "round_trips_per_request": round(round_trips / len(api.starts), 4),
    }


def run(quick: bool = False) -> dict[str, Any]:
    """Return the figures of all runs, and those that miss their bars."""
    logging.getLogger("lemon_async").setLevel(logging.ERROR)  # each process warns of each stop
    runs: dict[str, Callable[[], dict[str, float]]] = {
        "store always up": partial(simulate, 1, has_stops=False),
        "20 stops": partial(simulate, 1, has_stops=True),
        "20 stops, one with loss of the state": partial(simulate, 1, has_stops=True, lost=5),
    }
    if shutil.which("redis-server"):
        runs["a real Redis"] = partial(measure_redis, QUICK_REAL_S if quick else REAL_S)
    figures = {name: runs[name]() for name in progress("shared_limit", [*runs])}
    # The minute that a loss of the state costs is waited out while the store is up.
    missed = [name for name, run in figures.items() for bar in BARS if not _meets(bar, run, has_loss="loss" in name)]
    return {"rpm": RPM, "processes": PROCESSES, "minutes": MINUTES, "bars": BARS, "missed": missed, "runs": figures}


def _meets(bar: str, figures: dict[str, float], *, has_loss: bool) -> bool:
    if bar == "share_used":
        return has_loss or figures[bar] >= BARS[bar]
    return figures[bar] <= BARS[bar]
