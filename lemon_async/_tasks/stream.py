"""`LemonSession.stream`: a paid request whose images arrive one by one, previews first.

It obeys the rules of every submission: once the response has begun, a stream that breaks off, ends without an image or
is left early is a `SubmissionUnknown`, with the images that had arrived.
"""

import asyncio
import copy
import logging
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, Self

import attrs

from lemon_async._api.error_responses import request_id_of
from lemon_async._api.job_responses import pack
from lemon_async._api.response import Unreadable
from lemon_async._api.stream_events import Event, EventSplitter, Failed, Final, Partial, Unclear, read_event
from lemon_async._http.attempt import StreamedResponse
from lemon_async._images.image import Image
from lemon_async._images.images import Images
from lemon_async._images.renewable_urls import ResultAccess
from lemon_async._tasks.submission import Delivered, PreparedRequest, Submissions
from lemon_async._tasks.task import ImageTask
from lemon_async.errors import LemonError, SessionError, SubmissionUnknown, TaskFailed
from lemon_async.requests import Request
from lemon_async.types import ImageData, TaskFault, TaskSnapshot

__all__ = ["ImageStream", "PartialImage"]

logger: logging.Logger = logging.getLogger("lemon_async")


class PartialImage(Image):
    """A preview of an image that is being generated.

    Attributes:
        index: Number of the preview, from 0.
    """

    __slots__ = ()


