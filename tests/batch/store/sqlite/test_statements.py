import sqlite3

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lemon_async.batch.store.sqlite.statements import (
    APPLICATION_ID,
    SCHEMA,
    VERSION,
    chunks,
    path_in,
    path_out,
    statements,
)


@given(st.integers(0, 3000))
def test_chunks_have_few_sizes_and_lose_nothing(number):
    """Sizes are powers of two, so that ten statements of each kind are enough."""
    found = list(chunks(range(number)))
    assert [value for chunk in found for value in chunk] == list(range(number))
    assert all(len(chunk) in {1 << power for power in range(10)} for chunk in found)
    assert len(found) <= number // 512 + 9


def test_statements_fill_in_the_marks():
    """One group of marks for each row of values."""
    assert list(statements("VALUES {}", [(1, 2), (3, 4), (5, 6)])) == [
        ("VALUES (?,?),(?,?)", [1, 2, 3, 4]),
        ("VALUES (?,?)", [5, 6]),
    ]
    assert not list(statements("VALUES {}", []))


def test_schema_names_itself():
    """`file` and other programs see whose database it is, and which version."""
    with sqlite3.connect(":memory:") as connection:
        connection.executescript(SCHEMA)
        assert connection.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)
        assert connection.execute("PRAGMA user_version").fetchone() == (VERSION,)
    connection.close()


@pytest.mark.parametrize("path", ["", "a", "é☃", "\udcff", "a\udcffé"])
def test_paths_come_back(path):
    """Also those that are not UTF-8."""
    assert path_out(path_in(path)) == path
