"""One budget for every request to the API: submits, polls and the rest.

A 429 tells something about the account, not about the request that met it, so it pauses all of them. The
pause is told by the service (`Retry-After`) or, when it does not say, grows from 429 to 429 until an answer
of another kind ends the series. Result downloads do not come here: they go to another host.
"""

import attrs

__all__ = ["Budget"]

_FIRST_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 60.0


@attrs.define
class Budget:
    """The pause that all API requests of a session share."""

    clear_at: float = 0.0
    _next_pause_s: float = _FIRST_PAUSE_S

    def wait_s(self, now: float) -> float:
        """Return the seconds until the next request may start; 0 when it may start now."""
        return max(self.clear_at - now, 0.0)

    def limited(self, now: float, retry_after_s: float | None) -> None:
        """Take note of a 429 at `now`; nothing shortens a running pause.

        A 429 that comes during a pause answers a request from before it: of a burst, the first one counts.
        """
        is_news = now >= self.clear_at
        # "0", or a date that has passed, tells nothing: taken at its word, it would be a busy loop.
        if not retry_after_s and not is_news:
            return
        pause = min(retry_after_s or self._next_pause_s, _LONGEST_PAUSE_S)
        self.clear_at = max(self.clear_at, now + pause)
        if is_news:
            self._next_pause_s = min(self._next_pause_s * 2, _LONGEST_PAUSE_S)

    def answered(self) -> None:
        """Take note of any other answer: the series of 429s is over."""
        self._next_pause_s = _FIRST_PAUSE_S
