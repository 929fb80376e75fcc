"""Say what limits a batch at 10, 100 and 1,000 workers, from costs that are measured here.

Measured, on servers in temporary folders: a transaction of the PostgreSQL journal, alone and with many changes; how
many come through when several processes take turns (`turns`, beside what the simulation in `queueing.py` predicts from
the costs of one process alone); reservations of the shared limit in Redis and PostgreSQL; and the memory of a
connection. `plan` simulates larger fleets with these costs, and a network between workers and servers.
"""

import asyncio
import hashlib
import importlib
import json
import statistics
import sys
import time
from collections.abc import Callable
from itertools import cycle
from pathlib import Path
from typing import Any

import attrs
import orjson
import psycopg

from benchmarks.journal import intent
from benchmarks.processes import measured
from benchmarks.queueing import Commit, JournalSimulation, LimitSimulation
from lemon_async._http.shared_limit.opening import open_store
from lemon_async.batch import open_journal
from lemon_async.batch.records import Change, NewRow
from lemon_async.batch.states import Event

SUPPORT = Path(__file__).parents[1] / "tests" / "support"
WORKERS = (10, 100, 1_000)
RATES_RPM = (10_000, 100_000)
REQUESTS_PER_ROW = 2.2  # as counted in `fleet`
CHANGES_PER_ROW = 3  # intent, task, pictures
PICTURE_MB = 1.5
NETWORK_S = 0.0005  # to a server in the same data centre, and back
SECONDS = 1.0
SIMULATED_S = 20.0
WRITERS = (1, 2, 4)
GROUP = 50
JOURNALS = (1, 2, 4, 8, 16, 32)
SLOT_GOOD_FOR_MS = 200.0  # a slower intent takes another slot of the limit
ACCOUNT = "0123456789abcdef"


async def write(url: str, name: str, group: int, starts_at: float) -> dict[str, Any]:
    """Record groups of changes one after another; return their number a second, and the median time of one."""
    keys = [f"{name}-{index}" for index in range(group)]
    kinds = cycle([intent, withdraw])
    async with open_journal(url) as journal:
        await journal.add([new_row(key) for key in keys])
        await asyncio.sleep(starts_at - time.time())
        laps, ends_at = [], time.perf_counter() + SECONDS
        while (began := time.perf_counter()) < ends_at:
            change = next(kinds)
            await asyncio.gather(*(journal.record(change(key)) for key in keys))
            laps.append(time.perf_counter() - began)
    return {"groups_per_s": len(laps) / sum(laps), "p50_s": statistics.median(laps)}


def withdraw(key: str) -> Change:
    """Return the change after a request that was not sent."""
    return Change(key=key, event=Event.WITHDRAW)


def new_row(key: str) -> NewRow:
    """Return a row like that of a file with a key and a prompt."""
    request = orjson.dumps({"model": "flux-pro", "prompt": f"A product photo of {key} on white", "type": "generate"})
    return NewRow(key, request, b"", hashlib.sha256(request).digest())


async def reserve(url: str, starts_at: float) -> dict[str, Any]:
    """Reserve one slot after another, as a process does whose requests come slowly."""
    options = {"account": ACCOUNT, "rpm": 60_000_000, "interval_s": 1e-6, "horizon_s": 60.0}
    store = open_store(url, **options, on_pause=lambda _: None)
    try:
        lease = await store.reserve(1, epoch=None, owed=0)
        await asyncio.sleep(starts_at - time.time())
        laps, ends_at = [], time.perf_counter() + SECONDS
        while (began := time.perf_counter()) < ends_at:
            lease = await store.reserve(1, epoch=lease.epoch, owed=0)
            laps.append(time.perf_counter() - began)
    finally:
        await store.aclose()
    return {"per_s": len(laps) / sum(laps), "p50_s": statistics.median(laps)}


async def together(number: int, step: str, *arguments: str) -> list[dict[str, Any]]:
    """Run a step in several processes at the same time."""
    starts_at = str(time.time() + 4.0 + number / 2)  # after all of them have been imported, and their rows added
    calls = (measured("benchmarks.scale", step, *arguments, f"w{number}-{index}", starts_at) for index in range(number))
    return await asyncio.gather(*calls)


def total(found: list[dict[str, Any]], name: str) -> float:
    """Return the sum of a figure."""
    return sum(each[name] for each in found)


async def turns(new_database: Callable[[], str]) -> tuple[Commit, list[dict[str, Any]]]:
    """Measure transactions of one process and of several; return the costs of one, and both beside the prediction."""
    found = {}
    for writers, group in [(writers, group) for group in (1, GROUP) for writers in WRITERS]:
        found[writers, group] = await together(writers, "write", new_database(), str(group))
    alone, many = (found[1, group][0]["p50_s"] for group in (1, GROUP))
    change_s = (many - alone) / (GROUP - 1)
    trip_s = await trip(new_database())
    commit = Commit(trip_s=trip_s, hold_s=alone - trip_s - change_s, change_s=change_s)
    rows = []
    for (writers, group), measures in found.items():
        predicted = JournalSimulation(writers, None, commit, backlog=group).run(SIMULATED_S)
        rows.append(
            {
                "processes": writers,
                "changes_per_group": group,
                "groups_per_s_predicted": round(predicted.groups_per_s),
                "groups_per_s_measured": round(total(measures, "groups_per_s")),
            }
        )
    return commit, rows


