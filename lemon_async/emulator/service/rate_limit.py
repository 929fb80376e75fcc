"""Count requests per key in fixed windows of one real minute."""

import math

from attrs import define, field

_WINDOW_S = 60.0

# The headers of the response; and None, or the seconds until the next window if the request is refused.
RateLimitStatus = tuple[dict[str, str], int | None]


@define
class FixedWindow:
    """Grants `limit` requests per key and minute; refused requests do not count."""

    limit: int
    _window: int = field(default=-1, init=False)
    _used: dict[str, int] = field(factory=dict, init=False)

    def take(self, key: str, real_s: float, unix: float) -> RateLimitStatus:
        """Count a request of this key at this time, unless the window is used up."""
        window = int(real_s // _WINDOW_S)
        if window != self._window:
            self._window = window
            self._used.clear()
        used = self._used.get(key, 0)
        is_granted = used < self.limit
        self._used[key] = used + is_granted
        reset_s = (window + 1) * _WINDOW_S - real_s
        return status_of(self.limit, self.limit - self._used[key], reset_s, unix, is_granted=is_granted)


def status_of(limit: int, remaining: int, reset_s: float, unix: float, *, is_granted: bool) -> RateLimitStatus:
    """Return the status after a request, with the reset as Unix time."""
    headers = {
        "X-RateLimit-Limit": str(limit),
        "X-RateLimit-Remaining": str(remaining),
        "X-RateLimit-Reset": str(math.ceil(unix + reset_s)),
    }
    return headers, None if is_granted else max(1, math.ceil(reset_s))
