"""Work in a thread is finished before anybody hears of its cancellation."""

import asyncio
import threading

import pytest

from lemon_async.client.threads import finish_in_thread


async def test_result_and_error_come_through():
    assert await finish_in_thread(lambda a, *, b: a + b, 1, b=2) == 3
    with pytest.raises(ZeroDivisionError):
        await finish_in_thread(lambda: 1 / 0)


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
