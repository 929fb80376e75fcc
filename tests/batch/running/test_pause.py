"""Messages of batches that are paused."""

from lemon_async.batch.records import Spending
from lemon_async.batch.running.pause import PauseRule, describe_pause, describe_spending
from lemon_async.batch.states import State
from lemon_async.errors import (
    AccessDenied,
    AuthenticationError,
    ContractError,
    InsufficientBalance,
    PartialSaveError,
    SaveError,
    TransportError,
)

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


def test_many_rows_in_a_row_that_are_not_accepted_pause_a_batch():
    """Unless the reason is their own; an accepted one starts the count again."""
    rule, error = PauseRule(), TransportError(message="no")
    assert [rule.observe_unsold(error) for _ in range(19)] == [None] * 19
    assert rule.observe_unsold(ContractError.of("n", "no")) is None
    assert "another limit" in rule.observe_unsold(ContractError.of("requests_per_minute", "another limit"))
    assert rule.observe_unsold(None) is None
    assert rule.observe_unsold(error) == "20 rows in a row were not accepted; the last: no"
    assert rule.observe_unsold(error) is None
    rule.observe_sold()
    assert [bool(rule.observe_unsold(error)) for _ in range(20)] == [False] * 19 + [True]


def test_pictures_of_rows_in_a_row_that_cannot_be_written_pause_a_batch():
    """Not those that cannot be fetched."""
    rule, full = PauseRule(), SaveError(path="a", reason="full")
    assert rule.observe_unsaved(full) is rule.observe_unsaved(OSError("x")) is None
    assert rule.observe_unsaved(TransportError(message="no")) is None
    partial = PartialSaveError(saved={}, errors={0: TransportError(message="no"), 1: full})
    assert rule.observe_unsaved(partial) == f"the pictures of 3 rows in a row could not be written: {full}"
    rule.observe_saved()
    assert rule.observe_unsaved(full) is None
