"""Fixtures that the test folders share; those for users come from the package's pytest plugin."""

from contextlib import asynccontextmanager

import pytest

from lemon_async import LemonSession, PollPolicy, RetryPolicy
from lemon_async.emulator import Emulator

QUICK = PollPolicy(min_gap_s=0.005, max_gap_s=0.02, deadline_s=20, lost_after_s=0.02)
ONCE = RetryPolicy(max_elapsed_s=0)


@pytest.fixture(scope="session")
def anyio_backend():
    return "asyncio"


@pytest.fixture
async def emulator():
    """An emulator whose jobs take a few milliseconds."""
    async with Emulator(speed=6000, durations=30.0) as running:
        yield running


@pytest.fixture
def connect(emulator):
    """Open sessions on the emulator; options override the quick defaults."""

    @asynccontextmanager
    async def open_session(**options):
        options = {"polling": QUICK, "retry": ONCE, **options}
        async with LemonSession(emulator.api_key, base_url=emulator.base_url, **options) as session:
            yield session

    return open_session
