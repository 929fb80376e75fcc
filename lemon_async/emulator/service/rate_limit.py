"""Count requests per key in fixed windows of one real minute."""

import math

from attrs import define, field, frozen

_WINDOW_S = 60.0


@frozen
class RateLimitStatus:
    """The state of a key's window after one request."""

    limit: int
    remaining: int
    reset_s: float
    is_granted: bool

    def headers(self, unix: float) -> dict[str, str]:
        """Return `X-RateLimit-*`, with the reset as Unix time, and `Retry-After` if the request is refused."""
        headers = {
            "X-RateLimit-Limit": str(self.limit),
            "X-RateLimit-Remaining": str(self.remaining),
            "X-RateLimit-Reset": str(math.ceil(unix + self.reset_s)),
        }
        return headers if self.is_granted else headers | {"Retry-After": str(self.retry_after)}

    @property
    def retry_after(self) -> int:
        """Whole seconds until the next window."""
        return max(1, math.ceil(self.reset_s))


@define
class FixedWindow:
    """Grants `limit` requests per key and minute; refused requests do not count."""

    limit: int
    _window: int = field(default=-1, init=False)
    _used: dict[str, int] = field(factory=dict, init=False)

    def take(self, key: str, real_s: float) -> RateLimitStatus:
        """Count a request of this key at this time, unless the window is used up."""
        window = int(real_s // _WINDOW_S)
        if window != self._window:
            self._window = window
            self._used.clear()
        used = self._used.get(key, 0)
        is_granted = used < self.limit
        self._used[key] = used + is_granted
        reset_s = (window + 1) * _WINDOW_S - real_s
        return RateLimitStatus(self.limit, self.limit - self._used[key], reset_s, is_granted)
