"""Learn the account's rate limit from refusals.

Problem: neither the number of requests a minute nor the kind of window in which they are counted is known.

Rules:
* At first nothing is known: a generous rate that doubles every second while it is made use of. It reaches any limit
  within seconds, and overshoots by what is in flight when the first 429 arrives.
* A 429 shows where the limit is: the number of requests admitted in the minute before it *is* the limit of a fixed or
  sliding window, and at least that of a bucket. This count is the mark, and the rate goes a little below it.
* From there the rate follows a cubic, as in CUBIC (RFC 9438): fast towards the mark, flat around it, faster again
  beyond. Once it is well beyond, the mark is out of date, and the rate doubles every minute.
* Each time the mark proves right, the way back to it gets longer: 30 s, 60 s, 120 s, and as long again until the next
  probe beyond it.
* A quiet minute, or one that another program spoiled, says little about the limit: no mark is less than half of the
  rate before it, nor than half of a known limit or, without one, the lowest documented tier. Otherwise stray 429s, of a
  busy model for example, would bring everything to a standstill; they ask for a pause, and get it.
* 429s that answer requests from before a pause belong to the same burst, and so do those of a series that no accepted
  request interrupts.
* The rate grows only with use. An idle night proves nothing.

Rejected: halving at each 429, as in AIMD (a quarter of the rate is lost for good), and growing by the clock.
"""

import math
from collections import deque

__all__ = ["MOST_RPM", "RateEstimator"]

MOST_RPM = 60_000.0
"""Upper bound of the learned rate: a thousand requests a second would be a fault."""

_MINUTE_S = 60.0
_START_RPM = 3000.0
_START_DOUBLES_S = 1.0
_LOWEST_TIER_RPM = 60.0
_STEP_BACK = 0.05
_OUTDATED = 1.1
_DOUBLES_S = 60.0
_FIRST_FLAT_S = 30.0
_LONGEST_FLAT_S = 120.0
_SAME_WITHIN = 0.25


def _growth(grown_s: float, flat_s: float) -> float:
    """Return the rate as a multiple of the mark, after so many seconds of use."""
    cubic = 1.0 + _STEP_BACK * (grown_s / flat_s - 1.0) ** 3
    if cubic <= _OUTDATED:
        return cubic
    outdated_s = flat_s * (1.0 + ((_OUTDATED - 1.0) / _STEP_BACK) ** (1 / 3))
    return _OUTDATED * math.exp2(min((grown_s - outdated_s) / _DOUBLES_S, 64.0))


class RateEstimator:
    """The rate that follows from the starts of the last minute and from refusals.

    Attributes:
        rpm: The rate to try, in requests per minute.
    """

    def __init__(self) -> None:
        self._starts: deque[float] = deque(maxlen=int(MOST_RPM))
        self._mark: float | None = None
        self._grown_s = 0.0
        self.rpm: float = _START_RPM
        self._flat_s = _FIRST_FLAT_S
        # Before the last burst of 429s, and whether more of that burst may still arrive.
        self._burst_rpm: float | None = None
        self._burst_mark: float | None = None
        self._burst_flat_s = _FIRST_FLAT_S
        self._floor = _LOWEST_TIER_RPM
        self._is_in_burst = False

    @property
    def is_taught(self) -> bool:
        """Whether there ever was a refusal."""
        return self._mark is not None

    def _rate(self) -> float:
        if self._mark is None:
            return min(_START_RPM * math.exp2(self._grown_s / _START_DOUBLES_S), MOST_RPM)
        # At a low rate, each refused request weighs more.
        flat_s = self._flat_s * max(_LOWEST_TIER_RPM / self._mark, 1.0)
        return min(self._mark * _growth(self._grown_s, flat_s), MOST_RPM)

    def count(self, now: float, *, within_s: float, at_most: int) -> int:
        """Return the number of starts in the last `within_s` seconds, or `at_most`."""
        found = 0
        for start in reversed(self._starts):
            if start <= now - within_s or found >= at_most:
                break
            found += 1
        return found

    def consume(self, now: float, *, used_s: float) -> None:
        """Count a start, and the seconds of full use of the rate that it stands for."""
        self._is_in_burst = False
        self._starts.append(now)
        self._forget(now)
        if used_s and self.rpm < MOST_RPM and (self._mark is None or len(self._starts) >= self.rpm / 2):
            self._grown_s += used_s
            self.rpm = self._rate()

    def refuse(self, now: float, *, is_new_burst: bool, limit_rpm: float | None) -> None:
        """Count a 429 that arrived at `now`.

        Args:
            now: Seconds.
            is_new_burst: Whether requests succeeded since the last burst.
            limit_rpm: A limit that applies anyway, if there is one.
        """
        self._forget(now)
        self._floor = limit_rpm / 2 if limit_rpm else _LOWEST_TIER_RPM
        if self._starts:
            self._starts.pop()  # the latest starts are the ones beyond the limit
        if is_new_burst or self._mark is None:
            is_start = self._mark is None and limit_rpm is None
            self._burst_rpm = None if is_start else min(self.rpm, limit_rpm or MOST_RPM)
            self._burst_mark, self._burst_flat_s = self._mark, self._flat_s
            self._is_in_burst, self._grown_s = True, 0.0
        if self._is_in_burst:
            self._set_mark()
        self.rpm = self._rate()

    def _forget(self, now: float) -> None:
        while self._starts and self._starts[0] <= now - _MINUTE_S:
            self._starts.popleft()

    def _set_mark(self) -> None:
        accepted = float(len(self._starts))
        rpm, before = self._burst_rpm, self._burst_mark
        self._mark = max(accepted if rpm is None else min(max(accepted, rpm / 2), rpm), self._floor)
        is_same = before is not None and abs(self._mark - before) <= _SAME_WITHIN * before
        self._flat_s = min(self._burst_flat_s * 2, _LONGEST_FLAT_S) if is_same else _FIRST_FLAT_S
