"""Draw and decode pictures in threads, off the event loop; each picture is drawn once.

The emulator runs in the event loop of its user, so Pillow works in two threads. Results are kept in a cache bounded by
bytes; concurrent requests for a picture share one drawing.
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
_PILLOW_MODULES = ("render", "composite", "decode")
_CACHE_BYTES = 48 * 2**20

A = TypeVar("A")
R = TypeVar("R")


class Renderer:
    """Draws on demand between `open()` and `close()`, which belong to one event loop."""

    def __init__(self, cache_bytes: int = _CACHE_BYTES) -> None:
        self._cache_bytes = cache_bytes
        self._kept_bytes = 0
        self._threads: ThreadPoolExecutor | None = None
        self._files: OrderedDict[Picture, bytes] = OrderedDict()
        self._drawings: dict[Picture, asyncio.Future[bytes]] = {}

    async def open(self) -> None:
        """Start the threads and import Pillow in one of them, because that is slow.

        Raises:
            ImportError: Pillow is not installed; the message says what to install.
        """
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="lemon-emulator")
        loop = asyncio.get_running_loop()
        try:
            for module in _PILLOW_MODULES:
                await loop.run_in_executor(self._threads, import_module, f"{__package__}.{module}")
        except ImportError as missing:
            self.close()
            raise ImportError("the emulator needs Pillow: pip install 'lemon-async[emulator]'") from missing

    def close(self) -> None:
        """Cancel drawings that have not begun; others finish in their threads, and their results are dropped."""
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)
        self._threads = None

    async def run(self, work: Callable[[A], R], arg: A) -> R:
        """Run a blocking call in a thread; if cancelled, the thread finishes and its result is dropped."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, arg)

    async def inspect(self, blob: Blob) -> SourceImage:
        """Decode a file once.

        Raises:
            InvalidImage: It is not a PNG, JPEG or WebP file that can be decoded, or it has too many pixels.
        """
        from lemon_async.emulator.pictures.decode import inspect  # noqa: PLC0415 - needs Pillow, an extra

        return await self.run(inspect, blob)

    async def draw(self, picture: Picture) -> bytes:
        """Return the file of a picture. Cancelling one waiter does not cancel the drawing."""
        file = self._files.get(picture)
        if file is not None:
            self._files.move_to_end(picture)
            return file
        return await asyncio.shield(self._drawings.get(picture) or self._start(picture))

    async def preview(self, picture: Picture, *, coarseness: int) -> bytes:
        """Return a blurred file of the same size and format, with one pixel for `coarseness` along each edge."""
        from lemon_async.emulator.pictures.render import preview  # noqa: PLC0415 - needs Pillow, an extra

        # Decoding WebP would hold the interpreter lock for all its pixels; drawing it again as PNG does not.
        file = await self.draw(evolve(picture, format="png") if picture.format == "webp" else picture)
        return await self.run(partial(preview, file, coarseness=coarseness), picture)

    def _start(self, picture: Picture) -> asyncio.Future[bytes]:
        from lemon_async.emulator.pictures import composite, render  # noqa: PLC0415 - need Pillow, an extra

        draw = composite.composite if picture.sources else render.render
        drawing = asyncio.get_running_loop().run_in_executor(self._threads, draw, picture)
        self._drawings[picture] = drawing
        drawing.add_done_callback(partial(self._keep, picture))
        return drawing

    def _keep(self, picture: Picture, drawing: asyncio.Future[bytes]) -> None:
        """Cache a finished drawing and evict the least recently used ones."""
        del self._drawings[picture]
        # Retrieving the exception also keeps asyncio from logging it when no waiter is left.
        if drawing.cancelled() or drawing.exception() is not None:
            return
        self._files[picture] = drawing.result()
        self._kept_bytes += len(drawing.result())
        while self._kept_bytes > self._cache_bytes:
            self._kept_bytes -= len(self._files.popitem(last=False)[1])
