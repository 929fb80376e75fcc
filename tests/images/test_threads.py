"""Blocking calls finish before cancellation returns, unless they may be abandoned."""

import asyncio
import errno
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from types import SimpleNamespace

import anyio
import pytest

from lemon_async._images.threads import run_abandonable, run_uncancellable, run_within


async def test_result_and_error_come_through():
    assert await run_uncancellable(lambda a, *, b: a + b, 1, b=2) == 3
    with pytest.raises(ZeroDivisionError):
        await run_uncancellable(lambda: 1 / 0)


async def test_cancelled_scope_of_anyio_waits_too(monkeypatch):
    """Such a scope cancels every await repeatedly."""
    monkeypatch.setattr("lemon_async._images.threads._MAX_WAIT_S", 60)
    begun, go_on = threading.Event(), threading.Event()

    def work():
        begun.set()
        go_on.wait(60)

    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as group:
            group.start_soon(run_uncancellable, work)
            await asyncio.to_thread(begun.wait, 60)
            scope.cancel()
            asyncio.get_running_loop().call_later(0.02, go_on.set)
    assert go_on.is_set()


@pytest.mark.parametrize("ends_well", [True, False])
async def test_cancelling_waits_for_the_end_and_then_raises(ends_well, monkeypatch):
    """The thread has finished when `CancelledError` is raised; its own failure is dropped."""
    monkeypatch.setattr("lemon_async._images.threads._MAX_WAIT_S", 60)
    begun, go_on, ended = threading.Event(), threading.Event(), []

    def work():
        begun.set()
        go_on.wait(60)
        ended.append(True)
        if not ends_well:
            raise OSError("disk full")

    working = asyncio.create_task(run_uncancellable(work))
    await asyncio.to_thread(begun.wait, 60)
    working.cancel()
    for _ in range(10):
        await asyncio.sleep(0)
    assert not working.done()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await working
    assert ended == [True]


async def test_cancelling_does_not_wait_for_work_that_has_not_begun(monkeypatch):
    """It never begins, however long the pool is busy."""
    monkeypatch.setattr("lemon_async._images.threads._MAX_WAIT_S", 600)
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
    begun, go_on, ran = threading.Event(), threading.Event(), []

    def block():
        begun.set()
        go_on.wait(60)

    blocking = asyncio.create_task(asyncio.to_thread(block))
    while not begun.is_set():
        await asyncio.sleep(0)
    queued = asyncio.create_task(run_uncancellable(ran.append, 1))
    for _ in range(5):
        await asyncio.sleep(0)
    queued.cancel()
    await asyncio.wait([queued], timeout=30)
    assert queued.cancelled()
    go_on.set()
    await blocking
    await asyncio.to_thread(lambda: None)
    assert ran == []


@pytest.mark.parametrize("ends_well", [True, False])
async def test_cancelling_abandons_work_that_does_not_end(monkeypatch, ends_well):
    """A later failure is not logged."""
    monkeypatch.setattr("lemon_async._images.threads._MAX_WAIT_S", 0.01)
    begun, go_on = threading.Event(), threading.Event()

    def work():
        begun.set()
        go_on.wait(60)
        if not ends_well:
            raise OSError("disk full")

    working = asyncio.create_task(run_uncancellable(work))
    await asyncio.to_thread(begun.wait, 60)
    working.cancel()
    await asyncio.wait([working], timeout=30)
    assert working.cancelled()
    go_on.set()
    await asyncio.to_thread(lambda: None)


@pytest.mark.parametrize("ends_well", [True, False])
async def test_work_that_takes_too_long_is_abandoned(ends_well):
    """A later failure is not logged."""
    begun, go_on, ended = threading.Event(), threading.Event(), threading.Event()

    def work():
        begun.set()
        go_on.wait(60)
        ended.set()
        if not ends_well:
            raise OSError("disk full")

    async with asyncio.timeout(60):
        while not begun.is_set():  # a busy machine may not start it in time: then it never begins
            with pytest.raises(TimeoutError, match=r"the disk has not responded within 0\.01 s") as caught:
                await run_within(0.01, work)
            assert caught.value.errno == errno.ETIMEDOUT
    go_on.set()
    assert await asyncio.to_thread(ended.wait, 60)


async def test_work_that_has_not_begun_in_time_never_begins():
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
    go_on, ran = threading.Event(), []
    blocking = asyncio.create_task(asyncio.to_thread(go_on.wait, 60))
    with pytest.raises(TimeoutError):
        await run_within(0.01, ran.append, 1)
    go_on.set()
    await blocking
    await asyncio.to_thread(lambda: None)
    assert ran == []


async def test_work_that_waits_for_a_busy_pool_is_not_given_up(monkeypatch):
    """Together they take longer than the limit of each; their clock stands still while the machine is busy."""
    now = 1.0

    def work():
        nonlocal now
        time.sleep(0.05)
        now += 0.9

    monkeypatch.setattr("lemon_async._images.threads.time", SimpleNamespace(monotonic=lambda: now))
    monkeypatch.setattr("lemon_async._images.threads._Work.last_end", 0.0)
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
    assert await asyncio.gather(*(run_within(1.0, work) for _ in range(25))) == [None] * 25


async def test_abandonable_work_has_a_result_an_error_and_the_callers_context():
    word = ContextVar("word")
    word.set("hello")
    assert await run_abandonable(word.get) == "hello"
    assert await run_abandonable(lambda: threading.current_thread().daemon)
    assert not await run_abandonable(lambda: threading.current_thread().daemon, is_daemon=False)
    with pytest.raises(ZeroDivisionError):
        await run_abandonable(lambda: 1 / 0)


@pytest.mark.parametrize("ends_well", [True, False])
async def test_cancelling_abandons_work_in_its_own_thread(ends_well):
    begun, go_on, ended = threading.Event(), threading.Event(), threading.Event()

    def work():
        begun.set()
        go_on.wait(60)
        ended.set()
        if not ends_well:
            raise OSError("broken pipe")

    working = asyncio.create_task(run_abandonable(work))
    await asyncio.to_thread(begun.wait, 60)
    working.cancel()
    with pytest.raises(asyncio.CancelledError):
        await working
    assert not ended.is_set()
    go_on.set()
    assert await asyncio.to_thread(ended.wait, 60)
