"""Run one batch with many processes while they and their servers are killed, and check what the service sold."""

import asyncio
import json
import os
import random
import signal
import sys
from contextlib import suppress
from pathlib import Path

import attrs

from kills import Books, Sales, address_of, check_files, check_money, check_sales
from lemon_async.batch import State

CHILD = Path(__file__).with_name("fleet_child.py")
ENDED = {State.DONE, State.DOUBTFUL, State.DEAD}
LOOK_EVERY_S = 0.02
PRICE_USD = 0.05  # of the emulator


@attrs.define
class Plan:
    """What a driver does.

    Attributes:
        service: The key and address of the service.
        journal: The journal that all processes share.
        rows: The prompts, which are also the keys.
        workers: How many processes run the batch.
        session: Options of `LemonSession`.
        add: Options of `LemonSession.batch` with the rows.
        run: Those without, in the workers.
    """

    service: dict
    journal: str
    rows: list
    workers: int
    session: dict
    add: dict
    run: dict = attrs.field(factory=dict)


def plan_of(emulator, folder, journal, rows, *, workers, run=None, **session):
    """Return a plan with so many rows, at the price of the service, and pictures in a folder."""
    return Plan(
        service=address_of(emulator),
        journal=str(journal),
        rows=[f"{Path(folder).name}-{row}" for row in range(rows)],
        workers=workers,
        session=session,
        add={"save": f"{folder}/{{key}}", "model": "flux-pro", "size": "256x256"},
        run={"price_usd": PRICE_USD, **(run or {})},
    )


@attrs.define
class Driver:
    """A program that adds the rows, and keeps workers running.

    Attributes:
        workers: The ids of its workers.
        failures: What has ended a worker, apart from kills.
        pauses: What has paused the batch of a worker.
        cpu_s: What the processes have used that have ended.
    """

    workers: set = attrs.field(factory=set)
    pauses: list = attrs.field(factory=list)
    failures: list = attrs.field(factory=list)
    cpu_s: float = 0.0
    _process: asyncio.subprocess.Process | None = None
    _reading: asyncio.Task | None = None

    async def start(self, plan):
        """Start it, or start it again."""
        command = [sys.executable, str(CHILD), json.dumps(attrs.asdict(plan))]
        self._process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        self._reading = asyncio.create_task(self._read(self._process.stdout))

    async def _read(self, lines):
        async for line in lines:
            match json.loads(line):
                case {"started": pid, "as": "work"}:
                    self.workers.add(pid)
                case {"failed": error}:
                    self.failures.append(error)
                case {"paused": message}:
                    self.pauses.append(message)
                case {"ended": pid, "cpu_s": cpu_s}:
                    self.workers.discard(pid)
                    self.cpu_s += cpu_s

    def signal_worker(self, dice, number=signal.SIGKILL):
        """Send a signal to one of the workers, and return its id; `None` if there is none."""
        if not self.workers:
            return None
        pid = dice.choice(sorted(self.workers))
        self.workers.discard(pid)
        with suppress(ProcessLookupError):
            os.kill(pid, number)
        return pid

    async def kill(self):
        """Kill it, and its workers with it."""
        self._process.kill()
        await self._process.wait()
        await self._reading  # ends when the last worker has

    @property
    def is_running(self):
        """Whether it has been started, and has not ended."""
        return self._process is not None and self._process.returncode is None

    async def wait(self):
        """Wait until the batch has ended."""
        status = await self._process.wait()
        await self._reading
        assert status == 0, status

    async def aclose(self):
        """Kill it if it is running."""
        if self.is_running:
            await self.kill()


@attrs.define
class Outage:
    """When the driver or a server was stopped, and when it was back, in seconds of the service."""

    name: str
    began_s: float
    back_s: float = 0.0


@attrs.define
class Fleet:
    """A run of a batch by many processes, and what happened during it.

    Args:
        emulator: The service; its ledger is the oracle.
        plan: What the driver does.
        restarts: What restarts each server that the processes use, by its name.
        seed: Of the moments of all events.

    Attributes:
        outages: The times without the driver or a server.
        kills: Number of workers that were killed, those with the driver included.
        killed_at: When workers were killed, in seconds of the service.
    """

    emulator: object
    plan: Plan
    restarts: dict
    seed: int = 14
    outages: list = attrs.field(factory=list, init=False)
    kills: int = attrs.field(default=0, init=False)
    killed_at: list = attrs.field(factory=list, init=False)
    driver: Driver = attrs.field(factory=Driver, init=False)

    async def run(self, *, worker_kills, driver_kills=1):
        """Run the batch to its end; things happen when random numbers of rows have been sold."""
        dice = random.Random(self.seed)
        events = ["worker"] * worker_kills + ["driver"] * driver_kills + [*self.restarts]
        dice.shuffle(events)
        rows = len(self.plan.rows)
        moments = sorted(dice.sample(range(rows // 50, rows * 9 // 10), len(events)))
        await self.driver.start(self.plan)
        try:
            for moment, event in zip(moments, events, strict=True):
                await self._sold(moment)
                await self._happen(event, dice)
            await self.driver.wait()
        finally:
            await self.driver.aclose()

    async def _sold(self, number):
        ledger = self.emulator._store.ledger
        while sum(entry.kind == "reserve" for entry in ledger.entries) < number:
            assert self.driver.is_running, "the batch has ended too early"
            await asyncio.sleep(LOOK_EVERY_S)

    async def _happen(self, event, dice):
        if event == "worker":
            while not self.driver.signal_worker(dice):
                assert self.driver.is_running, "the batch has ended too early"
                await asyncio.sleep(LOOK_EVERY_S)
            self.kills += 1
            self.killed_at.append(self.emulator.now())
            return
        outage = Outage(event, self.emulator.now())
        if event == "driver":
            self.kills += len(self.driver.workers)
            await self.driver.kill()
            await self.driver.start(self.plan)
        else:
            await self.restarts[event]()
        outage.back_s = self.emulator.now()
        self.outages.append(outage)

    async def check(self, folder):
        """Check that no row was sold twice or lost, that each has ended, and its files; return the figures."""
        books = await Books.of(self.plan.journal)
        sales = Sales.of(self.emulator, set(self.plan.rows))
        check_sales(sales, books)
        check_money(sales, books, self.plan.run.get("budget_usd"))
        await check_files(self.emulator, books, Path(folder))
        assert books.counts.keys() <= ENDED, books.counts
        assert len(books.rows) == len(self.plan.rows)
        return {
            "rows": len(books.rows),
            "sold": sales.sold.total(),
            "sold_twice": sum(number > 1 for number in sales.kept.values()),
            "states": {str(state): number for state, number in sorted(books.counts.items())},
            "kills": self.kills,
            "cpu_ms_per_row": round(self.driver.cpu_s * 1e3 / len(books.rows), 1),
            "failures_of_workers": self.driver.failures,
        }
