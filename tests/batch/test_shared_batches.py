"""Batches that run on one journal at a time share its rows: each is bought once, and has one outcome."""

import asyncio
import logging

import attrs
import pytest

from batches import batch_of, rows
from lemon_async.batch import State, open_journal
from lemon_async.batch.records import Change
from lemon_async.batch.states import Transition
from lemon_async.emulator import Fail, Latency, Status, Stuck
from lemon_async.errors import BatchPaused, SessionError
from maps import collect, submits, until


def quick(batch, **options):
    """Have a batch look again soon."""
    batch._options = attrs.evolve(batch._options, **{"look_s": 0.02, **options})
    return batch


@pytest.fixture(params=["sqlite", "postgres"])
async def journal(request, tmp_path):
    address = tmp_path / "run.db" if request.param == "sqlite" else request.getfixturevalue("postgres").new_journal()
    async with open_journal(address, create=True) as journal:
        yield journal


@pytest.fixture
def batch_with(journal, tmp_path):
    def make(session, items=None, patience_s=120.0, **options):
        options = {"in_flight": 3, **options}
        return quick(batch_of(session, tmp_path, items, journal=journal, **options), patience_s=patience_s)

    return make


async def run(batch):
    """Run a batch to its end, and return its outcomes by key, and what it raised."""
    seen, error = [], None
    try:
        async with batch:
            await collect(batch, seen)
    except Exception as failure:  # noqa: BLE001 - the tests look at it
        error = failure
    return {outcome.key: outcome for outcome in seen}, error


async def test_two_batches_share_the_rows(connect, emulator, batch_with, journal, tmp_path):
    """Both bring the same rows, as when one program runs twice; failed ones are repeated by one of them."""
    emulator.fault("poll", Status(502))  # no row ends before both have bought as many as they may
    async with connect() as session:
        running = asyncio.gather(*(run(batch_with(session, rows(30))) for _ in range(2)))
        await until(lambda: submits(emulator) == 6)
        emulator.clear_faults()
        emulator.fault("submit", Fail(), prompt=r"prompt 1\d", times=2)  # a row has three attempts
        ends = await running
    (first, _), (second, _) = ends
    assert [error for _, error in ends] == [None, None]
    assert first.keys() | second.keys() == {f"r{index}" for index in range(30)}
    assert not first.keys() & second.keys()
    assert min(len(first), len(second)) >= 3
    assert (await journal.counts())[State.DONE] == 30
    assert (emulator.ledger.sold - emulator.ledger.released).total() == 30
    assert len(list((tmp_path / "out").glob("*.png"))) == 30


async def test_a_batch_that_is_left_leaves_its_rows_to_the_other(connect, emulator, batch_with):
    """Sold ones, too, whose tasks the other resumes; it has waited for them."""
    emulator.fault("poll", Status(502))
    async with connect() as session:
        async with batch_with(session, rows(6), in_flight=2) as first:
            await until(lambda: first.counts[State.SOLD] == 2)
            second = asyncio.create_task(run(batch_with(session)))
            await asyncio.sleep(0.04)
            assert not second.done()  # it is at work on the other rows
        emulator.clear_faults()
        outcomes, error = await second
    assert error is None
    assert outcomes.keys() == {f"r{index}" for index in range(6)}


async def test_waiting_for_rows_of_others_ends(connect, emulator, batch_with, caplog):
    """When none of them changes for long; it says so, and runs are still not in each other's way."""
    emulator.fault("submit", Stuck(), prompt="prompt 0")
    async with connect() as session, batch_with(session, rows(2), in_flight=1) as first:
        await until(lambda: first.counts[State.SOLD] == 1)
        with caplog.at_level(logging.WARNING, "lemon_async"):
            outcomes, error = await run(batch_with(session, patience_s=0.1))
    assert (outcomes.keys(), error) == ({"r1"}, None)
    assert [record.getMessage() for record in caplog.records if "other runs" in record.getMessage()] == [
        "other runs hold 1 rows of the journal, of which none has changed for 0 minutes; run it again later"
    ]


async def test_a_row_that_a_run_has_left_open_is_for_the_others_and_not_for_itself(connect, emulator, batch_with):
    """Each run tries it once; two runs with such rows do not wait for each other."""
    emulator.fault("submit", Status(500), prompt="prompt 1$")
    async with connect() as session:
        ends = await asyncio.gather(*(run(batch_with(session, rows(5), attempts=1)) for _ in range(2)))
    assert [error for _, error in ends] == [None, None]
    for outcomes, _ in ends:
        assert outcomes.get("r1") is None or outcomes["r1"].status is State.NEW
    assert any("r1" in outcomes for outcomes, _ in ends)


async def test_the_cap_holds_over_all_runs(connect, emulator, batch_with, journal):
    """A run whose next row does not fit waits while another may still release money, and pauses then."""
    emulator.fault("submit", Latency(50))
    options = {"budget_usd": 0.5, "price_usd": 0.05, "in_flight": 4}
    async with connect() as session:
        ends = await asyncio.gather(*(run(batch_with(session, rows(30), **options)) for _ in range(3)))
    assert {type(error) for _, error in ends} == {BatchPaused}
    assert all(str(error).startswith("the budget is used up: the next row, r") for _, error in ends)
    assert emulator.ledger.sold.total() == 10
    assert (await journal.spending()).committed == pytest.approx(0.5)
    assert sum(len(outcomes) for outcomes, _ in ends) == 10


