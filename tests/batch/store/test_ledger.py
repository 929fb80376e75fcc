from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lemon_async.batch.records import Change, Spending
from lemon_async.batch.states import State, Transition
from lemon_async.batch.store.ledger import Ledger, RowFacts, in_dollars, in_nanos

CENTS = st.integers(0, 300).map(lambda cents: cents / 100)
CHANGES = st.builds(
    lambda transition, price, cost, cap: Change(
        key="a", transition=transition, price_usd=price, cost_usd=cost, cap_usd=cap
    ),
    st.sampled_from(Transition),
    st.none() | CENTS,
    st.none() | CENTS,
    st.none() | CENTS,
)


def life(*transitions, price=0.04, cost=None):
    """Return a row after these transitions, its ledger, and the last result."""
    ledger, row, result = Ledger(), RowFacts(0, "a", State.NEW), None
    ledger.totals[State.NEW].rows = ledger.totals[State.NEW].unpriced = 1
    for transition in transitions:
        change = Change(
            key="a", transition=transition, price_usd=price, cost_usd=cost, task="token", error=str(transition)
        )
        result = ledger.change(row, change, 7.0)
    return row, ledger, result


SUMS = [
    (["intend"], {"reserved": 0.04}),
    (["intend", "withdraw"], {}),
    (["intend", "refuse"], {}),
    (["intend", "doubt"], {"doubtful": 0.04}),
    (["intend", "doubt", "not sold"], {}),
    (["intend", "doubt", "buy again"], {"spent": 0.04}),
    (["intend", "doubt", "buy again", "intend"], {"spent": 0.04, "reserved": 0.04}),
    (["intend", "doubt", "accept"], {"reserved": 0.04}),
    (["intend", "accept", "save"], {"spent": 0.04}),
    (["intend", "accept", "lose"], {"spent": 0.04}),
    (["intend", "accept", "lose", "retry"], {"spent": 0.04}),
    (["intend", "accept", "fail"], {"refunded": 0.04}),
    (["intend", "accept", "fail", "give up"], {"refunded": 0.04}),
    (["intend", "accept", "fail", "give up", "retry"], {"refunded": 0.04}),
    (["intend", "accept", "fail", "repeat", "intend", "accept", "fail"], {"refunded": 0.08}),
    (["accept"], {"unpriced": 1}),
]


@pytest.mark.parametrize(("transitions", "sums"), SUMS, ids="-".join)
def test_sums_after_events(transitions, sums):
    """Each transition moves the money of a row to where it belongs."""
    _, ledger, _ = life(*map(Transition, transitions))
    assert ledger.spending() == Spending(**sums)


def test_reported_cost_replaces_the_price():
    """What the service bills is what was spent."""
    _, ledger, _ = life(Transition.INTEND, Transition.ACCEPT, Transition.SAVE, cost=0.05)
    assert ledger.spending() == Spending(spent=0.05)


@pytest.mark.parametrize(
    ("transitions", "attempt"),
    [
        ("intend", 1),
        ("intend withdraw", 0),
        ("intend withdraw intend", 1),
        ("intend accept fail repeat intend", 2),
        ("intend doubt not-sold", 0),
        ("intend doubt buy-again", 1),
        ("intend accept fail give-up retry", 0),
        ("intend withdraw accept", 1),
    ],
)
def test_attempts_are_those_that_may_have_sold_something(transitions, attempt):
    """Refusals that are retried do not use up the attempts of a row, and a retry by the user begins anew."""
    row, *_ = life(*(Transition(word.replace("-", " ")) for word in transitions.split()))
    assert row.attempt == attempt


def test_impossible_event_changes_nothing():
    """Neither the row nor the sums."""
    (row, ledger, _), (same, sums, result) = life(Transition.INTEND), life(Transition.INTEND, Transition.SAVE)
    assert result is None
    assert (same, sums) == (row, ledger)


