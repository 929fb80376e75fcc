"""The table agrees with numerical integrals."""

import math
from itertools import pairwise

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from lemon_async._pace.survival import BINS, EDGES, SurvivalCurve, bin_of, student

steady = settings(derandomize=True, deadline=None)

WIDE = SurvivalCurve(student(math.log(45), 0.5, 4))
NARROW = SurvivalCurve(student(math.log(90), 0.1, 100))
ALL_AT_A_MINUTE = SurvivalCurve([1.0 if edge < 60 else 0.0 for edge in EDGES])
NEVER = SurvivalCurve([1.0] * len(EDGES))

curves = st.sampled_from([WIDE, NARROW, ALL_AT_A_MINUTE, NEVER])
ages = st.floats(0, 3 * EDGES[-1])


def lag_by_sums(curve, alive_s, age_s, steps=20_000):
    """Return the lag by numerical integration of its definition."""
    width = (age_s - alive_s) / steps
    at_first = 1 - curve.outlasts(alive_s)
    slices = (1 - curve.outlasts(alive_s + (number + 0.5) * width) - at_first for number in range(steps))
    return sum(slices) * width / curve.outlasts(alive_s)


def test_grid_is_fine_and_reaches_from_nothing_to_two_hours():
    assert len(EDGES) == BINS + 1
    assert EDGES[0] == 0
    assert EDGES[-1] > 7000
    assert max(right / left for left, right in pairwise(EDGES[1:])) < 1.05


@given(ages)
@steady
def test_bin_holds_its_age(age_s):
    number = bin_of(age_s)
    assert EDGES[number] <= age_s
    assert age_s < EDGES[number + 1] or number == BINS - 1


def test_bin_begins_with_its_edge():
    """This holds however the logarithm is rounded."""
    for number in range(BINS):
        assert bin_of(EDGES[number]) == number
        assert bin_of(math.nextafter(EDGES[number + 1], 0)) == number


def test_student_is_centred_and_its_tails_are_those_of_the_distribution():
    """Two-sided 95 % points of Student's t, from tables: 3.182 for 3 degrees of freedom, 2.042 for 30."""
    for freedom in [3.0, 30.0]:
        point = {3.0: 3.182, 30.0: 2.042}[freedom]
        curve = SurvivalCurve(student(math.log(45), 0.4, freedom))
        assert curve.outlasts(45) == pytest.approx(0.5, abs=0.002)
        assert curve.outlasts(45 * math.exp(0.4 * point)) == pytest.approx(0.025, abs=0.001)
        assert curve.outlasts(45 * math.exp(-0.4 * point)) == pytest.approx(0.975, abs=0.001)


def test_tail_beyond_the_grid_is_counted():
    """Of a duration whose median is the end of the grid, half is beyond it."""
    assert SurvivalCurve(student(math.log(EDGES[-1]), 0.5, 30)).survival[-1] == pytest.approx(0.5, abs=0.1)


def test_median_is_told_to_the_precision_of_the_grid():
    for curve, median_s in [(WIDE, 45), (NARROW, 90), (ALL_AT_A_MINUTE, 60), (NEVER, EDGES[-1])]:
        assert curve.median_s == pytest.approx(median_s, rel=0.05)


def test_moments_are_those_of_the_logarithm():
    mean, variance = SurvivalCurve(student(math.log(45), 0.3, 1000)).moments
    assert math.exp(mean) == pytest.approx(45, rel=0.01)
    assert math.sqrt(variance) == pytest.approx(0.3, rel=0.01)


def test_lag_is_the_integral():
    for alive_s, age_s in [(0, 20), (0, 100), (30, 31), (44, 46), (60, 90), (90, 90.5), (200, 300)]:
        for curve in [WIDE, NARROW]:
            assert curve.lag_s(alive_s, age_s) == pytest.approx(lag_by_sums(curve, alive_s, age_s), rel=1e-3, abs=1e-9)


@given(curves, ages, st.floats(0, 1000), st.floats(0, 1000))
@steady
def test_lag_grows_and_never_faster_than_time(curve, alive_s, earlier_s, later_s):
    earlier, later = (curve.lag_s(alive_s, alive_s + waited_s) for waited_s in sorted((earlier_s, later_s)))
    # Integrals over hours keep their digits, but not all of them.
    slack = 1e-6
    assert 0 <= earlier <= later + slack
    assert later - earlier <= abs(later_s - earlier_s) + slack


@given(curves, ages, st.floats(1e-6, 100))
@steady
def test_age_of_a_lag_has_that_lag(curve, alive_s, lag_s):
    age_s = curve.age_of_lag(alive_s, lag_s)
    assume(math.isfinite(age_s))
    assert age_s >= alive_s
    assert curve.lag_s(alive_s, age_s) == pytest.approx(lag_s, rel=1e-4, abs=1e-6)


@given(st.floats(1, 10 * EDGES[-1]), st.floats(0.01, 100))
@steady
def test_age_of_a_lag_is_infinite_when_the_table_does_not_tell(alive_s, lag_s):
    assert NEVER.age_of_lag(alive_s, lag_s) == math.inf
    assert WIDE.age_of_lag(EDGES[-1] + alive_s, lag_s) == math.inf


def test_lag_beyond_zero_survival_grows_by_every_second():
    """Where survival is zero, every second counts as lag."""
    assert ALL_AT_A_MINUTE.outlasts(70) == 0
    assert ALL_AT_A_MINUTE.lag_s(70, 75) == 5
    assert ALL_AT_A_MINUTE.age_of_lag(70, 1) == math.inf
    assert WIDE.lag_s(EDGES[-1], EDGES[-1] + 7) == 7


def test_lag_goes_on_beyond_the_end_of_the_table():
    """Survival stays constant there, so lag grows more slowly than time and never decreases."""
    at_the_end, later = (WIDE.lag_s(7000, age_s) for age_s in (EDGES[-1], EDGES[-1] + 900))
    assert 0 < at_the_end < later < at_the_end + 900


def test_certain_end_is_polled_for_one_price_later():
    """Nothing is expected before the bin of the end."""
    assert ALL_AT_A_MINUTE.age_of_lag(0, 1.0) == pytest.approx(61, abs=2.5)


def test_constant_hazard_follows_the_square_root_law():
    """At a small price a job that ends at any time is polled every `sqrt(2 * price / hazard)` seconds."""
    for poll_cost_s in [0.1, 0.5, 3.0]:
        curve = SurvivalCurve([math.exp(-edge / 400) for edge in EDGES])
        gap_s = math.sqrt(2 * poll_cost_s * 400)
        assert curve.age_of_lag(50, poll_cost_s) - 50 == pytest.approx(gap_s, rel=0.08)
