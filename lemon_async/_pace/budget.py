"""One budget for all requests to the API: submits, polls and the rest.

Problem: the account allows so many requests a minute. How many, how they are counted and which other programs use the
account is unknown; whatever is sent beyond the limit is refused, and delays what matters.

Rules:
* A limit that the caller sets is never exceeded, and its requests are evenly spaced (see `Gcra`). Headers and 429s
  may lower the rate; nothing raises it.
* Without one, the headers of responses give the limit, if they have it; it is believed within bounds, and for ten
  minutes.
* The number of requests that remain until the reset has those of other programs deducted. It binds until the reset,
  but no longer than a minute: while nothing is sent, no response can correct it.
* Without headers, 429s teach the limit (see `RateEstimator`). They also do so in addition to a reported one.
* What the coming minute has room for sets the price of a poll (`poll_price.py`).
* A 429 is about the account, not about the request that met it, so it pauses all requests. The pause is what the
  service asks for (`Retry-After`, or else the reset); without that, it grows from 429 to 429 until another response
  ends the series. A 429 that arrives during a pause belongs to a request from before it: of a burst, the first counts.

Result downloads are not counted here: they go to another host. `priority.py` decides which request starts next.
"""

import math
from collections import deque
from functools import lru_cache

import attrs

from lemon_async._api.response import RateReport
from lemon_async._pace.validators import at_least_one

__all__ = ["LOWEST_TIER_RPM", "MOST_RPM", "Gcra", "RateEstimator", "RequestBudget", "interval_s"]

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


class Gcra:
    """When the next request may start, at the rate that applies by then.

    Each start advances a theoretical arrival time by one interval; the next may start when that time is at most the
    tolerance ahead. Interval and tolerance are chosen such that no stretch of `_WINDOW_S`, wherever it begins, holds
    more starts than the limit: starts number 1 and n lie at least (n - 1) intervals less the tolerance apart, so a
    window holds at most (window + tolerance) / interval starts after its first. It makes no difference then whether
    the server counts in fixed or sliding windows or with a bucket.

    Interval and tolerance are monotone in the rate (a lower rate has longer intervals and less tolerance): what a
    lower rate admits, a higher one would have admitted too. So changes of the rate never add up to more than the
    highest one.

    Rejected: a token bucket of a whole minute, which admits almost twice the limit in the first one, and a log of
    starts, which admits the limit in one burst and then nothing for a minute.
    """

    __slots__ = ("_arrival_at",)

    def __init__(self, arrival_at: float = -math.inf) -> None:
        self._arrival_at = arrival_at  # the theoretical arrival time

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


LOWEST_TIER_RPM = 60.0
"""The lowest documented limit, which the planning of polls takes an unknown one for."""

MOST_RPM = 60_000.0
"""Upper bound of the learned rate: a thousand requests a second would be a fault."""

_MINUTE_S = 60.0
_START_RPM = 3000.0
_START_DOUBLES_S = 1.0
_STEP_BACK = 0.05
_OUTDATED = 1.1
_DOUBLES_S = 60.0
_FIRST_FLAT_S = 30.0
_LONGEST_FLAT_S = 120.0
_SAME_WITHIN = 0.25


def _growth(grown_s: float, flat_s: float) -> float:
    """Return the rate as a multiple of the mark, after these seconds of use."""
    cubic = 1.0 + _STEP_BACK * (grown_s / flat_s - 1.0) ** 3
    if cubic <= _OUTDATED:
        return cubic
    outdated_s = flat_s * (1.0 + ((_OUTDATED - 1.0) / _STEP_BACK) ** (1 / 3))
    return _OUTDATED * math.exp2(min((grown_s - outdated_s) / _DOUBLES_S, 64.0))


