"""Distributions of job durations, and their optimal polling times, found by dynamic programming."""

import math
import random
from collections.abc import Callable
from itertools import pairwise

import attrs

__all__ = ["DISTRIBUTIONS", "Distribution", "best_ages", "expected_cost_s"]

_STEP_S = 0.25
_LEAST_SURVIVAL = 1e-7
_LONGEST_GAP_S = 250.0


@attrs.frozen
class Distribution:
    """A distribution of durations: its survival function and a sampler."""

    survival: Callable[[float], float]
    sample: Callable[[random.Random], float]


def _lognormal(median_s: float, sigma: float, shift_s: float = 0.0) -> Distribution:
    def survival(age_s: float) -> float:
        if age_s <= shift_s:
            return 1.0
        return math.erfc(math.log((age_s - shift_s) / median_s) / sigma / math.sqrt(2)) / 2

    return Distribution(survival, lambda rng: shift_s + median_s * math.exp(sigma * rng.gauss()))


def _bimodal(fast: Distribution, slow: Distribution) -> Distribution:
    return Distribution(
        lambda age_s: (fast.survival(age_s) + slow.survival(age_s)) / 2,
        lambda rng: (fast if rng.random() < 0.5 else slow).sample(rng),
    )


def _uniform(from_s: float, to_s: float) -> Distribution:
    return Distribution(
        lambda age_s: min(max((to_s - age_s) / (to_s - from_s), 0.0), 1.0), lambda rng: rng.uniform(from_s, to_s)
    )


DISTRIBUTIONS: dict[str, Distribution] = {
    "lognormal 45 s, sigma 0.15": _lognormal(45, 0.15),
    "lognormal 45 s, sigma 0.35": _lognormal(45, 0.35),
    "lognormal 90 s, sigma 0.25": _lognormal(90, 0.25),
    "60 s + lognormal 30 s, sigma 0.5": _lognormal(30, 0.5, 60),
    "half 25 s, half 75 s, sigma 0.15": _bimodal(_lognormal(25, 0.15), _lognormal(75, 0.15)),
    "uniform 30-120 s": _uniform(30, 120),
}


def best_ages(distribution: Distribution, poll_cost_s: float) -> list[float]:
    """Return the ages at which to poll a job for the least mean cost of polls and lag.

    `cost(a) * S(a) = min over t of S(a) * (price + t - a) - integral of S from a to t + cost(t) * S(t)`, from the end.
    """
    survival = [1.0]
    while survival[-1] > _LEAST_SURVIVAL:
        survival.append(distribution.survival(len(survival) * _STEP_S))
    areas = [0.0]
    for left, right in pairwise(survival):
        areas.append(areas[-1] + (left + right) / 2 * _STEP_S)
    end, reach = len(survival) - 1, int(_LONGEST_GAP_S / _STEP_S)
    costs, following = [0.0] * (end + 1), [end] * (end + 1)
    rest = [0.0] * (end + 1)
    rest[end] = -areas[end]
    for start in range(end - 1, -1, -1):
        alive = survival[start] * _STEP_S
        later = range(start + 1, min(start + reach, end) + 1)
        best, following[start] = min((alive * number + rest[number], number) for number in later)
        costs[start] = survival[start] * (poll_cost_s - start * _STEP_S) + areas[start] + best
        rest[start] = costs[start] - areas[start]
    ages, at = [], 0
    while at < end:
        at = following[at]
        ages.append(at * _STEP_S)
    return ages


def expected_cost_s(distribution: Distribution, ages: list[float], poll_cost_s: float) -> float:
    """Return the mean cost of polls at these ages, by numerical integration."""
    total, steps = 0.0, 200
    for start, stop in pairwise([0.0, *ages]):
        alive = distribution.survival(start)
        width = (stop - start) / steps
        area = sum(distribution.survival(start + (number + 0.5) * width) for number in range(steps)) * width
        total += alive * (poll_cost_s + stop - start) - area
    return total
