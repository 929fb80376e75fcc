"""A journal that no process has open is read without a lock and without a change."""

import asyncio
import errno
import os
import shutil
import sqlite3
import threading

import pytest

from journal_owner import kill, owning_process
from journals import new_rows
from lemon_async.batch import State, open_journal
from lemon_async.batch.store.sqlite.status_file import path_of_status
from lemon_async.batch.watching import closed_file
from lemon_async.batch.watching.closed_file import BusyFile, ClosedFile
from lemon_async.errors import JournalError

END = 2**63 - 1


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.db"


def contents(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}


@pytest.fixture
async def killed(path):
    """A journal whose owner was killed, with everything in its log."""
    async with owning_process(path) as owner:
        await kill(owner)
    return path


@pytest.fixture
def without_patience(monkeypatch):
    """Files count as left alone at once."""
    monkeypatch.setattr(closed_file, "_QUIET_S", -1)


async def test_reader_sees_a_change_of_the_file(path):
    """What it had read before may be wrong then."""
    async with open_journal(path, create=True) as journal:
        await journal.add(new_rows(2))
    file = ClosedFile(path)
    assert file.summary().counts[State.NEW] == len(file.last_rows([], END, 9)) == 2
    async with open_journal(path) as journal:
        await journal.add(new_rows(3))
        with pytest.raises(BusyFile):
            file.summary()
    with pytest.raises(BusyFile):
        file.last_rows([], END, 9)
    file.close()


async def test_open_reader_does_not_keep_an_owner_from_opening(path):
    async with open_journal(path, create=True) as journal:
        await journal.add(new_rows(2))
    file = ClosedFile(path)
    async with owning_process(path, rows=0):
        pass
    file.close()


async def test_killed_owners_changes_are_shown_from_a_copy(killed, without_patience):
    """With the states that the next owner will find; nothing beside the journal changes, and the copy is removed."""
    before = contents(killed.parent)
    file = ClosedFile(killed)
    assert {row.key: row.state for row in file.last_rows([], END, 9)} == {
        "k0": State.SOLD, "k1": State.DOUBTFUL, "k2": State.NEW, "k3": State.NEW,
    }  # fmt: skip
    assert file.summary().counts[State.DOUBTFUL] == 1
    copy = file._folder
    assert copy.stat().st_mode & 0o077 == 0
    file.close()
    assert not copy.exists()
    assert contents(killed.parent) == before


async def test_files_that_were_changed_a_moment_ago_are_left_alone(killed, monkeypatch):
    """An owner may be about to open or to close them."""
    monkeypatch.setattr(closed_file, "_QUIET_S", 3600)
    with pytest.raises(BusyFile):
        ClosedFile(killed)


async def test_copying_in_the_owners_process_keeps_its_lock(path):
    """Closing a descriptor of the file would drop the lock, and let a second owner in (POSIX)."""
    async with open_journal(path, create=True):
        closed_file._copy_open(path, path.with_name("copy.db"))
        with pytest.raises(AssertionError):
            async with owning_process(path, rows=0):
                pytest.fail("a second owner has opened the journal")


async def test_copy_that_does_not_fit_is_an_error(killed, without_patience, monkeypatch):
    """It says where space is missing: the journal itself needs none."""

    def fail(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(shutil, "copyfile", fail)
    with pytest.raises(JournalError, match=r"cannot be copied to '.*' to be read: No space left on device"):
        ClosedFile(killed)


async def test_damaged_file_names_the_journal_and_not_the_copy(killed, without_patience, monkeypatch):
    monkeypatch.setattr(closed_file, "_copy_open", lambda _, copy: copy.write_bytes(b"not a database" * 999))
    monkeypatch.setattr(shutil, "copyfile", lambda *_: None)
    with pytest.raises(JournalError) as caught:
        ClosedFile(killed)
    assert str(killed) in str(caught.value)
    assert "copy.db" not in str(caught.value)


async def test_status_without_a_log_is_that_of_an_owner_which_opens_the_file(path, monkeypatch):
    """For a moment: then it is what a killed owner has left whose log was lost."""
    monkeypatch.setattr(closed_file, "_QUIET_S", 3600)
    async with open_journal(path, create=True) as journal:
        await journal.add(new_rows(2))
    path_of_status(path).write_text("{}")
    with pytest.raises(BusyFile):
        ClosedFile(path)


async def test_lost_log_is_an_error(killed, without_patience):
    killed.with_name("run.db-wal").unlink()
    with pytest.raises(JournalError, match="has left changes"):
        ClosedFile(killed)


@pytest.mark.parametrize("change", ["PRAGMA application_id=7", "PRAGMA user_version=99", "DROP TABLE rows"])
async def test_database_that_is_no_journal_of_this_version_is_an_error(path, change):
    async with open_journal(path, create=True):
        pass
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA journal_mode=DELETE")
        connection.execute(change)
    connection.close()
    with pytest.raises(JournalError):
        ClosedFile(path)


async def test_log_that_goes_while_it_is_looked_for_is_not_lost(killed, without_patience, monkeypatch):
    """A run that ends removes it: the file is busy then, and not damaged."""

    def has_log(_file):
        killed.with_name("run.db-wal").unlink()
        return False

    monkeypatch.setattr(ClosedFile, "_is_complete", has_log)
    with pytest.raises(BusyFile):
        ClosedFile(killed)


async def test_runs_start_while_a_watcher_reads_as_fast_as_it_can(path):
    """It never holds the lock for a moment, neither after a clean end nor after a kill."""

    def look(file):
        try:
            file = file or ClosedFile(path)
            file.last_rows([], END, 9)
        except BusyFile:
            file = file and file.close()
        return file

    async with open_journal(path, create=True):
        pass
    is_over = threading.Event()

    def watch():
        file = None
        while not is_over.is_set():
            file = look(file)
        if file:
            file.close()

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(asyncio.to_thread(watch))
        try:
            for number in range(1, 6):
                async with open_journal(path) as journal:
                    await journal.add(new_rows(number))
            for _ in range(2):
                async with owning_process(path, rows=40) as owner:
                    await kill(owner)
        finally:
            is_over.set()
