"""Each iteration of the event loop releases a few readers."""

import asyncio

from lemon_async._http.connections import ReadFairness


async def passed_in(rounds_of_loop, order):
    sizes = []
    for _ in range(rounds_of_loop):
        before = len(order)
        await asyncio.sleep(0)
        sizes.append(len(order) - before)
    return sizes


async def test_each_iteration_releases_a_bounded_number_of_readers():
    """In order of arrival; an idle iteration costs nothing."""
    fairness, order = ReadFairness(per_iteration=2), []

    async def go(number):
        await fairness.checkpoint()
        order.append(number)

    going = [asyncio.create_task(go(number)) for number in range(7)]
    sizes = await passed_in(12, order)
    assert order == list(range(7))
    assert [size for size in sizes if size] == [2, 2, 2, 1]
    await asyncio.gather(*going)
    await asyncio.wait_for(fairness.checkpoint(), 60)


async def test_cancelled_reader_takes_no_place():
    fairness, order = ReadFairness(per_iteration=1), []

    async def go(number):
        await fairness.checkpoint()
        order.append(number)

    going = [asyncio.create_task(go(number)) for number in range(4)]
    await asyncio.sleep(0)
    for gone in going[1:3]:
        gone.cancel()
    await asyncio.gather(*going, return_exceptions=True)
    assert order == [0, 3]
