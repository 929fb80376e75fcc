"""Pictures are drawn once, in threads that end with the emulator."""

import asyncio
import io
import sys
import threading

import pytest

from lemon_async.emulator.pictures.blob_store import BlobStore
from lemon_async.emulator.pictures.picture import InvalidImage, Picture
from lemon_async.emulator.pictures.renderer import Renderer


@pytest.fixture
async def renderer():
    renderer = Renderer()
    await renderer.open()
    yield renderer
    renderer.close()


def new_picture(index=0, **fields):
    """Return a small picture to draw."""
    return Picture("a cat", 64, 64, index, **fields)


async def test_waiters_for_one_picture_share_one_drawing(renderer):
    """Later requests are served from the cache."""
    files = await asyncio.gather(*(renderer.draw(new_picture()) for _ in range(5)))
    assert all(file is files[0] for file in files)
    assert await renderer.draw(new_picture()) is files[0]


async def test_cache_evicts_the_least_recently_used_picture(renderer):
    """The cache is bounded by bytes."""
    size = len(await renderer.draw(new_picture(0)))
    small = Renderer(cache_bytes=int(2.5 * size))
    await small.open()
    first, second = await small.draw(new_picture(0)), await small.draw(new_picture(1))
    await small.draw(new_picture(0))
    await small.draw(new_picture(2))
    assert await small.draw(new_picture(0)) is first
    assert await small.draw(new_picture(1)) is not second
    small.close()


async def test_cancelling_one_waiter_does_not_cancel_the_drawing(renderer):
    """The others get their file."""
    waiters = [asyncio.create_task(renderer.draw(new_picture())) for _ in range(2)]
    await asyncio.sleep(0)
    waiters[0].cancel()
    assert await waiters[1]


async def test_failed_drawing_is_raised_and_not_cached(renderer):
    """The next request tries again."""
    for _ in range(2):
        with pytest.raises(KeyError):
            await renderer.draw(new_picture(format="bmp"))


async def test_uploads_are_decoded_in_a_thread(renderer, picture):
    """An invalid one raises the error of the decoder."""
    blobs = BlobStore()
    blob, other = (blobs.add(io.BytesIO(raw)) for raw in (picture((3, 5)), b"<html>"))
    assert (await renderer.inspect(blob)).size == (3, 5)
    with pytest.raises(InvalidImage, match="must be a PNG, JPEG or WebP file"):
        await renderer.inspect(other)


async def test_closing_cancels_drawings_that_have_not_begun():
    """It can be called twice."""
    renderer = Renderer()
    await renderer.open()
    may_end = threading.Event()
    busy = [asyncio.create_task(renderer.run(threading.Event.wait, may_end)) for _ in range(2)]
    drawing = asyncio.create_task(renderer.draw(new_picture()))
    await asyncio.sleep(0)
    renderer.close()
    may_end.set()
    await asyncio.wait([*busy, drawing])
    assert drawing.cancelled()
    renderer.close()


async def test_missing_pillow_is_explained(monkeypatch):
    """The message names the extra."""
    monkeypatch.setitem(sys.modules, "PIL", None)
    monkeypatch.delitem(sys.modules, "lemon_async.emulator.pictures.render", raising=False)
    with pytest.raises(ImportError, match=r"pip install 'lemon-async\[emulator\]'"):
        await Renderer().open()
