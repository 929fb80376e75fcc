"""Download results from any host that the service names, and check that they are whole pictures.

`fetch`, `save` and `stream` share one core, `Downloads._pieces`: it yields bytes in order, and ends only after a whole
picture. A download that breaks off is resumed; if the server does not support that, or sends something that does not
fit, the core yields `None` and starts over. No timeout is open across a `yield`, because the consumer may be another
asyncio task each time. A consumer that never returns holds nothing beyond the deadline, which expires by itself.
"""

import asyncio
import time
import zlib
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import aclosing
from functools import partial
from io import BytesIO
from typing import TYPE_CHECKING, Any

import aiohttp
import anyio

from lemon_async._api.error_responses import classify_status
from lemon_async._api.urls import redact
from lemon_async._formats.base64_json import reserve_buffer
from lemon_async._formats.json_documents import one_line
from lemon_async._formats.pictures import PictureFacts
from lemon_async._images.atomic_file import AtomicFile
from lemon_async._images.links import Deadline, FetchFailed, LinkClient, ResumableDownload
from lemon_async._images.threads import run_within
from lemon_async._pace.retry import NextStep, RequestKind, next_step
from lemon_async.errors import DownloadError

if TYPE_CHECKING:
    from lemon_async._http.emitter import Emitter

__all__ = ["Downloads", "PrefixSkipper"]

_MAX_IDLE_ATTEMPTS = 3
_MAX_ATTEMPTS = 100
_PAUSE_S = 0.25
_WRITE_BYTES = 1024 * 1024


