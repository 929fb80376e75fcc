"""The tables of a journal in SQLite, and its transactions; synchronous, for one thread.

* One connection holds the file's lock from opening to closing (`locking_mode=EXCLUSIVE`): a second runner is refused.
* Every transaction is synced before it counts (WAL, `synchronous=FULL`; NORMAL may lose commits when power fails).
* Nothing else may open the file in this process: closing any descriptor of it would drop the lock (POSIX).
"""

import socket
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

from lemon_async.batch.records import Change, Claim, JournalRow, NewRow, Spending
from lemon_async.batch.states import State
from lemon_async.batch.store.claims import Claims, abandoned
from lemon_async.batch.store.faults import conflict, missing, not_text, refusal
from lemon_async.batch.store.ledger import RowFacts
from lemon_async.batch.store.sqlite import statements as sql
from lemon_async.batch.store.sqlite.faults import check_place, describe
from lemon_async.batch.store.sqlite.reading import (
    check_identity,
    complete,
    last_rows,
    look_up,
    read_note,
    select_rows,
    sum_up,
)
from lemon_async.batch.store.sqlite.socket_file import SocketFile
from lemon_async.batch.store.sqlite.status_file import StatusFile
from lemon_async.batch.store.values import STATES, is_text, storable

__all__ = ["SqliteStore"]

_MOUNTS = Path("/proc/self/mountinfo")
_MOST_KNOWN = 20_000  # rows
_SETTINGS = (
    "synchronous=FULL",
    "fullfsync=ON",  # macOS: sync the disk, too
    "checkpoint_fullfsync=ON",
    "cache_size=-32768",
    "wal_autocheckpoint=4000",
)


