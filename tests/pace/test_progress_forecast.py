"""The duration that progress implies, and how precise such forecasts are."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lemon_async._pace.survival import ForecastError, ProgressForecast, normal_age_of_lag

steady = settings(derandomize=True, deadline=None)


def test_valid_progress_implies_a_duration():
    """Per cent and fractions are distinguished; 1 may be either, and is ignored."""
    for progress, estimate_s in [
        (0.25, 80),
        (25, 80),
        (25.0, 80),
        (99, 20 / 0.99),
        (0.02, 1000),
        (None, None),
        (0, None),
        (0.001, None),
        (1, None),
        (1.0, None),
        (100, None),
        (-5, None),
        (250, None),
        (math.nan, None),
        (math.inf, None),
        (10**400, None),
    ]:
        forecast = ProgressForecast()
        forecast.update(progress, 20.0)
        assert forecast.estimate_s == (None if estimate_s is None else pytest.approx(estimate_s))
        assert forecast.first_s == forecast.estimate_s


def test_progress_that_stands_still_or_falls_back_is_ignored():
    forecast, estimates = ProgressForecast(), []
    for age_s, progress in [(10, 0.2), (20, 0.2), (30, 0.1), (40, None), (50, 0.4), (60, 0.5)]:
        forecast.update(progress, age_s)
        estimates.append(forecast.estimate_s)
    assert estimates == [50, None, None, None, 125, 120]
    assert forecast.first_s == 50


def test_progress_at_age_zero_implies_nothing():
    forecast = ProgressForecast()
    forecast.update(0.5, 0.0)
    assert forecast.estimate_s is None


def test_variance_falls_with_precise_forecasts_and_rises_with_others():
    honest, liar = ForecastError(), ForecastError()
    for _ in range(20):
        honest.observe(50.0, 48.0)
        liar.observe(20.0, 90.0)
    assert honest.variance < 0.05
    assert liar.variance > 2
    for _ in range(300):
        liar.observe(50.0, 50.0)
    assert liar.variance < 0.01
    assert ForecastError().variance > honest.variance


def test_variance_has_a_floor():
    error = ForecastError()
    for _ in range(10_000):
        error.observe(50.0, 50.0)
    assert error.variance == 0.05**2


def test_job_without_duration_is_accepted():
    error = ForecastError()
    error.observe(50.0, 0.0)
    assert math.isfinite(error.variance)


def test_estimate_counts_by_as_much_as_it_is_more_precise_than_the_model():
    error = ForecastError()
    assert error.variance == 0.5
    assert error.combine(90.0, math.log(45), 0.5) is None
    mean, variance = error.combine(90.0, math.log(45), 1.0)
    assert math.exp(mean) == pytest.approx(math.sqrt(90 * 45))
    assert variance == 0.5


@steady
@given(st.floats(1, 7), st.floats(0.0025, 4), st.floats(0.5, 2000), st.floats(0.01, 10), st.floats(1, 10_000))
def test_age_of_lag_is_an_age_within_bounds_or_no_answer(mean, variance, alive_s, lag_s, most_s):
    age_s = normal_age_of_lag(mean, variance, alive_s, lag_s, most_s)
    assert age_s is None or alive_s <= age_s <= alive_s + most_s * (1 + 1e-9)


def test_age_of_lag_of_a_certain_end_is_that_end_and_the_price():
    assert normal_age_of_lag(math.log(60), 0.0025, 10.0, 3.0, 500.0) == pytest.approx(63, abs=1)
