"""Evenly spaced starts at a given rate: the generic cell rate algorithm (GCRA).

A start pushes a theoretical time on by one interval; the next may start when that time is at most the tolerance
ahead. Interval and tolerance are chosen such that no stretch of `_WINDOW_S` holds more starts than the limit,
wherever it begins: starts number 1 and n lie at least (n - 1) intervals less the tolerance apart, so a window
holds at most (window + tolerance) / interval of them after its first. Whether the server counts in fixed or in
sliding windows or with a bucket makes no difference then.

Both are monotone in the rate (a lower one has longer intervals and less tolerance): what a lower rate lets
through, a higher one would have let through too. So changes of the rate never add up to more than the highest.

Rejected: a token bucket of a whole minute, which lets almost twice the limit into the first one, and a log that
lets the limit through at once and then nothing for a minute.
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
    """Return how far starts may run ahead: about a third of a second's worth at once, but always one."""
    return max(_LONGEST_BURST_S - 60.0 / rpm, 0.0)


@lru_cache(maxsize=8)
def interval_s(rpm: float) -> float:
    """Return the seconds between two starts at this rate."""
    return (_WINDOW_S + _tolerance_s(rpm)) / rpm


@attrs.define(on_setattr=attrs.setters.NO_OP)
class Gcra:
    """When the next request may start, at whatever rate applies by then."""

    _due: float = -math.inf

    def next_at(self, rpm: float) -> float:
        """Return when the next one may start; a time in the past means now."""
        return self._due - _tolerance_s(rpm)

    def room(self, now: float, rpm: float) -> int:
        """Return how many may start at `now`."""
        spare = now - self.next_at(rpm)
        return 1 + int(min(spare, _tolerance_s(rpm)) / interval_s(rpm)) if spare >= 0 else 0

    def is_pressed(self, now: float, rpm: float) -> bool:
        """Tell whether a start at `now` comes about as soon as it may: the rate is what holds requests back."""
        return now - self.next_at(rpm) <= (_tolerance_s(rpm) + interval_s(rpm)) / 2

    def take(self, now: float, rpm: float) -> None:
        """Count a start."""
        self._due = max(self._due, now) + interval_s(rpm)

    def hold(self, until: float, rpm: float) -> None:
        """Save up nothing for the end of a pause: one may start `until` then, not a burst."""
        # Half an interval short of that, so that rounding cannot move the one beyond the end.
        self._due = max(self._due, until + _tolerance_s(rpm) - interval_s(rpm) / 2)
