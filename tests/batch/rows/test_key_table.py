"""A table of keys answers as a `dict` does, in less memory."""

import sys

from hypothesis import given, settings
from hypothesis import strategies as st

from lemon_async.batch.rows.key_table import KeyTable

entries = st.lists(st.tuples(st.text("ab\0猫", max_size=3), st.integers(0, 2**64 - 1)))


@settings(derandomize=True, deadline=None, max_examples=60)
@given(entries)
def test_last_number_of_a_key_is_found(entries):
    """And nothing else."""
    table, expected = KeyTable(), {}
    for key, value in entries:
        table.put(key, value)
        expected[key] = value
    assert {key: table.get(key) for key in expected} == expected
    assert table.get("never there") is None


@settings(derandomize=True, deadline=None, max_examples=60)
@given(entries)
def test_first_number_of_a_key_is_kept(entries):
    """By `setdefault`, which returns what was there before."""
    table, expected = KeyTable(), {}
    for key, value in entries:
        assert table.setdefault(key, value) == expected.get(key)
        expected.setdefault(key, value)
    assert {key: table.get(key) for key in expected} == expected


def test_table_grows_and_stays_small():
    """A hundred thousand keys are all found, in at most 50 bytes each."""
    table = KeyTable()
    for number in range(100_000):
        table.put(f"sku-{number}", number)
    assert all(table.get(f"sku-{number}") == number for number in range(0, 100_000, 97))
    assert table.get("sku-100000") is None
    assert sum(sys.getsizeof(array) for array in (table._hashes, table._values)) <= 50 * 100_000
