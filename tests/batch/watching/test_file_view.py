"""Who has the file open is found out again when that changes."""

import asyncio
import json
import os
import signal
import socket
from contextlib import AsyncExitStack

import pytest

from journal_owner import kill, owning_process
from journals import new_rows
from lemon_async.batch import State, open_journal
from lemon_async.batch.store.sqlite.socket_file import SocketFile
from lemon_async.batch.store.sqlite.status_file import path_of_status
from lemon_async.batch.watching import file_view
from lemon_async.batch.watching import owner as owner_module
from lemon_async.batch.watching.file_view import FileView
from lemon_async.batch.watching.owner import OwnerGone, OwnerLink
from lemon_async.errors import JournalError


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.db"


@pytest.fixture
async def view(path):
    view = FileView(path)
    yield view
    await view.aclose()


async def states(view):
    return {row.key: row.state.value for row in await view.rows()}


async def until(view, condition):
    async with asyncio.timeout(60):
        while not condition(summary := await view.summary()):
            await asyncio.sleep(0.01)
    return summary


async def test_killed_owner_and_the_next_one_are_followed(view, path):
    """Its rows stay visible: what was under way is in doubt. The next owner replaces its socket."""
    async with owning_process(path) as owner:
        assert await states(view) == {"k0": "sold", "k1": "intent", "k2": "new", "k3": "new"}
        assert (await view.summary()).owner["pid"] == owner.pid
        await kill(owner)
        summary = await until(view, lambda summary: summary.has_rows)
        assert summary.owner is None
        assert await states(view) == {"k0": "sold", "k1": "doubtful", "k2": "new", "k3": "new"}
    async with owning_process(path, rows=0) as owner:
        assert (await until(view, lambda summary: summary.owner)).owner["pid"] == owner.pid
        assert (await states(view))["k1"] == "doubtful"


async def test_journal_that_is_replaced_is_read_anew(view, path):
    """Also while the owner of the old file runs, which is of no use to anyone any more."""
    async with owning_process(path):
        assert len(await view.rows()) == 4
        for file in path.parent.iterdir():
            file.unlink(missing_ok=True)  # the owner renames what it has written of its status
        async with open_journal(path, create=True) as journal:
            await journal.add(new_rows(1))
            assert len(await view.rows()) == 1


async def test_reads_of_many_are_answered(view, path):
    """One after the other."""
    async with open_journal(path, create=True) as journal:
        await journal.add(new_rows(3))
        found = await asyncio.gather(*(view.rows(State.NEW) for _ in range(4)), *(view.summary() for _ in range(9)))
    assert [len(rows) for rows in found[:4]] == [3] * 4
    assert {summary.counts[State.NEW] for summary in found[4:]} == {3}


async def test_cancelled_read_leaves_the_view_usable(view, path):
    async with open_journal(path, create=True) as journal:
        await journal.add(new_rows(3))
        for _ in range(5):
            reading = asyncio.create_task(view.rows())
            await asyncio.sleep(0)
            reading.cancel()
        assert len(await view.rows()) == 3


async def test_rows_of_an_owner_are_paged_from_the_end(view, path):
    """Every row once, in pages of at most 200."""
    async with open_journal(path, create=True) as journal:
        await journal.add(new_rows(1000))
        numbers, before = [], None
        while rows := await view.rows(before=before, limit=1000):
            assert len(rows) <= 200
            numbers += [row.number for row in rows]
            before = numbers[-1]
    assert numbers == [*range(1000)][::-1]


async def test_owner_that_is_stopped_has_a_summary_without_rows(view, path, monkeypatch):
    """From its status file; when it goes on, it answers again."""
    monkeypatch.setattr(owner_module, "_ANSWER_WITHIN_S", 0.2)
    monkeypatch.setattr(file_view, "_PATIENCE_S", 0)
    async with owning_process(path) as owner:
        owner.send_signal(signal.SIGSTOP)
        summary = await until(view, lambda summary: not summary.has_rows)
        assert summary.owner["pid"] == owner.pid
        with pytest.raises(JournalError, match="does not show its rows"):
            await view.rows()
        owner.send_signal(signal.SIGCONT)
        await until(view, lambda summary: summary.has_rows)


async def test_killed_owner_whose_child_keeps_the_socket_is_dead(view, path):
    """A process that it has forked inherits what listens, and never answers."""
    async with owning_process(path) as owner:
        await kill(owner)
    with SocketFile(path).listen():
        assert (await until(view, lambda summary: summary.has_rows)).owner is None


@pytest.mark.parametrize("was_read", [False, True])
async def test_owner_that_ends_while_it_is_asked_leaves_the_file(view, path, monkeypatch, was_read):
    """Which is read then, even if the patience is over, and anew if it was read before: the machine may be busy."""
    if was_read:
        async with open_journal(path, create=True):
            pass
        assert not await view.rows()
    monkeypatch.setattr(file_view, "_PATIENCE_S", 0.01)
    async with AsyncExitStack() as owner:
        journal = await owner.enter_async_context(open_journal(path, create=True))
        await journal.add(new_rows(2))

        async def ask(_link, **_question):
            await owner.aclose()
            await asyncio.sleep(0.02)
            raise OwnerGone

        monkeypatch.setattr(OwnerLink, "ask", ask)
        assert (await view.summary()).counts[State.NEW] == 2


@pytest.mark.parametrize("counts", [3, [], {"done": []}])
async def test_answer_of_another_version_is_none(view, path, monkeypatch, counts):
    """Neither rows nor sums can be made of it; the page goes on with what else is known."""
    monkeypatch.setattr(file_view, "_PATIENCE_S", 0)

    async def ask(_link, **_question):
        facts = {"spending": {}, "budget_usd": None, "runs": 1, "owner": {}}
        return {"counts": counts, "rows": [{"number": 1}], **facts}

    monkeypatch.setattr(OwnerLink, "ask", ask)
    async with open_journal(path, create=True):
        assert not (await view.summary()).has_rows
        with pytest.raises(JournalError, match="does not show its rows"):
            await view.rows()


@pytest.mark.parametrize(
    "facts",
    [{"spending": {"spent": 1}}, {"counts": {"done": "?"}}, {"counts": {"done": []}}, {"pid": 2**40}, {"pid": -1}],
    ids=str,
)
async def test_status_of_another_version_is_refused(view, path, monkeypatch, facts):
    """It may be anything: a watcher says that the journal cannot be read, and goes on."""
    monkeypatch.setattr(file_view, "_PATIENCE_S", 0)
    async with open_journal(path, create=True):
        pass
    status = {"pid": os.getpid(), "host": socket.gethostname(), "counts": {}, "spending": {}, **facts}
    path_of_status(path).write_text(json.dumps(status))
    with pytest.raises(JournalError, match="cannot use the journal"):
        await view.summary()
