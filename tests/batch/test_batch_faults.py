"""Faults of a whole batch: a clear error each; nothing is sold that should not be, nothing that was sold is lost."""

import asyncio
import sqlite3
from collections import Counter

import pytest

from kills import Books, Sales, address_of, check_files, check_sales
from lemon_async import LemonSession, RetryPolicy
from lemon_async.batch import State
from lemon_async.emulator import Emulator, Status, Stuck
from lemon_async.errors import AuthenticationError, BatchPaused, ContractError, InsufficientBalance, JournalError
from maps import until

SMALL = {"model": "flux-pro", "size": "256x256"}


def prompts(number):
    return [f"p{index}" for index in range(number)]


def keyed(number):
    return [{"id": prompt, "prompt": prompt} for prompt in prompts(number)]


@pytest.fixture
def run(connect, tmp_path):
    """Run a batch to its end, and return how many rows ended in each state."""

    async def run_once(rows, **options):
        options = {"key": "id", "save": str(tmp_path / "out" / "{key}"), **SMALL, **options}
        async with connect() as session, session.batch(tmp_path / "run.db", rows, **options) as batch:
            return Counter([outcome.status async for outcome in batch])

    return run_once


@pytest.fixture
def checked(emulator, tmp_path):
    """Check that nothing was sold twice or lost, and return the books."""

    async def check(number):
        books = await Books.of(tmp_path / "run.db")
        check_sales(Sales.of(emulator, prompts(number)), books)
        await check_files(emulator, books, tmp_path)
        return books

    return check


@pytest.mark.parametrize("full", ["journal", "pictures"])
async def test_full_disk_stops_the_sale_and_the_next_run_goes_on(processes, emulator, tmp_path, full):
    """What was sold until then is in the journal; once there is space, all rows are done and none was bought twice."""
    disk, kept = tmp_path / "disk", tmp_path / "kept"
    disk.mkdir()
    folders = {"journal": (disk, tmp_path), "pictures": (tmp_path, disk)}[full]
    options = {"journal": folders[0] / "run.db", "save": folders[1] / "out" / "{key}", "key": "id", "in_flight": 4}
    ended = await processes.run(
        "fill_disk", service=address_of(emulator), rows=keyed(30), disk=disk, kept=kept, **options, **SMALL
    )
    if "skipped" in ended.report:
        pytest.skip(ended.report["skipped"])
    assert ended.status == 0
    *outcomes, last = ended.report["full"]
    assert {"journal": "JournalError", "pictures": "PartialSaveError"}[full] in {*outcomes, last.split(":")[0]}
    assert "full" in last or "No space left" in last
    assert ended.report["again"] == []
    assert emulator.ledger.sold == dict.fromkeys(prompts(30), 1)
    books = await Books.of((kept if full == "journal" else tmp_path) / "run.db")
    check_sales(Sales.of(emulator, prompts(30)), books)
    assert books.counts[State.DONE] >= 30 - 4


async def test_session_that_may_buy_twice_is_refused(connect, emulator, tmp_path):
    """Rows are bought at most once, and the cap is never exceeded."""
    async with connect(retry=RetryPolicy(resubmit_unknown=True)) as session:
        with pytest.raises(ContractError, match="retry: resubmit_unknown may buy a row twice"):
            session.batch(tmp_path / "run.db", keyed(1), key="id", **SMALL)
    assert not emulator.ledger.sold


async def test_read_only_disk_sells_nothing(processes, run, emulator, tmp_path):
    """The error names the journal."""
    await run(keyed(1))
    options = {"journal": tmp_path / "run.db", "key": "id", "save": str(tmp_path / "out" / "{key}"), **SMALL}
    ended = await processes.run(
        "on_read_only_disk", folder=tmp_path, service=address_of(emulator), rows=keyed(2), **options
    )
    if "skipped" in ended.report:
        pytest.skip(ended.report["skipped"])
    kind, message = ended.report["error"]
    assert (kind, "run.db" in message) == ("JournalError", True)
    assert emulator.ledger.sold == {"p0": 1}


