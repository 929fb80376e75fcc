"""Server-sent events: what has changed, for as many pages as are open.

While a page is open, one asyncio task reads the summary four times a second; each page is sent the newest one whenever
it differs from the one before. A page that reads slowly skips summaries, so nothing queues, and one that does not read
at all is disconnected. Without a page nothing runs.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from aiohttp import web
from attrs import define, field

from lemon_async._web.replies import NOT_STORED, SECURITY_HEADERS, PageError, json_bytes

logger: logging.Logger = logging.getLogger("lemon_async")

_HEARTBEAT = b": open\n\n"
_HEADERS = {"Content-Type": "text/event-stream", "Cache-Control": NOT_STORED, "X-Accel-Buffering": "no"}


@define(eq=False, kw_only=True)
class Summaries:
    """The stream of summaries, for `GET /_page/events`.

    Attributes:
        read: Returns the summary, to be sent as JSON; called by one task, and only while a page is open.
        gap_s: Seconds between two calls of `read`.
        heartbeat_s: Seconds without a change after which a comment is sent.
        send_s: Seconds after which a page that does not read is disconnected.
        max_clients: Limit of open pages; a further one gets a 503.
    """

    read: Callable[[], Awaitable[Any]]
    gap_s: float = 0.25
    heartbeat_s: float = 15.0
    send_s: float = 10.0
    max_clients: int = 32
    _clients: set[asyncio.Event] = field(factory=set, init=False)
    _latest: bytes = field(default=b"", init=False)
    _reader: asyncio.Task[None] | None = field(default=None, init=False)

    @property
    def clients(self) -> int:
        """Number of open pages."""
        return len(self._clients)

    @property
    def is_running(self) -> bool:
        """Whether the summary is being read."""
        return self._reader is not None

    async def reply(self, request: web.BaseRequest) -> web.StreamResponse:
        """Send summaries until the client disconnects or `close` is called.

        Raises:
            PageError: 503, too many pages are open.
        """
        if len(self._clients) >= self.max_clients:
            raise PageError(503, f"{self.max_clients} pages are open already", {"Retry-After": "5"})
        changed = asyncio.Event()
        self._clients.add(changed)
        if self._reader is None:
            self._reader = asyncio.create_task(self._read(), name="lemon-page-summary")
        elif self._latest:
            changed.set()
        try:
            return await self._stream(request, changed)
        finally:
            self._leave(changed)

    def close(self) -> None:
        """End all streams."""
        self._stop_reading()
        for changed in self._clients:
            changed.set()

    def _leave(self, changed: asyncio.Event) -> None:
        self._clients.discard(changed)
        if not self._clients:
            self._stop_reading()

    def _stop_reading(self) -> None:
        if self._reader is not None:
            self._reader.cancel()
        self._reader, self._latest = None, b""

    async def _read(self) -> None:
        try:
            while True:
                summary = b"event: summary\ndata: " + json_bytes(await self.read()) + b"\n\n"
                if summary != self._latest:
                    self._latest = summary
                    for changed in self._clients:
                        changed.set()
                await asyncio.sleep(self.gap_s)
        except Exception:
            logger.exception("the summary of the page cannot be read")
            self.close()

    async def _stream(self, request: web.BaseRequest, changed: asyncio.Event) -> web.StreamResponse:
        response = web.StreamResponse(headers={**SECURITY_HEADERS, **_HEADERS})
        # What a page misses is in the next summary: a client that is gone or too slow is no error.
        with suppress(ConnectionError, TimeoutError):
            async with asyncio.timeout(self.send_s):
                await response.prepare(request)
            piece = _HEARTBEAT
            while True:
                async with asyncio.timeout(self.send_s):
                    await response.write(piece)
                    await request.writer.drain()
                if not await self._wait(changed):
                    break
                piece = self._latest if changed.is_set() else _HEARTBEAT
                changed.clear()
            await response.write_eof()
            return response
        if request.transport is not None:
            request.transport.abort()
        return response

    async def _wait(self, changed: asyncio.Event) -> bool:
        """Wait for a change or the time of a heartbeat; return whether the stream goes on."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self.heartbeat_s):
                await changed.wait()
        return self.is_running
