"""How long jobs last is learned from when they were seen alive and found over, without bias and with bounds."""

import json
import math
import random
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lemon_async._pace.learned_durations import LearnedDurations
from lemon_async._pace.progress_forecast import ProgressForecast
from lemon_async._pace.survival_curve import EDGES
from lemon_async.errors import ContractError

steady = settings(derandomize=True, deadline=None)


def lognormal(median_s, sigma, number, seed=0):
    rng = random.Random(seed)
    return [median_s * math.exp(sigma * rng.gauss(0, 1)) for _ in range(number)]


def teach(durations, jobs, model="m", gap_s=2.0):
    """Watch jobs one after the other, at regular polls."""
    for job_s in jobs:
        alive_s = gap_s * math.floor(job_s / gap_s)
        durations.observe_alive(model, 0.0, alive_s)
        durations.observe_completed(model, alive_s, alive_s + gap_s)
    return durations


def quartiles(durations, model="m"):
    curve = durations.curve(model)
    return [next(edge for edge in EDGES if curve.outlasts(edge) <= part) for part in (0.75, 0.5, 0.25)]


def test_everything_is_believed_of_an_unknown_model_around_45_seconds():
    durations = LearnedDurations()
    assert durations.median_s("m") == pytest.approx(45, rel=0.05)
    early, _, late = quartiles(durations)
    assert early < 35
    assert late > 58
    assert len(durations) == 0


def test_first_poll_of_an_unknown_model_comes_before_most_of_its_jobs_end():
    assert 10 < LearnedDurations().due_s(None, 0.0, 0.5) < 30


def test_distribution_is_learned_from_thirty_jobs():
    for median_s, sigma in [(45, 0.15), (45, 0.35), (12, 0.2), (90, 0.25), (300, 0.3)]:
        durations = teach(LearnedDurations(), lognormal(median_s, sigma, 30))
        spread = math.exp(0.674 * sigma)
        for told, true in zip(quartiles(durations), (median_s / spread, median_s, median_s * spread), strict=True):
            assert told == pytest.approx(true, rel=0.17)


def test_shape_of_the_data_is_learned_when_there_are_many():
    """Half of the jobs last 20 s, half 80 s, and none 45: the belief has a gap where the prior was."""
    jobs = [*lognormal(20, 0.1, 100), *lognormal(80, 0.1, 100)]
    random.Random(1).shuffle(jobs)
    curve = teach(LearnedDurations(), jobs).curve("m")
    assert curve.outlasts(30) == pytest.approx(0.5, abs=0.12)
    assert curve.outlasts(30) - curve.outlasts(60) < 0.1


def test_jobs_that_started_together_teach_no_bias_although_the_short_ones_end_first():
    """After the first third has ended at 30-38 s, the believed median is not among them."""
    jobs, durations = lognormal(45, 0.35, 300), LearnedDurations()
    now = 0.0
    while now < 38.0:
        for job_s in jobs:
            if job_s > now + 1:
                durations.observe_alive("m", now, now + 1)
            elif job_s > now:
                durations.observe_completed("m", now, now + 1)
        now += 1.0
    ended = sorted(job_s for job_s in jobs if job_s <= now)
    assert len(ended) < 150
    assert durations.median_s("m") > ended[-1]
    assert durations.median_s("m") == pytest.approx(45, rel=0.15)


def test_jobs_that_failed_count_for_as_long_as_they_lived():
    durations = teach(LearnedDurations(), [45.0] * 20)
    before = durations.curve("m").outlasts(60)
    for _ in range(40):
        durations.observe_alive("m", 0.0, 60.0)
    teach(durations, [70.0])
    assert durations.curve("m").outlasts(60) > before + 0.3


def test_model_that_changes_is_learned_anew():
    for before_s, after_s in [(20, 90), (90, 20)]:
        durations = teach(LearnedDurations(), lognormal(before_s, 0.2, 300))
        assert durations.median_s("m") == pytest.approx(before_s, rel=0.1)
        teach(durations, lognormal(after_s, 0.2, 25, seed=1))
        assert durations.median_s("m") == pytest.approx(after_s, rel=0.25)


