"""Three kinds of rate-limit windows on a virtual clock, with the response headers of each."""

import math
from collections import deque
from collections.abc import Callable
from typing import Protocol

import attrs

MINUTE_S = 60.0


@attrs.frozen
class Verdict:
    """The decision about one request; times are in seconds from now."""

    is_granted: bool
    limit: int
    remaining: int
    reset_s: float
    wait_s: float = 0.0

    def headers(self) -> dict[str, str]:
        """The headers of the response, in whole seconds as servers send them."""
        headers = {"limit": self.limit, "remaining": self.remaining, "reset": math.ceil(self.reset_s)}
        return {f"x-ratelimit-{name}": str(value) for name, value in headers.items()}

    def retry_after_s(self) -> float:
        """Whole seconds, at least one."""
        return max(1.0, math.ceil(self.wait_s))


class Window(Protocol):
    """A rate limit that counts granted requests only."""

    limit: int

    def room_at(self, now: float) -> float:
        """Return the first time from `now` at which a request would be granted."""
        ...

    def request(self, now: float) -> Verdict:
        """Grant and count a request that arrives, or refuse it."""
        ...


class FixedWindow:
    """A number of requests in each minute of the server's clock."""

    def __init__(self, limit: int, phase_s: float) -> None:
        self.limit = limit
        self._phase_s = phase_s
        self._window = -1
        self._used = 0

    def _end(self, now: float) -> float:
        window = int((now + self._phase_s) // MINUTE_S)
        if window != self._window:
            self._window, self._used = window, 0
        return (window + 1) * MINUTE_S - self._phase_s

    def room_at(self, now: float) -> float:
        """See `Window`."""
        end = self._end(now)
        return now if self._used < self.limit else end

    def request(self, now: float) -> Verdict:
        """See `Window`."""
        left_s = self._end(now) - now
        if is_granted := self._used < self.limit:
            self._used += 1
        return Verdict(is_granted, self.limit, self.limit - self._used, left_s, left_s)


class SlidingWindow:
    """A number of requests in any minute."""

    def __init__(self, limit: int, _phase_s: float) -> None:
        self.limit = limit
        self._granted: deque[float] = deque()

    def room_at(self, now: float) -> float:
        """See `Window`."""
        while self._granted and self._granted[0] + MINUTE_S <= now:
            self._granted.popleft()
        return now if len(self._granted) < self.limit else self._granted[0] + MINUTE_S

    def request(self, now: float) -> Verdict:
        """See `Window`."""
        wait_s = self.room_at(now) - now
        if wait_s <= 0:
            self._granted.append(now)
        left = self.limit - len(self._granted)
        return Verdict(wait_s <= 0, self.limit, left, self._granted[0] + MINUTE_S - now, wait_s)


class Bucket:
    """A bucket with the tokens of one minute, full at first and refilled evenly."""

    def __init__(self, limit: int, _phase_s: float) -> None:
        self.limit = limit
        self._tokens = float(limit)
        self._at = 0.0

    def room_at(self, now: float) -> float:
        """See `Window`."""
        self._tokens = min(self._tokens + (now - self._at) * self.limit / MINUTE_S, self.limit)
        self._at = now
        # Rounding must not refuse a clairvoyant that arrives exactly when a token is complete.
        return now if self._tokens >= 1 - 1e-9 else now + (1 - self._tokens) * MINUTE_S / self.limit

    def request(self, now: float) -> Verdict:
        """See `Window`."""
        wait_s = self.room_at(now) - now
        if wait_s <= 0:
            self._tokens -= 1
        full_s = (self.limit - self._tokens) * MINUTE_S / self.limit
        return Verdict(wait_s <= 0, self.limit, max(int(self._tokens), 0), full_s, wait_s)


WINDOWS: dict[str, Callable[[int, float], Window]] = {
    "fixed": FixedWindow,
    "sliding": SlidingWindow,
    "bucket": Bucket,
}
