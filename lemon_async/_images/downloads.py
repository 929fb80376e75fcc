"""Fetching results from whatever host the service names, whole and checked.

All ways to a picture share one core, `Downloads._pieces`: it yields bytes in order, and ends only when they are a
whole picture. What breaks off is asked for again from where it broke; where a server does not allow that, or sends
what does not fit, the core yields `None` and begins anew. No timeout is open across a `yield`: who takes the pieces
may be another asyncio task each time. Who does not come back holds nothing beyond the deadline, which rings by itself.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from collections.abc import Set as AbstractSet
from contextlib import aclosing
from functools import partial
from typing import Any

import aiohttp
import anyio

from lemon_async._api.refusals import classify_status
from lemon_async._api.urls import redact
from lemon_async._formats.base64_text import room_for
from lemon_async._formats.masking import Mask
from lemon_async._formats.pictures import PictureFacts
from lemon_async._formats.safe_text import one_line
from lemon_async._images.atomic_file import AtomicFile
from lemon_async._images.links import Deadline, FetchFailed, Links
from lemon_async._images.resumable_download import PrefixSkipper, RangeMismatch, ResumableDownload, TooMuch
from lemon_async._images.threads import run_within
from lemon_async._pace.retry import NextStep, RequestKind, next_step
from lemon_async.errors import DownloadError

__all__ = ["Downloads"]

_MOST_IDLE_ATTEMPTS = 3
_MOST_ATTEMPTS = 100
_PAUSE_S = 0.25
_WRITE_BYTES = 1024 * 1024


class Downloads:
    """The downloads of one session, with a limit of their own.

    Args:
        total_s: Bound of one download in seconds, redirects and retries included.
        connect_s: Bound of name look-up, TCP and TLS.
        limit: Number of downloads under way at once.
        allow_loopback: Whether links to this machine are followed, as they must be for an API on this machine.
        own_host: Host of the API, which may be in a private network.
        http_hosts: Hosts that need no https and may be in a private network; see `parse_http_hosts`.
        mask: What takes the key out of what a host says, should it be that of the API.
        pause_s: Seconds before what broke is asked for again; more after each attempt that brought nothing.
        pause: What waits for them.
    """

    def __init__(
        self,
        *,
        total_s: float,
        connect_s: float,
        limit: int,
        allow_loopback: bool,
        own_host: str | None = None,
        http_hosts: AbstractSet[str] = frozenset(),
        mask: Mask = str,
        pause_s: float = _PAUSE_S,
        pause: Callable[[float], Coroutine[Any, Any, None]] = asyncio.sleep,
    ) -> None:
        self.total_s: float = total_s
        self._pause_s = pause_s
        self._pause = pause
        self._slots = anyio.Semaphore(limit)
        self._links = Links(
            connect_s=connect_s, allow_loopback=allow_loopback, own_host=own_host, http_hosts=http_hosts, mask=mask
        )

    @property
    def under_way(self) -> int:
        """How many answers are arriving."""
        return len(self._links.open_answers)

    def can_follow(self, url: str) -> bool:
        """Return whether a link may be followed, judged by the address alone."""
        return self._links.find_fault(url) is None

    async def fetch(self, url: str) -> bytes:
        """Return the picture behind a link; what breaks in transit is fetched again.

        Raises:
            DownloadError: When the link may not be followed, was refused, or never came over whole.
        """
        arrival, memory = ResumableDownload(), None
        async with aclosing(self._pieces(url, arrival, Deadline(url, self.total_s))) as pieces:
            async for piece in pieces:
                if piece is None:
                    memory = None
                else:
                    memory = memory or room_for(arrival.total_bytes or 0)
                    memory.write(piece)
                del piece
        if memory is None:
            return b""
        memory.truncate()
        return memory.getvalue()

    async def save(self, url: str, draft: AtomicFile) -> PictureFacts:
        """Write the picture behind a link to a draft, and return what its beginning tells; memory stays flat.

        The draft is the caller's to publish or to discard. Cancelling waits for a write that has begun, up to 5 s.

        Raises:
            DownloadError: As for `fetch`; the draft then holds anything.
            OSError: The draft cannot be written, or not in time.
        """
        arrival, deadline = ResumableDownload(), Deadline(url, self.total_s)
        batch = _Batch()
        async with aclosing(self._pieces(url, arrival, deadline)) as pieces:
            async for piece in pieces:
                if piece is None:
                    batch = _Batch(is_anew=True)
                elif batch.add(piece) >= _WRITE_BYTES:
                    await run_within(deadline.left_s(), batch.write, draft)
                    batch = _Batch()
                del piece
            await run_within(deadline.left_s(), batch.write, draft)
        facts = arrival.seen.facts
        assert facts is not None  # noqa: S101 - or it would not have come to its end
        return facts

    async def stream(self, url: str) -> AsyncGenerator[bytes, None]:
        """Yield the picture behind a link piece by piece, as it arrives.

        Only the end tells that it is whole: what was yielded before an error is to be thrown away. It holds one of
        the places for downloads until it is closed, or until its time is up.

        Raises:
            DownloadError: As for `fetch`, or when the picture had to be fetched anew and has become another.
        """
        repeat = PrefixSkipper()
        async with aclosing(self._pieces(url, ResumableDownload(), Deadline(url, self.total_s))) as pieces:
            async for piece in pieces:
                if piece is None:
                    repeat.begin()
                elif piece := repeat.fresh(piece):
                    yield piece
                del piece
                if repeat.is_other:
                    break
        if repeat.is_other or repeat.is_short:
            raise DownloadError(url=redact(url), reason="it broke off, and was another picture when asked for anew")

    def close(self) -> None:
        """Fetch nothing from now on."""
        self._links.is_closed = True

    async def aclose(self) -> None:
        """Close the connections; downloads under way end with `DownloadError`."""
        await self._links.aclose()

    async def _pieces(
        self, url: str, arrival: ResumableDownload, deadline: Deadline
    ) -> AsyncGenerator[bytes | None, None]:
        """Yield a whole picture, or raise; after a `None`, what was yielded before is void."""
        await self._slots.acquire()
        deadline.hold("place", self._slots.release)
        try:
            deadline.start()
            most_bytes = idle = 0
            for attempt in range(1, _MOST_ATTEMPTS + 1):
                try:
                    async with aclosing(self._attempt(url, arrival, deadline)) as pieces:
                        async for piece in pieces:
                            yield piece
                            del piece
                except FetchFailed as failed:
                    error, cause = failed.error, failed.__cause__
                    is_final = next_step(RequestKind.DOWNLOAD, failed.failure) is NextStep.RAISE
                else:
                    return
                idle = 0 if arrival.kept_bytes > most_bytes else idle + 1
                most_bytes = max(most_bytes, arrival.kept_bytes)
                if is_final or self._links.is_closed or idle == _MOST_IDLE_ATTEMPTS or attempt == _MOST_ATTEMPTS:
                    raise error from cause
                await deadline.bound(self._pause(self._pause_s * max(idle, 1)))
        finally:
            deadline.stop()

    async def _attempt(
        self, url: str, arrival: ResumableDownload, deadline: Deadline
    ) -> AsyncGenerator[bytes | None, None]:
        """Yield what one request brings."""
        answer, link = await self._links.follow(url, arrival.question(), deadline)
        self._links.open_answers.add(answer)
        deadline.hold("answer", partial(self._links.drop, answer))
        try:
            if self._begin(answer, link, arrival):
                yield None
            while piece := await self._links.read(answer, link, deadline):
                failure = _take(arrival, piece, link)
                del piece  # a traceback that shows local variables must not show it, here and in all that follows
                if failure is not None:
                    raise failure
                if held := arrival.hand_on():
                    yield held
                    del held
            _end(arrival, link)
            if held := arrival.hand_on(is_end=True):
                yield held
        finally:
            deadline.drop("answer")

    def _begin(self, answer: aiohttp.ClientResponse, link: str, arrival: ResumableDownload) -> bool:
        """Look at the head of an answer; return whether what was yielded so far is void.

        Raises:
            DownloadError: It is compressed, or larger than a picture can be.
            FetchFailed: It is not the picture, or not the part of it that was asked for.
        """
        is_part = bool(arrival.kept_bytes)
        if answer.status != 200 and not (is_part and answer.status in {206, 416}):
            reason = f"HTTP {answer.status} {one_line(self._links.mask(answer.reason or '')) or ''}".strip()
            error = DownloadError(url=redact(link), reason=reason, status=answer.status)
            raise FetchFailed(error, classify_status(answer.status))
        if answer.headers.get("Content-Encoding", "identity").lower() != "identity":
            # Unpacking what nobody asked to be packed is how half a megabyte becomes half a gigabyte.
            raise DownloadError(url=redact(link), reason="the picture is packed in a way that was not asked for")
        try:
            if answer.status == 200:
                return arrival.begin(answer.headers, answer.content_length)
            arrival.go_on(answer.status, answer.headers, answer.content_length)
        except (RangeMismatch, TooMuch) as misfit:
            failure = _misfit(misfit, arrival, link)
        else:
            return False
        raise failure


def _take(arrival: ResumableDownload, piece: bytes, link: str) -> Exception | None:
    """Take the next bytes in; return what is wrong with them."""
    try:
        fault = arrival.take(piece)
    except (RangeMismatch, TooMuch) as misfit:
        return _misfit(misfit, arrival, link)
    if fault is None:
        return None
    arrival.forget()
    return FetchFailed(DownloadError(url=redact(link), reason=fault))


def _end(arrival: ResumableDownload, link: str) -> None:
    """Look at a picture that has come to its end.

    Raises:
        FetchFailed: It is not whole.
    """
    if arrival.is_short:
        raise FetchFailed(DownloadError(url=redact(link), reason="the answer broke off before its end"))
    fault = arrival.seen.end()
    if fault is not None:
        arrival.forget()
        raise FetchFailed(DownloadError(url=redact(link), reason=fault))


def _misfit(misfit: RangeMismatch | TooMuch, arrival: ResumableDownload, link: str) -> Exception:
    error = DownloadError(url=redact(link), reason=str(misfit))
    if isinstance(misfit, TooMuch):
        return error
    arrival.distrust()
    return FetchFailed(error)


class _Batch:
    """Pieces that go on together; nothing shows them.

    Args:
        is_anew: Whether what was written before is void. It is dropped only with the next write: to wait for the disk
            before a piece is read would give a connection that breaks the time to take pieces along.
    """

    def __init__(self, *, is_anew: bool = False) -> None:
        self._is_anew = is_anew
        self._pieces: list[bytes] = []
        self._size_bytes = 0

    def add(self, piece: bytes) -> int:
        """Take one more, and return how many bytes there are now."""
        self._pieces.append(piece)
        self._size_bytes += len(piece)
        return self._size_bytes

    def write(self, draft: AtomicFile) -> None:
        """Write them all; blocks."""
        if self._is_anew:
            draft.restart()
        draft.write(*self._pieces)
