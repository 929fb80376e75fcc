"""Rows of a large table are read by the index, a page at a time."""

import sqlite3

import pytest

from lemon_async.batch.states import State
from lemon_async.batch.store.sqlite import statements as sql
from lemon_async.batch.store.sqlite.reading import last_rows, read_note, select_rows, sum_up


@pytest.fixture
def connection():
    """Ten thousand rows: of ten, one is done and has two pictures."""
    connection = sqlite3.connect(":memory:")
    connection.executescript(sql.SCHEMA)
    rows = [(number, f"k{number}", b"", "new" if number % 10 else "done", 0.0) for number in range(10_000)]
    connection.executemany("INSERT INTO rows (number, key, digest, state, changed_at) VALUES (?,?,?,?,?)", rows)
    connection.executemany("INSERT INTO contents VALUES (?, '{}', '')", [row[:1] for row in rows])
    pictures = [(row[0], place, f"{row[1]}-{place}.png", 1, "ff") for row in rows[::10] for place in (0, 1)]
    connection.executemany("INSERT INTO pictures VALUES (?,?,?,?,?)", pictures)
    yield connection
    connection.close()


@pytest.mark.parametrize(
    ("states", "step"),
    [([], 1), ([State.DONE], 10), ([State.NEW, State.DONE], 1), ([State.DONE, State.DONE, State.DEAD], 10)],
)
def test_all_rows_are_paged_in_both_directions(connection, states, step):
    """Each once; rows of several states in one order."""
    back, place = [], 10_000
    while rows := last_rows(connection, states, place, 700):
        back += [row.number for row in rows]
        place = back[-1]
    forth, place = [], -1
    while rows := select_rows(connection, states, place, 700):
        forth += [row[0] for row in rows]
        place = forth[-1]
    assert forth == back[::-1] == [*range(0, 10_000, step)]


def test_rows_have_their_pictures_in_order(connection):
    (row,) = last_rows(connection, [State.DONE], 15, 1)
    assert [picture.path for picture in row.pictures] == ["k10-0.png", "k10-1.png"]


def test_page_is_read_by_the_index(connection):
    """A scan of a million rows would stop the run for a second."""
    seen = []
    connection.set_trace_callback(seen.append)
    last_rows(connection, [State.DONE], 9999, 60)
    last_rows(connection, [], 9999, 60)
    connection.set_trace_callback(None)
    plans = [connection.execute(f"EXPLAIN QUERY PLAN {statement}").fetchall() for statement in seen]
    steps = [line[3] for plan in plans for line in plan]
    assert steps
    assert all(step.startswith("SEARCH") for step in steps), steps


def test_sums_and_notes(connection):
    assert sum_up(connection).counts()[State.DONE] == 1000
    assert read_note(connection, "save") is None
