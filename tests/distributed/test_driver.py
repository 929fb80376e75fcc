"""`run_batch` adds the rows, lets the workers run, and says what came of them; Ray is a fake here."""

import asyncio
import sys
import threading

import pytest

from batches import rows
from fake_ray import FakeRay
from lemon_async import ContractError, PollPolicy
from lemon_async.batch import State, open_journal
from lemon_async.distributed import run_batch
from lemon_async.emulator import Emulator, Status
from lemon_async.errors import BatchPaused

QUICK = PollPolicy(min_gap_s=0.005, max_gap_s=0.02)


@pytest.fixture
def ray(monkeypatch):
    fake = FakeRay()
    monkeypatch.setitem(sys.modules, "ray", fake)
    return fake


@pytest.fixture
def url(postgres):
    return postgres.new_database()


@pytest.fixture
def run(emulator, url, tmp_path, monkeypatch, ray):
    """Run a batch on two workers of this process."""
    monkeypatch.setenv("LEMONDATA_API_KEY", emulator.api_key)
    monkeypatch.setattr("lemon_async.distributed.driver._LOOK_S", 0.01)
    options = {"model": "flux-pro", "size": "256x256", "polling": QUICK, "requests_per_minute": 60_000}

    async def run_rows(given=None, **more):
        common = {"key": "id", "save": str(tmp_path / "out" / "{key}"), "journal": url, "workers": 2}
        return await run_batch(given, **{**common, "base_url": emulator.base_url, **options, **more})

    return run_rows


def sold_of(emulator):
    return sum(entry.kind == "reserve" for entry in emulator.ledger.entries)


def counts_of(summary):
    return {str(state): count for state, count in summary.counts.items() if count}


async def test_rows_are_bought_once_and_summed_up(run, ray, emulator, tmp_path):
    """A second call finds nothing to do; progress is that of the journal."""
    seen = []
    emulator.fault("submit", Status(400, code="content_policy_violation"), prompt="prompt 3$")
    summary = await run(rows(20), progress=seen.append)
    assert counts_of(summary) == {"done": 19, "refused": 1}
    assert summary.failures == {"BadRequest": 1}
    assert (summary.workers, summary.restarts, sold_of(emulator)) == (2, 0, 19)
    assert summary.seconds > 0
    assert (seen[-1].total, seen[-1].done, seen[-1].failed, seen[-1].in_flight) == (20, 20, 1, 0)
    assert len([*(tmp_path / "out").glob("*.png")]) == 19
    again = await run(rows(20), progress=seen.append)
    assert counts_of(again) == counts_of(summary)
    assert (seen[-1].total, sold_of(emulator), ray.actors) == (0, 19, [])
    assert {"init", "shutdown"}.isdisjoint(ray.calls)


async def test_ray_is_started_and_stopped_only_if_the_program_has_not(run, ray, monkeypatch):
    """What was started here ends here, also after an error."""
    own = FakeRay(is_initialized=False)
    monkeypatch.setitem(sys.modules, "ray", own)
    await run(rows(1))
    monkeypatch.delenv("LEMONDATA_API_KEY")
    with pytest.raises(ContractError, match=r"LEMONDATA_API_KEY.*\(worker on .*, process \d+\)"):
        await run(rows(1))
    assert [call for call in own.calls if call != "kill"] == ["init", "shutdown"] * 2


async def test_ray_is_stopped_if_the_driver_is_cancelled_while_it_starts(run, monkeypatch):
    """Its processes would go on otherwise."""
    own, may_start = FakeRay(is_initialized=False), threading.Event()
    monkeypatch.setitem(sys.modules, "ray", own)
    monkeypatch.setattr(own, "init", lambda: (own.calls.append("begin"), may_start.wait(60), FakeRay.init(own)))
    running = asyncio.ensure_future(run(rows(1)))
    while not own.calls:
        await asyncio.sleep(0.005)
    running.cancel()
    await asyncio.sleep(0.02)
    may_start.set()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert own.calls == ["begin", "init", "shutdown"]


async def test_a_paused_worker_ends_the_batch(run, emulator):
    """The money cap holds over all workers, and the error names the worker."""
    with pytest.raises(BatchPaused, match=r"budget.*\(worker on"):
        await run(rows(20), budget_usd=0.5, price_usd=0.04, in_flight=2)
    assert sold_of(emulator) <= 12


async def test_invalid_arguments_are_found_before_a_worker_starts(run, ray, emulator):
    """Nothing was started, added or sent."""
    for options, problem in (
        ({"workers": 0}, "workers"),
        ({"workers": True}, "workers"),
        ({"journal": "run.db"}, "several machines cannot share a file"),
        ({"api_key": "sk-x"}, "LEMONDATA_API_KEY"),
        ({"given": [{"id": "a", "prompt": ""}]}, "row 1, prompt"),
        ({"save": "{colour}"}, "colour"),
        ({"progress": 7}, "progress"),
    ):
        with pytest.raises(ContractError, match=problem):
            await run(**{"given": rows(2), **options})
    assert (ray.calls, sold_of(emulator)) == ([], 0)


async def test_a_cancelled_driver_leaves_a_journal_to_continue(run, ray, url):
    """Workers leave in order: what is sold is resumed by the next call, and nothing is doubtful."""
    async with Emulator(speed=60, durations=30.0) as emulator:
        running = asyncio.ensure_future(run(rows(12), base_url=emulator.base_url, in_flight=3))
        while sold_of(emulator) < 4:
            await asyncio.sleep(0.005)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert ray.actors == []
        async with open_journal(url) as journal:
            counts = await journal.counts()
        assert counts[State.SOLD] + counts[State.DONE] == sold_of(emulator) < 12
        assert counts[State.DOUBTFUL] == 0
        assert counts_of(await run(base_url=emulator.base_url)) == {"done": 12}
        assert sold_of(emulator) == 12
