"""What a session shows of its state; `test_lifetime` is about how it ends."""

import asyncio

import orjson
import pytest

from lemon_async import ContractError, LemonSession
from lemon_async.emulator import Blackhole


async def seen(emulator, route):
    """Wait until the emulator has seen a request."""
    async with asyncio.timeout(60):
        while route not in {request.route for request in emulator.requests}:
            await asyncio.sleep(0)


async def test_repr_is_a_dashboard(connect, emulator):
    emulator.fault("poll", Blackhole())
    async with connect() as session:
        await session.submit("a cat", model="flux-pro")
        await seen(emulator, "poll")
        assert repr(session) == f"<LemonSession {emulator.base_url} [open | 0 submits | 1 tasks pending, 1 polls]>"
    assert repr(session) == f"<LemonSession {emulator.base_url} [closed | 0 submits | 1 tasks pending, 0 polls]>"


async def test_learned_durations_are_passed_to_the_next_session(connect):
    """Through JSON; an empty state is valid, too."""
    async with connect(learned_durations={}, requests_per_minute=None) as session:
        assert session.requests_per_minute is None
        await session.generate("a cat", model="flux-pro")
        learned = orjson.loads(orjson.dumps(session.learned_durations))
    async with connect(learned_durations=learned, requests_per_minute=600) as session:
        assert session.learned_durations == learned
        assert session.requests_per_minute == 600
    with pytest.raises(ContractError, match="learned_durations: is not an export"):
        LemonSession("sk-x", learned_durations={"version": 0})