class ImageStream:
    """The images of one streamed request; made by `LemonSession.stream`.

    `async for image in stream` yields each `PartialImage` and each finished `Image` as it arrives; only the latter if
    the service does not stream.

    Attributes:
        request: The request.
    """

    def __init__(
        self,
        prepared: PreparedRequest,
        source: StreamedResponse | ImageTask,
        submissions: Submissions,
        access: ResultAccess,
    ) -> None:
        self.request: Request = prepared.request
        self._prepared = prepared
        self._submissions = submissions
        self._access = access
        self._mask: Callable[[str], str] = source.mask if isinstance(source, StreamedResponse) else str
        self._headers = source.headers if isinstance(source, StreamedResponse) else {}
        self._wanted = getattr(prepared.request, "n", None) or 1
        self._prompt: str | None = getattr(prepared.request, "prompt", None)
        self._delivered = Delivered()
        self._error: LemonError | None = None
        self._finals: list[Final] = []
        self._made: list[Image] = []
        self._images: Images | None = None
        self._is_over = isinstance(source, ImageTask)  # the task has its own outcome
        self._source = self._streamed(source) if isinstance(source, StreamedResponse) else self._from_task(source)

    @property
    def images(self) -> Images:
        """The finished images, once the stream has been read to its end.

        Raises:
            SessionError: It has not been.
            SubmissionUnknown, TaskFailed: As reading raised it.
        """
        if self._error is not None:
            raise copy.copy(self._error)
        if self._images is None:
            raise SessionError(message="the stream has not been read to its end: `async for image in stream` first")
        return self._images

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Image:
        """Wait for the next image.

        Spends nothing more. Cancelling ends the stream, as leaving it early does.

        Raises:
            SubmissionUnknown: The stream broke off; `partial_images` holds the previews so far.
            TaskFailed: The job failed, and is not billed.
        """
        try:
            return await anext(self._source)
        except LemonError as error:
            self._error = copy.copy(error)
            raise
        except StopAsyncIteration:
            if self._error is not None:
                raise copy.copy(self._error) from None
            raise

    async def _from_task(self, task: ImageTask) -> AsyncGenerator[Image, None]:
        self._images = await task
        for image in self._images:
            yield image

    async def _streamed(self, response: StreamedResponse) -> AsyncGenerator[Image, None]:
        splitter = EventSplitter(mask=self._mask)
        while not self._is_over:
            piece = await self._piece(response)
            for event in self._split(splitter, piece):
                image = self._take_in(self._deliver(event))
                if image is not None:
                    yield image
                if self._is_over:  # later events in the same chunk change nothing
                    return
            if not piece and not self._is_over:
                if not self._finals:
                    raise self._unknown_outcome("the stream ended without a finished picture")
                self._finish()

    async def _piece(self, response: StreamedResponse) -> bytes:
        """Return the next bytes; none at the end."""
        try:
            with self._submissions.unknown_if_sent(self._prepared, self._delivered):
                return await response.read_piece()
        except (SubmissionUnknown, asyncio.CancelledError) as error:
            self._is_over = True
            if self._prepared.events is not None:
                self._prepared.events.failed(error)
            raise

    def _split(self, splitter: EventSplitter, piece: bytes) -> Iterator[Event]:
        try:
            yield from splitter.feed(piece) if piece else splitter.end()
        except Unreadable as fault:
            raise self._unknown_outcome(str(fault)) from None

    def _deliver(self, event: Event) -> Partial | Final | Failed | Unclear | None:
        reading = read_event(event)
        if isinstance(reading, Partial):
            self._delivered.partial.append(reading.image)
        elif isinstance(reading, Final):
            self._delivered.finished.append(reading.image)
            self._finals.append(reading)
        return reading

    def _take_in(self, reading: Partial | Final | Failed | Unclear | None) -> Image | None:
        match reading:
            case Partial(image, index):
                return PartialImage(_own(image), self._access, index=index, prompt=self._prompt)
            case Final():
                if len(self._finals) == self._wanted:
                    self._finish()
                return self._finished()[-1]
            case Failed(TaskFault(reason)) | Unclear(reason) if self._finals:  # finished images are paid for
                extra = self._prepared.log_facts()
                logger.warning("pictures of a stream are missing: %s", self._mask(reason), extra=extra)
                self._finish()
            case Failed(fault):
                raise self._failure(fault)
            case Unclear(reason):
                raise self._unknown_outcome(self._mask(reason))
        return None

    def _finished(self) -> list[Image]:
        """Return the finished images, the same objects at every call: a saved one knows its path."""
        for index, final in enumerate(self._finals[len(self._made) :], len(self._made)):
            self._made.append(Image(_own(final.image), self._access, index=index, prompt=self._prompt))
        return self._made

    def _finish(self) -> None:
        last = self._finals[-1]
        headers = {name: value for name, value in self._headers.items() if name.startswith("x-")}
        usage = _sum([final.billing.usage for final in self._finals])
        snapshot = TaskSnapshot(
            status="completed",
            images=tuple(final.image for final in self._finals),
            created=last.created,
            billing=attrs.evolve(last.billing, usage=usage, headers=headers),
        )
        self._is_over = True
        self._submissions.count_accepted(snapshot)
        self._images = Images(pack(snapshot), self._access, request=self.request, images=self._finished())
        if self._prepared.events is not None:
            self._prepared.events.streamed(snapshot)
        for image in (*self._delivered.partial, *self._delivered.finished):
            if image.inline is not None:  # no error will carry them any more
                image.inline.drop()

    def _failure(self, fault: TaskFault) -> TaskFailed:
        self._is_over = True
        snapshot = TaskSnapshot(status="failed", fault=fault)
        self._submissions.count_accepted(snapshot)
        failure = TaskFailed(
            reason=self._mask(fault.message),
            code=self._mask(fault.code) if fault.code else None,
            request_id=request_id_of(self._headers),
            headers=self._headers,
        )
        if self._prepared.events is not None:
            self._prepared.events.streamed(snapshot, failure)
        return failure

    async def _leave(self) -> None:
        """End the reading; the outcome of a stream that was left early is unknown."""
        try:
            await self._source.aclose()
        except RuntimeError:  # another coroutine is still reading, and will raise
            return
        if (
            len(self._finals) == self._wanted and not self._is_over
        ):  # the last image arrived as its reader was cancelled
            self._finish()
        if not self._is_over:
            unknown = self._unknown_outcome("the stream was left before its end")
            logger.warning("%s", unknown, extra=self._prepared.log_facts())

    def _unknown_outcome(self, reason: str) -> SubmissionUnknown:
        self._is_over = True
        error = self._submissions.unknown_outcome(self._prepared, reason, delivered=self._delivered)
        self._error = copy.copy(error)
        if self._prepared.events is not None:
            self._prepared.events.failed(error)
        return error

    def __repr__(self) -> str:
        state = "over" if self._is_over else "open"
        return f"<ImageStream {state}, {len(self._delivered.partial)} previews, {len(self._finals)} pictures>"


def _own(image: ImageData) -> ImageData:
    """Return a copy of an entry: its bytes can be dropped while an error still carries the original."""
    return attrs.evolve(image, inline=copy.copy(image.inline))


def _sum(usages: Sequence[Mapping[str, Any] | None], depth: int = 2) -> Mapping[str, Any] | None:
    """Return the total usage: each finished image reports its own, with details one level deeper."""
    total: dict[str, Any] = {}
    for name, value in chain.from_iterable(usage.items() for usage in usages if usage):
        known = total.get(name)
        if isinstance(known, int | float) and isinstance(value, int | float):
            total[name] = known + value
        elif isinstance(known, Mapping) and isinstance(value, Mapping) and depth:
            total[name] = _sum([known, value], depth - 1)
        else:
            total[name] = value
    return total if any(usage is not None for usage in usages) else None
