"""The tables of a journal in SQLite, and its transactions; synchronous, for one thread.

* One connection holds the file's lock from opening to closing (`locking_mode=EXCLUSIVE`): a second runner is refused.
* Every transaction is synced before it counts (WAL, `synchronous=FULL`; NORMAL may lose commits when power fails).
* Nothing else may open the file in this process: closing any descriptor of it would drop the lock (POSIX).
"""

import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import Any

from lemon_async.batch.records import Change, JournalRow, NewRow, SavedPicture, Spending
from lemon_async.batch.states import Event, State
from lemon_async.batch.store.faults import conflict, describe, network_file_system, refusal
from lemon_async.batch.store.ledger import Ledger, RowFacts, in_dollars

__all__ = ["SqliteStore"]

_APPLICATION_ID = 0x4C4D4E41  # "LMNA"
_VERSION = 1
_MOUNTS = Path("/proc/self/mountinfo")
_MOST_CONFLICTS = 20
_LOOKUP = 512  # keys in one SELECT
_SETTINGS = ("fullfsync=ON", "checkpoint_fullfsync=ON", "cache_size=-32768", "wal_autocheckpoint=4000")
_SCHEMA = f"""
CREATE TABLE rows (
    number INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, digest BLOB NOT NULL, state TEXT NOT NULL DEFAULT 'new',
    attempt INTEGER NOT NULL DEFAULT 0, changed_at REAL NOT NULL, task TEXT, fingerprint TEXT,
    price_nano_usd INTEGER, cost_nano_usd INTEGER, sunk_nano_usd INTEGER NOT NULL DEFAULT 0,
    refunded_nano_usd INTEGER NOT NULL DEFAULT 0, error TEXT);
CREATE INDEX rows_by_state ON rows (state, number);
CREATE TABLE contents (number INTEGER PRIMARY KEY, request BLOB NOT NULL, columns BLOB NOT NULL);
CREATE TABLE pictures (
    number INTEGER, position INTEGER, path NOT NULL, size_bytes INTEGER NOT NULL, sha256 TEXT NOT NULL,
    PRIMARY KEY (number, position)) WITHOUT ROWID;
CREATE INDEX pictures_by_path ON pictures (path);
CREATE TABLE notes (name TEXT PRIMARY KEY, text TEXT NOT NULL) WITHOUT ROWID;
PRAGMA application_id={_APPLICATION_ID};
PRAGMA user_version={_VERSION}
"""
_FACTS = (
    "number, key, state, attempt, changed_at, task, fingerprint, price_nano_usd, cost_nano_usd, sunk_nano_usd, "
    "refunded_nano_usd, error"
)
_ROWS = f"SELECT {_FACTS}, request, columns FROM rows JOIN contents USING (number)"  # noqa: S608 - constants
_INSERT = "INSERT INTO rows (number, key, digest, changed_at) VALUES (?,?,?,?)"
_LOAD = f"SELECT {_FACTS} FROM rows WHERE key"  # noqa: S608 - constants
_UPDATE = (
    "UPDATE rows SET state=?, attempt=?, changed_at=?, task=?, fingerprint=?, price_nano_usd=?, cost_nano_usd=?, "
    "sunk_nano_usd=?, refunded_nano_usd=?, error=? WHERE number=?"
)
_SUMS = (
    "SELECT state, count(*), sum(sunk_nano_usd), sum(refunded_nano_usd), sum(ifnull(cost_nano_usd, price_nano_usd)), "
    "sum(ifnull(cost_nano_usd, price_nano_usd) IS NULL) FROM rows GROUP BY state"
)
_STATES = {str(state): state for state in State}
_OWNER_DIED = "the process ended before the response to its request was recorded"
_INLINE_LOST = "answered inline; the process ended before its pictures were saved"


