"""Estimate how long the jobs of one model last.

Problem: completions arrive in a biased order - of jobs that started together, the short ones end first - and each is
only known to lie between two polls. From completed jobs alone, a cold start would conclude that all jobs are short.

Rules:
* Survivals are counted, not durations: for each bin of ages, how many jobs were seen to enter it (`reached`) and how
  many ended in it (`ended`). A job that is still running has reached its bins and counts as much as one that has
  completed; one that failed, or was resumed late, counts where it was observed. No order of arrival biases the ratio
  (Kaplan and Meier 1958).
* A completion between two polls is spread over the bins in between according to the current estimate.
* The logarithm of the duration has a normal-inverse-gamma prior around 45 s, updated with the mean and variance of the
  counts; its predictive distribution is a Student t.
* The estimate is the beta-Stacy posterior (Walker and Muliere 1997) of the counts around that predictive distribution:
  with few jobs it is that distribution, with many it takes the shape of the data.
* A little of the prior always stays: a job far beyond all others is stuck, not about to end.
* Counts are bounded per bin: old observations fade as new ones arrive.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import attrs

from lemon_async._pace.progress_forecast import ForecastError
from lemon_async._pace.survival_curve import BINS, EDGES, SurvivalCurve, bin_of, moments, student
from lemon_async._pace.validators import is_duration

__all__ = ["PRIOR", "SurvivalEstimator"]

_PRIOR_S = 45.0
_PRIOR_JOBS = 0.33  # weight of the prior's location
_PRIOR_SHAPE = 1.5  # half of the jobs that its spread is worth
_PRIOR_SPREAD = 0.3  # of the logarithm
_MAX_JOBS = 100.0  # per bin
_KEEP = 1 - 1 / _MAX_JOBS
_CONCENTRATION = 5.0  # jobs after which the shape of the data counts as much as that of the Student t
_LEAST_PART = 0.1  # of the concentration, where the base has hardly any mass left
_MOMENTS_PRIOR = 0.1  # jobs that the prior counts for in the mean and variance of the counts
_PRIOR_SHARE = 0.01  # of the estimate, for ever
_EXPECTED_SURPRISE = 1.5  # nats per job; chance brings 1
_CHANGE_SURPRISE = 6.0  # beyond chance: the durations have changed ...
_KEPT_AFTER_CHANGE = 0.1  # ... and this share of the counts is kept
_LEAST_CHANCE = 0.01  # bounds the surprise, so that one odd job alone is no change
# Computing the estimate takes a third of a millisecond: it is done after one completion at first, later after several.
_LEAST_PENDING = 0.5
_PENDING_PER_JOB = 0.1
_PENDING_PER_ALIVE = 0.05
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
PRIOR = SurvivalCurve(_PRIOR_SURVIVAL)


@attrs.define
class SurvivalEstimator:
    """The counts of one model, and the distribution that follows from them."""

    reached: list[float] = attrs.field(factory=lambda: [0.0] * BINS)
    ended: list[float] = attrs.field(factory=lambda: [0.0] * BINS)
    forecast_error: ForecastError = attrs.field(factory=ForecastError)
    _curve: SurvivalCurve = PRIOR
    _pending: float = 0.0  # weight of the observations since the last estimate
    _jobs: float = 0.0
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
        if self._pending > _LEAST_PENDING + _PENDING_PER_JOB * self._jobs:
            self._pending = 0.0
            self._curve = self._estimate()
        return self._curve

    def observe_alive(self, from_s: float, to_s: float) -> None:
        """Count a job that was alive at both ages."""
        self._pending += _PENDING_PER_ALIVE
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
        left = curve.outlasts(from_s)
        # A floor: what the estimate takes for impossible may happen.
        total = left - curve.outlasts(to_s) + _LEAST_MASS * (to_s - from_s)
        # A job that was never seen alive, and ended before an age that nearly none reaches, carries no information.
        weight = 1.0 if from_s > 0 else max(1 - total, 0.0)
        # Whole bins: the estimate has no shape within one.
        start, end = EDGES[bin_of(from_s)], EDGES[min(bin_of(to_s) + 1, BINS)]
        self._detect_change(early=1 - curve.outlasts(end), late=curve.outlasts(start))
        self._pending += weight
        remaining = 1.0
        for number, low, high in _bins_between(from_s, to_s):
            right = curve.outlasts(high)
            share = (left - right + _LEAST_MASS * (high - low)) / total
            left, remaining = right, remaining - share
            passed, stayed = (high - low) / _width(number), (EDGES[number + 1] - low) / _width(number)
            self._count(number, weight * (max(remaining, 0.0) * passed + share * stayed), weight * share)

    def _pass(self, from_s: float, to_s: float) -> None:
        for number, low, high in _bins_between(from_s, to_s):
            self._count(number, (high - low) / _width(number), 0.0)

    def _count(self, number: int, reached: float, ended: float) -> None:
        keep = 1 - reached / _MAX_JOBS
        self.ended[number] = self.ended[number] * keep + ended
        # A job that entered in the middle of a bin counts in parts, the first of which has faded a little by now.
        self.reached[number] = max(self.reached[number] * keep + reached, self.ended[number])

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