async def test_second_process_is_refused_and_the_first_goes_on(processes, run, emulator, checked, tmp_path):
    """The error names the process that has the journal; once that is gone, the batch can be run."""
    options = {"journal": tmp_path / "run.db", "key": "id", "save": str(tmp_path / "out" / "{key}"), **SMALL}
    pid = await processes.start("hold", service=address_of(emulator), rows=keyed(3), **options)
    ready = await processes.read()
    with pytest.raises(JournalError, match=rf"run\.db.*{pid}"):
        await run(keyed(3))
    assert ready["pid"] == pid
    assert await processes.kill(pid)
    await run(keyed(3))
    assert (await checked(3)).counts.total() == 3


async def test_journal_of_another_service_sells_nothing(run, emulator, tmp_path):
    """Rows that one service has sold cannot be resumed at another."""
    await run(keyed(1))
    async with Emulator(speed=6000) as other, LemonSession(other.api_key, base_url=other.base_url) as session:
        with pytest.raises(JournalError, match=emulator.base_url):
            async with session.batch(tmp_path / "run.db", keyed(2), key="id", **SMALL):
                pass
        assert not other.ledger.sold


async def test_journal_of_an_older_schema_sells_nothing(run, emulator, tmp_path):
    """The error names both versions."""
    await run(keyed(1))
    with sqlite3.connect(tmp_path / "run.db") as database:
        database.execute("PRAGMA user_version=0")
    database.close()
    with pytest.raises(JournalError, match=r"run\.db.*version 0"):
        await run(keyed(2))
    assert emulator.ledger.sold == {"p0": 1}


async def test_changed_row_under_an_old_key_sells_nothing(run, emulator, checked):
    """The error shows both contents; the other rows are not bought either, and nothing of the journal is lost."""
    await run(keyed(2))
    changed = [{"id": "p1", "prompt": "another"}, {"id": "p2", "prompt": "p2"}]
    with pytest.raises(ContractError, match=r"(?s)p1.*another|another.*p1"):
        await run(changed)
    assert emulator.ledger.sold == dict.fromkeys(prompts(2), 1)
    assert (await checked(2)).counts == {State.DONE: 2}


async def test_wrong_key_ends_a_thousand_rows_after_the_first_few(connect, run, emulator, checked, tmp_path):
    """The rows stay new: with the right key they are bought."""
    rows = keyed(1000)
    session = LemonSession("sk-wrong", base_url=emulator.base_url, requests_per_minute=60_000)
    async with session, session.batch(tmp_path / "run.db", rows, key="id", in_flight=5, **SMALL) as batch:
        with pytest.raises(BatchPaused) as paused:
            async for _ in batch:
                pass
    assert isinstance(paused.value.__cause__, AuthenticationError)
    assert sum(request.route == "submit" for request in emulator.requests) < 10
    assert (await checked(0)).counts == {State.NEW: 1000}


async def test_empty_balance_midway_pauses_and_the_next_run_goes_on(run, emulator, checked):
    """What was sold is saved; the rest is bought once the account is topped up."""
    fault = emulator.fault("submit", Status(402), nth=range(6, 1000))
    with pytest.raises(BatchPaused) as paused:
        await run(keyed(40), in_flight=4)
    assert isinstance(paused.value.__cause__, InsufficientBalance)
    assert (await checked(40)).counts == {State.DONE: 5, State.NEW: 35}
    assert fault.hits < 12
    emulator.clear_faults()
    await run(keyed(40))
    assert (await checked(40)).counts == {State.DONE: 40}


async def test_service_that_lost_its_tasks_ends_their_rows(run, emulator, tmp_path):
    """A task that the service does not know any more is dead, and not bought again."""
    emulator.fault("submit", Stuck(), times=3)
    running = asyncio.create_task(run(keyed(6)))
    await until(lambda: len(list(tmp_path.glob("out/*.png"))) == 3)
    await emulator.restart(keep_tasks=False)
    assert await running == {State.DONE: 3, State.DEAD: 3}
    assert emulator.ledger.sold == dict.fromkeys(prompts(6), 1)


async def test_gateway_faults_of_polls_do_not_end_a_row(run, emulator, checked):
    """Three responses of a broken gateway cost time only."""
    emulator.fault("poll", Status(502, body="html"), times=3)
    assert await run(keyed(3)) == {State.DONE: 3}
    assert (await checked(3)).counts == {State.DONE: 3}