def test_end_that_nothing_came_before_teaches_little_when_it_was_found_late():
    """Whoever is resumed after an hour and found over may have lasted a second or an hour."""
    durations = teach(LearnedDurations(), [45.0] * 10)
    before = durations.curve("m").survival
    for _ in range(20):
        durations.observe_completed("m", 0.0, 7000.0)
    after = durations.curve("m").survival
    assert max(abs(left - right) for left, right in zip(before, after, strict=True)) < 0.05


def test_models_are_learned_apart_and_those_without_a_name_together():
    durations = LearnedDurations()
    teach(durations, [20.0] * 20, model="fast")
    teach(durations, [100.0] * 20, model="slow")
    teach(durations, [60.0] * 20, model=None)
    assert durations.median_s("fast") < 24
    assert durations.median_s("slow") > 88
    assert durations.median_s("") == durations.median_s(None) == pytest.approx(60, rel=0.15)
    assert durations.median_s("new") == pytest.approx(45, rel=0.05)


def test_only_so_many_models_are_remembered_those_heard_of_last():
    durations = LearnedDurations()
    for number in range(1000):
        durations.observe_alive("busy", 0.0, 1.0)
        durations.observe_completed(f"name {number}", 1.0, 2.0)
    assert len(durations) == 64
    kept = durations.export()["models"]
    assert "busy" in kept
    assert "name 999" in kept
    assert "name 900" not in kept


def test_endless_names_are_cut():
    durations = LearnedDurations()
    durations.observe_completed("x" * 10**6, 1.0, 2.0)
    assert [len(name) for name in durations.export()["models"]] == [200]


ages = st.floats(0, 1e6)
spans = st.tuples(st.sampled_from(["observe_alive", "observe_completed"]), ages, ages)


@steady
@given(st.lists(spans, max_size=30), st.floats(0, 10_000), st.floats(0.01, 10))
def test_nothing_that_is_heard_breaks_the_belief(heard, alive_s, poll_cost_s):
    durations = LearnedDurations()
    for name, one_s, other_s in heard:
        getattr(durations, name)("m", min(one_s, other_s), max(one_s, other_s))
    survival = durations.curve("m").survival
    assert survival[0] == 1.0
    assert all(0 <= right <= left for left, right in pairwise(survival))
    assert durations.due_s("m", alive_s, poll_cost_s) >= alive_s
    assert durations.lag_s("m", alive_s, alive_s + 1) <= 1 + 1e-6
    state = durations.export()
    assert LearnedDurations.restore(json.loads(json.dumps(state))).export() == state


def test_what_was_learned_can_be_given_back():
    durations = teach(LearnedDurations(), lognormal(80, 0.3, 40))
    teach(durations, [20.0] * 3, model="other")
    state = json.loads(json.dumps(durations.export(), allow_nan=False))
    restored = LearnedDurations.restore(state)
    assert restored.export() == state
    assert restored.median_s("m") == pytest.approx(durations.median_s("m"), rel=0.05)
    assert restored.median_s("other") == pytest.approx(durations.median_s("other"), rel=0.05)
    assert len(json.dumps(state)) < 6000


def damaged(**fields):
    return {"version": 1, "models": {"m": {"reached": [2.0], "ended": [1.0], "forecast_error": [1.0, 0.5], **fields}}}


