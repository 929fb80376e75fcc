"""Emulated time is real time, scaled."""

import pytest

from lemon_async.emulator.clock import Clock


def test_speed_must_be_positive():
    """A clock that stands still would never finish a task."""
    for speed in (0, -1, float("nan")):
        with pytest.raises(ValueError, match="'speed' must be > 0"):
            Clock(speed)


def test_emulated_time_is_real_time_times_speed():
    """Unix time is not scaled."""
    clock = Clock(1000.0)
    before, now, after = clock.real_s(), clock.now(), clock.real_s()
    assert 1000 * before <= now <= 1000 * after
    assert clock.unix() > 1_700_000_000


async def test_sleep_is_never_too_short():
    """The timers of uvloop are, by up to a millisecond."""
    clock = Clock(1000.0)
    for tenths in range(100):
        at = clock.now() + tenths / 10  # up to ten real milliseconds
        await clock.sleep_until(at)
        assert clock.now() >= at
