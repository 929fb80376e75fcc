"""Forecast when a job ends from the progress that it reports.

Progress is evidence like any other: a job at 40 % after 20 s may last 50 s. What that is worth differs from model to
model: some count steps, some count seconds, some report 99 % and stay there. So the forecasts of each model are
compared with the durations that followed, and a forecast counts by as much as it has proved to be more precise than
knowing nothing but the model. At first it does not count; for a model whose progress misleads it never does. A job
whose progress stands still, falls back or makes no sense is polled as if it had reported none.
"""

import math
from typing import Any

import attrs

from lemon_async._pace.validators import is_duration

__all__ = ["ForecastError", "ProgressForecast", "normal_age_of_lag"]

_PRIOR_VARIANCE = 0.5  # of the logarithm of a forecast duration, before any was checked ...
_PRIOR_JOBS = 1.0  # ... and the number of checks that this counts for
_MAX_JOBS = 50.0
_LEAST_VARIANCE = 0.05**2
_LEAST_FRACTION = 0.02  # rounded to whole per cent, less than this only says that the job has begun
_HALVINGS = 24
# At an age as improbable as this, given progress and model, at least one of them is wrong.
_LEAST_SURVIVAL = 1e-3


def _fraction(progress: float | None) -> float | None:
    """Return progress as a fraction of 1; `None` if it makes no sense.

    The scale is not documented: values above 1 are per cent. 1 itself may be one per cent or all, and is ignored.
    """
    if progress is None or not 0 < progress < 100 or progress == 1:
        return None
    fraction = progress / 100 if progress > 1 else progress
    return fraction if fraction >= _LEAST_FRACTION else None


@attrs.define
class ProgressForecast:
    """The duration that the reports of one job imply.

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


@attrs.define
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
    if alive < _LEAST_SURVIVAL:
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
