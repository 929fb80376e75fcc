"""Work in a thread is finished before anybody hears of its cancellation."""

import asyncio
import threading

import anyio
import pytest

from lemon_async.client.threads import finish_in_thread


async def test_result_and_error_come_through():
    assert await finish_in_thread(lambda a, *, b: a + b, 1, b=2) == 3
    with pytest.raises(ZeroDivisionError):
        await finish_in_thread(lambda: 1 / 0)


async def test_cancelled_scope_of_anyio_waits_too():
    """It cancels every await again and again."""
    begun, go_on = threading.Event(), threading.Event()

    def work():
        begun.set()
        go_on.wait(5)

    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as group:
            group.start_soon(finish_in_thread, work)
            await asyncio.to_thread(begun.wait, 5)
            scope.cancel()
            asyncio.get_running_loop().call_later(0.02, go_on.set)
    assert go_on.is_set()


@pytest.mark.parametrize("ends_well", [True, False])
async def test_cancelling_waits_for_the_end_and_goes_on(ends_well):
    """What the thread opens is open, or closed, when the caller goes on; its failure is no second error."""
    begun, go_on, ended = threading.Event(), threading.Event(), []

    def work():
        begun.set()
        go_on.wait(5)
        ended.append(True)
        if not ends_well:
            raise OSError("disk full")

    working = asyncio.create_task(finish_in_thread(work))
    await asyncio.to_thread(begun.wait, 5)
    working.cancel()
    for _ in range(10):
        await asyncio.sleep(0)
    assert not working.done()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await working
    assert ended == [True]
