"""A journal is watched while it is open in another process, before, and after."""

import os
from pathlib import Path

import pytest

from journals import PICTURE, accept, intend, new_rows, save
from lemon_async.batch import State, open_journal, watch_journal
from lemon_async.batch.watching import file_view
from lemon_async.batch.watching.summary import note_budget
from lemon_async.errors import JournalError


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.db"


async def fill(journal, number=5):
    """Add rows, and finish the first one."""
    await journal.add(new_rows(number))
    for change in (intend("k0"), accept("k0"), save("k0", 0.04, PICTURE)):
        await journal.record(change)


def names(rows):
    return [row.key for row in rows]


async def test_rows_come_from_the_owner_while_the_file_is_open(path):
    """The summary names the process; rows have their requests and pictures, the last one first."""
    async with open_journal(path, create=True) as journal, watch_journal(path) as view:
        await fill(journal)
        await note_budget(journal, 2.5)
        summary = await view.summary()
        assert (summary.counts[State.NEW], summary.counts[State.DONE], summary.budget_usd) == (4, 1, 2.5)
        assert summary.spending == await journal.spending()
        assert summary.owner["pid"] == os.getpid()
        assert summary.has_rows
        assert await view.rows() == await journal.last_rows()
        assert names(await view.rows(State.NEW, before=4, limit=2)) == ["k3", "k2"]


async def test_rows_come_from_the_file_when_no_process_has_it_open(path):
    async with watch_journal(path) as view:
        async with open_journal(path, create=True) as journal:
            await fill(journal)
            rows = await view.rows()
        content = path.read_bytes()
        summary = await view.summary()
        assert (summary.owner, summary.runs, summary.counts[State.DONE]) == (None, 0, 1)
        assert await view.rows() == rows
        assert names(await view.rows(State.DONE, State.NEW, before=3, limit=2)) == ["k2", "k1"]
    assert path.read_bytes() == content
    assert [*path.parent.iterdir()] == [path]


async def test_file_is_followed_through_all_owners(path):
    """What was read before is read again after another owner has changed it."""
    async with watch_journal(path) as view:
        for number in (1, 2, 3):
            async with open_journal(path, create=True) as journal:
                await journal.add(new_rows(number))
                assert (await view.summary()).counts[State.NEW] == number
            assert len(await view.rows()) == number


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "there is no file"),
        (b"", "the file is empty"),
        (b"no database" * 99, "not a journal"),
    ],
)
async def test_wrong_file_is_an_error_that_may_pass(path, content, words):
    if content is not None:
        path.write_bytes(content)
    async with watch_journal(path) as view:
        with pytest.raises(JournalError, match=words):
            await view.summary()
        with pytest.raises(JournalError, match=words):
            await view.rows()
        path.unlink(missing_ok=True)
        async with open_journal(path, create=True) as journal:
            await fill(journal)
        assert (await view.summary()).counts[State.DONE] == 1


async def test_removed_journal_is_missing_also_while_its_owner_runs(path):
    """The owner cannot save anything any more, whatever it still knows."""
    async with watch_journal(path) as view, open_journal(path, create=True) as journal:
        await fill(journal)
        await view.summary()
        path.unlink()
        with pytest.raises(JournalError, match="there is no file"):
            await view.summary()


async def test_owner_that_does_not_answer_has_a_summary_without_rows(path, monkeypatch):
    """As where sockets are impossible: the counts come from the status file."""
    monkeypatch.setattr(file_view, "_PATIENCE_S", 0)
    async with open_journal(path, create=True) as journal, watch_journal(path) as view:
        await fill(journal)
        Path(f"{path}.socket").unlink()
        summary = await view.summary()
        assert (summary.has_rows, summary.owner["pid"]) == (False, os.getpid())
        with pytest.raises(JournalError, match="does not show its rows"):
            await view.rows()


async def test_link_to_a_journal_leads_to_its_owner(path, tmp_path):
    link = tmp_path / "link.db"
    link.symlink_to(path.name)
    async with open_journal(path, create=True) as journal, watch_journal(link) as view:
        await fill(journal)
        assert len(await view.rows()) == 5
