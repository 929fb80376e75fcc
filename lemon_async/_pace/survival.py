"""The distribution of a duration, as a table that answers the poller's questions in microseconds.

`S(t)` is the probability that a job lasts longer than `t`. The expected lag at age `t` of a job that was alive at age
`a` is `∫ₐᵗ (F(s) - F(a)) ds / (1 - F(a)) = (t - a) - ∫ₐᵗ S(s) ds / S(a)` seconds.

All tables share one grid of ages, finer than any job's spread, so that they can be mixed and compared by index. `S` is
linear between two edges and its integral is exact for that line: lag grows strictly consistently with age, and
the age at which it reaches a price is the root of one quadratic. Integrals run from the right, where they are
small, so that the tail keeps its digits.
"""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import accumulate, islice, pairwise
from operator import add, mul, sub
from typing import Any

import attrs

from lemon_async._pace.validators import is_duration

__all__ = [
    "BINS",
    "CENTRES",
    "EDGES",
    "STEP",
    "ForecastError",
    "ProgressForecast",
    "SurvivalCurve",
    "bin_of",
    "moments",
    "normal_age_of_lag",
    "student",
]

_FIRST_EDGE_S = 0.5
STEP = 0.04  # of the logarithm of an age
BINS = 240

# Ages in seconds: from 0, then in steps of 4 % from half a second to two hours.
EDGES: tuple[float, ...] = (0.0, *(_FIRST_EDGE_S * math.exp(STEP * number) for number in range(BINS)))
# The logarithm of the middle of each bin; the first one has no middle on this scale, so it gets its neighbour's.
CENTRES: tuple[float, ...] = tuple(math.log(_FIRST_EDGE_S) + STEP * (number - 0.5) for number in range(BINS))

_SQUARES = tuple(centre * centre for centre in CENTRES)
# From the right, as areas are summed.
_HALF_WIDTHS = tuple((right - left) / 2 for left, right in pairwise(EDGES))[::-1]

_NEAREST_TAIL = 0.8  # in scales: nearer to the middle the ratio is too rough

# Nothing is known of the mass beyond the last edge: with less survival than this, an age is beyond the table.
_LEAST_SURVIVAL = 1e-12


def bin_of(age_s: float) -> int:
    """Return the index of the bin that holds an age; the last one for all that are beyond the grid."""
    return bisect_right(EDGES, age_s, 1, BINS) - 1


