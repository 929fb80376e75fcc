"""The first jobs of a model say how long the others take, also while all of them are alive."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lemon_async._pace.cold_estimate import cold_survival
from lemon_async._pace.survival import BINS, EDGES, SurvivalCurve, bin_of


def curve(*, alive=(), ended=()):
    """Return the estimate after jobs that were alive at some ages, and others that ended at some."""
    reached, over = [0.0] * BINS, [0.0] * BINS
    for age_s in (*alive, *ended):
        for number in range(bin_of(age_s)):
            reached[number] += 1
    for age_s in ended:
        reached[bin_of(age_s)] += 1
        over[bin_of(age_s)] += 1
    return SurvivalCurve(cold_survival(reached, over))


def test_prior_is_what_the_service_documents():
    """Most tasks take 30-120 s; a few per cent may take anything from a second to half an hour."""
    known = curve()
    assert known.median_s == pytest.approx(45, rel=0.05)
    assert known.outlasts(28) - known.outlasts(120) > 0.6
    assert 0.002 < 1 - known.outlasts(3) < 0.05
    assert 0.002 < known.outlasts(600) < 0.05


def test_jobs_that_are_alive_say_that_others_are():
    none, two, ten = (curve(alive=[60.0] * number) for number in (0, 2, 10))
    assert none.outlasts(60) < 0.3
    assert two.outlasts(60) > 0.5
    assert ten.outlasts(60) > 0.8
    assert ten.median_s > two.median_s > none.median_s


def test_one_stuck_job_does_not_make_the_others_slow():
    usual = [40.0, 45.0, 50.0]
    assert curve(ended=usual, alive=[900.0]).median_s == pytest.approx(curve(ended=usual).median_s, rel=0.15)
    assert curve(alive=[3000.0]).median_s < 200


def test_two_jobs_far_from_what_is_documented_are_enough():
    for job_s in (3.0, 10.0, 200.0, 600.0):
        assert curve(ended=[job_s, 1.1 * job_s]).median_s == pytest.approx(job_s, rel=0.35)


counts = st.lists(st.tuples(st.floats(0, 100), st.floats(0, 1)), max_size=BINS)


@given(counts)
def test_any_counts_give_a_distribution(observed):
    reached = [count for count, _ in observed]
    survival = cold_survival(reached, [count * part for count, part in observed])
    assert len(survival) == len(EDGES)
    assert survival[0] == 1.0
    assert all(0 < right <= left * (1 + 1e-9) for left, right in pairwise(survival))
