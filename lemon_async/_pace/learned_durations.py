"""Learn the distribution of job durations for each model."""

import math
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from itertools import pairwise
from typing import Any

import attrs

from lemon_async._pace.cold_estimate import cold_survival
from lemon_async._pace.survival import (
    BINS,
    EDGES,
    ForecastError,
    ProgressForecast,
    SurvivalCurve,
    bin_of,
    moments,
    normal_age_of_lag,
    student,
)
from lemon_async._pace.validators import is_duration
from lemon_async.errors import ContractError

__all__ = ["LearnedDurations", "SurvivalEstimator"]

_COLD_JOBS = 20.0  # with fewer that have ended, the base is the posterior of `cold_estimate.py` ...
_COLD_CONCENTRATION = 10.0  # ... and this is what `_CONCENTRATION` is later
_PRIOR_S = 45.0
_PRIOR_JOBS = 0.33  # weight of the prior's location
_PRIOR_SHAPE = 1.5  # half of the jobs that its spread is worth
_PRIOR_SPREAD = 0.3  # of the logarithm
_MAX_JOBS = 100.0  # per bin
_KEEP = 1 - 1 / _MAX_JOBS
_CONCENTRATION = 5.0  # jobs after which the shape of the data counts as much as that of the Student t
_LEAST_PART = 0.1  # of the concentration, where the base has hardly any mass left
_MOMENTS_PRIOR = 0.1  # jobs that the prior counts for in the mean and variance of the counts
_PRIOR_SHARE = 0.01  # of the estimate, however many jobs were observed
_EXPECTED_SURPRISE = 1.5  # nats per job; chance brings 1
_CHANGE_SURPRISE = 6.0  # beyond chance: the durations have changed ...
_KEPT_AFTER_CHANGE = 0.1  # ... and this share of the counts is kept
_LEAST_CHANCE = 0.01  # bounds the surprise, so that one outlier does not count as a change
# Computing the estimate takes a third of a millisecond: it is done after one completion at first, later after several.
_LEAST_PENDING = 0.5
_PENDING_PER_JOB = 0.1
_PENDING_PER_ALIVE = 0.05
_COLD_ALIVE = 10.0  # observations of jobs that are alive: while none has ended, the first ones count fully
_LEAST_SCALE = 0.05
_DIGITS = 4  # of a count, in an export
_LEAST_MASS = 1e-9  # per second


def _predictive(jobs: float, mean: float, variance: float) -> list[float]:
    """Return the predictive distribution after `jobs` jobs of this mean and variance of the logarithm."""
    kappa = _PRIOR_JOBS + jobs
    shift = mean - math.log(_PRIOR_S)
    location = math.log(_PRIOR_S) + jobs / kappa * shift
    alpha = _PRIOR_SHAPE + jobs / 2
    beta = _PRIOR_SHAPE * _PRIOR_SPREAD**2 + jobs / 2 * variance + _PRIOR_JOBS * jobs / kappa * shift**2 / 2
    scale = math.sqrt(beta / alpha * (1 + 1 / kappa))
    return student(location, max(scale, _LEAST_SCALE), 2 * alpha)


_PRIOR_SURVIVAL = _predictive(0.0, 0.0, 0.0)


@cache
def _prior() -> SurvivalCurve:
    return SurvivalCurve(cold_survival((), ()))