class SurvivalCurve:
    """One distribution of durations.

    Args:
        survival: The probability to outlast each edge of the grid: from 1, never rising.
    """

    __slots__ = ("_areas", "moments", "survival")

    def __init__(self, survival: Sequence[float]) -> None:
        self.survival: Sequence[float] = survival
        falling = survival[::-1]
        pieces = map(mul, _HALF_WIDTHS, map(add, falling, islice(falling, 1, None)))
        self._areas: list[float] = [*accumulate(pieces)][::-1]
        self._areas.append(0.0)
        self.moments: tuple[float, float] = moments(survival)

    @property
    def median_s(self) -> float:
        """The age that half of the jobs reach, to the precision of the grid."""
        return EDGES[min(bisect_left(self.survival, -0.5, key=lambda survival: -survival), BINS)]

    def outlasts(self, age_s: float) -> float:
        """Return the probability that a job lasts longer than an age."""
        if age_s >= EDGES[-1]:
            return self.survival[-1]
        return self._line(age_s, bin_of(age_s))

    def lag_s(self, alive_s: float, age_s: float) -> float:
        """Return the lag expected at `age_s` of a job that was alive at `alive_s`."""
        waited_s = age_s - alive_s
        if alive_s >= EDGES[-1]:
            return waited_s
        first = bin_of(alive_s)
        alive = self._line(alive_s, first)
        if alive < _LEAST_SURVIVAL:
            return waited_s
        area = self._area(alive_s, first) - self._area(age_s, bin_of(age_s))
        return max(waited_s - area / alive, 0.0)

    def age_of_lag(self, alive_s: float, lag_s: float) -> float:
        """Return the age at which the expected lag reaches `lag_s`; infinity when that is beyond the table."""
        if alive_s >= EDGES[-1]:
            return math.inf
        first = bin_of(alive_s)
        alive = self._line(alive_s, first)
        if alive < _LEAST_SURVIVAL:
            return math.inf
        areas = self._areas
        # Lag is (t - a) - (area(a) - area(t)) / S(a); times S(a), and without what does not depend on t, it is this.
        start = alive_s * alive + self._area(alive_s, first)
        wanted = start + lag_s * alive
        later = range(first + 1, BINS + 1)
        edge = first + 1 + bisect_left(later, wanted, key=lambda number: EDGES[number] * alive + areas[number])
        if edge > BINS:
            return math.inf
        if edge == first + 1:
            return self._root(alive_s, alive, alive, first, lag_s)
        missing_s = (wanted - EDGES[edge - 1] * alive - areas[edge - 1]) / alive
        return self._root(EDGES[edge - 1], self.survival[edge - 1], alive, edge - 1, missing_s)

    def _root(self, from_s: float, survival: float, alive: float, number: int, missing_s: float) -> float:
        """Return the age within a bin where the lag has grown by `missing_s`: it is a parabola there."""
        slope = (self.survival[number] - self.survival[number + 1]) / (EDGES[number + 1] - EDGES[number])
        rise = 1 - survival / alive
        root = rise + math.sqrt(max(rise * rise + 2 * slope / alive * missing_s, 0.0))
        return from_s + 2 * missing_s / root if root > 0 else EDGES[number + 1]

    def _line(self, age_s: float, number: int) -> float:
        left, right = self.survival[number], self.survival[number + 1]
        return left + (right - left) * (age_s - EDGES[number]) / (EDGES[number + 1] - EDGES[number])

    def _area(self, age_s: float, number: int) -> float:
        """Return the integral of `S` from an age, in the bin of this number, to the end of the grid."""
        if age_s >= EDGES[-1]:
            return (EDGES[-1] - age_s) * self.survival[-1]
        left = self._line(age_s, number)
        return self._areas[number + 1] + (EDGES[number + 1] - age_s) * (left + self.survival[number + 1]) / 2


def moments(survival: Sequence[float]) -> tuple[float, float]:
    """Return the mean and the variance of the logarithm; mass beyond the grid counts at its end."""
    masses = [*map(sub, survival, islice(survival, 1, None))]
    masses[-1] += survival[-1]
    mean = sum(map(mul, masses, CENTRES))
    return mean, max(sum(map(mul, masses, _SQUARES)) - mean * mean, 0.0)


def student(location: float, scale: float, freedom: float) -> list[float]:
    """Return the survival on the grid of a duration whose logarithm has a Student t distribution."""
    power = -(freedom + 1) / 2
    unit = 1 / (scale * scale * freedom)
    weights = [(1 + unit * (centre - location) ** 2) ** power for centre in CENTRES]
    weights.append(_tail(location, scale, freedom))
    masses = [*accumulate(reversed(weights))]
    total = masses[-1]
    return [mass / total for mass in reversed(masses)]


def _tail(location: float, scale: float, freedom: float) -> float:
    """Return the mass beyond the grid in units of the grid's weights, by Mills' ratio for far tails."""
    distance = max((CENTRES[-1] + STEP / 2 - location) / scale, _NEAREST_TAIL)
    square = distance * distance
    height: float = (1 + square / freedom) ** (-(freedom + 1) / 2)
    return height * (freedom + square) / (freedom * distance) * scale / STEP


_PRIOR_VARIANCE = 0.5  # of the logarithm of a forecast duration, before any was checked ...
_PRIOR_JOBS = 1.0  # ... and the number of checks that this counts for
_MAX_JOBS = 50.0
_LEAST_VARIANCE = 0.05**2
_LEAST_FRACTION = 0.02  # rounded to whole per cent, less than this only says that the job has begun
_HALVINGS = 24
# At an age as improbable as this, given progress and model, at least one of them is wrong.
_LEAST_FORECAST_SURVIVAL = 1e-3


def _fraction(progress: float | None) -> float | None:
    """Return progress as a fraction of 1; `None` if it makes no sense.

    The scale is not documented: values above 1 are per cent. 1 itself may be one per cent or all, and is ignored.
    """
    if progress is None or not 0 < progress < 100 or progress == 1:
        return None
    fraction = progress / 100 if progress > 1 else progress
    return fraction if fraction >= _LEAST_FRACTION else None


