"""How fast rows end, and when the last one will. Pure: `now` is an argument."""

from collections import deque
from collections.abc import Mapping

import attrs

from lemon_async.batch import State

__all__ = ["RateWindow"]

_WINDOW_S = 120.0
_LEAST_S = 3.0


@attrs.define
class RateWindow:
    """Counts of a batch over the last two minutes in which it ran."""

    _samples: deque[tuple[float, int, int]] = attrs.field(factory=deque[tuple[float, int, int]], init=False)
    _rows_open: int = attrs.field(default=0, init=False)

    def note(self, now: float, counts: Mapping[State, int], *, is_running: bool) -> None:
        """Take the counts of a moment; while nothing runs, and after rows were taken up again, it begins anew."""
        done = counts.get(State.DONE, 0)
        ended = sum(count for state, count in counts.items() if not state.is_open)
        samples = self._samples
        if not is_running or (samples and (done < samples[-1][1] or ended < samples[-1][2])):
            samples.clear()
        if is_running:
            samples.append((now, done, ended))
        while len(samples) > 1 and samples[1][0] <= now - _WINDOW_S:
            samples.popleft()
        self._rows_open = sum(counts.values()) - ended

    @property
    def rate_per_minute(self) -> float | None:
        """Rows done per minute; `None` until there are counts of a few seconds."""
        return self._rate(1)

    @property
    def eta_s(self) -> float | None:
        """Seconds until all rows have ended, whether they are done or not; `None` if that is not known."""
        rate = self._rate(2)
        return self._rows_open / rate * 60 if rate else None

    def _rate(self, column: int) -> float | None:
        if not self._samples or (passed := self._samples[-1][0] - self._samples[0][0]) < _LEAST_S:
            return None
        return (self._samples[-1][column] - self._samples[0][column]) / passed * 60
