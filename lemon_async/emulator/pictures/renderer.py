"""Renders pictures off the event loop, each one once.

The emulator lives in the user's loop, so drawing happens in its own two threads. Files are kept in
a small cache, bounded by bytes; requests for a picture that is being drawn share that drawing.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib import import_module
from typing import TypeVar

from attrs import evolve

from lemon_async.emulator.pictures.picture import Blob, Picture, SourceImage

_THREADS = 2
_PILLOW_ROOMS = ("render", "composite", "decode")
_CACHE_BYTES = 48 * 2**20

A = TypeVar("A")
R = TypeVar("R")


class Renderer:
    """Draws on demand, between `open()` and `close()` in one running loop."""

    def __init__(self, cache_bytes: int = _CACHE_BYTES) -> None:
        self._cache_bytes = cache_bytes
        self._kept_bytes = 0
        self._threads: ThreadPoolExecutor | None = None
        self._files: OrderedDict[Picture, bytes] = OrderedDict()
        self._drawings: dict[Picture, asyncio.Future[bytes]] = {}

    async def open(self) -> None:
        """Start the threads and load Pillow in one of them; importing it takes a while.

        Raises:
            ImportError: Pillow is not installed; the message says what to install.
        """
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="lemon-emulator")
        loop = asyncio.get_running_loop()
        try:
            for room in _PILLOW_ROOMS:
                await loop.run_in_executor(self._threads, import_module, f"{__package__}.{room}")
        except ImportError as missing:
            self.close()
            raise ImportError("the emulator draws with Pillow: pip install 'lemon-async[emulator]'") from missing

    def close(self) -> None:
        """Drop what has not been drawn; a picture in the making ends in its thread, unseen."""
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)
        self._threads = None

    async def run(self, work: Callable[[A], R], arg: A) -> R:
        """Do something that blocks in one of the threads; cancelling it lets the thread finish unseen."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, arg)

    async def inspect(self, blob: Blob) -> SourceImage:
        """Decode a file once.

        Raises:
            InvalidImage: It is no PNG, JPEG or WebP file that can be decoded, or it has too many pixels.
        """
        return await self.run(_inspect, blob)

    async def draw(self, picture: Picture) -> bytes:
        """The file of a picture. Cancelling one waiter leaves the drawing to the others."""
        file = self._files.get(picture)
        if file is not None:
            self._files.move_to_end(picture)
            return file
        return await asyncio.shield(self._drawings.get(picture) or self._start(picture))

    async def preview(self, picture: Picture, *, coarseness: int) -> bytes:
        """A blurred file of the same size and format, in which that many pixels of an edge have become one."""
        # Reading WebP would hold the interpreter lock for all its pixels; drawing it once more as PNG does not.
        file = await self.draw(evolve(picture, format="png") if picture.format == "webp" else picture)
        work = partial(_preview, file, picture, coarseness)
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    def _start(self, picture: Picture) -> asyncio.Future[bytes]:
        loop = asyncio.get_running_loop()
        drawing = loop.run_in_executor(self._threads, _render, picture)
        self._drawings[picture] = drawing
        drawing.add_done_callback(partial(self._keep, picture))
        return drawing

    def _keep(self, picture: Picture, drawing: asyncio.Future[bytes]) -> None:
        """Cache a finished drawing and let go of those that were not asked for the longest."""
        del self._drawings[picture]
        # Asking for the exception also keeps asyncio from reporting it when all waiters have left.
        if drawing.cancelled() or drawing.exception() is not None:
            return
        self._files[picture] = drawing.result()
        self._kept_bytes += len(drawing.result())
        while self._kept_bytes > self._cache_bytes:
            self._kept_bytes -= len(self._files.popitem(last=False)[1])


def _render(picture: Picture) -> bytes:
    """Draw in the calling thread; Pillow is loaded by now."""
    from lemon_async.emulator.pictures import composite, render  # noqa: PLC0415 - they need Pillow, an extra

    return composite.composite(picture) if picture.sources else render.render(picture)


def _inspect(blob: Blob) -> SourceImage:
    """Decode in the calling thread."""
    from lemon_async.emulator.pictures.decode import inspect  # noqa: PLC0415 - likewise

    return inspect(blob)


def _preview(file: bytes, picture: Picture, coarseness: int) -> bytes:
    """Blur in the calling thread."""
    from lemon_async.emulator.pictures.render import preview  # noqa: PLC0415 - likewise

    return preview(file, picture, coarseness)
