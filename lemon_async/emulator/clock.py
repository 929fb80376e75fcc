"""Two clocks: emulated seconds, in which tasks live, and real ones, in which connections do."""

import time

from attrs import field, frozen


@frozen
class Clock:
    """Emulated time runs `speed` times as fast as the monotonic clock, from zero."""

    speed: float = field(default=1.0)
    _started: float = field(factory=time.monotonic, init=False)
    _epoch: float = field(factory=time.time, init=False)

    @speed.validator
    def _is_positive(self, _attribute: object, value: float) -> None:
        if not value > 0:
            raise ValueError(f"speed must be above 0; got {value!r}")

    def real_s(self) -> float:
        """Real seconds since the start."""
        return time.monotonic() - self._started

    def now(self) -> float:
        """Emulated seconds since the start."""
        return self.real_s() * self.speed

    def unix(self) -> float:
        """The Unix time, immune to steps of the system clock."""
        return self._epoch + self.real_s()