async def test_money_that_another_run_releases_is_spent(connect, emulator, batch_with, journal):
    """Its failed task frees what the last row needs."""
    emulator.fault("submit", Fail(), prompt="prompt 0$")
    emulator.fault("poll", Status(502))
    options = {"budget_usd": 0.05, "price_usd": 0.05, "in_flight": 1, "attempts": 1}
    async with connect() as session, batch_with(session, rows(2), **options) as first:
        await until(lambda: first.counts[State.SOLD] == 1)
        second = asyncio.create_task(run(batch_with(session, **options)))
        await asyncio.sleep(0.04)
        assert not second.done()
        emulator.clear_faults()
        outcomes, error = await second
        assert (await anext(first)).status is State.DEAD
    assert ([outcome.status for outcome in outcomes.values()], error) == ([State.DONE], None)


async def test_a_row_that_another_run_has_finished_has_no_outcome_and_no_second_picture(
    connect, emulator, batch_with, journal, tmp_path
):
    """As after a stop of the process, when the other has resumed its task: the copy of the pictures is removed."""
    emulator.fault("poll", Status(502))  # until the other has finished it
    async with connect() as session, batch_with(session, rows(1)) as batch:
        await until(lambda: batch.counts[State.SOLD] == 1)
        (holder,) = {batch._runner.feed.run}
        await journal.release(holder)
        await journal.claim("other")
        assert await journal.record(Change(key="r0", transition=Transition.SAVE, run="other")) is State.DONE
        emulator.clear_faults()
        assert [outcome async for outcome in batch] == []
    assert [*(tmp_path / "out").glob("*.png")] == []


async def test_a_row_that_was_bought_twice_is_reported(connect, journal, tmp_path, caplog):
    """A user said "not sold" while the response was on its way: picture and task are there, and the log names both."""
    delayed = Delayed(journal, "r0", Transition.ACCEPT)
    async with connect() as session, quick(batch_of(session, tmp_path, rows(1), journal=delayed)) as batch:
        await delayed.is_asked.wait()
        await journal.release(batch._runner.feed.run)
        for transition in (Transition.DOUBT, Transition.NOT_SOLD):
            assert await journal.record(Change(key="r0", transition=transition))
        for transition in (Transition.INTEND, Transition.ACCEPT, Transition.SAVE):
            assert await journal.record(Change(key="r0", transition=transition, run="other"))
        delayed.may_go_on.set()
        (outcome,) = [outcome async for outcome in batch]
    assert "bought by this run" in str(outcome.error)
    assert len(outcome.paths) == 1
    (warning,) = [record.message for record in caplog.records if record.name == "lemon_async"]
    assert "'r0' was bought twice" in warning
    assert outcome.task.id in warning


class Delayed:
    """A journal that lets one transition of a row wait."""

    def __init__(self, journal, key, transition):
        self._journal, self._key, self._transition = journal, key, transition
        self.is_asked, self.may_go_on = asyncio.Event(), asyncio.Event()

    def __getattr__(self, name):
        return getattr(self._journal, name)

    async def record(self, change):
        if (change.transition, change.key) == (self._transition, self._key) and change.run != "other":
            self.is_asked.set()
            await self.may_go_on.wait()
        return await self._journal.record(change)


async def test_a_row_that_another_run_takes_is_not_bought(connect, emulator, journal, tmp_path):
    """Its intent is refused, and the run goes on with the others; it takes the row when that is free."""
    delayed = Delayed(journal, "r2", Transition.INTEND)
    async with connect() as session, quick(batch_of(session, tmp_path, rows(4), journal=delayed)) as batch:
        await delayed.is_asked.wait()
        await journal.release(batch._runner.feed.run)
        assert [row.key for row in (await journal.claim("other", keys=["r2"])).rows] == ["r2"]
        delayed.may_go_on.set()
        await until(lambda: batch.counts[State.DONE] == 3 and not batch._runner.feed.jobs)
        assert "prompt 2" not in emulator.ledger.sold
        await journal.release("other")
        assert {outcome.key async for outcome in batch} == {"r0", "r1", "r2", "r3"}
    assert emulator.ledger.sold.total() == 4


async def test_rows_are_added_without_buying_any(connect, emulator, batch_with, journal):
    """Another batch buys them, without rows of its own; a batch that adds rows can be entered, too."""
    async with connect() as session:
        batch = batch_with(session, rows(3))
        assert [await batch.add(), await batch.add(), await batch_with(session, rows(4)).add()] == [3, 0, 1]
        assert not emulator.requests
        outcomes, _ = await run(batch_with(session))
        assert len(outcomes) == 4
        async with batch:
            with pytest.raises(SessionError, match="add the rows before"):
                await batch.add()


async def test_only_given_rows_are_run(connect, emulator, batch_with, journal):
    """Those that another run holds are waited for, and the rest of the journal is left alone."""
    emulator.fault("submit", Latency(50))
    async with connect() as session:
        await batch_with(session, rows(9)).add()
        given = rows(9)[2:5]
        batches = [batch_with(session, given, only_given=True, in_flight=2) for _ in range(2)]
        ends = await asyncio.gather(*map(run, batches))
    assert [error for _, error in ends] == [None, None]
    assert sorted(key for outcomes, _ in ends for key in outcomes) == ["r2", "r3", "r4"]
    assert (await journal.counts())[State.NEW] == 6
    assert [batch.progress.total for batch in batches] == [3, 3]
