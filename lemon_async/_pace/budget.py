"""One budget for every request to the API: submits, polls and the rest.

Problem: the account allows so many requests a minute. Nobody says how many, how they are counted, or who else
uses the account; whatever is sent beyond that is refused, and delays what matters.

Rules:
* A limit that the caller gives is never exceeded, and evenly spaced (see `meter.py`). Headers and 429s may lower
  the rate, nothing raises it.
* Without one, the headers of the answers tell the limit, if there are any; they are believed within bounds, and
  for ten minutes.
* What remains until the reset is told with the requests of other programs deducted. It binds until the reset,
  but no longer than a minute, because no answer comes that could tell otherwise.
* Without headers, 429s teach the limit (see `learning.py`). They do so beside a told one, too.
* A 429 tells something about the account, not about the request that met it, so it pauses all of them. The
  pause is told by the service (`Retry-After`, or else the reset) or, when it does not say, grows from 429 to 429
  until an answer of another kind ends the series. One that comes during a pause answers a request from before
  it: of a burst, the first one counts.

Result downloads do not come here: they go to another host. Whose request starts next is decided in `turns.py`.
"""

import math

import attrs

from lemon_async._api.rate_headers import RateReport
from lemon_async._pace.gcra import Gcra, interval_s
from lemon_async._pace.rate_estimator import RateEstimator
from lemon_async._pace.validators import at_least_one

__all__ = ["RequestBudget"]

_FIRST_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 60.0
_UNDER_WAY_S = 0.5
_BELIEVED_S = 600.0  # a limit that no header confirms any more
_LONGEST_WINDOW_S = 120.0  # a reset that is farther away is that of some other quota
_MOST_AT_ONCE = 1000


@attrs.define(on_setattr=attrs.setters.NO_OP)  # every request sets some: checking each would cost more than the rest
class RequestBudget:
    """What all API requests of a session share.

    Attributes:
        clear_at: When the last pause ends, or ended.
    """

    _given: int | None = attrs.field(
        default=None, alias="requests_per_minute", validator=attrs.validators.optional(at_least_one)
    )
    clear_at: float = attrs.field(default=0.0, kw_only=True)
    _told: int | None = attrs.field(default=None, init=False)
    _told_until: float = attrs.field(default=math.inf, init=False)
    _left: int = attrs.field(default=0, init=False)
    _left_until: float = attrs.field(default=-math.inf, init=False)
    _unheard: int = attrs.field(default=0, init=False)
    _is_going: bool = attrs.field(default=False, init=False)
    _next_pause_s: float = attrs.field(default=_FIRST_PAUSE_S, init=False)
    _meter: Gcra = attrs.field(factory=Gcra, init=False)
    _learner: RateEstimator = attrs.field(factory=RateEstimator, init=False)

    @property
    def requests_per_minute(self) -> int | None:
        """What the account is currently assumed to allow; `None` while that is unknown."""
        is_known = self._limit is not None or self._learner.is_taught
        return max(int(self._rpm), 1) if is_known else None

    def next_at(self, now: float) -> float:
        """Return when the next request may start; `now` when it may start now."""
        is_used_up = self._left <= 0 and now < self._left_until
        return max(now, self.clear_at, self._meter.next_at(self._rpm), self._left_until if is_used_up else now)

    def room(self, now: float) -> int:
        """Return how many requests may start at `now`."""
        if now < self.clear_at:
            return 0
        room = min(self._meter.room(now, self._rpm), _MOST_AT_ONCE)
        return min(room, max(self._left, 0)) if now < self._left_until else room

    def take(self, now: float) -> None:
        """Count a request that starts."""
        if now > self._told_until:
            self._told = None
        rpm = self._rpm
        is_binding = self._learner.rpm <= rpm and self._meter.is_pressed(now, rpm)
        self._meter.take(now, rpm)
        self._learner.took(now, used_s=interval_s(rpm) if is_binding else 0.0)
        self._unheard += 1
        self._left -= 1

    def limited(self, now: float, retry_after_s: float | None = None, *, reported: RateReport | None = None) -> None:
        """Take note of a 429 at `now`; nothing shortens a running pause."""
        self._heard(now, reported)
        is_first = now >= self.clear_at
        self._learner.refused(now, is_news=is_first and self._is_going, limit_rpm=self._limit)
        self._is_going = self._is_going and not is_first
        # "0", or a date that has passed, tells nothing: taken at its word, it would be a busy loop.
        asked = retry_after_s or (reported.reset_s if reported else None)
        if not asked and not is_first:
            return
        self.hold(now, asked or self._next_pause_s)
        if is_first:
            self._next_pause_s = min(self._next_pause_s * 2, _LONGEST_PAUSE_S)

    def hold(self, now: float, seconds: float) -> None:
        """Pause, for a minute at most; nothing shortens a running pause."""
        self.clear_at = max(self.clear_at, now + min(seconds, _LONGEST_PAUSE_S))
        self._meter.hold(self.clear_at, self._rpm)

    def answered(self, now: float, reported: RateReport | None = None) -> None:
        """Take note of any other answer: the series of 429s is over."""
        self._next_pause_s = _FIRST_PAUSE_S
        self._is_going = self._is_going or now >= self.clear_at
        self._heard(now, reported)

    @property
    def _limit(self) -> int | None:
        if self._given is None or self._told is None:
            return self._told if self._given is None else self._given
        return min(self._given, self._told)

    @property
    def _rpm(self) -> float:
        limit = self._limit
        if limit is None:
            return self._learner.rpm
        return min(limit, self._learner.rpm) if self._learner.is_taught else limit

    def _heard(self, now: float, reported: RateReport | None) -> None:
        self._unheard = max(self._unheard - 1, 0)
        if reported is None:
            return
        if reported.limit:
            self._told, self._told_until = reported.limit, now + _BELIEVED_S
        if reported.remaining is not None and reported.reset_s is not None and reported.reset_s <= _LONGEST_WINDOW_S:
            # What is still under way had not been counted yet.
            under_way = self._learner.count(now, within_s=_UNDER_WAY_S, at_most=min(self._unheard, reported.remaining))
            self._left = reported.remaining - under_way
            self._left_until = now + min(reported.reset_s, _LONGEST_PAUSE_S)