def test_damaged_state_is_refused_with_a_reason():
    for state in [
        None,
        [],
        {"version": 1},
        {"version": 2, "models": {}},
        {"version": 1, "models": []},
        {"version": 1, "models": {"m": None}},
        {"version": 1, "models": {3: damaged()["models"]["m"]}},
        damaged(reached="2"),
        damaged(reached=[math.nan]),
        damaged(reached=[-1.0]),
        damaged(reached=[101.0]),
        damaged(reached=[2.0] * 1000, ended=[1.0] * 1000),
        damaged(ended=[True]),
        damaged(ended=[3.0]),
        damaged(ended=[1.0, 1.0]),
        damaged(forecast_error=None),
        damaged(forecast_error=[1.0]),
        damaged(forecast_error=[0.0, 1.0]),
        damaged(forecast_error=[1.0, math.inf]),
        damaged(forecast_error=[1e9, 1.0]),
    ]:
        with pytest.raises(ContractError, match="learned_durations: is no export of"):
            LearnedDurations.restore(state)
        assert len(LearnedDurations.restore(damaged())) == 1


def test_of_too_many_models_that_are_given_back_the_last_are_kept():
    entry = damaged()["models"]["m"]
    state = {"version": 1, "models": {str(number): entry for number in range(100)}}
    assert list(LearnedDurations.restore(state).export()["models"]) == [str(number) for number in range(36, 100)]


def test_progress_that_has_proved_true_moves_the_next_poll():
    durations = teach(LearnedDurations(), lognormal(45, 0.35, 30))
    plain = durations.due_s("m", 20.0, 0.5)
    assert durations.due_s("m", 20.0, 0.5, estimate_s=100.0) == pytest.approx(plain, rel=0.35)
    for _ in range(30):
        forecast = ProgressForecast()
        forecast.update(0.5, 20.0)
        durations.observe_forecast("m", forecast, 40.0)
    assert durations.due_s("m", 20.0, 0.5, estimate_s=100.0) > 60
    assert durations.due_s("m", 30.0, 0.5, estimate_s=33.0) < 36


def test_progress_says_nothing_where_nothing_is_known():
    durations = LearnedDurations()
    durations.observe_forecast("m", ProgressForecast(), 40.0)
    assert len(durations) == 0
    assert durations.due_s("m", 20.0, 0.5, estimate_s=100.0) == durations.due_s("m", 20.0, 0.5)


def test_progress_that_contradicts_a_long_life_is_ignored():
    """A job that should have ended long ago, by what it said and by what its model does, is no such job."""
    durations = teach(LearnedDurations(), [45.0] * 30)
    assert durations.due_s("m", 400.0, 0.5, estimate_s=401.0) >= 400
    for _ in range(60):
        forecast = ProgressForecast()
        forecast.update(0.5, 20.0)
        durations.observe_forecast("m", forecast, 40.0)
    assert durations.due_s("m", 400.0, 0.5, estimate_s=41.0) == durations.due_s("m", 400.0, 0.5)


def test_state_of_nothing_has_taught_nothing():
    """A program that keeps it in a file begins with an empty one."""
    assert len(LearnedDurations.restore({})) == 0


@given(st.lists(st.tuples(st.floats(0, 200), st.floats(0.01, 5), st.floats(0.01, 5)), max_size=30))
@settings(derandomize=True, deadline=None)
def test_whatever_was_learned_can_be_given_back(jobs):
    """Jobs that are seen in the middle of a bin count in parts, which fade one after the other.

    The belief that comes back is computed from all counts; the one in use may be a job behind.
    """
    durations = LearnedDurations()
    for start, seen, over in jobs:
        durations.observe_alive("m", start, start + seen)
        durations.observe_completed("m", start + seen, start + seen + over)
    again = LearnedDurations.restore(durations.export())
    assert again.export() == durations.export()
    for estimator in durations._models.values():
        assert again.median_s("m") == pytest.approx(estimator._estimate().median_s, rel=0.001)


def test_model_that_is_no_text_is_learned_under_no_name():
    """Unchecked requests may hold anything, and their pictures are paid for all the same."""
    durations = LearnedDurations()
    durations.observe_completed(5, 1.0, 2.0)
    assert durations.due_s(5, 0.0, 0.5) == durations.due_s(None, 0.0, 0.5)