@attrs.define(eq=False, repr=False)
class SurvivalEstimator:
    """The counts of one model, and the distribution that follows from them.

    Problem: completions arrive in a biased order - of jobs that started together, the short ones end first - and each
    is only known to lie between two polls. From completed jobs alone, a cold start would conclude that all jobs are
    short.

    Rules:
    * Survivals are counted, not durations: for each bin of ages, how many jobs were seen to enter it (`reached`) and
      how many ended in it (`ended`). A job that is still running has reached its bins and counts as much as one that
      has completed; one that failed, or was resumed late, counts where it was observed. No order of arrival biases the
      ratio (Kaplan and Meier 1958).
    * A completion between two polls is spread over the bins in between according to the current estimate.
    * While few jobs have ended, the base of the estimate is the posterior over a few hypotheses (`cold_estimate.py`).
      Later, the logarithm of the duration has a normal-inverse-gamma prior around 45 s, updated with the mean and
      variance of the counts; the base is its predictive distribution, a Student t.
    * The estimate is the beta-Stacy posterior (Walker and Muliere 1997) of the counts around the base: with few jobs
      it is the base, with many it takes the shape of the data.
    * A little of the prior always stays: a job far beyond all others is stuck, not about to end.
    * Counts are bounded per bin: old observations fade as new ones arrive.
    """

    reached: list[float] = attrs.field(factory=lambda: [0.0] * BINS)
    ended: list[float] = attrs.field(factory=lambda: [0.0] * BINS)
    forecast_error: ForecastError = attrs.field(factory=ForecastError)
    is_cold: bool = attrs.field(default=True, init=False)  # until enough jobs have ended
    _curve: SurvivalCurve = attrs.field(factory=_prior)
    _pending: float = 0.0  # weight of the observations since the last estimate
    _jobs: float = 0.0
    _alive: int = 0  # observations
    _early_surprise: float = 0.0
    _late_surprise: float = 0.0

    def export(self) -> dict[str, list[float]]:
        """Return the state as plain data."""
        reached = [round(value, _DIGITS) for value in self.reached]
        size = max((number + 1 for number, value in enumerate(reached) if value), default=0)
        ended = [round(value, _DIGITS) for value in self.ended[:size]]
        return {"reached": reached[:size], "ended": ended, "forecast_error": self.forecast_error.export()}

    @classmethod
    def restore(cls, state: Mapping[str, Any]) -> "SurvivalEstimator":
        """Return the instance for an export; raises `ValueError`, `TypeError` or `KeyError` if it is invalid."""
        reached, ended = _counts(state["reached"]), _counts(state["ended"])
        # Both were rounded.
        if any(end > entered + 0.001 for end, entered in zip(ended, reached, strict=True)):
            raise ValueError("more jobs have ended than there were")
        return cls(reached, ended, ForecastError.restore(state["forecast_error"]), pending=1.0)

    def curve(self) -> SurvivalCurve:
        """Return the current estimate; computed again once enough was observed."""
        if self._pending > _LEAST_PENDING + (0.0 if self.is_cold else _PENDING_PER_JOB * self._jobs):
            self._pending = 0.0
            self._curve = self._estimate()
        return self._curve

    def observe_alive(self, from_s: float, to_s: float) -> None:
        """Count a job that was alive at both ages."""
        # Before any job has ended, those that are alive say where the durations are: at first each counts.
        self._alive += 1
        self._pending += min(_COLD_ALIVE / self._alive, 1.0) if self.is_cold else _PENDING_PER_ALIVE
        first, last = bin_of(from_s) + 1, bin_of(to_s)
        if last <= first:
            self._pass(from_s, to_s)
            return
        # The first poll of a job passes a hundred bins: those in the middle together.
        self._pass(from_s, EDGES[first])
        self.reached[first:last] = [reached * _KEEP + 1 for reached in self.reached[first:last]]
        self.ended[first:last] = [ended * _KEEP for ended in self.ended[first:last]]
        self._pass(EDGES[last], to_s)

    def observe_completed(self, from_s: float, to_s: float) -> None:
        """Count a job that was alive at the first age and had completed at the second."""
        curve = self.curve()
        # A job that was never seen alive, and ended before an age that nearly none reaches, carries no information.
        weight = 1.0 if from_s > 0 else max(curve.outlasts(to_s) - _LEAST_MASS * to_s, 0.0)
        # Whole bins: the estimate has no shape within one.
        start, end = EDGES[bin_of(from_s)], EDGES[min(bin_of(to_s) + 1, BINS)]
        self._detect_change(early=1 - curve.outlasts(end), late=curve.outlasts(start))
        self._pending += weight
        self._spread(curve, from_s, min(to_s, EDGES[-1]), weight)

    def _spread(self, curve: SurvivalCurve, from_s: float, to_s: float, weight: float) -> None:
        """Count a job that ended between two ages in the bins in between, as the estimate expects it.

        The mass per second is a floor: what the estimate takes for impossible may happen.
        """
        if from_s >= to_s:
            return
        first, last = bin_of(from_s) + 1, bin_of(to_s)
        ages = [from_s, *EDGES[first : last + 1], to_s]
        survivals = [curve.outlasts(from_s), *curve.survival[first : last + 1], least := curve.outlasts(to_s)]
        left = [each - least + _LEAST_MASS * (to_s - age_s) for each, age_s in zip(survivals, ages, strict=True)]
        running = [each / left[0] * weight for each in left]  # how much of the job, at each of these ages
        self._end_within(first - 1, from_s, ages[1], *running[:2])
        if first <= last:
            middle = zip(self.ended[first:last], self.reached[first:last], pairwise(running[1:-1]), strict=True)
            counts = [_faded(ended, reached, before, before - after) for ended, reached, (before, after) in middle]
            self.ended[first:last] = [ended for ended, _ in counts]
            self.reached[first:last] = [reached for _, reached in counts]
            self._end_within(last, ages[-2], to_s, *running[-2:])

    def _end_within(self, number: int, low: float, high: float, before: float, after: float) -> None:
        """Count the part of a job that ended between two ages in one bin, and the part that ran on."""
        width_s, ended = _width(number), before - after
        self._count(number, (after * (high - low) + ended * (EDGES[number + 1] - low)) / width_s, ended)

    def _pass(self, from_s: float, to_s: float) -> None:
        for number, low, high in _bins_between(from_s, to_s):
            self._count(number, (high - low) / _width(number), 0.0)

    def _count(self, number: int, reached: float, ended: float) -> None:
        self.ended[number], self.reached[number] = _faded(self.ended[number], self.reached[number], reached, ended)

    def _detect_change(self, *, early: float, late: float) -> None:
        """Forget most of the counts when jobs keep ending so early, or so late, that the durations have changed.

        Two cumulative sums (Page 1954) of the surprise in nats, less what chance brings, one for each direction.
        """
        self._early_surprise = max(self._early_surprise - math.log(max(early, _LEAST_CHANCE)) - _EXPECTED_SURPRISE, 0.0)
        self._late_surprise = max(self._late_surprise - math.log(max(late, _LEAST_CHANCE)) - _EXPECTED_SURPRISE, 0.0)
        if max(self._early_surprise, self._late_surprise) > _CHANGE_SURPRISE:
            self._early_surprise = self._late_surprise = 0.0
            self._pending += _MAX_JOBS  # estimate again immediately
            self.reached = [_KEPT_AFTER_CHANGE * reached for reached in self.reached]
            self.ended = [_KEPT_AFTER_CHANGE * ended for ended in self.ended]

    def _estimate(self) -> SurvivalCurve:
        self._jobs = min(sum(self.ended), _MAX_JOBS)
        self.is_cold = self.is_cold and self._jobs < _COLD_JOBS
        if self.is_cold:
            return SurvivalCurve(self._shape(cold_survival(self.reached, self.ended), _COLD_CONCENTRATION))
        mean, variance = moments(self._shape(_PRIOR_SURVIVAL, _MOMENTS_PRIOR))
        base = _predictive(self._jobs, mean, variance)
        pairs = zip(base, _PRIOR_SURVIVAL, strict=True)
        mixed = [(1 - _PRIOR_SHARE) * own + _PRIOR_SHARE * prior for own, prior in pairs]
        return SurvivalCurve(self._shape(mixed, _CONCENTRATION))

    def _shape(self, base: Sequence[float], concentration: float) -> list[float]:
        """Return the survival that follows from the counts, around a base that counts for `concentration` jobs.

        Far out, where the base expects hardly any job, it still counts for some, so that one job there does not decide.
        """
        survival, alive = [1.0], 1.0
        for (left, right), reached, ended in zip(pairwise(base), self.reached, self.ended, strict=True):
            weight = concentration * (left + _LEAST_PART)
            entered = max(ended, reached)
            alive *= (weight * right / left + entered - ended) / (weight + entered)
            survival.append(alive)
        return survival


