"""Processes that run one batch at a time share its rows: each is bought once, whatever happens to some of them."""

import asyncio
import os
import signal

import pytest

from kills import Books, Processes, Sales, address_of, check_files, check_money, check_sales
from lemon_async.batch import State
from lemon_async.emulator import Status
from maps import submits

ROWS = [{"id": f"r{number}", "prompt": f"r{number}"} for number in range(60)]
PRICE = {"price_usd": 0.05, "budget_usd": 5}
END_SESSION = (
    "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 2 "
    "AND objid = (SELECT id FROM {schema}.owners WHERE pid = {pid})"
)


@pytest.fixture(scope="module")
def fleet():
    members = [Processes() for _ in range(3)]
    yield members
    for member in members:
        member.close()


@pytest.fixture
def batch(emulator, postgres, tmp_path):
    """The arguments of one batch."""
    return {
        "service": address_of(emulator),
        "journal": postgres.new_journal(),
        "rows": ROWS,
        "key": "id",
        "save": str(tmp_path / "out" / "{key}"),
        "model": "flux-pro",
        "size": "256x256",
        "in_flight": 4,
        "session": {"requests_per_minute": 6000},
        **PRICE,
    }


async def sold(emulator, number):
    async with asyncio.timeout(60):
        while submits(emulator) < number:
            await asyncio.sleep(0.002)


async def books_of(batch, emulator, folder):
    """Read the journal, and check it, the pictures and the money."""
    books, sales = await Books.of(batch["journal"]), Sales.of(emulator, {row["id"] for row in ROWS})
    check_sales(sales, books)
    check_money(sales, books, batch["budget_usd"])
    await check_files(emulator, books, folder)
    return books


async def ends_of(members):
    async with asyncio.timeout(60):
        ends = await asyncio.gather(*(member.ended() for member in members))
    assert all((end.status, end.report["error"]) == (0, None) for end in ends), ends
    return [end.report["outcomes"] for end in ends]


async def test_processes_share_the_rows(fleet, batch, emulator, tmp_path):
    """Each outcome goes to one of them, and all end."""
    emulator.fault("poll", Status(502))  # no row ends before all processes have bought as many as they may
    await asyncio.gather(*(member.start("run", **batch) for member in fleet))
    await sold(emulator, len(fleet) * batch["in_flight"])
    emulator.clear_faults()
    outcomes = await ends_of(fleet)
    assert sum(outcomes) == len(ROWS)
    assert min(outcomes) >= batch["in_flight"]
    books = await books_of(batch, emulator, tmp_path)
    assert books.counts == {State.DONE: len(ROWS)}


async def test_the_others_finish_what_a_killed_and_a_stopped_process_have_begun(
    fleet, batch, postgres, emulator, tmp_path
):
    """The stopped one comes back after its session has ended: what it knows is accepted, and nothing bought twice."""
    killed, stopped, _ = [await member.start("run", **batch) for member in fleet]
    await sold(emulator, 15)
    os.kill(stopped, signal.SIGSTOP)  # first: while the kill is awaited, it could buy the rest, and end
    try:
        await fleet[0].kill(killed)
        schema = batch["journal"].partition("schema=")[2]
        url = batch["journal"].partition("?")[0]
        postgres.execute(END_SESSION.format(schema=schema, pid=stopped), url)
        await ends_of(fleet[2:])
    finally:
        os.kill(stopped, signal.SIGCONT)
    await ends_of(fleet[1:2])
    books = await books_of(batch, emulator, tmp_path)
    assert books.counts.keys() <= {State.DONE, State.DOUBTFUL}
    assert books.counts[State.DOUBTFUL] <= 4  # of the killed one; the stopped one knew what had become of its own
