"""Evenly spaced starts: no window holds more than the limit, and little of the limit is unused."""

from hypothesis import given, settings
from hypothesis import strategies as st

from lemon_async._pace.budget import Gcra, interval_s

WINDOW_S = 60.2  # a minute, and the jitter of the network
LIMITS = [1, 2, 7, 59, 60, 99, 100, 171, 172, 250, 1000, 3000, 10_000]

steady = settings(derandomize=True, deadline=None)


def starts(meter, rpm, *, since, number):
    """Return the start times of requests that start as early as possible."""
    times, now = [], since
    for _ in range(number):
        now = max(now, meter.next_at(rpm))
        assert meter.available(now, rpm) > 0
        meter.consume(now, rpm)
        times.append(now)
    return times


def test_no_window_holds_more_starts_than_the_limit():
    """One request more than the limit starts only after the window is over, even at large times."""
    for since in [0.0, -5.0, 1e6, 1e9]:
        for limit in LIMITS:
            times = starts(Gcra(), limit, since=since, number=limit + 200)
            assert min(later - first for first, later in zip(times, times[limit:], strict=False)) > WINDOW_S


def test_less_than_two_percent_of_the_limit_is_unused():
    for limit in LIMITS:
        assert 60.0 / interval_s(limit) >= 0.98 * limit
        times = starts(Gcra(), limit, since=0.0, number=limit + 1)
        assert times[-1] <= 60.0 / 0.98


def test_burst_is_less_than_a_hundredth_of_the_limit():
    for limit, burst in [(1, 1), (60, 1), (171, 1), (400, 2), (1000, 5), (10_000, 57)]:
        meter = Gcra()
        assert meter.available(100.0, limit) == burst
        for left in reversed(range(burst)):
            meter.consume(100.0, limit)
            assert meter.available(100.0, limit) == left


def test_idle_time_allows_no_more_than_the_burst():
    meter = Gcra()
    meter.consume(0.0, 1000)
    assert meter.available(1e9, 1000) == 5


def test_saturation_means_that_the_rate_is_the_bottleneck():
    meter = Gcra()
    assert not meter.is_saturated(0.0, 60)
    meter.consume(0.0, 60)
    soonest = meter.next_at(60)
    assert meter.is_saturated(soonest, 60)
    assert meter.is_saturated(soonest + 0.4, 60)
    assert not meter.is_saturated(soonest + 0.6, 60)


def test_one_request_may_start_at_the_end_of_a_pause():
    for until in [50.0, 1e9]:
        for limit in LIMITS:
            meter = Gcra()
            meter.pause_until(until, limit)
            assert meter.next_at(limit) <= until
            assert meter.available(until, limit) == 1
            meter.consume(until, limit)
            assert meter.available(until, limit) == 0


def test_pause_never_brings_the_next_start_forward():
    meter = Gcra()
    times = starts(meter, 60, since=0.0, number=10)
    before = meter.next_at(60)
    meter.pause_until(times[-1] - 5.0, 60)
    assert meter.next_at(60) == before


rates = st.floats(1, 60_000)


@steady
@given(rates, rates)
def test_lower_rate_admits_nothing_that_a_higher_one_refuses(one, other):
    low, high = sorted((one, other))
    assert interval_s(low) >= interval_s(high)
    assert Gcra(0.0).next_at(low) >= Gcra(0.0).next_at(high)


@steady
@given(st.lists(st.tuples(st.floats(0, 30), st.integers(0, 20)), max_size=60), st.integers(1, 2000))
def test_requests_are_available_exactly_from_next_at_on(steps, limit):
    meter, now = Gcra(), 1e9
    for elapsed, wanted in steps:
        now += elapsed
        for _ in range(min(wanted, meter.available(now, limit))):
            meter.consume(now, limit)
        soonest = max(meter.next_at(limit), now)
        assert (meter.available(now, limit) > 0) == (soonest == now)
        assert meter.available(soonest, limit) > 0