def _counts(values: Any) -> list[float]:
    if not isinstance(values, list) or len(values) > BINS:
        raise ValueError(f"counts must be a list of at most {BINS} numbers")
    if not all(is_duration(value) and value <= _MAX_JOBS + 0.001 for value in values):
        raise ValueError(f"a count must be a number from 0 to {_MAX_JOBS:g}")
    return [*map(float, values), *[0.0] * (BINS - len(values))]


def _faded(known_ended: float, known_reached: float, reached: float, ended: float) -> tuple[float, float]:
    """Return the counts of a bin, how many ended and how many reached it, after one more job."""
    keep = 1 - reached / _MAX_JOBS
    ended += known_ended * keep
    # A job that entered in the middle of a bin counts in parts, the first of which has faded a little by now.
    return ended, max(known_reached * keep + reached, ended)


def _width(number: int) -> float:
    return EDGES[number + 1] - EDGES[number]


def _bins_between(from_s: float, to_s: float) -> Iterator[tuple[int, float, float]]:
    """Yield the bins that an interval touches, each with the part of the interval that lies in it."""
    to_s = min(to_s, EDGES[-1])
    if from_s >= to_s:
        return
    first, last = bin_of(from_s), bin_of(to_s)
    for number in range(first, last + 1):
        low, high = max(from_s, EDGES[number]), min(to_s, EDGES[number + 1])
        if low < high:
            yield number, low, high


