"""One budget for all requests to the API: submits, polls and the rest.

Problem: the account allows so many requests a minute. How many, how they are counted and which other programs use the
account is unknown; whatever is sent beyond the limit is refused, and delays what matters.

Rules:
* A limit that the caller sets is never exceeded, and its requests are evenly spaced (see `gcra.py`). Headers and 429s
  may lower the rate; nothing raises it.
* Without one, the headers of responses give the limit, if they have it; it is believed within bounds, and for ten
  minutes.
* The number of requests that remain until the reset has those of other programs deducted. It binds until the reset,
  but no longer than a minute: while nothing is sent, no response can correct it.
* Without headers, 429s teach the limit (see `rate_estimator.py`). They also do so in addition to a reported one.
* A 429 is about the account, not about the request that met it, so it pauses all requests. The pause is what the
  service asks for (`Retry-After`, or else the reset); without that, it grows from 429 to 429 until another response
  ends the series. A 429 that arrives during a pause answers a request from before it: of a burst, the first counts.

Result downloads are not counted here: they go to another host. `priority.py` decides which request starts next.
"""

import math

import attrs

from lemon_async._api.response import RateReport
from lemon_async._pace.gcra import Gcra, interval_s
from lemon_async._pace.rate_estimator import RateEstimator
from lemon_async._pace.validators import at_least_one

__all__ = ["RequestBudget"]

_FIRST_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 60.0
_IN_FLIGHT_S = 0.5
_REPORT_VALID_S = 600.0
_LONGEST_WINDOW_S = 120.0  # a reset that is farther away belongs to some other quota
_MAX_BURST = 1000


@attrs.define(on_setattr=attrs.setters.NO_OP)  # every request sets some: validating each would dominate the cost
class RequestBudget:
    """The rate limit that all API requests of a session share.

    Attributes:
        configured: The limit that the caller set.
        paused_until: When the last pause ends, or ended.
    """

    configured: int | None = attrs.field(
        default=None, alias="requests_per_minute", validator=attrs.validators.optional(at_least_one)
    )
    paused_until: float = attrs.field(default=0.0, kw_only=True)
    _reported: int | None = attrs.field(default=None, init=False)
    _reported_until: float = attrs.field(default=math.inf, init=False)
    _remaining: int = attrs.field(default=0, init=False)
    _reset_at: float = attrs.field(default=-math.inf, init=False)
    _unanswered: int = attrs.field(default=0, init=False)
    _has_succeeded: bool = attrs.field(default=False, init=False)  # since the last pause began
    _next_pause_s: float = attrs.field(default=_FIRST_PAUSE_S, init=False)
    _gcra: Gcra = attrs.field(factory=Gcra, init=False)
    _estimator: RateEstimator = attrs.field(factory=RateEstimator, init=False)

    @property
    def requests_per_minute(self) -> int | None:
        """The limit that is currently assumed; `None` while it is unknown."""
        is_known = self._limit is not None or self._estimator.is_taught
        return max(int(self._rpm), 1) if is_known else None

    def next_at(self, now: float) -> float:
        """Return when the next request may start; `now` if it may start now."""
        is_used_up = self._remaining <= 0 and now < self._reset_at
        return max(now, self.paused_until, self._gcra.next_at(self._rpm), self._reset_at if is_used_up else now)

    def available(self, now: float) -> int:
        """Return how many requests may start at `now`."""
        if now < self.paused_until:
            return 0
        available = min(self._gcra.available(now, self._rpm), _MAX_BURST)
        return min(available, max(self._remaining, 0)) if now < self._reset_at else available

    def consume(self, now: float) -> None:
        """Count a request that starts."""
        if now > self._reported_until:
            self._reported = None
        rpm = self._rpm
        is_bottleneck = self._estimator.rpm <= rpm and self._gcra.is_saturated(now, rpm)
        self._gcra.consume(now, rpm)
        self._estimator.consume(now, used_s=interval_s(rpm) if is_bottleneck else 0.0)
        self._unanswered += 1
        self._remaining -= 1

    def observe_429(self, now: float, retry_after_s: float | None = None, *, report: RateReport | None = None) -> None:
        """Pause after a 429 that arrived at `now`; nothing shortens a running pause."""
        self._take_report(now, report)
        is_first = now >= self.paused_until
        self._estimator.refuse(now, is_new_burst=is_first and self._has_succeeded, limit_rpm=self._limit)
        self._has_succeeded = self._has_succeeded and not is_first
        # 0, or a date that has passed, would be a busy loop: it counts as no request for a pause.
        asked_s = retry_after_s or (report.reset_s if report else None)
        if not asked_s and not is_first:
            return
        self.pause(now, asked_s or self._next_pause_s)
        if is_first:
            self._next_pause_s = min(self._next_pause_s * 2, _LONGEST_PAUSE_S)

    def pause(self, now: float, seconds: float) -> None:
        """Pause, for a minute at most; nothing shortens a running pause."""
        self.paused_until = max(self.paused_until, now + min(seconds, _LONGEST_PAUSE_S))
        self._gcra.pause_until(self.paused_until, self._rpm)

    def observe(self, now: float, report: RateReport | None = None) -> None:
        """Take note of any other response: it ends a series of 429s."""
        self._next_pause_s = _FIRST_PAUSE_S
        self._has_succeeded = self._has_succeeded or now >= self.paused_until
        self._take_report(now, report)

    @property
    def _limit(self) -> int | None:
        if self.configured is None or self._reported is None:
            return self._reported if self.configured is None else self.configured
        return min(self.configured, self._reported)

    @property
    def _rpm(self) -> float:
        limit = self._limit
        if limit is None:
            return self._estimator.rpm
        return min(limit, self._estimator.rpm) if self._estimator.is_taught else limit

    def _take_report(self, now: float, report: RateReport | None) -> None:
        self._unanswered = max(self._unanswered - 1, 0)
        if report is None:
            return
        if report.limit:
            self._reported, self._reported_until = report.limit, now + _REPORT_VALID_S
        if report.remaining is not None and report.reset_s is not None and report.reset_s <= _LONGEST_WINDOW_S:
            # The server had not counted the requests that are still on their way.
            at_most = min(self._unanswered, report.remaining)
            self._remaining = report.remaining - self._estimator.count(now, within_s=_IN_FLIGHT_S, at_most=at_most)
            self._reset_at = now + min(report.reset_s, _LONGEST_PAUSE_S)
