import pytest

from lemon_async.batch.states import State
from lemon_async.batch.store.values import STATES, is_text, journal_row, storable


@pytest.mark.parametrize("text", ["", "a", "é☃", "\udcff", "a\udcffé", "\U0001f34b"])
def test_text_is_storable(text):
    """Only lone surrogates have no UTF-8 form."""
    assert is_text(text) is ("\udcff" not in text)
    assert is_text(storable(text))
    assert storable(None) is None


def test_row_has_dollars_and_a_state():
    """Stores hold billionths, and names of states."""
    row = journal_row((7, "a", "sold", 1, 2.0, "t", "f", 40_000_000, None, 0, 5, None, b"{}", b""), ())
    assert (row.number, row.state, row.price_usd, row.cost_usd, row.sunk_usd) == (7, State.SOLD, 0.04, None, 0.0)
    assert STATES["sold"] is State.SOLD
