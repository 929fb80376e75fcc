"""An unknown limit is learned from 429s."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lemon_async._pace.budget import MOST_RPM, RateEstimator

steady = settings(derandomize=True, deadline=None)


def taught(*, accepted, refused=1, now=100.0, limit_rpm=None):
    """Return an estimator after requests spread over ten seconds and the first of several 429s."""
    learner = RateEstimator()
    for number in range(accepted + refused):
        learner.consume(now - 10.0 + 10.0 * number / (accepted + refused), used_s=0.0)
    for number in range(refused):
        learner.refuse(now, is_new_burst=not number, limit_rpm=limit_rpm)
    return learner


def use(learner, since, *, seconds):
    """Make full use of the rate for a while; return when that ended."""
    now = since
    while now < since + seconds:
        gap = 60.0 / learner.rpm
        now += gap
        learner.consume(now, used_s=gap)
    return now


def test_start_is_generous_and_doubles_every_second_of_use():
    learner = RateEstimator()
    assert not learner.is_taught
    assert learner.rpm == 3000
    use(learner, 0.0, seconds=1.0)
    assert learner.rpm == pytest.approx(6000, rel=0.03)
    use(learner, 1.0, seconds=10.0)
    assert learner.rpm == MOST_RPM


def test_unused_time_does_not_raise_the_first_rate():
    learner = RateEstimator()
    for now in range(1000):
        learner.consume(float(now), used_s=0.0)
    assert learner.rpm == 3000


def test_first_refusal_sets_the_mark_to_the_admitted_requests():
    """All 429s of the burst are deducted, in whatever order they come."""
    for accepted in [60, 250, 1000]:
        for refused in [1, 12]:
            learner = taught(accepted=accepted, refused=refused)
            assert learner.is_taught
            assert learner.rpm == pytest.approx(0.95 * accepted)


def test_first_refusal_sets_no_mark_below_the_lowest_tier():
    """No documented account has a limit below 60: another program must have used it up."""
    for accepted in [0, 1, 59]:
        assert taught(accepted=accepted).rpm == pytest.approx(0.95 * 60)


def test_refusal_before_any_start_is_accepted():
    learner = RateEstimator()
    learner.refuse(5.0, is_new_burst=False, limit_rpm=None)
    assert learner.rpm == pytest.approx(57)


def test_starts_of_more_than_a_minute_ago_do_not_count():
    learner = RateEstimator()
    for now in range(200):
        learner.consume(float(now), used_s=0.0)
    learner.consume(199.5, used_s=0.0)
    learner.refuse(200.0, is_new_burst=True, limit_rpm=3000.0)
    learner.refuse(200.0, is_new_burst=False, limit_rpm=3000.0)
    assert learner.rpm == pytest.approx(0.95 * 1500)
    assert learner.count(199.5, within_s=10.0, at_most=100) == 9
    assert learner.count(199.5, within_s=10.0, at_most=3) == 3
    assert learner.count(199.5, within_s=1e9, at_most=100) == 58


def test_refusal_beside_a_limit_lies_between_that_and_its_half():
    """A quiet minute is not evidence of a much lower limit."""
    for accepted, mark in [(900, 900), (1500, 1000), (300, 500)]:
        assert taught(accepted=accepted, limit_rpm=1000.0).rpm == pytest.approx(0.95 * mark)


def test_refusals_of_one_burst_count_once():
    learner = taught(accepted=600)
    for _ in range(50):
        learner.consume(101.0, used_s=0.0)
        learner.refuse(101.1, is_new_burst=False, limit_rpm=None)
    assert learner.rpm == pytest.approx(0.95 * 600)


def test_rate_returns_to_the_mark_stays_there_and_goes_on():
    learner = taught(accepted=600)
    now, rates = 100.0, []
    for _ in range(6):
        now = use(learner, now, seconds=15.0)
        rates.append(learner.rpm / 600)
    assert rates == sorted(rates)
    assert rates[1] == pytest.approx(1.0, abs=0.001)
    assert rates[3] == pytest.approx(1.05, abs=0.01)
    assert rates[5] == pytest.approx(1.1 * 2 ** ((90 - 67.8) / 60), abs=0.02)


def test_rate_finds_a_limit_that_was_raised():
    learner = taught(accepted=60)
    use(learner, 100.0, seconds=400.0)
    assert learner.rpm > 1000


def test_mark_that_proves_right_is_approached_more_slowly():
    learner, now, ways = taught(accepted=600), 100.0, []
    for _ in range(4):
        began = now
        while learner.rpm < 600 * 1.02:
            now = use(learner, now, seconds=0.5)
        ways.append(now - began)
        learner.refuse(now, is_new_burst=True, limit_rpm=600.0)
    assert ways == pytest.approx([52, 104, 208, 208], rel=0.1)


def test_rate_does_not_grow_while_less_than_half_of_it_is_used():
    """Sending a tenth of the learned rate proves nothing about a higher one."""
    learner = taught(accepted=600)
    for second in range(200, 1000):
        learner.consume(float(second), used_s=1.0)
    assert learner.rpm == pytest.approx(0.95 * 600)


steps = st.tuples(st.floats(0, 200), st.sampled_from(["take", "news", "more"]), st.floats(0, 64))


@steady
@given(st.lists(steps, max_size=80))
def test_rate_is_bounded_whatever_happens(steps):
    learner, now = RateEstimator(), 1e9
    for elapsed, event, used_s in steps:
        now += elapsed
        before = learner.rpm
        if event == "take":
            learner.consume(now, used_s=used_s)
            assert learner.rpm >= before
        else:
            learner.refuse(now, is_new_burst=event == "news", limit_rpm=None)
            assert learner.rpm <= max(before, 60.0)
        assert 0.9 <= learner.rpm <= MOST_RPM
        assert learner.count(now, within_s=60.0, at_most=10**6) <= len(steps)
