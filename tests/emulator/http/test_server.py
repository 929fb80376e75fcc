"""The server: its event loop, and how it ends."""

import asyncio

import aiohttp
import pytest

from lemon_async.emulator import Blackhole, Drip, Emulator, Stuck

# The event loop


async def read_url(emu):
    return emu.base_url


def test_emulator_is_refused_in_a_loop_that_runs_instead_of_its_own():
    """Nothing would respond: a client would wait until its own deadline."""
    emu = Emulator()
    with asyncio.Runner() as own, asyncio.Runner() as other:
        own.run(emu.start())
        for use in (read_url(emu), emu.start(), emu.restart(), emu.aclose()):
            with pytest.raises(
                RuntimeError, match=r"event loop.*; start, use and close it in the same loop.*In pytest"
            ):
                other.run(use)
        assert emu.base_url == own.run(read_url(emu))
        assert "running" in repr(emu)
        own.run(emu.aclose())


def test_emulator_runs_on_uvloop():
    """Its transports are not subclasses of asyncio's; `pytest --uvloop` runs all tests on it."""
    uvloop = pytest.importorskip("uvloop", reason="uvloop is not made for this platform")

    async def ask():
        timeout = aiohttp.ClientTimeout(total=60)
        async with Emulator() as emu, aiohttp.request("GET", f"{emu.base_url}/v1/models", timeout=timeout) as answer:
            return answer.status

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(ask()) == 401


async def test_emulator_can_be_used_in_a_loop_of_another_thread(emu):
    assert await asyncio.to_thread(asyncio.run, read_url(emu)) == emu.base_url


# Closing


@pytest.mark.parametrize("action", [Blackhole(), Drip(1), Stuck()])
async def test_closing_is_prompt_whatever_the_handlers_do(client_of, action, until):
    async with Emulator(durations=0) as emu:
        emu.fault("submit", action)
        asked = [asyncio.create_task(client_of(emu).submit()) for _ in range(5)]
        await until(lambda: len(emu.requests) == 5)
        async with asyncio.timeout(30):
            await emu.aclose()
        results = await asyncio.gather(*asked, return_exceptions=True)
    assert all(isinstance(result, aiohttp.ClientError) for result in results)
    assert emu.connections == 0
    assert emu.ledger.sold == {"a cat": 5}


async def test_closing_leaves_no_task_behind(http):
    before = asyncio.all_tasks()
    async with Emulator(durations=0) as emu:
        async with http.get(emu.base_url + "/cdn/0.png") as answer:
            await answer.read()
        assert emu.connections == 1
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == before


async def test_disconnecting_cancels_the_handler_and_not_the_job(client_of, until):
    async with Emulator(durations=0) as emu:
        emu.fault("submit", Blackhole())
        asked = asyncio.create_task(client_of(emu).submit())
        await until(lambda: emu.requests)
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)
        await until(lambda: not emu.connections)
        assert emu.ledger.settled == {"a cat": 1}


async def test_disconnecting_cancels_an_inline_wait(client_of, until):
    before = asyncio.all_tasks()
    async with Emulator(durations=1e9) as emu:
        asked = asyncio.create_task(client_of(emu).submit())
        await until(lambda: emu.requests)
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)
        await until(lambda: asyncio.all_tasks() == before)
        assert emu.ledger.open == {"a cat"}
