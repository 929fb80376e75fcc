"""Estimate how long the jobs of a model take while hardly any of them has ended.

Problem: jobs of one model resemble each other, by an amount of time that is not known yet. Two that are still alive at
40 s say that the others are, too, long before the first one ends. Counts alone do not say that.

So the durations follow one of some seventy hypotheses: log-logistic distributions (as wide as a lognormal one, with a
heavier tail, and in closed form) of several locations and spreads. Their weights are the exact posterior given the
counts: for each bin of ages, the jobs that outlasted it, and those that ended in it. The estimate is the weighted mean
of the hypotheses, which is what beta-Stacy needs as its base (`learned_durations.py`).

Prior: the service documents that most tasks take 30-120 s, and nothing for any model. So the weight of a location falls
with its distance from 45 s, and a small share is spread evenly over the logarithms from a second to half an hour:
a model may be much faster or slower than documented, and one or two jobs are then enough to see it.

Locations are edges of the grid of ages, whose steps are equal on a logarithmic scale: all hypotheses of a spread are
parts of one table.
"""

import math
from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from operator import mul

import attrs

from lemon_async._pace.survival import BINS, EDGES, STEP

__all__ = ["cold_survival"]

_LOCATION_S = 45.0
_LOCATION_SPREAD = 0.4  # of the logarithm of the location
_SPREADS = {0.1: 0.15, 0.18: 0.3, 0.33: 0.35, 0.6: 0.2}  # of the logarithm of a duration, with their weights
_LOCATION_STEP = 4  # in bins of ages
_FARTHEST = 2.5  # in spreads of the location
_BROAD_SHARE = 0.08  # of the prior weight, for locations far from what is documented
_BROAD_SPREAD = 0.33
_BROAD_STEP = 12  # in bins: at their spread, neighbours overlap
_BROAD_FROM_S, _BROAD_TO_S = 1.0, 1800.0
# A part of the jobs of any model is stuck, and outlasts an age with a probability that falls with this power of it: one
# job that is stuck does not make the others slow.
_STUCK_SHARE, _STUCK_POWER = 0.02, 0.5
_LEAST_WEIGHT = 1e-5  # relative to the most likely hypothesis: the rest is left out
_LEAST_HAZARD = 1e-12  # has a logarithm


@attrs.frozen(eq=False, repr=False)
class _Hypothesis:
    """A distribution on the grid of ages, from the second bin on.

    Attributes:
        log_weight: The logarithm of its prior weight.
        outlasting: For each bin, the logarithm of the probability to outlast it, given that it was entered.
        ending: The same of the probability to end in it.
        survival: At the edges, from the left one of the second bin on.
    """

    log_weight: float
    outlasting: Sequence[float]
    ending: Sequence[float]
    survival: Sequence[float]


@cache
def _hypotheses() -> tuple[_Hypothesis, ...]:
    scales = {spread: _tables(spread) for spread in _SPREADS}
    last = round(math.log(_BROAD_TO_S / EDGES[1]) / STEP)
    first = round(math.log(_BROAD_FROM_S / EDGES[1]) / STEP)
    broad = [*range(first, last + 1, _BROAD_STEP)]
    found = [_shifted(scales[_BROAD_SPREAD], at, _BROAD_SHARE / len(broad)) for at in broad]
    centre = round(math.log(_LOCATION_S / EDGES[1]) / STEP)
    reach = int(_FARTHEST * _LOCATION_SPREAD / STEP)
    central = range(centre - reach, centre + reach + 1, _LOCATION_STEP)
    heights = [math.exp(-(((at - centre) * STEP / _LOCATION_SPREAD) ** 2) / 2) for at in central]
    for spread, share in _SPREADS.items():
        for at, height in zip(central, heights, strict=True):
            found.append(_shifted(scales[spread], at, (1 - _BROAD_SHARE) * share * height / sum(heights)))
    return tuple(found)


def _tables(spread: float) -> tuple[list[float], list[float], list[float]]:
    """Return the logarithms to outlast a bin and to end in it, and the survival, by the distance from the location.

    The first distance is that of the first edge from a location at the last.
    """
    scale = spread * math.sqrt(3) / math.pi
    distances = [number * STEP for number in range(-BINS, BINS + 1)]
    survival = [
        (1 - _STUCK_SHARE) / (1 + math.exp(distance / scale))
        + _STUCK_SHARE * math.exp(-_STUCK_POWER * max(distance, 0.0))
        for distance in distances
    ]
    logs = [math.log(value) for value in survival]
    outlasting = [right - left for left, right in pairwise(logs)]
    ending = [math.log(max(-math.expm1(value), _LEAST_HAZARD)) for value in outlasting]
    return outlasting, ending, survival


def _shifted(tables: tuple[list[float], list[float], list[float]], location: int, weight: float) -> _Hypothesis:
    outlasting, ending, survival = (table[BINS - location : 2 * BINS - location] for table in tables)
    return _Hypothesis(math.log(weight), outlasting, ending, survival)


def cold_survival(reached: Sequence[float], ended: Sequence[float]) -> list[float]:
    """Return the survival on the grid of ages, given how many jobs entered each bin and ended in it.

    The first bin, of jobs that last less than half a second, carries no information.
    """
    size = max((number + 1 for number, count in enumerate(reached) if count), default=0)
    outlasted = [max(before - over, 0.0) for before, over in zip(reached[1:size], ended[1:size], strict=True)]
    over = [(number, count) for number, count in enumerate(ended[1:size]) if count]
    hypotheses = _hypotheses()
    logs = [
        each.log_weight + sum(map(mul, outlasted, each.outlasting)) + sum(count * each.ending[at] for at, count in over)
        for each in hypotheses
    ]
    most = max(logs)
    weights = [math.exp(log - most) for log in logs]
    likely = [
        (weight, each.survival) for weight, each in zip(weights, hypotheses, strict=True) if weight > _LEAST_WEIGHT
    ]
    total = sum(weight for weight, _ in likely)
    survival = [0.0] * BINS
    for weight, own in likely:
        share = weight / total
        survival = [before + share * value for before, value in zip(survival, own, strict=True)]
    return [1.0, *survival]
