"""Read a journal in SQLite that no process has open, without keeping one from opening it.

A runner takes the lock of the file or gives up, so a reader must never hold it. After a clean end the file is complete:
it is opened as `immutable`, which takes no lock, and every read is followed by a check that nothing has changed. After
a kill the last changes are in the log beside the file, which SQLite reads with locks only. Then a private copy of both
is opened; requests that were under way become doubtful in the copy, as they will in the journal when it is opened next.
"""

import os
import shutil
import sqlite3
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

from lemon_async.batch.records import JournalRow
from lemon_async.batch.states import State
from lemon_async.batch.store.faults import missing, refusal
from lemon_async.batch.store.sqlite import reading
from lemon_async.batch.store.sqlite.faults import describe
from lemon_async.batch.store.sqlite.status_file import path_of_status
from lemon_async.batch.store.sqlite.store import SqliteStore
from lemon_async.batch.watching.summary import BUDGET_NOTE, JournalSummary, read_budget
from lemon_async.errors import JournalError

__all__ = ["BusyFile", "ClosedFile"]

_QUIET_S = 1.0
_PIECE = 2**20
# Closing a descriptor would drop the lock of an owner in this process (POSIX): one for each file is left open.
_left_open: dict[tuple[int, int], int] = {}
_copying = threading.Lock()

Fingerprint = tuple[object, ...]


class BusyFile(Exception):
    """A process is opening or closing the journal, or has changed it while it was read."""


class ClosedFile:
    """A journal as it was when it was opened here; synchronous, for one thread at a time.

    Args:
        path: The file.

    Raises:
        BusyFile: It is in use.
        JournalError: It is missing, damaged or no journal.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._folder: Path | None = None
        self._fingerprint = _fingerprint(path)
        try:
            source = path if self._is_complete() else self._copy()
            self._connection = _connect(source)
            self._summary = self._sum_up()
            self._check()
        except BaseException as fault:
            self.close()
            if isinstance(fault, sqlite3.Error | OSError):
                raise self._explained(fault) from fault
            raise

    def _explained(self, fault: sqlite3.Error | OSError) -> Exception:
        if _fingerprint(self._path) != self._fingerprint:
            return BusyFile()
        if self._folder is not None and isinstance(fault, OSError):
            place = str(self._folder.parent)
            words = f"its last run was killed, and it cannot be copied to {place!r} to be read: {fault.strerror}"
            return refusal(self._path, words)
        return describe(self._path, fault)

    def _sum_up(self) -> JournalSummary:
        if not reading.check_identity(self._connection, self._path):
            raise missing(self._path, "the file is empty")
        ledger = reading.sum_up(self._connection)
        budget = read_budget(reading.read_note(self._connection, BUDGET_NOTE))
        return JournalSummary(counts=ledger.counts(), spending=ledger.spending(), budget_usd=budget)

    def summary(self) -> JournalSummary:
        """Return how the batch stands.

        Raises:
            BusyFile: The file has changed.
        """
        self._check()
        return self._summary

    def _check(self) -> None:
        """Raise `BusyFile` if the file has changed since it was opened here."""
        if _fingerprint(self._path) != self._fingerprint:
            raise BusyFile

    def last_rows(self, states: Sequence[State], before: int, limit: int) -> Sequence[JournalRow]:
        """Return rows, as `Journal.last_rows`.

        Raises:
            BusyFile: It has changed.
        """
        try:
            rows = reading.last_rows(self._connection, states, before, limit)
        except sqlite3.Error as fault:
            self._check()
            raise describe(self._path, fault) from fault
        self._check()
        return rows

    def close(self) -> None:
        """Close the file, and remove the copy; may be called again."""
        if hasattr(self, "_connection"):
            self._connection.close()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _is_complete(self) -> bool:
        return not (_wal_of(self._path).exists() or path_of_status(self._path).exists())

    def _copy(self) -> Path:
        """Copy the file and its log to a private folder, open the copy as a journal, and close it."""
        file, wal = Path(os.path.realpath(self._path)), _wal_of(self._path)
        if time.time() - _changed_at(file, wal, path_of_status(self._path)) < _QUIET_S:
            raise BusyFile  # such as an owner that has its status already, and no log yet
        if not wal.exists():
            self._check()  # a run may have ended since the log was seen
            raise refusal(self._path, f"its last run was killed and has left changes in {wal.name!r}, which is missing")
        self._folder = Path(tempfile.mkdtemp(prefix="lemon-async-watch-"))
        copy = self._folder / "copy.db"
        _copy_open(file, copy)
        shutil.copyfile(wal, _wal_of(copy))
        self._check()
        try:
            SqliteStore(copy, mounts=self._folder / "none").close()
        except JournalError as fault:
            raise JournalError(message=str(fault).replace(str(copy), str(self._path))) from fault
        return copy


def _fingerprint(path: Path) -> Fingerprint:
    """Return what changes when a process opens or changes a journal."""
    return tuple(map(_stat_of, (path, _wal_of(path), path_of_status(path))))


def _changed_at(*paths: Path) -> float:
    """Return when one of these files was last changed; those that are missing do not count."""
    times = [0.0]
    for path in paths:
        with suppress(OSError):
            times.append(path.stat().st_mtime)
    return max(times)


def _stat_of(path: Path) -> object:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _wal_of(path: Path) -> Path:
    return Path(f"{os.path.realpath(path)}-wal")


def _connect(path: Path) -> sqlite3.Connection:
    address = f"file:{quote(os.fsencode(path.absolute()))}?immutable=1"
    return sqlite3.connect(address, uri=True, isolation_level=None, check_same_thread=False)


def _copy_open(file: Path, copy: Path) -> None:
    """Copy a file through a descriptor that is never closed."""
    if os.name != "posix":  # locks belong to descriptors there
        shutil.copyfile(file, copy)
        return
    found = file.stat()
    with _copying, copy.open("wb") as target:
        if (identity := (found.st_dev, found.st_ino)) not in _left_open:
            _left_open[identity] = os.open(file, os.O_RDONLY)
        place = 0
        while part := os.pread(_left_open[identity], _PIECE, place):
            target.write(part)
            place += len(part)