class Downloads:
    """The downloads of one session, with a separate limit.

    Args:
        links: Follows links.
        total_s: Limit of one download in seconds, including redirects and retries.
        limit: Maximum number of concurrent downloads.
        pause_s: Seconds before a retry; more after each attempt that brought no bytes.
        pause: Waits for that long.
        emitter: Passes on what happens.
    """

    def __init__(
        self,
        links: LinkClient,
        *,
        total_s: float,
        limit: int,
        pause_s: float = _PAUSE_S,
        pause: Callable[[float], Coroutine[Any, Any, None]] = asyncio.sleep,
        emitter: "Emitter | None" = None,
    ) -> None:
        self.total_s: float = total_s
        self._pause_s = pause_s
        self._pause = pause
        self._slots = anyio.Semaphore(limit)
        self._links = links
        self._emitter = emitter
        self.can_follow: Callable[[str], bool] = links.can_follow

    @property
    def under_way(self) -> int:
        """Number of responses that are being read."""
        return len(self._links.open_responses)

    async def fetch(self, url: str, *, task_id: str | None = None) -> bytes:
        """Return the picture behind a link, with retries.

        Args:
            url: The link.
            task_id: The task that it is a result of, for events.

        Raises:
            DownloadError: The link may not be followed or was refused, or the picture never arrived whole.
        """
        download, memory = ResumableDownload(), None
        async with aclosing(self._pieces(url, download, Deadline(url, self.total_s), task_id)) as pieces:
            async for piece in pieces:
                if piece is None:
                    memory = None
                else:
                    memory = memory or reserve_buffer(download.total_bytes or 0)
                    memory.write(piece)
                del piece
        if memory is None:
            return b""
        memory.truncate()
        return memory.getvalue()

    async def save(self, url: str, file: AtomicFile, *, task_id: str | None = None) -> PictureFacts:
        """Write the picture behind a link to a file, in constant memory, and return the facts in its header.

        The caller publishes or discards the file. Cancelling waits for a write that has begun, up to 5 s.

        Raises:
            DownloadError: As for `fetch`; the content of the file is then undefined.
            OSError: The file cannot be written, or not in time.
        """
        download, deadline = ResumableDownload(), Deadline(url, self.total_s)
        batch, is_restart = BytesIO(), False
        async with aclosing(self._pieces(url, download, deadline, task_id)) as pieces:
            async for piece in pieces:
                if piece is None:
                    # Void pieces are removed with the next write: waiting for the disk before reading would give a
                    # breaking connection time to discard its buffer.
                    batch, is_restart = BytesIO(), True
                elif batch.write(piece) and batch.tell() >= _WRITE_BYTES:
                    await run_within(deadline.left_s(), file.write, batch.getvalue(), is_restart=is_restart)
                    batch, is_restart = BytesIO(), False
                del piece
            await run_within(deadline.left_s(), file.write, batch.getvalue(), is_restart=is_restart)
        facts = download.picture.facts
        assert facts is not None  # noqa: S101 - known once a picture is whole
        return facts

    async def stream(self, url: str, *, task_id: str | None = None) -> AsyncGenerator[bytes, None]:
        """Yield the picture behind a link piece by piece, as it arrives.

        The picture is known to be whole only at the end: discard the pieces if an error follows. The generator holds
        one of the download slots until it is closed, or until its time is up.

        Raises:
            DownloadError: As for `fetch`, or the picture had to be fetched again and had changed.
        """
        skipper, deadline = PrefixSkipper(), Deadline(url, self.total_s)
        async with aclosing(self._pieces(url, ResumableDownload(), deadline, task_id)) as pieces:
            async for piece in pieces:
                if piece is None:
                    skipper.restart()
                elif piece := skipper.skip(piece):
                    yield piece
                del piece
                if skipper.is_different:
                    break
        if skipper.is_different or skipper.is_short:
            raise DownloadError(
                url=redact(url), reason="it broke off, and was another picture when it was fetched again"
            )

    def close(self) -> None:
        """Start no more requests."""
        self._links.is_closed = True

    async def aclose(self) -> None:
        """Close the connections; running downloads end with `DownloadError`."""
        await self._links.aclose()

    async def _pieces(
        self, url: str, download: ResumableDownload, deadline: Deadline, task_id: str | None
    ) -> AsyncGenerator[bytes | None, None]:
        """Yield a whole picture, or raise; a `None` voids the pieces before it."""
        await self._slots.acquire()
        deadline.own("slot", self._slots.release)
        began_at = time.monotonic()
        try:
            deadline.start()
            most_bytes = idle = 0
            for attempt in range(1, _MAX_ATTEMPTS + 1):
                try:
                    async with aclosing(self._attempt(url, download, deadline)) as pieces:
                        async for piece in pieces:
                            yield piece
                            del piece
                except FetchFailed as failed:
                    error, cause = failed.error, failed.__cause__
                    is_final = next_step(RequestKind.DOWNLOAD, failed.failure) is NextStep.RAISE
                else:
                    break
                idle = 0 if download.kept_bytes > most_bytes else idle + 1
                most_bytes = max(most_bytes, download.kept_bytes)
                if is_final or self._links.is_closed or idle == _MAX_IDLE_ATTEMPTS or attempt == _MAX_ATTEMPTS:
                    raise error from cause
                await deadline.run(self._pause(self._pause_s * max(idle, 1)))
        except DownloadError as error:
            if self._emitter is not None:
                self._emitter.downloaded(url, seconds=time.monotonic() - began_at, task_id=task_id, error=error)
            raise
        finally:
            deadline.stop()
        if self._emitter is not None:
            size_bytes = download.picture.size_bytes
            self._emitter.downloaded(url, size_bytes=size_bytes, seconds=time.monotonic() - began_at, task_id=task_id)

    async def _attempt(
        self, url: str, download: ResumableDownload, deadline: Deadline
    ) -> AsyncGenerator[bytes | None, None]:
        """Yield the pieces that one request brings."""
        response, download.link = await self._links.follow(url, download.range_headers(), deadline)
        self._links.open_responses.add(response)
        deadline.own("response", partial(self._links.drop, response))
        try:
            if self._check_head(response, download):
                yield None
            while piece := await self._links.read(response, download.link, deadline):
                failure = download.feed(piece)
                del piece  # a traceback with local variables must not show a picture
                if failure is not None:
                    raise failure
                if held := download.pop_checked():
                    yield held
                    del held
            if (failure := download.find_fault()) is not None:
                raise failure
            if held := download.pop_checked(is_end=True):
                yield held
        finally:
            deadline.release("response")

    def _check_head(self, response: aiohttp.ClientResponse, download: ResumableDownload) -> bool:
        """Check the head of a response; return whether the pieces so far are void.

        Raises:
            DownloadError: It is compressed, or larger than a picture can be.
            FetchFailed: It is not the picture, or not the requested part of it.
        """
        is_part = bool(download.kept_bytes)
        if response.status != 200 and not (is_part and response.status in {206, 416}):
            reason = f"HTTP {response.status} {one_line(self._links.mask(response.reason or '')) or ''}".strip()
            raise FetchFailed(download.link, reason, classify_status(response.status), response.status)
        if response.headers.get("Content-Encoding", "identity").lower() != "identity":
            # We request no compression; half a megabyte could expand to half a gigabyte.
            reason = "the response has a Content-Encoding that was not requested"
            raise DownloadError(url=redact(download.link), reason=reason)
        if response.status == 200:
            return download.start(response.headers, response.content_length)
        download.resume(response.status, response.headers, response.content_length)
        return False


class PrefixSkipper:
    """Skips the bytes that were passed on already when a picture is fetched again.

    Attributes:
        is_different: Whether it is not the same picture.
    """

    def __init__(self) -> None:
        self.is_different: bool = False
        self._passed_bytes = 0
        self._passed_crc = 0
        self._again_bytes: int | None = None  # number of bytes fetched again; `None` if none are needed
        self._again_crc = 0

    @property
    def is_short(self) -> bool:
        """Whether fewer bytes were fetched again than passed on."""
        return self._again_bytes is not None

    def restart(self) -> None:
        """Expect the picture from its first byte again."""
        self._again_bytes, self._again_crc = (0, 0) if self._passed_bytes else (None, 0)

    def skip(self, piece: bytes) -> bytes:
        """Return the bytes that were not passed on before, and count them as passed on."""
        if self._again_bytes is not None:
            known = piece[: self._passed_bytes - self._again_bytes]
            self._again_bytes += len(known)
            self._again_crc = zlib.crc32(known, self._again_crc)
            piece = piece[len(known) :]
            if self._again_bytes < self._passed_bytes:
                return b""
            self._again_bytes = None
            self.is_different = self._again_crc != self._passed_crc
            if self.is_different:
                return b""
        self._passed_bytes += len(piece)
        self._passed_crc = zlib.crc32(piece, self._passed_crc)
        return piece