class SqliteStore:
    """A journal in one file, locked until it is closed.

    Args:
        path: The file, in a folder that exists.
        base_url: The service that the rows are for; a journal of another one is refused. `None` does not check.
        create: Whether to create it if it is missing.
        clock: Returns Unix seconds.
        mounts: Lists the mounted file systems, as Linux does; does not exist elsewhere.

    Raises:
        JournalError: It cannot be used.
    """

    def __init__(
        self,
        path: Path,
        base_url: str | None = None,
        *,
        create: bool = True,
        clock: Callable[[], float] = time.time,
        mounts: Path = _MOUNTS,
    ) -> None:
        self._path = path
        self._clock = clock
        self._file = 0, 0, 0
        self._known: dict[str, RowFacts] = {}
        self._claims = Claims()
        self._status: StatusFile | None = None
        self._socket: SocketFile | None = None
        with self._explained():
            if not create and not path.exists():
                raise missing(path, "there is no file")
            self._wal = Path(f"{path.resolve()}-wal")  # SQLite follows links
            check_place(path, self._wal, mounts)
            self._connection = self._connect()
        try:
            with self._explained():
                self._open(base_url, create=create)
        except BaseException:
            self.close()
            raise
        self._status = StatusFile(path)
        self.tend()

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(self._path, timeout=0, isolation_level=None, cached_statements=256)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Raise a `JournalError` for errors of SQLite and of the disk."""
        try:
            yield
        except (sqlite3.Error, OSError) as failure:
            raise describe(self._path, failure) from failure

    def _open(self, base_url: str | None, *, create: bool) -> None:
        execute = self._connection.execute
        execute("PRAGMA locking_mode=EXCLUSIVE")  # first: then no shared memory is used
        if not check_identity(self._connection, self._path) and not create:
            raise missing(self._path, "the file is empty")
        if execute("PRAGMA journal_mode=WAL").fetchone()[0] != "wal":
            raise refusal(self._path, "its file system cannot hold a write-ahead log; put it on another disk")
        for setting in _SETTINGS:
            execute(f"PRAGMA {setting}")
        with self._transaction():
            if not execute("PRAGMA application_id").fetchone()[0]:
                for statement in sql.SCHEMA.split(";"):
                    execute(statement)
            self._check_service(base_url)
        self._file = self._inode()
        self._ledger = sum_up(self._connection)
        self._next = execute("SELECT ifnull(max(number) + 1, 0) FROM rows").fetchone()[0]
        self._recover()

    def _check_service(self, base_url: str | None) -> None:
        if base_url is None:
            return
        base_url = base_url.rstrip("/")
        if (known := self.read_note("base_url")) is None:
            self._write_note("base_url", base_url)
        elif known != base_url:
            raise refusal(self._path, f"its rows are for {known}, and this session is for {base_url}")

    def _recover(self) -> None:
        """Mark the rows of an owner that died: its requests may have arrived, its inline pictures are lost."""
        select = "SELECT key FROM rows WHERE state=?"
        sent = self._connection.execute(select, (str(State.INTENT),))
        inline = self._connection.execute(f"{select} AND task IS NULL", (str(State.SOLD),))
        self._apply(abandoned([key for (key,) in sent], [key for (key,) in inline]))

    def tend(self) -> None:
        """Write the status, if that is due."""
        if self._status is not None and self._status.is_due():
            self._status.write(self.counts(), self.spending())

    def listen(self) -> socket.socket | None:
        """Return a socket, as `Store.listen`."""
        self._socket = SocketFile(self._path)
        return self._socket.listen()

    def give_up(self) -> None:
        """Do nothing: a disk that hangs cannot be interrupted."""

    def close(self) -> None:
        """Release the file; may be called again."""
        if self._socket is not None:
            self._socket.remove()
        if self._status is not None:
            self._status.remove()  # before the log: what it means if it is left is that changes were left in the log
        with suppress(sqlite3.Error):
            self._connection.close()

    def _check_file(self) -> None:
        """Refuse to continue with a file that was deleted, moved or replaced: what is written would be lost.

        Raises:
            JournalError: It was.
        """
        try:
            is_there = self._inode() == self._file
        except OSError:
            is_there = False
        if not is_there:
            raise refusal(self._path, "it was deleted, moved or replaced while it was in use")

    def _inode(self) -> tuple[int, int, int]:
        file = self._path.stat()
        return file.st_dev, file.st_ino, self._wal.stat().st_ino

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """Commit what is written, and sync it; or nothing of it."""
        execute = self._connection.execute
        execute("BEGIN IMMEDIATE")
        try:
            yield
            execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):  # some errors have rolled back already
                execute("ROLLBACK")
            raise

    def add(self, rows: Sequence[NewRow]) -> int:
        """Add rows, as `Journal.add`."""
        with self._explained():
            if fresh := self._fresh(rows):
                self._insert(fresh)
            return len(fresh)

    def check(self, rows: Sequence[NewRow]) -> None:
        """Check rows, as `Journal.check`."""
        with self._explained():
            self._fresh(rows)

    def _fresh(self, rows: Sequence[NewRow]) -> list[NewRow]:
        """Return the rows whose key is new.

        Raises:
            ContractError: A key exists with another digest, or is not text.
        """
        if unreadable := [row.key for row in rows if not is_text(row.key)]:
            raise not_text(unreadable)
        known = dict(look_up(self._connection, "SELECT key, digest FROM rows WHERE key", (row.key for row in rows)))
        fresh: dict[str, NewRow] = {}
        conflicts: list[NewRow] = []
        for row in rows:
            if row.key not in known:
                fresh[row.key], known[row.key] = row, row.digest
            elif known[row.key] != row.digest:
                conflicts.append(row)
        if conflicts:
            raise conflict((self._content(row.key, fresh), row) for row in conflicts)
        return list(fresh.values())

    def _content(self, key: str, fresh: Mapping[str, NewRow]) -> tuple[bytes, bytes]:
        """Return what the journal, or the same call, holds under a key."""
        if key in fresh:
            return fresh[key].request, fresh[key].columns
        select = "SELECT request, columns FROM rows JOIN contents USING (number) WHERE key=?"
        request, columns = self._connection.execute(select, (key,)).fetchone()
        return request, columns

    def _insert(self, rows: Sequence[NewRow]) -> None:
        now, first = self._clock(), self._next
        identities = [(number, row.key, row.digest, now) for number, row in enumerate(rows, first)]
        contents = [(number, row.request, row.columns) for number, row in enumerate(rows, first)]
        with self._transaction():
            self._connection.executemany(
                "INSERT INTO rows (number, key, digest, changed_at) VALUES (?,?,?,?)", identities
            )
            self._connection.executemany("INSERT INTO contents VALUES (?,?,?)", contents)
        self._check_file()
        self._next += len(rows)
        total = self._ledger.totals[State.NEW]
        total.rows += len(rows)
        total.unpriced += len(rows)

    def apply(self, changes: Sequence[Change]) -> list[State | None]:
        """Make changes, in one transaction; return the new state for each, as `Journal.record`."""
        try:
            with self._explained():
                return self._apply(changes)
        except BaseException:
            self._known.clear()  # it is ahead of the tables
            raise

    def _apply(self, changes: Sequence[Change]) -> list[State | None]:
        now = self._clock()
        self._load(changes)
        ledger, known = self._ledger.copy(), self._known
        results = [
            None if (row := known.get(change.key)) is None else ledger.change(row, change, now) for change in changes
        ]
        done = [(change, known[change.key]) for change, state in zip(changes, results, strict=True) if state]
        if done:
            self._write({row.number: row for _, row in done}.values(), done)
            self._ledger = ledger
            for _, row in done:
                self._claims.note(row)
                if not row.state.is_open:
                    known.pop(row.key, None)
        return results

    def _load(self, changes: Sequence[Change]) -> None:
        """Keep in memory what may change of rows that were read or changed last."""
        keys = {change.key for change in changes}
        if missing := [key for key in keys if key not in self._known and is_text(key)]:
            if len(self._known) + len(missing) > _MOST_KNOWN:
                self._known.clear()
                missing = [key for key in keys if is_text(key)]
            for facts in look_up(self._connection, sql.LOAD, missing):
                self._know(facts)
        for row in filter(None, map(self._known.get, keys)):
            row.holder = self._claims.holder(row.number)

    def _know(self, facts: Sequence[Any]) -> None:
        self._known[facts[1]] = RowFacts(facts[0], facts[1], STATES[facts[2]], *facts[3:])

    def _write(self, rows: Iterable[RowFacts], done: Iterable[tuple[Change, RowFacts]]) -> None:
        updates = [
            (
                row.number, str(row.state), row.attempt, row.changed_at, row.task, row.fingerprint, row.price,
                row.cost, row.sunk, row.refunded, storable(row.error),
            )
            for row in rows
        ]  # fmt: skip
        pictures = [
            (row.number, position, sql.path_in(picture.path), picture.size_bytes, picture.sha256)
            for change, row in done
            for position, picture in enumerate(change.pictures)
        ]
        statements = [*sql.statements(sql.UPDATE, updates), *sql.statements(sql.INSERT_PICTURES, pictures)]
        # Without BEGIN and COMMIT, a lone statement gives up the interpreter's lock once.
        with self._transaction() if len(statements) > 1 else nullcontext():
            for statement, values in statements:
                self._connection.execute(statement, values)
        self._check_file()

    def rows(self, states: Sequence[State], after: int, limit: int) -> list[JournalRow]:
        """Return rows, as `Journal.rows`."""
        with self._explained():
            found = select_rows(self._connection, states, after, limit)
            if len(self._known) + len(found) > _MOST_KNOWN:
                self._known.clear()
            for row in found:
                if row[2] == State.NEW and row[1] not in self._known:  # likely to change soon
                    self._know(row[:-2])
            return complete(self._connection, found)

    def last_rows(self, states: Sequence[State], before: int, limit: int) -> list[JournalRow]:
        """Return rows, as `Journal.last_rows`."""
        with self._explained():
            return last_rows(self._connection, states, before, limit)

    def claim(self, run: str, states: Sequence[State], after: int, limit: int, keys: Sequence[str] | None) -> Claim:
        """Hold rows for a run, as `Journal.claim`."""
        numbers = None
        if keys is not None:
            found = [row for key in dict.fromkeys(keys) if (row := self.find(key))]
            numbers = [row.number for row in found]
            taken = self._claims.take(run, [row for row in found if row.state in (states or State)])
        else:
            taken = []
            while not taken and (found := self.rows(states, after, limit)):
                taken = self._claims.take(run, found)
                after = found[-1].number
        return Claim(taken, 0 if taken else self._claims.held_elsewhere(run, numbers))

    def release(self, run: str) -> None:
        """Let go of the rows of a run, as `Journal.release`."""
        self._claims.release(run)

    def runs(self) -> int:
        """Return how many runs hold rows."""
        return self._claims.runs()

    def find(self, key: str) -> JournalRow | None:
        """Return a row, as `Journal.find`."""
        with self._explained():
            found = self._connection.execute(f"{sql.ROWS} WHERE key = ?", (storable(key),)).fetchall()
            return next(iter(complete(self._connection, found)), None)

    def counts(self) -> Mapping[State, int]:
        """Return the number of rows in every state."""
        return self._ledger.counts()

    def spending(self) -> Spending:
        """Return the sums of money."""
        return self._ledger.spending()

    def owner_of(self, path: str) -> str | None:
        """Return the key of the row that has this file."""
        select = "SELECT key FROM pictures JOIN rows USING (number) WHERE path = ?"
        with self._explained():
            found = self._connection.execute(select, (sql.path_in(path),)).fetchone()
            return None if found is None else str(found[0])

    def read_note(self, name: str) -> str | None:
        """Return a note."""
        with self._explained():
            return read_note(self._connection, name)

    def write_note(self, name: str, text: str) -> None:
        """Keep a note."""
        with self._explained():
            with self._transaction():
                self._write_note(name, text)
            self._check_file()

    def _write_note(self, name: str, text: str) -> None:
        self._connection.execute("INSERT OR REPLACE INTO notes VALUES (?, ?)", (name, storable(text)))
