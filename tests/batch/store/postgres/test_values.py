import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from journals import new_row as row_of
from lemon_async.batch.states import State
from lemon_async.batch.store.ledger import Ledger, RowFacts, Total
from lemon_async.batch.store.postgres.values import (
    array,
    content_in,
    content_out,
    facts_of,
    identity,
    ledger_of,
    new_row,
    text_in,
    text_out,
    totals_of,
    update_of,
)


@given(st.text(st.characters()))
def test_any_text_comes_back_from_what_the_server_can_hold(text):
    """It can hold neither zeros nor lone surrogates."""
    stored = text_in(text)
    assert "\0" not in stored
    stored.encode()
    assert text_out(stored) == text


@pytest.mark.parametrize("text", ["", "a b", "é☃", "C:\\out"])
def test_usual_text_is_stored_as_it_is(text):
    """So that people can read the tables."""
    assert text_in(text) == text


@given(st.binary())
def test_any_content_comes_back(content):
    """Also what is no JSON."""
    assert content_out(content_in(content)) == content


def test_identity_is_short_and_of_the_key_alone():
    """Whatever the length of the key, and whether it has a UTF-8 form."""
    assert identity("a") == identity("a") != identity("b")
    assert all(len(identity(key)) == 32 for key in ("", "k" * 10_000, "\udcff"))


def test_rows_travel_as_json():
    """With the text of errors made readable, not reversible."""
    assert orjson.loads(orjson.dumps(new_row(3, row_of("a"))))["key"] == "a"
    facts = facts_of((3, "a", "intent", 1, 2.0, None, "f", 4, None, 0, 0, "x", "run"))
    assert facts == RowFacts(3, "a", State.INTENT, 1, 2.0, None, "f", 4, None, 0, 0, "x", "run")
    facts.error = "\0 \udcff"
    assert update_of(facts)["error"] == "\\x00 \\udcff"
    facts.error = None
    assert update_of(facts)["error"] is None


def test_sums_come_back():
    """States that a journal does not name have no rows."""
    ledger = Ledger()
    ledger.totals[State.SOLD] = Total(2, 80, 1)
    ledger.sunk, ledger.refunded = 5, 6
    assert ledger_of(totals_of(ledger), 5, 6) == ledger
    assert ledger_of("{}", 0, 0) == Ledger()
    assert array(["a", "b"]) == "{a,b}"
