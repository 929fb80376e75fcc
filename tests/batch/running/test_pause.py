"""Messages of batches that are paused."""

from lemon_async.batch.records import Spending
from lemon_async.batch.running.pause import describe_pause, describe_spending
from lemon_async.batch.states import State
from lemon_async.errors import AccessDenied, AuthenticationError, InsufficientBalance, TransportError

COUNTS = {**dict.fromkeys(State, 0), State.NEW: 1200, State.SOLD: 3, State.DONE: 7}
SPENDING = Spending(spent=1.5, reserved=0.1, doubtful=0.05)


def test_message_says_why_what_is_left_and_what_to_do():
    assert describe_pause("The budget is used up.", COUNTS, SPENDING, cap_usd=2) == (
        "The budget is used up; 1,203 rows are left. $1.50 spent, $0.10 reserved, $0.05 doubtful, of $2.00. "
        "To continue, raise budget_usd and run it again"
    )


def test_advice_depends_on_the_cause():
    advice = {
        InsufficientBalance(status=402, message="x"): "top up the account",
        AuthenticationError(status=401, message="x"): "set the right key",
        AccessDenied(status=403, message="x"): "use a key that may do this",
        TransportError(message="x"): "resolve this",
    }
    for cause, words in advice.items():
        assert f"To continue, {words} and run" in describe_pause("x", COUNTS, SPENDING, cause=cause, cap_usd=2)


def test_one_row_is_left():
    assert "; 1 row is left." in describe_pause("x", {**dict.fromkeys(State, 0), State.NEW: 1}, SPENDING)


def test_refused_rows_are_mentioned():
    """Running the batch again does not send them: a model that was withdrawn midway has refused a few."""
    counts = {**dict.fromkeys(State, 0), State.REFUSED: 23}
    words = "; 0 rows are left, and 23 refused, which only `lemon-async batch retry` with their keys makes new again. "
    assert words in describe_pause("x", counts, SPENDING)


def test_rows_without_a_price_are_mentioned():
    sums = describe_spending(Spending(unpriced=1000))
    assert sums == "$0.00 spent, $0.00 reserved, $0.00 doubtful, 1,000 rows without a known price"
