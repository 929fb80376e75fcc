"""One pass over a journal gets each row that is free, in the order in which a run takes them, and holds it."""

import pytest

from lemon_async.batch import open_journal
from lemon_async.batch.records import Change
from lemon_async.batch.running.sweep import Sweep
from lemon_async.batch.states import State, Transition
from saved_rows import add, sell


@pytest.fixture
async def journal(tmp_path):
    """Nine rows: r1 is sold, r2 has failed, r3 is refused, and another run holds r4."""
    async with open_journal(tmp_path / "run.db", create=True) as journal:
        for number in range(9):
            await add(journal, f"r{number}")
        await sell(journal, "r1")
        await sell(journal, "r2")
        await journal.record(Change(key="r2", transition=Transition.FAIL))
        await journal.record(Change(key="r3", transition=Transition.REFUSE))
        await journal.claim("other", keys=["r4"])
        yield journal


async def chunks_of(sweep, **options):
    return [[row.key for row in await sweep.claim()] for _ in range(20) if sweep.has_more(**options)]


async def test_all_rows_that_are_free_come_in_chunks(journal):
    """Sold ones first; an empty chunk ends those in a state."""
    sweep = Sweep.of(journal, "mine", 2)
    chunks = await chunks_of(sweep)
    assert [key for chunk in chunks for key in chunk] == ["r1", "r2", "r0", "r5", "r6", "r7", "r8"]
    assert (chunks.count([]), max(map(len, chunks))) == (3, 2)
    assert sweep.held_elsewhere == 1
    assert await chunks_of(Sweep.of(journal, "mine", 2)) == [[], [], []]


async def test_new_rows_can_wait(journal):
    """As when the budget is used up: then the others are still of use."""
    sweep = Sweep.of(journal, "mine", 2)
    assert await chunks_of(sweep, but_not=State.NEW) == [["r1"], [], ["r2"], []]
    assert sweep.held_elsewhere == 1


async def test_given_rows_only(journal):
    """Each chunk of keys in the order of a run; those that are over, or not there, are left out."""
    await journal.claim("other", keys=["r8"])
    sweep = Sweep.of(journal, "mine", 4, ["r0", "r1", "r2", "r3", "r4", "r5", "r9", "r8"])
    assert await chunks_of(sweep) == [["r1", "r2", "r0"], [], ["r5"], []]
    assert sweep.held_elsewhere == 2
    assert await chunks_of(Sweep.of(journal, "mine", 4, [])) == []
