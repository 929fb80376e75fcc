"""Durations are learned model by model, within bounds, and survive export and restore."""

import json
import math
import random

import pytest
from hypothesis import settings

from lemon_async._pace.learned_durations import LearnedDurations
from lemon_async._pace.survival import ProgressForecast
from lemon_async.errors import ContractError

steady = settings(derandomize=True, deadline=None)


def lognormal(median_s, sigma, number, seed=0):
    rng = random.Random(seed)
    return [median_s * math.exp(sigma * rng.gauss(0, 1)) for _ in range(number)]


def teach(durations, jobs, model="m", gap_s=2.0):
    """Observe jobs one after the other, at regular polls."""
    for job_s in jobs:
        alive_s = gap_s * math.floor(job_s / gap_s)
        durations.observe_alive(model, 0.0, alive_s)
        durations.observe_completed(model, alive_s, alive_s + gap_s)
    return durations


def test_first_poll_of_an_unknown_model_comes_before_most_of_its_jobs_end():
    assert 10 < LearnedDurations().due_s(None, 0.0, 0.5) < 30


def test_fast_model_is_looked_at_early_when_requests_cost_little():
    """Nothing is documented for any model: a few tasks may last seconds only."""
    assert LearnedDurations().due_s(None, 0.0, 0.01) < 4


def test_models_are_learned_separately_and_unknown_ones_together():
    durations = LearnedDurations()
    teach(durations, [20.0] * 20, model="fast")
    teach(durations, [100.0] * 20, model="slow")
    teach(durations, [60.0] * 20, model=None)
    assert durations.median_s("fast") < 24
    assert durations.median_s("slow") > 88
    assert durations.median_s("") == durations.median_s(None) == pytest.approx(60, rel=0.15)
    assert durations.median_s("new") == pytest.approx(45, rel=0.05)


def test_only_the_most_recently_used_models_are_kept():
    durations = LearnedDurations()
    for number in range(1000):
        durations.observe_alive("busy", 0.0, 1.0)
        durations.observe_completed(f"name {number}", 1.0, 2.0)
    assert len(durations) == 64
    kept = durations.export()["models"]
    assert "busy" in kept
    assert "name 999" in kept
    assert "name 900" not in kept


def test_long_names_are_cut():
    durations = LearnedDurations()
    durations.observe_completed("x" * 10**6, 1.0, 2.0)
    assert [len(name) for name in durations.export()["models"]] == [200]


def test_state_survives_export_and_restore():
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
        with pytest.raises(ContractError, match="learned_durations: is not an export of"):
            LearnedDurations.restore(state)
        assert len(LearnedDurations.restore(damaged())) == 1


def test_restoring_too_many_models_keeps_the_last():
    entry = damaged()["models"]["m"]
    state = {"version": 1, "models": {str(number): entry for number in range(100)}}
    assert list(LearnedDurations.restore(state).export()["models"]) == [str(number) for number in range(36, 100)]


def test_progress_that_has_proved_precise_moves_the_next_poll():
    durations = teach(LearnedDurations(), lognormal(45, 0.35, 30))
    plain = durations.due_s("m", 20.0, 0.5)
    assert durations.due_s("m", 20.0, 0.5, estimate_s=100.0) == pytest.approx(plain, rel=0.35)
    for _ in range(30):
        forecast = ProgressForecast()
        forecast.update(0.5, 20.0)
        durations.observe_forecast("m", forecast, 40.0)
    assert durations.due_s("m", 20.0, 0.5, estimate_s=100.0) > 60
    assert durations.due_s("m", 30.0, 0.5, estimate_s=33.0) < 36


def test_progress_of_an_unknown_model_is_ignored():
    durations = LearnedDurations()
    durations.observe_forecast("m", ProgressForecast(), 40.0)
    assert len(durations) == 0
    assert durations.due_s("m", 20.0, 0.5, estimate_s=100.0) == durations.due_s("m", 20.0, 0.5)


def test_progress_that_contradicts_the_age_is_ignored():
    """A job that should have ended long ago, by its progress and by its model, is a different kind of job."""
    durations = teach(LearnedDurations(), [45.0] * 30)
    assert durations.due_s("m", 400.0, 0.5, estimate_s=401.0) >= 400
    for _ in range(60):
        forecast = ProgressForecast()
        forecast.update(0.5, 20.0)
        durations.observe_forecast("m", forecast, 40.0)
    assert durations.due_s("m", 400.0, 0.5, estimate_s=41.0) == durations.due_s("m", 400.0, 0.5)


def test_empty_state_is_valid():
    """A program that keeps the state in a file begins with an empty one."""
    assert len(LearnedDurations.restore({})) == 0


def test_model_that_is_not_a_string_counts_as_unknown():
    """Unchecked requests may hold anything."""
    durations = LearnedDurations()
    durations.observe_completed(5, 1.0, 2.0)
    assert durations.due_s(5, 0.0, 0.5) == durations.due_s(None, 0.0, 0.5)
