"""Law 6. Cancelling a waiter stops waiting, not the job; every public coroutine says what it means."""

import asyncio
import gc
import inspect
import random
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import anyio
import pytest

import lemon_async
from lemon_async import Image, ImageTask, LemonSession
from lemon_async.emulator import Blackhole, Stuck


def public_coroutines():
    """Yield every coroutine function, async generator and awaitable that users can call."""
    for cls in (LemonSession, ImageTask, Image):
        for name, member in inspect.getmembers(cls):
            is_async = inspect.iscoroutinefunction(member) or inspect.isasyncgenfunction(member)
            if is_async and (not name.startswith("_")):
                yield pytest.param(member, id=f"{cls.__name__}.{name}")
    yield pytest.param(LemonSession.as_completed, id="LemonSession.as_completed")


@pytest.mark.parametrize("coroutine", list(public_coroutines()))
def test_public_coroutine_says_what_cancelling_does_and_whether_it_spends(coroutine):
    """The docstring of each answers both questions."""
    words = (coroutine.__doc__ or "").lower()
    assert "cancel" in words
    assert any(word in words for word in ("spend", "costs nothing"))


def test_no_public_async_function_is_overlooked():
    """The root exports no coroutine function of its own."""
    assert not any(inspect.iscoroutinefunction(getattr(lemon_async, name)) for name in lemon_async.__all__)


async def test_cancelled_waiter_leaves_the_job_and_the_other_waiters(connect, emulator):
    """One of two waiters is cancelled; the other gets the images of one and the same job."""
    async with connect() as session:
        task = await session.submit("shared", model="flux-pro")
        quitter, stayer = (asyncio.create_task(task.wait()) for _ in range(2))
        await asyncio.sleep(0)
        quitter.cancel()
        with pytest.raises(asyncio.CancelledError):
            await quitter
        assert len(await stayer) == 1
        assert await task is await stayer
    assert emulator.ledger.settled == {"shared": 1}


async def test_cancelled_generate_leaves_its_task_in_pending(connect, emulator):
    """Whoever gives up on `generate` can find the job that was sold."""
    emulator.fault("submit", Stuck())
    async with connect() as session:
        generating = asyncio.create_task(session.generate("kept", model="flux-pro"))
        while not session.pending:
            await asyncio.sleep(0)
        generating.cancel()
        with pytest.raises(asyncio.CancelledError):
            await generating
        (task,) = session.pending
        assert task.request.prompt == "kept"


async def test_timeout_of_one_wait_does_not_touch_the_task(connect, emulator):
    """After `wait(timeout_s)` has run out, the task can be awaited again."""
    async with connect() as session:
        task = await session.submit("again", model="flux-pro")
        with pytest.raises(lemon_async.TaskTimeout):
            await task.wait(timeout_s=0)
        assert len(await task) == 1


async def test_a_thousand_waiters_cancelled_at_random_leave_nothing_behind(connect, emulator):
    """No asyncio task, no open connection and no warning outlives them."""
    dice = random.Random(7)
    emulator.fault("submit", Stuck(), prompt="stuck")
    before = asyncio.all_tasks()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        async with connect() as session:
            stuck = [await session.submit(f"stuck {number}", model="flux-pro") for number in range(5)]
            quick = [await session.submit(f"quick {number}", model="flux-pro") for number in range(5)]
            waiters = [asyncio.create_task(dice.choice(stuck + quick).wait()) for _ in range(1000)]
            victims = dice.sample(waiters, 900)
            for number, waiter in enumerate(victims):
                waiter.cancel()
                if number % 50 == 0:
                    await asyncio.sleep(0)
            rest = [waiter for waiter in waiters if waiter not in victims]
            for waiter in rest:
                if dice.random() < 0.5:
                    waiter.cancel()
            await asyncio.gather(*quick)
            for waiter in waiters:
                waiter.cancel()
            await asyncio.gather(*waiters, return_exceptions=True)
            assert all(not task._waiters for task in stuck + quick)
        del waiters, victims, rest, waiter
        gc.collect()
        await asyncio.sleep(0)
    assert asyncio.all_tasks() == before
    while emulator.connections:
        await asyncio.sleep(0)
    assert [str(warning.message) for warning in caught] == []


async def test_cancelled_close_goes_on(connect, emulator):
    """Cancelling `aclose` stops the waiting; the connections are closed all the same."""
    emulator.fault("poll", Blackhole())
    async with connect() as session:
        await session.submit("open", model="flux-pro")
        closing = asyncio.create_task(session.aclose())
        await asyncio.sleep(0)
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        await session.aclose()
        while emulator.connections:
            await asyncio.sleep(0)


async def test_close_in_a_cancelled_scope_of_anyio_closes_all_the_same(connect, emulator):
    """Every await in it is cancelled; the connections are closed before it is left."""
    emulator.fault("submit", Stuck())
    with anyio.move_on_after(0.05):
        async with connect() as session:
            await session.generate("late", model="flux-pro")
    assert "closed" in repr(session)
    assert session._transport._free.closed


async def test_cancelled_save_ends_the_writing_first(connect, emulator, tmp_path):
    """Who is told that a save was cancelled meets no file that appears later."""
    go_on = threading.Event()
    async with connect() as session:
        images = await session.generate("slow disk", model="dall-e-3")
        await images[0].read()
        with ThreadPoolExecutor(1) as only_thread:
            asyncio.get_running_loop().set_default_executor(only_thread)
            only_thread.submit(go_on.wait, 5)
            saving = asyncio.create_task(images[0].save(tmp_path / "a.png"))
            await asyncio.sleep(0)
            saving.cancel()
            await asyncio.sleep(0)
            assert not saving.done()
            go_on.set()
            with pytest.raises(asyncio.CancelledError):
                await saving
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor())
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


async def test_user_timeouts_around_our_calls_work(connect, emulator):
    """`asyncio.timeout` of the caller is neither swallowed nor mistaken for ours."""
    emulator.fault("submit", Blackhole())
    async with connect() as session:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await session.submit("late", model="flux-pro")
        task = session.task("ldtask_unknown")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.005):
                await task.wait(timeout_s=10)
