"""What the account allows, learned from refusals.

Problem: nobody says how many requests a minute are allowed, nor in which kind of window they are counted.

Rules:
* At first nothing is known: a generous rate that doubles every second, for as long as it is made use of. It is
  reached within seconds, and overshoots by what is under way when the first 429 arrives.
* A 429 tells where the limit is: what was let through in the minute before it *is* the limit of a fixed or a
  sliding window, and at least that of a bucket. This count is the mark, and the rate goes a little below it.
* From there the rate follows a cubic, as in CUBIC (RFC 9438): fast towards the mark, flat around it, faster again
  beyond. Once it is well beyond, the mark is out of date, and the rate doubles every minute.
* The more often the mark proves right, the longer the way back to it: 30 s, 60 s, 120 s, and as long again until
  the next probe beyond it.
* A quiet minute, or one that another program spoiled, says little of the limit: no mark is less than half of the
  rate before it, nor than half of a limit that is known, or the lowest documented tier. Stray 429s, of a busy model
  say, would else bring everything to a standstill; what they ask for is a pause, and they have it.
* 429s that answer requests from before a pause belong to the same news, and so do those of a series that no
  accepted request interrupts.
* The rate grows only with use. An idle night proves nothing.

Rejected: halving at each 429, as in AIMD (a quarter of the rate is lost for good), and growing by the clock.
"""

import math
from collections import deque

__all__ = ["MOST_RPM", "RateEstimator"]

MOST_RPM = 60_000.0
"""No rate that is learned is higher: a thousand requests a second are a fault."""

_MINUTE_S = 60.0
_START_RPM = 3000.0
_START_DOUBLES_S = 1.0
_LOWEST_TIER_RPM = 60.0
_STEP_BACK = 0.05
_OUTDATED = 1.1
_DOUBLES_S = 60.0
_FIRST_FLAT_S = 30.0
_LONGEST_FLAT_S = 120.0
_IS_SAME = 0.25


def _growth(grown_s: float, flat_s: float) -> float:
    """Return the rate as a multiple of the mark, after so many seconds of use."""
    cubic = 1.0 + _STEP_BACK * (grown_s / flat_s - 1.0) ** 3
    if cubic <= _OUTDATED:
        return cubic
    outdated_s = flat_s * (1.0 + ((_OUTDATED - 1.0) / _STEP_BACK) ** (1 / 3))
    return _OUTDATED * math.exp2(min((grown_s - outdated_s) / _DOUBLES_S, 64.0))


class RateEstimator:
    """The starts of the last minute, and the rate that follows from those that were refused.

    Attributes:
        rpm: The rate to try, in requests per minute.
    """

    def __init__(self) -> None:
        self._starts: deque[float] = deque(maxlen=int(MOST_RPM))
        self._mark: float | None = None
        self._grown_s = 0.0
        self.rpm: float = _START_RPM
        self._flat_s = _FIRST_FLAT_S
        # Of the last news: when it came, what it met, and whether more of the same burst may still arrive.
        self._news_at = -math.inf
        self._met_rpm: float | None = None
        self._met_mark: float | None = None
        self._met_flat_s = _FIRST_FLAT_S
        self._floor = _LOWEST_TIER_RPM
        self._is_counting = False

    @property
    def is_taught(self) -> bool:
        """Whether there ever was a refusal."""
        return self._mark is not None

    def _rate(self) -> float:
        if self._mark is None:
            return min(_START_RPM * math.exp2(self._grown_s / _START_DOUBLES_S), MOST_RPM)
        # Of few requests a minute, each that is refused weighs more.
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

    def took(self, now: float, *, used_s: float) -> None:
        """Take note of a start, and of the seconds for which it shows that the rate was made full use of."""
        self._is_counting = False
        self._starts.append(now)
        self._forget(now)
        if used_s and self.rpm < MOST_RPM and (self._mark is None or len(self._starts) >= self.rpm / 2):
            self._grown_s += used_s
            self.rpm = self._rate()

    def refused(self, now: float, *, is_news: bool, limit_rpm: float | None) -> None:
        """Take note of a 429 that came at `now`.

        Args:
            now: Seconds.
            is_news: Whether requests were answered since the last news, and this is not one of the same burst.
            limit_rpm: A limit that applies anyway, if there is one.
        """
        self._forget(now)
        self._floor = limit_rpm / 2 if limit_rpm else _LOWEST_TIER_RPM
        if self._starts:
            self._starts.pop()  # the latest ones are those that were too many
        if is_news or self._mark is None:
            is_start = self._mark is None and limit_rpm is None
            self._met_rpm = None if is_start else min(self.rpm, limit_rpm or MOST_RPM)
            self._news_at, self._met_mark, self._met_flat_s = now, self._mark, self._flat_s
            self._is_counting, self._grown_s = True, 0.0
        if self._is_counting:
            self._set_mark()
        self.rpm = self._rate()

    def _forget(self, now: float) -> None:
        while self._starts and self._starts[0] <= now - _MINUTE_S:
            self._starts.popleft()

    def _set_mark(self) -> None:
        accepted = float(len(self._starts))
        if self._met_rpm is None:
            self._mark = max(accepted, self._floor)
        else:
            self._mark = max(min(max(accepted, self._met_rpm / 2), self._met_rpm), self._floor)
        before = self._met_mark
        is_same = before is not None and abs(self._mark - before) <= _IS_SAME * before
        self._flat_s = min(self._met_flat_s * 2, _LONGEST_FLAT_S) if is_same else _FIRST_FLAT_S
