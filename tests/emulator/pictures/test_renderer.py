import asyncio
import sys

import pytest

from lemon_async.emulator.pictures.picture import Picture
from lemon_async.emulator.pictures.renderer import Renderer


@pytest.fixture
async def renderer():
    renderer = Renderer()
    await renderer.open()
    yield renderer
    renderer.close()


def picture(index=0, **fields):
    return Picture("a cat", 64, 64, index, **fields)


async def test_waiters_for_one_picture_share_one_drawing(renderer):
    files = await asyncio.gather(*(renderer.draw(picture()) for _ in range(5)))
    assert all(file is files[0] for file in files)
    assert await renderer.draw(picture()) is files[0]


async def test_cache_lets_go_of_what_was_not_asked_for_the_longest():
    probe = Renderer()
    await probe.open()
    size = len(await probe.draw(picture(0)))
    probe.close()
    renderer = Renderer(cache_bytes=int(2.5 * size))
    await renderer.open()
    first, second = await renderer.draw(picture(0)), await renderer.draw(picture(1))
    await renderer.draw(picture(0))
    await renderer.draw(picture(2))
    assert await renderer.draw(picture(0)) is first
    assert await renderer.draw(picture(1)) is not second
    renderer.close()


async def test_cancelled_waiter_leaves_the_drawing_to_the_others(renderer):
    waiter = asyncio.create_task(renderer.draw(picture()))
    await asyncio.sleep(0)
    other = asyncio.create_task(renderer.draw(picture()))
    await asyncio.sleep(0)
    waiter.cancel()
    assert await other


async def test_failed_drawing_is_told_and_not_kept(renderer):
    bad = picture(format="bmp")
    for _ in range(2):
        with pytest.raises(KeyError):
            await renderer.draw(bad)


async def test_closing_drops_what_waits():
    renderer = Renderer()
    await renderer.open()
    large = [asyncio.create_task(renderer.draw(Picture("p", 900, 900, i))) for i in range(40)]
    await asyncio.sleep(0)
    renderer.close()
    results = await asyncio.gather(*large, return_exceptions=True)
    assert isinstance(results[-1], asyncio.CancelledError)
    renderer.close()


async def test_missing_pillow_is_explained(monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    monkeypatch.delitem(sys.modules, "lemon_async.emulator.pictures.render", raising=False)
    renderer = Renderer()
    with pytest.raises(ImportError, match=r"pip install 'lemon-async\[emulator\]'"):
        await renderer.open()