@attrs.define(eq=False, repr=False)
class ProgressForecast:
    """The duration that the reports of one job imply.

    Progress is evidence like any other: a job at 40 % after 20 s may last 50 s. What that is worth differs from model
    to model: some count steps, some count seconds, some report 99 % and stay there. So the forecasts of each model are
    compared with the durations that followed, and a forecast counts by as much as it has proved to be more precise
    than knowing nothing but the model. At first it does not count; for a model whose progress misleads it never does.
    A job whose progress stands still, falls back or makes no sense is polled as if it had reported none.

    Attributes:
        first_s: According to its first report, by which forecasts of its model are judged.
        estimate_s: According to its last report; `None` if that was no more than the one before.
    """

    first_s: float | None = None
    estimate_s: float | None = None
    _most: float = 0.0

    def update(self, progress: float | None, age_s: float) -> None:
        """Take the progress that a job reports at an age."""
        fraction = _fraction(progress)
        if fraction is None or fraction <= self._most or age_s <= 0:
            self.estimate_s = None
            return
        self._most = fraction
        self.estimate_s = age_s / fraction
        if self.first_s is None:
            self.first_s = self.estimate_s


@attrs.define(eq=False, repr=False)
class ForecastError:
    """How precise the forecasts for one model are: the variance of their logarithmic error."""

    _jobs: float = _PRIOR_JOBS
    _squares: float = _PRIOR_JOBS * _PRIOR_VARIANCE

    @property
    def variance(self) -> float:
        """Mean squared error of the logarithm of a job's first forecast."""
        return max(self._squares / self._jobs, _LEAST_VARIANCE)

    def observe(self, estimate_s: float, duration_s: float) -> None:
        """Learn from a job with this first forecast and this duration."""
        keep = 1 - 1 / _MAX_JOBS
        self._jobs = self._jobs * keep + 1
        self._squares = self._squares * keep + math.log(estimate_s / max(duration_s, 1e-3)) ** 2

    def export(self) -> list[float]:
        """Return the state as plain data."""
        return [self._jobs, self._squares]

    @classmethod
    def restore(cls, state: Any) -> "ForecastError":
        """Return the instance for an export; raises `ValueError` or `TypeError` if it is invalid."""
        jobs, squares = state
        if not (is_duration(jobs) and is_duration(squares) and 0 < jobs <= 2 * _MAX_JOBS):
            raise ValueError("a forecast error must be two numbers above 0")
        return cls(float(jobs), float(squares))

    def combine(self, estimate_s: float, mean: float, variance: float) -> tuple[float, float] | None:
        """Return mean and variance of the logarithm: those of the model, sharpened by the forecast for this job.

        The two are not independent: 50 % at half the usual duration carries no information. What counts is by how much
        forecasts are more precise than the model; `None` if they are not.
        """
        if self.variance >= variance:
            return None
        weight = 1 - self.variance / variance
        return weight * math.log(estimate_s) + (1 - weight) * mean, self.variance


def _survival(log_age: float, mean: float, spread: float) -> float:
    return math.erfc((log_age - mean) / spread * math.sqrt(0.5)) / 2


def _area(age_s: float, mean: float, spread: float) -> float:
    """Return the integral of a lognormal survival up to an age."""
    log_age = math.log(age_s)
    partial = 1 - _survival(log_age, mean + spread * spread, spread)
    return age_s * _survival(log_age, mean, spread) + math.exp(mean + spread * spread / 2) * partial


def normal_age_of_lag(mean: float, variance: float, alive_s: float, lag_s: float, most_s: float) -> float | None:
    """Return the age at which the lag of a job of lognormal duration reaches `lag_s`, at most `most_s` later.

    `None` if such a job would hardly have reached its present age.
    """
    spread = math.sqrt(variance)
    alive = _survival(math.log(alive_s), mean, spread)
    if alive < _LEAST_FORECAST_SURVIVAL:
        return None
    area = _area(alive_s, mean, spread)
    low, high = alive_s, alive_s + most_s
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if middle - alive_s - (_area(middle, mean, spread) - area) / alive < lag_s:
            low = middle
        else:
            high = middle
    return high
