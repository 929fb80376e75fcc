"""Strict priority without starvation."""

from itertools import combinations

from hypothesis import given, settings
from hypothesis import strategies as st

from lemon_async._pace.priority import Priority, PriorityPolicy

SUBMIT, POLL, OTHER = Priority
MIXES = [set(mix) for size in (1, 2, 3) for mix in combinations(Priority, size)]

steady = settings(derandomize=True, deadline=None)


def test_highest_waiting_priority_is_next():
    for waiting in MIXES:
        assert PriorityPolicy().next(waiting) is min(waiting)


def test_polls_are_granted_although_submits_wait():
    policy = PriorityPolicy()
    assert [policy.next([SUBMIT, POLL]) for _ in range(64)] == ([SUBMIT] * 31 + [POLL]) * 2


def test_other_requests_are_granted_sooner_because_a_caller_waits():
    policy = PriorityPolicy()
    assert [policy.next([POLL, OTHER]) for _ in range(16)] == ([POLL] * 7 + [OTHER]) * 2


def test_count_starts_again_for_a_priority_that_has_stopped_waiting():
    policy = PriorityPolicy()
    for _ in range(7):
        policy.next([SUBMIT, OTHER])
    policy.next([SUBMIT])
    assert [policy.next([SUBMIT, OTHER]) for _ in range(8)] == [SUBMIT] * 7 + [OTHER]


def test_all_priorities_share_the_grants_when_all_wait():
    policy = PriorityPolicy()
    granted = [policy.next(Priority) for _ in range(3200)]
    assert [granted.count(kind) for kind in Priority] == [2701, 100, 399]


@steady
@given(st.lists(st.sampled_from(MIXES), max_size=300), st.sampled_from(Priority))
def test_no_waiting_priority_starves(mixes, patient):
    """A submit is passed over at most three times, a poll 32 times, others eight times."""
    policy, passed = PriorityPolicy(), 0
    for mix in mixes:
        turn = policy.next(mix | {patient})
        assert turn in mix | {patient}
        passed = 0 if turn is patient else passed + 1
        assert passed <= {SUBMIT: 3, POLL: 32, OTHER: 8}[patient]