class RateEstimator:
    """The rate that follows from the starts of the last minute and from refusals.

    Problem: neither the number of requests a minute nor the kind of window in which they are counted is known.

    Rules:
    * At first nothing is known: a generous rate that doubles every second while it is made use of. It reaches any
      limit within seconds, and overshoots by what is in flight when the first 429 arrives.
    * A 429 shows where the limit is: the number of requests admitted in the minute before it *is* the limit of a fixed
      or sliding window, and at least that of a bucket. This count is the mark, and the rate goes a little below it.
    * From there the rate follows a cubic, as in CUBIC (RFC 9438): fast towards the mark, flat around it, faster again
      beyond. Once it is well beyond, the mark is out of date, and the rate doubles every minute.
    * Each time the mark proves right, the way back to it gets longer: 30 s, 60 s, 120 s, and as long again until the
      next probe beyond it.
    * A quiet minute, or one that another program spoiled, says little about the limit: no mark is less than half of
      the rate before it, nor than half of a known limit or, without one, the lowest documented tier. Otherwise stray
      429s, of a busy model for example, would bring everything to a standstill; they ask for a pause, and get it.
    * 429s of requests from before a pause belong to the same burst, and so do those of a series that no
      accepted request interrupts.
    * The rate grows only with use. An idle night proves nothing.

    Rejected: halving at each 429, as in AIMD (a quarter of the rate is lost for good), and growing by the clock.

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
        self._floor = LOWEST_TIER_RPM
        self._is_in_burst = False

    @property
    def is_taught(self) -> bool:
        """Whether there ever was a refusal."""
        return self._mark is not None

    def _rate(self) -> float:
        if self._mark is None:
            return min(_START_RPM * math.exp2(self._grown_s / _START_DOUBLES_S), MOST_RPM)
        # At a low rate, each refused request weighs more.
        flat_s = self._flat_s * max(LOWEST_TIER_RPM / self._mark, 1.0)
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
        self._floor = limit_rpm / 2 if limit_rpm else LOWEST_TIER_RPM
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


_FIRST_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 60.0
_IN_FLIGHT_S = 0.5
_REPORT_VALID_S = 600.0
_LONGEST_WINDOW_S = 120.0  # a reset that is farther away belongs to some other quota
_MAX_BURST = 1000
_LEAST_ROOM = 0.1  # of the limit: a window that is used up ends soon


# Every request sets some: validating each would dominate the cost.
@attrs.define(eq=False, repr=False, on_setattr=attrs.setters.NO_OP)
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
        is_known = self.limit is not None or self._estimator.is_taught
        return max(int(self._rpm), 1) if is_known else None

    def room_rpm(self, now: float) -> float:
        """Return how many requests the coming minute has room for, as far as is known.

        An unknown limit counts as the lowest documented one. What was used before the reset is deducted.
        """
        is_unknown = self.configured is None and self._reported is None and not self._estimator.is_taught
        rpm = LOWEST_TIER_RPM if is_unknown else self._rpm
        if now >= self._reset_at:
            return rpm
        left_s = min(self._reset_at - now, _MINUTE_S)
        return min(max(self._remaining + rpm * (1 - left_s / _MINUTE_S), _LEAST_ROOM * rpm), rpm)

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
        self._estimator.refuse(now, is_new_burst=is_first and self._has_succeeded, limit_rpm=self.limit)
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
        """Observe any other response: it ends a series of 429s."""
        self._next_pause_s = _FIRST_PAUSE_S
        self._has_succeeded = self._has_succeeded or now >= self.paused_until
        self._take_report(now, report)

    def held_until(self, now: float) -> float:
        """Return until when pauses and reports hold back all requests, at any rate; `now` if they do not."""
        is_used_up = self._remaining <= 0 and now < self._reset_at
        return max(now, self.paused_until, self._reset_at if is_used_up else now)

    def headroom(self, now: float) -> int:
        """Return how many requests may start at `now` at any rate."""
        if now < self.paused_until:
            return 0
        return min(max(self._remaining, 0), _MAX_BURST) if now < self._reset_at else _MAX_BURST

    @property
    def limit(self) -> int | None:
        """The limit that is configured or reported, whichever is lower."""
        if self.configured is None or self._reported is None:
            return self._reported if self.configured is None else self.configured
        return min(self.configured, self._reported)

    @property
    def _rpm(self) -> float:
        limit = self.limit
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
