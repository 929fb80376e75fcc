"""Emulated time for tasks, real time for connections."""

import asyncio
import math
import time

from attrs import field, frozen
from attrs.validators import gt, instance_of, lt


@frozen
class Clock:
    """Emulated time starts at zero and runs `speed` times as fast as the monotonic clock."""

    speed: float = field(default=1.0, validator=[instance_of((int, float)), gt(0), lt(math.inf)])
    _started: float = field(factory=time.monotonic, init=False)
    _epoch: float = field(factory=time.time, init=False)

    def real_s(self) -> float:
        """Return the real seconds since the start."""
        return time.monotonic() - self._started

    def now(self) -> float:
        """Return the emulated seconds since the start."""
        return self.real_s() * self.speed

    def unix(self) -> float:
        """Return the Unix time; steps of the system clock since the start do not change it."""
        return self._epoch + self.real_s()

    def unix_at(self, at: float) -> float:
        """Return the Unix time of an emulated time."""
        return self._epoch + at / self.speed

    async def sleep_until(self, at: float) -> None:
        """Sleep until an emulated time; not less, although uvloop ends some sleeps a millisecond early."""
        is_early = True
        while is_early:
            await asyncio.sleep(max(0.0, (at - self.now()) / self.speed))
            is_early = self.now() < at
