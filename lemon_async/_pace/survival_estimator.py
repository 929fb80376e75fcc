"""What is known of how long the jobs of one model last.

Problem: completions arrive in the wrong order - of jobs that started together, the short ones end first - and each is
known only to lie between two polls. Learning from the durations of completed jobs alone believes, in a cold start, that
all jobs are short.

Rules:
* What is counted is not durations but survivals: for each bin of ages, how many jobs were seen to enter it
  (`reached`), and how many ended in it (`ended`). A job that is still running has reached its bins and tells as much
  as one that has completed; one that failed, or was resumed late, simply counts where it was watched. No order of
  arrival biases the ratio (Kaplan and Meier 1958).
* A completion between two polls is spread over the bins between them as the belief of the moment has it.
* The logarithm of the duration has a normal-inverse-gamma prior around 45 s, which is updated with the mean and the
  variance of what was counted; its predictive is a Student t.
* The belief is the beta-Stacy posterior (Walker and Muliere 1997) of the counts around that predictive: with few jobs
  it is the predictive, with many it takes the shape of the data, whatever that is.
* A little of the prior stays in the belief: a job far beyond all others is stuck, not about to end.
* Counts are bounded per bin: what was learned long ago fades at the pace of what is new.
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
_MOST_JOBS = 100.0  # what a bin remembers
_KEEP = 1 - 1 / _MOST_JOBS
_CONCENTRATION = 5.0  # jobs after which the shape of the data counts as much as that of the Student t
_LEAST_PART = 0.1  # of the concentration, where the base has next to nothing left
_PRIOR_DOUBT = 0.1  # jobs that the prior counts for where the data are read
_STUBBORN = 0.01  # what is left of the prior
_EXPECTED_SURPRISE = 1.5  # nats per job; chance brings 1
_MOST_SURPRISE = 6.0  # beyond chance, before times have changed ...
_FADED = 0.1  # ... and so much is left of what was known
_LEAST_CHANCE = 0.01  # one odd job alone is no other time
# The belief costs a third of a millisecond: it is computed anew after one completion at first, later after several.
_LEAST_NEWS = 0.5
_NEWS_PER_JOB = 0.1
_NEWS_OF_THE_LIVING = 0.05
_LEAST_SCALE = 0.05
_DIGITS = 4  # of a count, in an export
_LEAST_MASS = 1e-9  # per second


def _predictive(jobs: float, mean: float, variance: float) -> list[float]:
    """Return the Student t after `jobs` jobs of this mean and variance of the logarithm."""
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
    """The counts of one model, and the belief that follows from them."""

    reached: list[float] = attrs.field(factory=lambda: [0.0] * BINS)
    ended: list[float] = attrs.field(factory=lambda: [0.0] * BINS)
    trust: ForecastError = attrs.field(factory=ForecastError)
    _curve: SurvivalCurve = PRIOR
    _news: float = 0.0
    _jobs: float = 0.0
    _early: float = 0.0
    _late: float = 0.0

    def export(self) -> dict[str, list[float]]:
        """Return the counts as plain data."""
        reached = [round(value, _DIGITS) for value in self.reached]
        size = max((number + 1 for number, value in enumerate(reached) if value), default=0)
        ended = [round(value, _DIGITS) for value in self.ended[:size]]
        return {"reached": reached[:size], "ended": ended, "trust": self.trust.export()}

    @classmethod
    def restore(cls, state: Mapping[str, Any]) -> "SurvivalEstimator":
        """Return the evidence of an export; raises `ValueError`, `TypeError` or `KeyError` when it is none."""
        reached, ended = _counts(state["reached"]), _counts(state["ended"])
        # Both were rounded.
        if any(end > entered + 0.001 for end, entered in zip(ended, reached, strict=True)):
            raise ValueError("more jobs have ended than there were")
        return cls(reached, ended, ForecastError.restore(state["trust"]), news=1.0)

    def curve(self) -> SurvivalCurve:
        """Return the belief; computed anew when there is news worth it."""
        if self._news > _LEAST_NEWS + _NEWS_PER_JOB * self._jobs:
            self._news = 0.0
            self._curve = self._believe()
        return self._curve

    def watched(self, from_s: float, to_s: float) -> None:
        """Take note of a job that was alive at one age and at a later one."""
        self._news += _NEWS_OF_THE_LIVING
        first, last = bin_of(from_s) + 1, bin_of(to_s)
        if last <= first:
            self._pass(from_s, to_s)
            return
        # The first look at a job passes a hundred bins: those in the middle, all at once.
        self._pass(from_s, EDGES[first])
        self.reached[first:last] = [reached * _KEEP + 1 for reached in self.reached[first:last]]
        self.ended[first:last] = [ended * _KEEP for ended in self.ended[first:last]]
        self._pass(EDGES[last], to_s)

    def completed(self, from_s: float, to_s: float) -> None:
        """Take note of a job that was alive at one age and completed at a later one."""
        curve = self.curve()
        left = curve.outlasts(from_s)
        # A floor under the belief: what it holds for impossible may happen all the same.
        total = left - curve.outlasts(to_s) + _LEAST_MASS * (to_s - from_s)
        # A job that was never seen alive, and ended at an age that nearly all reach, tells nearly nothing.
        weight = 1.0 if from_s > 0 else max(1 - total, 0.0)
        # Whole bins: within one there is no belief that could be surprised.
        start, end = EDGES[bin_of(from_s)], EDGES[min(bin_of(to_s) + 1, BINS)]
        self._doubt(early=1 - curve.outlasts(end), late=curve.outlasts(start))
        self._news += weight
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
        keep = 1 - reached / _MOST_JOBS
        self.ended[number] = self.ended[number] * keep + ended
        # What entered in the middle of a bin counts in parts, of which the first has faded a little by now.
        self.reached[number] = max(self.reached[number] * keep + reached, self.ended[number])

    def _doubt(self, *, early: float, late: float) -> None:
        """Let what was learned count for less when jobs keep ending so early, or so late, that times have changed.

        Two cumulative sums (Page 1954) of the surprise in nats, less what chance brings; the sides do not mix.
        """
        self._early = max(self._early - math.log(max(early, _LEAST_CHANCE)) - _EXPECTED_SURPRISE, 0.0)
        self._late = max(self._late - math.log(max(late, _LEAST_CHANCE)) - _EXPECTED_SURPRISE, 0.0)
        if max(self._early, self._late) > _MOST_SURPRISE:
            self._early = self._late = 0.0
            self._news += _MOST_JOBS  # worth a new belief at once
            self.reached = [_FADED * reached for reached in self.reached]
            self.ended = [_FADED * ended for ended in self.ended]

    def _believe(self) -> SurvivalCurve:
        self._jobs = min(sum(self.ended), _MOST_JOBS)
        mean, variance = moments(self._shape(_PRIOR_SURVIVAL, _PRIOR_DOUBT))
        base = _predictive(self._jobs, mean, variance)
        mixed = [(1 - _STUBBORN) * own + _STUBBORN * prior for own, prior in zip(base, _PRIOR_SURVIVAL, strict=True)]
        return SurvivalCurve(self._shape(mixed, _CONCENTRATION))

    def _shape(self, base: Sequence[float], concentration: float) -> list[float]:
        """Return the survival that follows from the counts, around a base that counts for so many jobs.

        Far out, where the base expects hardly a job, it still counts for some: one end there is no law.
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
    if not all(is_duration(value) and value <= _MOST_JOBS + 0.001 for value in values):
        raise ValueError(f"a count must be a number from 0 to {_MOST_JOBS:g}")
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
