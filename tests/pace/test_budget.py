"""One pause for every request of a session."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lemon_async.pace.budget import Budget

steady = settings(derandomize=True, deadline=None)


def test_budget_lets_requests_through_until_told_otherwise():
    assert Budget().wait_s(0.0) == 0.0
    assert Budget().wait_s(1e9) == 0.0


def test_budget_pauses_for_as_long_as_the_service_asks():
    budget = Budget()
    budget.limited(100.0, 7.0)
    assert [budget.wait_s(now) for now in (100.0, 103.0, 107.0, 200.0)] == [7.0, 4.0, 0.0, 0.0]
    assert budget.clear_at == 107.0


@pytest.mark.parametrize(("asked_s", "pause_s"), [(59.0, 59.0), (60.0, 60.0), (61.0, 60.0), (86400.0, 60.0)])
def test_budget_pauses_for_a_minute_at_most(asked_s, pause_s):
    budget = Budget()
    budget.limited(100.0, asked_s)
    assert budget.wait_s(100.0) == pause_s


def test_budget_pauses_longer_from_429_to_429_when_not_told_how_long():
    budget, now, pauses = Budget(), 100.0, []
    for _ in range(8):
        budget.limited(now, None)
        pauses.append(budget.wait_s(now))
        now = budget.clear_at
    assert pauses == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]


def test_budget_starts_anew_after_an_answer_of_another_kind():
    budget = Budget()
    budget.limited(100.0, None)
    budget.limited(101.0, None)
    budget.answered()
    assert budget.wait_s(101.0) == 2.0
    budget.limited(103.0, None)
    assert budget.wait_s(103.0) == 1.0


@pytest.mark.parametrize("nothing", [0.0, None])
def test_budget_is_not_talked_into_a_busy_loop(nothing):
    """`Retry-After: 0`, or a date that has passed, ends no series of 429s: its pauses grow all the same."""
    budget, now = Budget(), 100.0
    for _ in range(5):
        budget.limited(now, nothing)
        now = budget.clear_at
    assert now == 100.0 + 1 + 2 + 4 + 8 + 16


def test_budget_counts_a_burst_of_429s_once():
    """All of them answer requests from before the pause; only a longer pause that is asked for is news."""
    budget = Budget()
    for now in (100.0, 100.1, 100.2, 100.9):
        budget.limited(now, None)
    assert budget.clear_at == 101.0
    budget.limited(100.95, 3.0)
    assert budget.clear_at == 103.95
    budget.limited(103.95, None)
    assert budget.clear_at == 105.95


def test_budget_pause_is_not_shortened_by_an_earlier_end():
    budget = Budget()
    budget.limited(100.0, 30.0)
    budget.limited(101.0, 5.0)
    assert budget.clear_at == 130.0


def test_budget_pause_is_not_shortened_by_an_answer_of_another_kind():
    budget = Budget()
    budget.limited(100.0, 30.0)
    budget.answered()
    assert budget.wait_s(100.0) == 30.0


answers = st.tuples(st.floats(0, 100), st.just("fine") | st.none() | st.floats(0, 1e9))


@steady
@given(st.lists(answers, max_size=40))
def test_budget_pause_is_bounded_and_never_moves_backwards(steps):
    budget, now = Budget(), 1000.0
    for elapsed, news in steps:
        now += elapsed
        before = budget.clear_at
        if news == "fine":
            budget.answered()
            assert budget.clear_at == before
        else:
            budget.limited(now, news)
            assert budget.clear_at >= max(before, now + min(news or 0.0, 60.0))
            assert news or budget.wait_s(now) > 0.0
        assert 0.0 <= budget.wait_s(now) <= 60.001
        assert budget.wait_s(budget.clear_at) == 0.0


def test_burst_of_429s_counts_once():
    """Ten requests that were under way together say together that it is too much, once."""
    budget = Budget()
    for _ in range(10):
        budget.limited(100.0, None)
    assert budget.clear_at == 101.0
    budget.limited(101.0, None)
    assert budget.clear_at == 103.0
