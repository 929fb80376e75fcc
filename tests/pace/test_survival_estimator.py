"""Durations are estimated from when jobs were alive and when they had completed, without bias and within bounds."""

import json
import math
import random
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lemon_async._pace.learned_durations import SurvivalEstimator
from lemon_async._pace.survival import EDGES

steady = settings(derandomize=True, deadline=None, max_examples=20)


def lognormal(median_s, sigma, number, seed=0):
    rng = random.Random(seed)
    return [median_s * math.exp(sigma * rng.gauss(0, 1)) for _ in range(number)]


def teach(estimator, jobs, gap_s=2.0):
    """Observe jobs one after the other, at regular polls."""
    for job_s in jobs:
        alive_s = gap_s * math.floor(job_s / gap_s)
        estimator.observe_alive(0.0, alive_s)
        estimator.observe_completed(alive_s, alive_s + gap_s)
    return estimator


def quartiles(curve):
    return [next(edge for edge in EDGES if curve.outlasts(edge) <= part) for part in (0.75, 0.5, 0.25)]


def test_prior_is_centred_on_45_seconds_and_wide():
    estimator = SurvivalEstimator()
    assert estimator.curve().median_s == pytest.approx(45, rel=0.05)
    early, _, late = quartiles(estimator.curve())
    assert early < 35
    assert late > 58


def test_distribution_is_learned_from_thirty_jobs():
    for median_s, sigma in [(45, 0.15), (45, 0.35), (12, 0.2), (90, 0.25), (300, 0.3)]:
        estimator = teach(SurvivalEstimator(), lognormal(median_s, sigma, 30))
        spread = math.exp(0.674 * sigma)
        for estimated, true in zip(
            quartiles(estimator.curve()), (median_s / spread, median_s, median_s * spread), strict=True
        ):
            assert estimated == pytest.approx(true, rel=0.17)


def test_shape_of_the_data_is_learned_when_there_are_many():
    """Half of the jobs last 20 s, half 80 s, and none 45: the estimate has a gap where the prior was."""
    jobs = [*lognormal(20, 0.1, 100), *lognormal(80, 0.1, 100)]
    random.Random(1).shuffle(jobs)
    curve = teach(SurvivalEstimator(), jobs).curve()
    assert curve.outlasts(30) == pytest.approx(0.5, abs=0.12)
    assert curve.outlasts(30) - curve.outlasts(60) < 0.1


def test_jobs_that_started_together_cause_no_bias_although_the_short_ones_end_first():
    """After the first third has ended at 30-38 s, the estimated median is not among them."""
    jobs, estimator = lognormal(45, 0.35, 300), SurvivalEstimator()
    now = 0.0
    while now < 38.0:
        for job_s in jobs:
            if job_s > now + 1:
                estimator.observe_alive(now, now + 1)
            elif job_s > now:
                estimator.observe_completed(now, now + 1)
        now += 1.0
    ended = sorted(job_s for job_s in jobs if job_s <= now)
    assert len(ended) < 150
    assert estimator.curve().median_s > ended[-1]
    assert estimator.curve().median_s == pytest.approx(45, rel=0.15)


def test_jobs_that_failed_count_for_as_long_as_they_were_alive():
    estimator = teach(SurvivalEstimator(), [45.0] * 20)
    before = estimator.curve().outlasts(60)
    for _ in range(40):
        estimator.observe_alive(0.0, 60.0)
    teach(estimator, [70.0])
    assert estimator.curve().outlasts(60) > before + 0.3


def test_change_of_the_durations_is_detected():
    for before_s, after_s in [(20, 90), (90, 20)]:
        estimator = teach(SurvivalEstimator(), lognormal(before_s, 0.2, 300))
        assert estimator.curve().median_s == pytest.approx(before_s, rel=0.1)
        teach(estimator, lognormal(after_s, 0.2, 25, seed=1))
        assert estimator.curve().median_s == pytest.approx(after_s, rel=0.25)


def test_late_first_observation_of_a_completed_job_carries_little_information():
    """A job that is resumed after an hour, and has ended, may have lasted a second or an hour."""
    estimator = teach(SurvivalEstimator(), [45.0] * 10)
    before = estimator.curve().survival
    for _ in range(20):
        estimator.observe_completed(0.0, 7000.0)
    after = estimator.curve().survival
    assert max(abs(left - right) for left, right in zip(before, after, strict=True)) < 0.05


ages = st.floats(0, 1e6)
spans = st.tuples(st.sampled_from(["observe_alive", "observe_completed"]), ages, ages)


@steady
@given(st.lists(spans, max_size=30), st.floats(0, 10_000), st.floats(0.01, 10))
def test_any_observations_leave_a_valid_distribution(observed, alive_s, poll_cost_s):
    estimator = SurvivalEstimator()
    for name, one_s, other_s in observed:
        getattr(estimator, name)(min(one_s, other_s), max(one_s, other_s))
    survival = estimator.curve().survival
    assert survival[0] == 1.0
    assert all(0 <= right <= left for left, right in pairwise(survival))
    assert estimator.curve().age_of_lag(alive_s, poll_cost_s) >= alive_s
    assert estimator.curve().lag_s(alive_s, alive_s + 1) <= 1 + 1e-6
    state = estimator.export()
    assert SurvivalEstimator.restore(json.loads(json.dumps(state))).export() == state


@given(st.lists(st.tuples(st.floats(0, 200), st.floats(0.01, 5), st.floats(0.01, 5)), max_size=30))
@steady
def test_any_state_survives_export_and_restore(jobs):
    """Jobs that are observed in the middle of a bin count in parts, which fade one after the other.

    The restored estimate is computed from all counts; the one in use may be a job behind.
    """
    estimator = SurvivalEstimator()
    for start, seen, over in jobs:
        estimator.observe_alive(start, start + seen)
        estimator.observe_completed(start + seen, start + seen + over)
    again = SurvivalEstimator.restore(estimator.export())
    assert again.export() == estimator.export()
    if jobs:
        assert again.curve().survival == pytest.approx(estimator._estimate().survival, abs=0.01)
