"""The SQL of a journal, and values as SQLite holds them. Pure."""

import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any, TypeVar

__all__ = [
    "APPLICATION_ID",
    "INSERT_PICTURES",
    "LOAD",
    "ROWS",
    "SCHEMA",
    "SUMS",
    "UPDATE",
    "VERSION",
    "chunks",
    "path_in",
    "path_out",
    "statements",
]

APPLICATION_ID = 0x4C4D4E41  # "LMNA"
VERSION = 1
_SIZES = (512, 256, 128, 64, 32, 16, 8, 4, 2, 1)  # of lists in statements, so that few statements are prepared
SCHEMA = f"""
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
PRAGMA application_id={APPLICATION_ID};
PRAGMA user_version={VERSION}
"""
_FACTS = (
    "number, key, state, attempt, changed_at, task, fingerprint, price_nano_usd, cost_nano_usd, sunk_nano_usd, "
    "refunded_nano_usd, error"
)
ROWS = f"SELECT {_FACTS}, request, columns FROM rows JOIN contents USING (number)"  # noqa: S608 - constants
LOAD = f"SELECT {_FACTS} FROM rows WHERE key"  # noqa: S608 - constants
UPDATE = (
    "WITH changed (number_, state_, attempt_, at_, task_, fingerprint_, price_, cost_, sunk_, refunded_, error_) "
    "AS (VALUES {}) "
    "UPDATE rows SET state=state_, attempt=attempt_, changed_at=at_, task=task_, fingerprint=fingerprint_, "
    "price_nano_usd=price_, cost_nano_usd=cost_, sunk_nano_usd=sunk_, refunded_nano_usd=refunded_, error=error_ "
    "FROM changed WHERE number=number_"
)
INSERT_PICTURES = "INSERT INTO pictures VALUES {}"
SUMS = (
    "SELECT state, count(*), sum(ifnull(cost_nano_usd, price_nano_usd)), "
    "sum(ifnull(cost_nano_usd, price_nano_usd) IS NULL), sum(sunk_nano_usd), sum(refunded_nano_usd) "
    "FROM rows GROUP BY state"
)
T = TypeVar("T")


def chunks(values: Iterable[T]) -> Iterator[list[T]]:
    """Yield values in lists of few sizes."""
    rest = [*values]
    start = 0
    for size in _SIZES:
        while len(rest) - start >= size:
            yield rest[start : start + size]
            start += size


def statements(template: str, rows: Sequence[tuple[Any, ...]]) -> Iterator[tuple[str, list[Any]]]:
    """Yield statements with their values, for rows of values."""
    for chunk in chunks(rows):
        marks = f"({','.join('?' * len(chunk[0]))})"
        yield template.format(",".join([marks] * len(chunk))), [*chain.from_iterable(chunk)]


def path_in(path: str) -> str | bytes:
    """Return a path as the database holds it: names that are not UTF-8 as bytes."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return os.fsencode(path)
    return path


def path_out(path: str | bytes) -> str:
    """Return a path that `path_in` has made."""
    return os.fsdecode(path) if isinstance(path, bytes) else path