_MAX_MODELS = 64
_LONGEST_NAME = 200
_VERSION = 1


class LearnedDurations:
    """The durations of jobs as a session has learned them; ages and durations are in seconds.

    Jobs of unknown models share one entry. Beyond 64 models, the least recently used ones are forgotten.
    """

    def __init__(self) -> None:
        self._models: OrderedDict[str, SurvivalEstimator] = OrderedDict()

    def __len__(self) -> int:
        return len(self._models)

    def export(self) -> dict[str, Any]:
        """Return the state as plain data for JSON, about 2 KB per model."""
        return {"version": _VERSION, "models": {name: estimator.export() for name, estimator in self._models.items()}}

    @classmethod
    def restore(cls, state: Mapping[str, Any]) -> "LearnedDurations":
        """Return the instance for an export.

        Raises:
            ContractError: The export is damaged, or of another version.
        """
        durations = cls()
        if state == {}:
            return durations
        try:
            if state["version"] != _VERSION:
                raise ValueError(f"it is not of version {_VERSION}")  # noqa: TRY301 - see below
            for name, exported in list(state["models"].items())[-_MAX_MODELS:]:
                durations._models[name[:_LONGEST_NAME]] = SurvivalEstimator.restore(exported)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as fault:
            # One message, whatever is wrong with it.
            advice = f"is not an export of `session.learned_durations` ({str(fault)[:_LONGEST_NAME]})"
            raise ContractError.of("learned_durations", advice) from None
        return durations

    def curve(self, model: str | None) -> SurvivalCurve:
        """Return the distribution of the durations of a model's jobs."""
        estimator = self._models.get(_name(model))
        return _prior() if estimator is None else estimator.curve()

    def is_cold(self, model: str | None) -> bool:
        """Return whether so few jobs of a model have ended that the next one may change the estimate much."""
        estimator = self._models.get(_name(model))
        return estimator is None or estimator.is_cold

    def observe_alive(self, model: str | None, from_s: float, to_s: float) -> None:
        """Learn from a job that was alive at both ages."""
        self._estimator(model).observe_alive(from_s, to_s)

    def observe_completed(self, model: str | None, from_s: float, to_s: float) -> None:
        """Learn from a job that was alive at the first age and had completed at the second."""
        self._estimator(model).observe_completed(from_s, to_s)

    def observe_forecast(self, model: str | None, forecast: ProgressForecast, duration_s: float) -> None:
        """Learn how precise the forecasts for a model are, now that the duration of one of its jobs is known."""
        if forecast.first_s is not None:
            self._estimator(model).forecast_error.observe(forecast.first_s, duration_s)

    def due_s(self, model: str | None, alive_s: float, poll_cost_s: float, *, estimate_s: float | None = None) -> float:
        """Return the age at which the expected lag of a job that was alive at `alive_s` reaches `poll_cost_s`.

        Infinity beyond the ages of which anything is known. `estimate_s` is the duration forecast from progress.
        """
        curve = self.curve(model)
        estimator = self._models.get(_name(model))
        if estimate_s is not None and estimator is not None:
            combined = estimator.forecast_error.combine(estimate_s, *curve.moments)
            age_s = combined and normal_age_of_lag(*combined, alive_s, poll_cost_s, estimate_s)
            if age_s is not None:
                return age_s
        return curve.age_of_lag(alive_s, poll_cost_s)

    def lag_s(self, model: str | None, alive_s: float, age_s: float) -> float:
        """Return the lag expected at `age_s` of a job that was alive at `alive_s`."""
        return self.curve(model).lag_s(alive_s, age_s)

    def median_s(self, model: str | None) -> float:
        """Return the age that half of a model's jobs are expected to reach."""
        return self.curve(model).median_s

    def _estimator(self, model: str | None) -> SurvivalEstimator:
        name = _name(model)
        if name not in self._models:
            if len(self._models) >= _MAX_MODELS:
                self._models.popitem(last=False)
            self._models[name] = SurvivalEstimator()
        self._models.move_to_end(name)
        return self._models[name]


def _name(model: object) -> str:
    """Return the key of a model; unchecked requests may have one that is not a string."""
    return model[:_LONGEST_NAME] if isinstance(model, str) else ""
