"""What the command says about the rows of a batch."""

import pytest

from lemon_async.batch.records import Spending
from lemon_async.batch.states import State
from lemon_async.cli.batch.report import advice, exit_code, running_record, summary, usd


@pytest.mark.parametrize(
    ("counts", "code"),
    [
        ({}, 0),
        ({"done": 3, "new": 0}, 0),
        ({"done": 3, "dead": 1}, 1),
        ({"refused": 1}, 1),
        ({"new": 1}, 1),
        ({"sold": 1, "dead": 1}, 4),
        ({"doubtful": 1, "sold": 1, "dead": 1, "new": 1}, 3),
    ],
)
def test_exit_code_is_that_of_the_gravest_row(counts, code):
    assert exit_code({State(state): number for state, number in counts.items()}) == code


def test_amounts_have_cents_and_what_digits_they_need():
    assert [usd(amount) for amount in (0, 1234.5, 0.04, 0.0025, 1e-7, None)] == [
        "0.00", "1,234.50", "0.04", "0.0025", "0.00", "?"
    ]  # fmt: skip


def test_summary_names_only_what_there_is():
    counts = {State.DONE: 2980, State.DEAD: 5, State.NEW: 0}
    assert list(summary(counts, Spending(spent=119.2))) == ["rows: 2,980 done, 5 dead", "money: 119.20 USD spent"]
    assert list(summary({}, Spending(reserved=1, doubtful=0.04, refunded=2, unpriced=1))) == [
        "rows: none",
        "money: 0.00 USD spent, 1.00 USD reserved, 0.04 USD doubtful, 2.00 USD refunded, and 1 row of unknown price",
    ]


def test_finished_batch_needs_no_advice():
    assert list(advice({State.DONE: 3}, "run.db", [])) == []


def test_advice_has_the_commands_to_type():
    counts = {State.DOUBTFUL: 7, State.REFUSED: 1, State.DEAD: 2, State.SOLD: 1, State.NEW: 3}
    assert list(advice(counts, "my run.db", ["a", "b b", "c", "d", "e", "f", "g"])) == [
        "7 rows may have been sold and are not sent again by themselves: a 'b b' c d e and 2 more",
        "  look at them: lemon-async batch doubtful 'my run.db'",
        "  then decide: lemon-async batch resolve 'my run.db' KEY... (--task ID | --not-sold | --buy-again)",
        "1 row is refused; to send it again: lemon-async batch retry 'my run.db' KEY...",
        "2 rows are dead, without pictures; to buy again: lemon-async batch retry 'my run.db'",
        "4 rows are not finished; run the same command again to continue; it buys nothing twice",
    ]


def test_status_file_becomes_the_same_object():
    """Also that of a version which knew fewer states."""
    status = {"pid": 7, "host": "here", "started": 1.0, "updated": 2.0, "counts": {"done": 2}, "spending": {"spent": 1}}
    record = running_record(status)
    assert (record["done"], record["new"], record["rows"], record["spending"]) == (2, 0, 2, {"spent": 1})
    assert record["running"] == {"pid": 7, "host": "here", "started": 1.0, "updated": 2.0}