def test_reason_is_kept_until_the_next_event():
    """Giving up keeps the error of the failure unless it brings its own."""
    row, ledger, _ = life(Transition.INTEND, Transition.ACCEPT, Transition.FAIL)
    ledger.change(row, Change(key="a", transition=Transition.GIVE_UP), 8.0)
    assert (row.error, row.changed_at) == ("fail", 8.0)
    ledger.change(row, Change(key="a", transition=Transition.RETRY), 9.0)
    assert row.error is None


def test_doubtful_row_has_the_time_at_which_it_was_being_bought():
    """The next run may find it days later, and the account lists the purchase at the time of the request."""
    ledger, row = Ledger(), RowFacts(0, "a", State.NEW)
    ledger.change(row, Change(key="a", transition=Transition.INTEND), 7.0)
    assert ledger.change(row, Change(key="a", transition=Transition.DOUBT), 9e5) is State.DOUBTFUL
    assert row.changed_at == 7.0
    ledger.change(row, Change(key="a", transition=Transition.NOT_SOLD), 9.5e5)
    assert row.changed_at == 9.5e5


def test_intent_that_reaches_the_cap_fits_and_a_larger_one_does_not():
    """The cap is exact: 25 rows of 4 cents cost one dollar, in spite of binary fractions."""
    ledger = Ledger()
    rows = [RowFacts(index, str(index), State.NEW) for index in range(26)]
    change = Change(key="a", transition=Transition.INTEND, price_usd=0.04, cap_usd=1.0)
    assert [ledger.change(row, change, 0.0) for row in rows] == [State.INTENT] * 25 + [None]
    assert rows[-1].state is State.NEW


def test_intent_without_a_price_is_refused_under_a_cap():
    """What it costs could exceed the cap."""
    row = RowFacts(0, "a", State.NEW)
    assert Ledger().change(row, Change(key="a", transition=Transition.INTEND, cap_usd=1e6), 0.0) is None


@given(st.lists(st.tuples(st.integers(0, 3), CHANGES), max_size=60))
def test_sums_that_are_kept_equal_sums_over_all_rows(changes):
    """After any transitions of any rows; and no intent ever exceeds its cap."""
    rows = [RowFacts(index, str(index), State.NEW) for index in range(4)]
    kept = Ledger()
    for row in rows:
        kept._count(row, 1)
    for index, change in changes:
        state = kept.change(rows[index], change, 0.0)
        if change.transition is Transition.INTEND and state and change.cap_usd is not None:
            assert kept.committed <= in_nanos(change.cap_usd)
        anew = Ledger(sunk=sum(row.sunk for row in rows), refunded=sum(row.refunded for row in rows))
        for row in rows:
            anew._count(row, 1)
        assert anew == kept
        assert all(row.attempt >= 0 for row in rows)


def test_ledger_of_sums_goes_on_from_them():
    """A run counts on from what its journal held when it began."""
    sums = Spending(spent=1.5, reserved=0.5, doubtful=0.25, refunded=0.1, unpriced=2)
    ledger = Ledger.of({State.NEW: 3, State.DONE: 2}, sums)
    assert ledger.spending() == sums
    assert (ledger.counts()[State.NEW], ledger.counts()[State.DEAD]) == (3, 0)
    assert ledger.committed == 2_250_000_000


def test_copy_is_independent():
    """A transaction that fails leaves the sums as they were."""
    _, ledger, _ = life(Transition.INTEND)
    twin = ledger.copy()
    assert twin == ledger
    twin.change(RowFacts(1, "b", State.NEW), Change(key="b", transition=Transition.INTEND, price_usd=1.0), 0.0)
    assert ledger.spending() == Spending(reserved=0.04)


@given(st.lists(CENTS, max_size=30))
def test_money_survives_its_unit(prices):
    """Dollars to billionths and back is exact for prices in cents, also summed."""
    assert [in_dollars(in_nanos(price)) for price in prices] == prices
    assert in_nanos(None) is in_dollars(None) is None
    assert all(in_nanos(low) < in_nanos(high) for low, high in pairwise(sorted(set(prices))))
