"""Evenly spaced starts at a given rate: the generic cell rate algorithm (GCRA).

Each start advances a theoretical arrival time by one interval; the next may start when that time is at most the
tolerance ahead. Interval and tolerance are chosen such that no stretch of `_WINDOW_S`, wherever it begins, holds more
starts than the limit: starts number 1 and n lie at least (n - 1) intervals less the tolerance apart, so a window holds
at most (window + tolerance) / interval starts after its first. It makes no difference then whether the server counts
in fixed or sliding windows or with a bucket.

Interval and tolerance are monotone in the rate (a lower rate has longer intervals and less tolerance): what a lower
rate admits, a higher one would have admitted too. So changes of the rate never add up to more than the highest one.

Rejected: a token bucket of a whole minute, which admits almost twice the limit in the first one, and a log of starts,
which admits the limit in one burst and then nothing for a minute.
"""

import math
from functools import lru_cache

import attrs

__all__ = ["Gcra", "interval_s"]

# A minute, and what the network may do to the distance between two requests.
_WINDOW_S = 60.21
_LONGEST_BURST_S = 0.35


@lru_cache(maxsize=8)
def _tolerance_s(rpm: float) -> float:
    """Return how far starts may run ahead: about a third of a second's worth, and always one start."""
    return max(_LONGEST_BURST_S - 60.0 / rpm, 0.0)


@lru_cache(maxsize=8)
def interval_s(rpm: float) -> float:
    """Return the seconds between two starts at this rate."""
    return (_WINDOW_S + _tolerance_s(rpm)) / rpm


@attrs.define(on_setattr=attrs.setters.NO_OP)
class Gcra:
    """When the next request may start, at the rate that applies by then."""

    _arrival_at: float = -math.inf  # the theoretical arrival time

    def next_at(self, rpm: float) -> float:
        """Return when the next request may start; a time in the past means now."""
        return self._arrival_at - _tolerance_s(rpm)

    def available(self, now: float, rpm: float) -> int:
        """Return how many requests may start at `now`."""
        spare_s = now - self.next_at(rpm)
        return 1 + int(min(spare_s, _tolerance_s(rpm)) / interval_s(rpm)) if spare_s >= 0 else 0

    def is_saturated(self, now: float, rpm: float) -> bool:
        """Return whether a start at `now` comes about as soon as it may, so that the rate is the bottleneck."""
        return now - self.next_at(rpm) <= (_tolerance_s(rpm) + interval_s(rpm)) / 2

    def consume(self, now: float, rpm: float) -> None:
        """Count a start."""
        self._arrival_at = max(self._arrival_at, now) + interval_s(rpm)

    def pause_until(self, until: float, rpm: float) -> None:
        """Allow one start at `until` and none before; no burst builds up during the pause."""
        # Half an interval less, so that rounding cannot move that start beyond the end of the pause.
        self._arrival_at = max(self._arrival_at, until + _tolerance_s(rpm) - interval_s(rpm) / 2)
