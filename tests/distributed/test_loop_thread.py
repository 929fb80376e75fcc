"""A loop in a thread of its own runs what others ask for, until it is closed."""

import asyncio
import threading

import pytest

from lemon_async.distributed.loop_thread import LoopThread


async def test_work_runs_in_the_thread_and_returns_or_raises():
    """The loop of the caller may stand still meanwhile."""
    thread = LoopThread()

    async def name():
        return threading.current_thread().name

    async def fail():
        raise ValueError("x")

    assert await thread.run(name()) == "lemon_async generator"
    with pytest.raises(ValueError, match="x"):
        await thread.run(fail())
    closed = []

    async def last():
        closed.append(asyncio.get_running_loop())

    thread.close(last, 60)
    assert len(closed) == 1
    thread.close(last, 60)
    assert len(closed) == 1


async def test_closing_in_the_thread_itself_ends_it():
    """Its own work may drop the last reference: waiting there for itself would last until the bound."""
    thread, closed = LoopThread(), threading.Event()

    async def last():
        closed.set()

    async def drop():
        thread.close(last, 3600)

    await asyncio.wait_for(thread.run(drop()), 60)
    assert await asyncio.to_thread(closed.wait, 60)
    await asyncio.to_thread(thread._thread.join, 60)
    assert not thread._thread.is_alive()


async def test_cancelling_cancels_the_work():
    """What runs in the thread is cancelled, too."""
    thread = LoopThread()
    began, cancelled = threading.Event(), threading.Event()

    async def wait():
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    waiting = asyncio.ensure_future(thread.run(wait()))
    await asyncio.to_thread(began.wait, 60)
    waiting.cancel()
    assert await asyncio.to_thread(cancelled.wait, 60)

    async def fail():
        raise ValueError

    thread.close(fail, 5)  # an error of the last coroutine has nobody to go to
