"""pytest fixtures: the emulator and a session that talks to it.

The fixtures are async. They need a plugin that runs async fixtures: anyio's pytest plugin with
`anyio_mode = "auto"` (or `@pytest.mark.anyio` on the test), or pytest-asyncio in auto mode.
"""

from collections.abc import AsyncIterator

import pytest

from lemon_async import LemonSession, PollPolicy
from lemon_async.emulator import Emulator

_SPEED = 600.0


@pytest.fixture
async def lemon_emulator() -> AsyncIterator[Emulator]:
    """A running emulator in which ten minutes pass in a second."""
    async with Emulator(speed=_SPEED) as emulator:
        yield emulator


@pytest.fixture
async def lemon_session(lemon_emulator: Emulator) -> AsyncIterator[LemonSession]:
    """A session that is connected to `lemon_emulator` and polls without patience."""
    session = LemonSession(
        lemon_emulator.api_key,
        base_url=lemon_emulator.base_url,
        polling=PollPolicy(min_gap_s=0.01, max_gap_s=0.05),
    )
    try:
        yield session
    finally:
        await session.aclose()
