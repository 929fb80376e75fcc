import json
import os
import socket
import time

import pytest

from lemon_async.batch.records import Spending
from lemon_async.batch.states import State
from lemon_async.batch.store.sqlite import status_file
from lemon_async.batch.store.sqlite.status_file import StatusFile, path_of_status, read_status


@pytest.fixture
def journal(tmp_path):
    return tmp_path / "run.db"


def test_status_names_the_owner_and_what_it_has_done(journal):
    """As JSON, beside the journal."""
    StatusFile(journal).write({State.NEW: 2}, Spending(spent=0.5))
    status = json.loads((journal.parent / "run.db.status").read_text())
    assert status == read_status(journal)
    assert (status["pid"], status["host"]) == (os.getpid(), socket.gethostname())
    assert status["counts"] == {"new": 2}
    assert status["spending"]["spent"] == 0.5
    assert time.time() - 60 < status["started"] <= status["updated"] <= time.time()


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"pid": 1}', '{"pid": 1, "counts": 2, "spending": 3}'])
def test_damaged_status_is_ignored(journal, content):
    path_of_status(journal).write_text(content)
    assert read_status(journal) == {}


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="needs root")
def test_status_of_another_user_is_ignored(journal):
    """In a folder that others may write to, they may leave one."""
    journal.touch()
    StatusFile(journal).write({State.NEW: 2}, Spending())
    os.chown(path_of_status(journal), 4242, 4242)
    assert not read_status(journal)
    os.chown(journal, 4242, 4242)
    assert read_status(journal)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_pipe_in_the_place_of_a_status_is_not_waited_for(journal):
    os.mkfifo(path_of_status(journal))
    assert not read_status(journal)


def test_link_in_the_place_of_a_part_is_not_followed(journal, tmp_path):
    """Others may write in the folder, too."""
    other = tmp_path / "other"
    other.write_text("mine")
    path_of_status(journal).with_name("run.db.status.part").symlink_to(other)
    StatusFile(journal).write({State.NEW: 2}, Spending())
    assert other.read_text() == "mine"
    assert read_status(journal)["counts"] == {"new": 2}
    assert not path_of_status(journal).is_symlink()


def test_status_is_due_once_in_a_while_and_written_if_it_changed(journal, monkeypatch):
    """An idle batch leaves the disk alone."""
    monkeypatch.setattr(status_file, "_EVERY_S", 60.0)
    file = StatusFile(journal)
    assert file.is_due()
    file.write({State.NEW: 2}, Spending())
    assert not file.is_due()
    file.write({State.NEW: 1}, Spending())
    assert read_status(journal)["counts"] == {"new": 1}
    path_of_status(journal).unlink()
    file.write({State.NEW: 1}, Spending())
    assert not read_status(journal)


def test_status_that_cannot_be_written_is_ignored(journal):
    """It is a courtesy: the journal is what counts."""
    path_of_status(journal).mkdir()
    StatusFile(journal).write({}, Spending())
    assert not read_status(journal)


@pytest.mark.parametrize("content", ["", "{", "[1]", "\xff"])
def test_unreadable_status_is_none(journal, content):
    """Whatever another program has left there."""
    path_of_status(journal).write_text(content, encoding="latin-1")
    assert not read_status(journal)


def test_removed_status_is_gone(journal):
    """Also the second time."""
    file = StatusFile(journal)
    file.write({}, Spending())
    file.remove()
    file.remove()
    assert not list(journal.parent.iterdir())
