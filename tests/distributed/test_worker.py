"""A worker runs a batch once, and says what came of it; without Ray, its journal may be a file."""

import asyncio
import pickle

import pytest

from batches import rows
from lemon_async import ContractError, PollPolicy
from lemon_async.batch import State, open_journal
from lemon_async.distributed.options import WorkerOptions
from lemon_async.distributed.worker import Worker
from lemon_async.emulator import Stuck
from lemon_async.errors import BatchPaused, JournalError

QUICK = PollPolicy(min_gap_s=0.005, max_gap_s=0.02)


@pytest.fixture
def options_of(emulator, tmp_path, monkeypatch):
    """Make options of workers that have the emulator's key in their environment."""
    monkeypatch.setenv("LEMONDATA_API_KEY", emulator.api_key)
    session = {"base_url": emulator.base_url, "polling": QUICK, "requests_per_minute": 60_000}

    def make(**batch):
        return WorkerOptions(journal=str(tmp_path / "run.db"), session=session, batch={"model": "flux-pro", **batch})

    return make


@pytest.fixture
async def added(connect, tmp_path):
    """A journal with three rows."""
    async with connect() as lemon:
        batch = lemon.batch(tmp_path / "run.db", rows(3), key="id", save=str(tmp_path / "{key}"), model="flux-pro")
        await batch.add()


async def states(folder):
    async with open_journal(folder / "run.db") as journal:
        return [row.state for row in await journal.rows()]


async def test_a_worker_buys_what_is_in_the_journal(options_of, added, emulator, tmp_path):
    """The answer of a call may be lost: the second joins the first, or returns what has come of it."""
    worker = Worker(options_of())
    assert (await worker.check()).error is None
    assert not emulator.ledger.entries
    reports = [*await asyncio.gather(worker.run(), worker.run()), await worker.run()]
    assert [report.error for report in reports] == [None] * 3
    assert await states(tmp_path) == [State.DONE] * 3
    assert len([entry for entry in emulator.ledger.entries if entry.kind == "reserve"]) == 3


async def test_errors_are_returned_and_name_the_machine(options_of, added, tmp_path):
    """Ray would wrap what is raised in types of its own."""
    report = await Worker(options_of(budget_usd=0.01, price_usd=0.04)).run()
    assert isinstance(report.error, BatchPaused)
    assert f"(worker on {report.place})" in str(report.error)
    assert pickle.loads(pickle.dumps(report)).error.message == report.error.message
    async with open_journal(tmp_path / "run.db"):
        report = await Worker(options_of()).check()
    assert isinstance(report.error, JournalError)


async def test_a_worker_without_a_key_says_so_before_it_runs(options_of, added, monkeypatch):
    """The environment of the driver is not that of the worker."""
    monkeypatch.delenv("LEMONDATA_API_KEY")
    report = await Worker(options_of()).check()
    assert isinstance(report.error, ContractError)
    assert "LEMONDATA_API_KEY" in str(report.error)


async def test_leaving_ends_a_run_that_goes_on_later(options_of, added, emulator, tmp_path):
    """A worker that leaves reports no error; what is sold is resumed."""
    emulator.fault("submit", Stuck())
    worker = Worker(options_of())
    await worker.leave()
    running = asyncio.ensure_future(worker.run())
    while len(emulator.ledger.entries) < 3:
        await asyncio.sleep(0.002)
    await worker.leave()
    assert (await running).error is None
    assert State.SOLD in await states(tmp_path)
