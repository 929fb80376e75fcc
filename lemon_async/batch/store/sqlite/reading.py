"""Read the tables of a journal in SQLite: of one that is open, and of one that no process has open."""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from lemon_async.batch.records import JournalRow, SavedPicture
from lemon_async.batch.states import State
from lemon_async.batch.store.faults import refusal
from lemon_async.batch.store.ledger import Ledger, Total
from lemon_async.batch.store.sqlite import statements as sql
from lemon_async.batch.store.values import STATES, journal_row

__all__ = ["check_identity", "complete", "last_rows", "look_up", "read_note", "select_rows", "sum_up"]

_OLDEST = (3, 33)  # UPDATE … FROM
Row = tuple[Any, ...]


def check_identity(connection: sqlite3.Connection, path: Path) -> bool:
    """Refuse other databases and versions, before anything is written; return whether there are tables already.

    Raises:
        JournalError: It is none of ours.
    """
    if sqlite3.sqlite_version_info < _OLDEST:
        words = f"this Python has SQLite {sqlite3.sqlite_version}, which is older than 3.33; use a newer Python"
        raise refusal(path, words)
    execute = connection.execute
    (identity,) = execute("PRAGMA application_id").fetchone()
    (version,) = execute("PRAGMA user_version").fetchone()
    (tables,) = execute("SELECT count(*) FROM sqlite_master").fetchone()
    if identity != sql.APPLICATION_ID:
        if identity or version or tables:
            raise refusal(path, "it is a database of another program; choose another name")
    elif version != sql.VERSION:
        age, advice = ("newer", "update lemon_async") if version > sql.VERSION else ("older", "start a new journal")
        words = f"its schema version {version} is {age} than {sql.VERSION}, which this version uses; {advice}"
        raise refusal(path, words)
    return bool(identity)


def sum_up(connection: sqlite3.Connection) -> Ledger:
    """Count the rows and sum up the money; reads all rows."""
    ledger = Ledger()
    for word, count, amount, unpriced, sunk, refunded in connection.execute(sql.SUMS):
        ledger.totals[STATES[word]] = Total(count, amount or 0, unpriced)
        ledger.sunk += sunk
        ledger.refunded += refunded
    return ledger


def select_rows(connection: sqlite3.Connection, states: Sequence[State], after: int, limit: int) -> list[Row]:
    """Return what `complete` takes of rows in these states (of none: in all) with numbers above `after`, in order."""
    return _select(connection, states, "number > ? ORDER BY number LIMIT ?", (after, limit))[:limit]


def last_rows(connection: sqlite3.Connection, states: Sequence[State], before: int, limit: int) -> list[JournalRow]:
    """Return rows, as `Journal.last_rows`."""
    found = _select(connection, states, "number < ? ORDER BY number DESC LIMIT ?", (before, limit))
    return complete(connection, found[::-1][:limit] if states else found)


def _select(connection: sqlite3.Connection, states: Sequence[State], tail: str, values: tuple[int, int]) -> list[Row]:
    """Return rows; those of states in ascending order, and too many."""
    if not states:
        return connection.execute(f"{sql.ROWS} WHERE {tail}", values).fetchall()
    # One range of the index each: SQLite would sort all of them.
    select = f"{sql.ROWS} WHERE state = ? AND {tail}"
    ranges = [connection.execute(select, (str(state), *values)) for state in {*states}]
    return sorted((row for range_ in ranges for row in range_), key=lambda row: row[0])


def complete(connection: sqlite3.Connection, found: Sequence[Row]) -> list[JournalRow]:
    """Return rows with their pictures."""
    pictures: dict[int, list[SavedPicture]] = {}
    select = "SELECT number, position, path, size_bytes, sha256 FROM pictures WHERE number"
    numbers = [row[0] for row in found if row[2] == State.DONE]
    for number, _, path, size_bytes, sha256 in sorted(look_up(connection, select, numbers)):
        pictures.setdefault(number, []).append(SavedPicture(sql.path_out(path), size_bytes, sha256))
    return [journal_row(row, tuple(pictures.get(row[0], ()))) for row in found]


def look_up(connection: sqlite3.Connection, select: str, values: Iterable[Any]) -> Iterator[Row]:
    """Yield the rows of `SELECT … WHERE column` for values of the column."""
    for chunk in sql.chunks(values):
        yield from connection.execute(f"{select} IN ({','.join('?' * len(chunk))})", chunk)


def read_note(connection: sqlite3.Connection, name: str) -> str | None:
    """Return a note."""
    found = connection.execute("SELECT text FROM notes WHERE name = ?", (name,)).fetchone()
    return None if found is None else str(found[0])
