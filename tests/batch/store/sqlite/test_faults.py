import errno
import pickle
import sqlite3
from pathlib import Path

import pytest

from lemon_async.batch.store.faults import refusal
from lemon_async.batch.store.sqlite.faults import describe, network_file_system

PATH = Path("/data/run.db")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("SQLITE_FULL", "the disk is full; free some space, then run the batch again to continue (SQLITE_FULL)"),
        ("SQLITE_IOERR_FSYNC", "the disk failed to sync, so that changes may be lost; check it"),
        ("SQLITE_IOERR_DIR_FSYNC", "the disk failed to sync, so that changes may be lost; check it"),
        ("SQLITE_IOERR_WRITE", "the disk failed to read or write; check it, then run the batch again"),
        ("SQLITE_READONLY_DBMOVED", "it is read-only; make the file and its folder writable"),
        ("SQLITE_IOERR_LOCK", "it is read-only; make the file and its folder writable"),
        ("SQLITE_CORRUPT_INDEX", "it is damaged; use `.recover` of SQLite: an older copy would buy again"),
        ("SQLITE_NOTADB", "it is not a journal, nor any SQLite database; choose another name"),
        ("SQLITE_BUSY", "another process has it open; wait until it ends, or stop it"),
        ("SQLITE_CANTOPEN", "there is no folder '/data'; create it"),
        ("SQLITE_MISUSE", "what SQLite says (SQLITE_MISUSE)"),
        ("", "what SQLite says"),
    ],
)
def test_each_error_of_sqlite_says_what_to_do(name, words):
    """The journal is named, and SQLite's own name is kept where it may help."""
    failure = sqlite3.OperationalError("what SQLite says")
    failure.sqlite_errorname = name
    assert str(describe(PATH, failure)).startswith(f"cannot use the journal '/data/run.db': {words}")


def test_lock_that_a_file_system_lacks_is_named(tmp_path):
    """If the file itself may be written."""
    (tmp_path / "run.db").touch()
    failure = sqlite3.OperationalError("disk I/O error")
    failure.sqlite_errorname = "SQLITE_IOERR_LOCK"
    assert "its file system has no locks; put it on a local disk" in str(describe(tmp_path / "run.db", failure))


def test_error_of_the_system_is_quoted():
    """As its message, not as a tuple."""
    words = "Input/output error; check the disk, then run the batch again to continue"
    error = describe(PATH, OSError(errno.EIO, "Input/output error"))
    assert str(error) == f"cannot use the journal '/data/run.db': {words}"


def test_only_a_journal_in_use_has_an_owner():
    """The attribute distinguishes this error from the others, also in another process."""
    assert refusal(PATH, "it is closed").owner is None
    failure = sqlite3.OperationalError("database is locked")
    failure.sqlite_errorname = "SQLITE_BUSY"
    assert pickle.loads(pickle.dumps(describe(PATH, failure))).owner == {}


MOUNTS = r"""22 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw
23 22 0:20 / /mnt/share\040one rw - cifs //server/share rw
24 22 0:21 / /home rw shared:1 - nfs4 server:/home rw
25 24 8:2 / /home/local rw - xfs /dev/sdb1 rw
26 22 0:22 / /over rw - nfs server:/old rw
27 22 8:3 / /over rw - btrfs /dev/sdc1 rw
28 22 0:23 / /ssh rw - fuse.sshfs host:/ rw
29 22 0:24 / /scratch rw - lustre mds:/fs rw
30 22 0:25 / /box rw - fuse.encfs encfs rw
a line that is none
"""


@pytest.mark.parametrize(
    ("folder", "kind"),
    [
        ("/data", None),
        ("/mnt/share one/deep/down", "cifs"),
        ("/home/me", "nfs4"),
        ("/home/local/me", None),
        ("/homes", None),
        ("/over", None),
        ("/ssh", "fuse.sshfs"),
        ("/scratch/run", "lustre"),
        ("/box", None),
    ],
)
def test_network_file_systems_are_recognised(folder, kind):
    """By the last mount of the longest path; a local disk inside a network mount is local."""
    assert network_file_system(MOUNTS, Path(folder)) == kind