class SqliteStore:
    """A journal in one file, locked until it is closed.

    Args:
        path: The file; created if it is missing, in a folder that exists.
        base_url: The service that the rows are for; a journal of another one is refused. `None` does not check.
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
        clock: Callable[[], float] = time.time,
        mounts: Path = _MOUNTS,
    ) -> None:
        self._path = path
        self._clock = clock
        self._file = 0, 0, 0
        with suppress(OSError):
            if kind := network_file_system(mounts.read_text(), path.parent.resolve()):
                raise refusal(path, f"it is on a network file system ({kind}), where locks and syncs do not protect it")
        with self._explained():
            self._connection = self._connect()
        try:
            with self._explained():
                self._open(base_url)
        except BaseException:
            self.close()
            raise

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(self._path, timeout=0, isolation_level=None, cached_statements=256)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Raise a `JournalError` for errors of SQLite and of the disk."""
        try:
            yield
        except (sqlite3.Error, OSError) as failure:
            raise describe(self._path, failure) from failure

    def _open(self, base_url: str | None) -> None:
        execute = self._connection.execute
        execute("PRAGMA locking_mode=EXCLUSIVE")  # first: then no shared memory is used
        self._check_identity()
        execute("PRAGMA journal_mode=WAL")
        execute("PRAGMA synchronous=FULL")
        for setting in _SETTINGS:
            execute(f"PRAGMA {setting}")
        with self._transaction():
            if not execute("PRAGMA application_id").fetchone()[0]:
                for statement in _SCHEMA.split(";"):
                    execute(statement)
            self._check_service(base_url)
        self._file = self._inode()
        self._ledger = self._sum_up()
        self._next = execute("SELECT ifnull(max(number) + 1, 0) FROM rows").fetchone()[0]
        self._recover()

    def _check_identity(self) -> None:
        """Refuse other databases and versions, before anything is written."""
        execute = self._connection.execute
        (identity,) = execute("PRAGMA application_id").fetchone()
        (version,) = execute("PRAGMA user_version").fetchone()
        (tables,) = execute("SELECT count(*) FROM sqlite_master").fetchone()
        if identity != _APPLICATION_ID:
            if identity or version or tables:
                raise refusal(self._path, "it is a database of another program; choose another name")
        elif version != _VERSION:
            age, advice = ("newer", "update lemon_async") if version > _VERSION else ("older", "start a new journal")
            words = f"its schema version {version} is {age} than {_VERSION}, which this version uses; {advice}"
            raise refusal(self._path, words)

    def _check_service(self, base_url: str | None) -> None:
        if base_url is None:
            return
        base_url = base_url.rstrip("/")
        if (known := self.read_note("base_url")) is None:
            self._write_note("base_url", base_url)
        elif known != base_url:
            raise refusal(self._path, f"its rows are for {known}, and this session is for {base_url}")

    def _sum_up(self) -> Ledger:
        """Return the sums over all rows."""
        ledger = Ledger()
        for word, count, sunk, refunded, amount, unpriced in self._connection.execute(_SUMS):
            ledger.count_many(_STATES[word], count, sunk=sunk, refunded=refunded, amount=amount or 0, unpriced=unpriced)
        return ledger

    def _recover(self) -> None:
        """Mark what an owner that died has left: nobody knows whether its requests arrived."""
        select = "SELECT key FROM rows WHERE state=?"
        doubtful = [
            Change(key=key, event=Event.DOUBT, error=_OWNER_DIED)
            for (key,) in self._connection.execute(select, (str(State.INTENT),))
        ]
        lost = [
            Change(key=key, event=Event.LOSE, error=_INLINE_LOST)
            for (key,) in self._connection.execute(f"{select} AND task IS NULL", (str(State.SOLD),))
        ]
        self._apply(doubtful + lost)

    def close(self) -> None:
        """Release the file; may be called again."""
        with suppress(sqlite3.Error):
            self._connection.close()

    def check_file(self) -> None:
        """Refuse to go on with a file that was deleted, moved or replaced: what is written would be lost.

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
        return file.st_dev, file.st_ino, Path(f"{self._path}-wal").stat().st_ino

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
            known = self._digests(row.key for row in rows)
            fresh: dict[str, NewRow] = {}
            conflicts: list[NewRow] = []
            for row in rows:
                if row.key not in known:
                    fresh[row.key], known[row.key] = row, row.digest
                elif known[row.key] != row.digest:
                    conflicts.append(row)
            if conflicts:
                raise conflict((self._content(row.key, fresh), row) for row in conflicts)
            if fresh:
                self._insert(list(fresh.values()))
            return len(fresh)

    def _digests(self, keys: Iterable[str]) -> dict[str, bytes]:
        return dict(self._look_up("SELECT key, digest FROM rows WHERE key", keys))

    def _look_up(self, select: str, values: Iterable[Any]) -> Iterator[tuple[Any, ...]]:
        """Yield the rows of `SELECT … WHERE column IN (…)`, with few sizes of the list: statements are reused."""
        rest = iter(values)
        while chunk := tuple(islice(rest, _LOOKUP)):
            size = next(size for size in (1, 8, 64, _LOOKUP) if size >= len(chunk))
            marks = ",".join("?" * size)
            yield from self._connection.execute(f"{select} IN ({marks})", chunk + (None,) * (size - len(chunk)))

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
        self.check_file()
        self._next += len(rows)
        self._ledger.counts[State.NEW] += len(rows)

    def apply(self, changes: Sequence[Change]) -> list[State | None]:
        """Make changes, in one transaction; return the new state for each, as `Journal.record`."""
        with self._explained():
            return self._apply(changes)

    def _apply(self, changes: Sequence[Change]) -> list[State | None]:
        now = self._clock()
        found = self._look_up(_LOAD, {change.key for change in changes})
        rows = {facts[1]: RowFacts(facts[0], facts[1], _STATES[facts[2]], *facts[3:]) for facts in found}
        ledger = self._ledger.copy()
        results = [
            None if (row := rows.get(change.key)) is None else ledger.change(row, change, now) for change in changes
        ]
        done = [(change, rows[change.key]) for change, state in zip(changes, results, strict=True) if state]
        if done:
            self._write({row.number: row for _, row in done}.values(), done)
            self._ledger = ledger
        return results

    def _write(self, rows: Iterable[RowFacts], done: Iterable[tuple[Change, RowFacts]]) -> None:
        updates = [
            (
                str(row.state), row.attempt, row.changed_at, row.task, row.fingerprint, row.price, row.cost, row.sunk,
                row.refunded, _storable(row.error), row.number,
            )
            for row in rows
        ]  # fmt: skip
        pictures = [
            (row.number, position, _path_in(picture.path), picture.size_bytes, picture.sha256)
            for change, row in done
            for position, picture in enumerate(change.pictures)
        ]
        with self._transaction():
            self._connection.executemany(_UPDATE, updates)
            if pictures:
                self._connection.executemany("INSERT INTO pictures VALUES (?,?,?,?,?)", pictures)
        self.check_file()

    def rows(self, states: Sequence[State], after: int, limit: int) -> list[JournalRow]:
        """Return rows, as `Journal.rows`."""
        with self._explained():
            tail = "number > ? ORDER BY number LIMIT ?"
            if not states:
                found = self._connection.execute(f"{_ROWS} WHERE {tail}", (after, limit)).fetchall()
            else:  # one range of the index each: SQLite would sort all of them
                select = f"{_ROWS} WHERE state = ? AND {tail}"
                ranges = [self._connection.execute(select, (str(state), after, limit)) for state in {*states}]
                found = sorted((row for range_ in ranges for row in range_), key=lambda row: row[0])[:limit]
            return self._complete(found)

    def find(self, key: str) -> JournalRow | None:
        """Return a row, as `Journal.find`."""
        with self._explained():
            found = self._connection.execute(f"{_ROWS} WHERE key = ?", (key,)).fetchall()
            return next(iter(self._complete(found)), None)

    def _complete(self, found: Sequence[tuple[Any, ...]]) -> list[JournalRow]:
        """Return rows with their pictures."""
        pictures: dict[int, list[SavedPicture]] = {}
        select = "SELECT number, position, path, size_bytes, sha256 FROM pictures WHERE number"
        numbers = [row[0] for row in found if row[2] == State.DONE]
        for number, _, path, size_bytes, sha256 in sorted(self._look_up(select, numbers)):
            pictures.setdefault(number, []).append(SavedPicture(_path_out(path), size_bytes, sha256))
        return [_journal_row(row, tuple(pictures.get(row[0], ()))) for row in found]

    def counts(self) -> Mapping[State, int]:
        """Return the number of rows in every state."""
        return self._ledger.by_state()

    def spending(self) -> Spending:
        """Return the sums of money."""
        return self._ledger.spending()

    def owner_of(self, path: str) -> str | None:
        """Return the key of the row that has this file."""
        select = "SELECT key FROM pictures JOIN rows USING (number) WHERE path = ?"
        with self._explained():
            found = self._connection.execute(select, (_path_in(path),)).fetchone()
            return None if found is None else str(found[0])

    def read_note(self, name: str) -> str | None:
        """Return a note."""
        with self._explained():
            found = self._connection.execute("SELECT text FROM notes WHERE name = ?", (name,)).fetchone()
            return None if found is None else str(found[0])

    def write_note(self, name: str, text: str) -> None:
        """Keep a note."""
        with self._explained():
            with self._transaction():
                self._write_note(name, text)
            self.check_file()

    def _write_note(self, name: str, text: str) -> None:
        self._connection.execute("INSERT OR REPLACE INTO notes VALUES (?, ?)", (name, _storable(text)))


def _journal_row(row: Sequence[Any], pictures: tuple[SavedPicture, ...]) -> JournalRow:
    number, key, state, attempt, changed_at, task, fingerprint, price, cost, sunk, _, error, request, columns = row
    return JournalRow(
        number=number, key=key, state=_STATES[state], request=request, columns=columns, attempt=attempt,
        changed_at=changed_at, task=task, fingerprint=fingerprint, price_usd=in_dollars(price),
        cost_usd=in_dollars(cost), sunk_usd=in_dollars(sunk) or 0.0, error=error, pictures=pictures,
    )  # fmt: skip


def _storable(text: str | None) -> str | None:
    """Return text without lone surrogates, which come from names of files and have no UTF-8."""
    return text if text is None or text.isascii() else text.encode(errors="backslashreplace").decode()


def _path_in(path: str) -> str | bytes:
    """Return a path as the database holds it: names that are not UTF-8 as bytes."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return os.fsencode(path)
    return path


def _path_out(path: str | bytes) -> str:
    return os.fsdecode(path) if isinstance(path, bytes) else path
