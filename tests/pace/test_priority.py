"""Whose turn it is: strict priority, with an end to everybody's patience."""

from itertools import combinations

from hypothesis import given, settings
from hypothesis import strategies as st

from lemon_async._pace.priority import Priority, PriorityPolicy

SUBMIT, POLL, REST = Priority
MIXES = [set(mix) for size in (1, 2, 3) for mix in combinations(Priority, size)]

steady = settings(derandomize=True, deadline=None)


def test_turn_goes_to_the_first_kind_that_waits():
    for waiting in MIXES:
        assert PriorityPolicy().next(waiting) is min(waiting)


def test_turn_of_polls_comes_although_submits_wait():
    turns = PriorityPolicy()
    assert [turns.next([SUBMIT, POLL]) for _ in range(64)] == ([SUBMIT] * 31 + [POLL]) * 2


def test_turn_of_the_rest_comes_sooner_because_somebody_waits_for_it():
    turns = PriorityPolicy()
    assert [turns.next([POLL, REST]) for _ in range(16)] == ([POLL] * 7 + [REST]) * 2


def test_patience_starts_anew_for_a_kind_that_has_stopped_waiting():
    turns = PriorityPolicy()
    for _ in range(7):
        turns.next([SUBMIT, REST])
    turns.next([SUBMIT])
    assert [turns.next([SUBMIT, REST]) for _ in range(8)] == [SUBMIT] * 7 + [REST]


def test_all_kinds_share_the_turns_when_all_wait():
    turns = PriorityPolicy()
    granted = [turns.next(Priority) for _ in range(3200)]
    assert [granted.count(kind) for kind in Priority] == [2701, 100, 399]


@steady
@given(st.lists(st.sampled_from(MIXES), max_size=300), st.sampled_from(Priority))
def test_no_kind_that_waits_is_passed_by_for_ever(mixes, patient):
    """Whatever else comes and goes: a submit is passed by three times at most, a poll 32 times, the rest eight."""
    turns, passed = PriorityPolicy(), 0
    for mix in mixes:
        turn = turns.next(mix | {patient})
        assert turn in mix | {patient}
        passed = 0 if turn is patient else passed + 1
        assert passed <= {SUBMIT: 3, POLL: 32, REST: 8}[patient]
