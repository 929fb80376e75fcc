"""Law 4. The processes that use an account share its rate limit, through Redis or PostgreSQL."""

import asyncio
import json
import sys

import pytest

import limit_child
from kills import address_of
from lemon_async._pace.leases import leased_interval_s
from lemon_async.emulator import Emulator, Status
from limit_cases import until
from redis_server import shared_redis

RPM = 1200
PICTURES = 12
SPEED = 6000
PAUSE_S = 2.0
UNDER_WAY_S = 1.2  # a refusal that is sent has reached all processes by then
LATE_S = 0.75 + 1.25  # a slot's tolerance, and the way to the service on a busy machine
CLOCKS = (0, 3600, -3600)


@pytest.fixture(params=["redis", "postgres"])
def store(request):
    """The URL of a store."""
    return shared_redis().url if request.param == "redis" else request.getfixturevalue("postgres").new_database()


async def run_processes(emulator, store):
    """Return how many processes succeeded."""
    plan = {"service": address_of(emulator), "rpm": RPM, "store": store, "pictures": PICTURES, "clocks": CLOCKS}
    command = (sys.executable, limit_child.__file__, json.dumps(plan))
    program = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    return int((await program.communicate())[0])


def most_within(window_s, starts):
    """Return the largest number of starts in any window of this length."""
    return max(sum(first <= at < first + window_s for at in starts) for first in starts)


@pytest.mark.long
async def test_processes_share_the_rate_and_its_pauses(store):
    """Three processes together send no more than one may, and a 429 for one of them pauses all.

    The clocks of two of them are an hour wrong.
    """
    async with Emulator(speed=SPEED, durations=30.0) as emulator:
        running = asyncio.create_task(run_processes(emulator, store))
        await until(lambda: len(emulator.requests) > 30, within_s=60)
        emulator.fault("poll", Status(429, headers={"Retry-After": f"{PAUSE_S:.0f}"}), times=1)
        assert await running == len(CLOCKS)
        seen = [(request.at_s / SPEED, request.status) for request in emulator.requests]
        assert emulator.ledger.sold == {"a cat": len(CLOCKS) * PICTURES}
    (refused_at,) = [at for at, status in seen if status == 429]
    starts = [at for at, _ in seen]
    assert not [at for at in starts if refused_at + UNDER_WAY_S < at < refused_at + PAUSE_S - 0.01]
    for window_s in (1, 2):
        assert most_within(window_s, starts) <= (window_s + LATE_S) / leased_interval_s(RPM) + 1