async def trip(url: str) -> float:
    """Return the seconds of a round trip to the server that asks for nothing."""
    laps = []
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        for _ in range(300):
            began = time.perf_counter()
            await connection.execute("SELECT 1")
            laps.append(time.perf_counter() - began)
    return statistics.median(laps)


def connection_mb(url: str) -> float:
    """Return the memory that the server takes for a connection: that of its process, without what all of them share."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SELECT count(*) FROM lemon_async.rows")
        row = connection.execute("SELECT pg_backend_pid()").fetchone()
        assert row is not None  # noqa: S101 - it has one
        memory = Path(f"/proc/{row[0]}/smaps_rollup").read_text()
    private = sum(int(line.split()[1]) for line in memory.splitlines() if line.startswith("Private"))
    return private / 1024


def plan(commit: Commit, figures: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what a fleet of each size does at each rate, with a network between it and its servers."""
    far = attrs.evolve(commit, trip_s=commit.trip_s + NETWORK_S, hold_s=commit.hold_s + NETWORK_S)
    return [size(workers, rpm, far, figures) for rpm in RATES_RPM for workers in WORKERS]


def size(workers: int, rpm: int, commit: Commit, figures: dict[str, Any]) -> dict[str, Any]:
    """Return what a fleet of this size does, and the smallest number of journals that keep up."""
    rows_per_s = rpm / 60 / REQUESTS_PER_ROW
    changes_per_s = rows_per_s * CHANGES_PER_ROW
    loads = {
        journals: JournalSimulation(workers // journals, changes_per_s / journals, commit).run(SIMULATED_S)
        for journals in JOURNALS
        if journals <= workers
    }
    limit = LimitSimulation(workers, rpm, NETWORK_S).run(SIMULATED_S)
    return {
        "workers": workers,
        "requests_per_minute": rpm,
        "rows_per_s": round(rows_per_s, 1),
        "journal": rounded(attrs.asdict(loads[1])),
        "journals_that_keep_up": next((each for each, load in loads.items() if load.p99_ms < SLOT_GOOD_FOR_MS), None),
        "limit": rounded(attrs.asdict(limit)),
        "redis_busy": round(limit.trips_per_s / figures["redis_reservations_per_s"], 3),
        "postgres_busy": round(limit.trips_per_s / figures["postgres_reservations_per_s"], 3),
        "connections_to_postgres": workers,
        "connections_gb": round(workers * figures["connection_mb"] / 1024, 2),
        "downloads_mbit_per_s": round(rows_per_s * PICTURE_MB * 8),
    }


async def costs(postgres: Any, redis: Any) -> tuple[Commit, dict[str, Any]]:
    """Measure everything; return what a transaction costs, and all figures."""
    commit, by_writers = await turns(postgres.new_database)
    url = postgres.new_database()
    async with open_journal(url):
        memory_mb = connection_mb(url)
    figures = {
        "transaction": {name: round(value * 1e3, 3) for name, value in attrs.asdict(commit).items()},
        "turns": by_writers,
        "connection_mb": round(memory_mb, 2),
    }
    for name, address in (("redis", redis.url), ("postgres", url)):
        one, all_of_them = await together(1, "reserve", address), await together(4, "reserve", address)
        figures[f"{name}_reservation_ms"] = round(one[0]["p50_s"] * 1e3, 3)
        figures[f"{name}_reservations_per_s"] = round(total(all_of_them, "per_s"))
    return commit, figures


def run(quick: bool = False) -> dict[str, Any]:  # noqa: ARG001
    """Return the measured costs, and the plan."""
    sys.path.append(str(SUPPORT))
    servers, stores = map(importlib.import_module, ("postgres_server", "redis_server"))
    postgres = servers.PostgresServer(fsync=True)
    try:
        with stores.RedisServer() as redis:
            commit, figures = asyncio.run(costs(postgres, redis))
    finally:
        postgres.remove()
    return {**figures, "plan": plan(commit, figures)}


def rounded(figures: dict[str, float]) -> dict[str, float]:
    """Return figures with four digits."""
    return {name: float(f"{value:.4g}") for name, value in figures.items()}


if __name__ == "__main__":
    name, url, *rest = sys.argv[1:]
    step = write(url, rest[1], int(rest[0]), float(rest[2])) if name == "write" else reserve(url, float(rest[1]))
    print(json.dumps(asyncio.run(step)))
