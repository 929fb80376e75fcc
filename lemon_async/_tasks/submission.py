"""One paid request, from the caller's wish to a job that was sold exactly once.

    outcome    told by                                               then
    not sent   no connection: DNS, connect, TLS, our own budget      again, while the policy has time
    refused    a JSON error of the service: 429, retryable 503       again, after the wait it asks for
    refused    any other JSON error of the service                   raised at once
    accepted   a readable inline or task answer                      returned, never sent again
    unknown    anything else after the first byte, cancelling too    `SubmissionUnknown`, not sent again

The rejected alternative is an idempotency key: none is documented, so a second POST is a second sale.
"""

import asyncio
import copy
import logging
import time
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager, nullcontext
from typing import TypeVar

import anyio
import attrs

from lemon_async._api.error_responses import request_id_of
from lemon_async._api.job_responses import Accepted, UnknownOutcome, read_submission
from lemon_async._api.response import MAX_BODY_BYTES, Response
from lemon_async._api.urls import poll_path
from lemon_async._http.attempt import NoResponse, StreamedResponse
from lemon_async._http.retrying import retrying
from lemon_async._http.transport import Payload, Transport
from lemon_async._pace.retry import RequestKind, RetryPolicy
from lemon_async.errors import ApiError, SubmissionUnknown, TransportError
from lemon_async.requests import Request
from lemon_async.types import ImageData, TaskSnapshot

__all__ = ["AcceptedJob", "Delivered", "PreparedRequest", "Submissions"]

logger: logging.Logger = logging.getLogger("lemon_async")
_MOST_REMEMBERED = 1000
_MOST_WITH_PICTURES = 16

T = TypeVar("T")


@attrs.frozen
class PreparedRequest:
    """A request and the body it goes out as."""

    request: Request
    payload: Payload


@attrs.frozen
class Delivered:
    """What a stream has brought so far, as the service sent it."""

    partial: list[ImageData] = attrs.field(factory=list[ImageData])
    finished: list[ImageData] = attrs.field(factory=list[ImageData])


@attrs.frozen
class AcceptedJob:
    """A job that was sold: what the service said of it, where to poll (empty when there is nothing to), since when."""

    snapshot: TaskSnapshot
    path: str
    began_at: float


class Submissions:
    """The paid requests of one session.

    Args:
        transport: What sends them.
        policy: When one is sent again.
        limit: Number of paid requests under way at once; more wait without a clock running.
    """

    def __init__(self, transport: Transport, policy: RetryPolicy, *, limit: int) -> None:
        self._transport = transport
        self._policy = policy
        self._limit = limit
        self._slots = anyio.Semaphore(limit, fast_acquire=True)
        self.unknown_count: int = 0
        self.unknown: deque[SubmissionUnknown] = deque(maxlen=_MOST_REMEMBERED)

    @property
    def under_way(self) -> int:
        """Number of paid requests under way."""
        return self._limit - self._slots.value

    async def submit(
        self, order: PreparedRequest, *, is_wanted: Callable[[], bool] = lambda: True, line: asyncio.Lock | None = None
    ) -> AcceptedJob:
        """Have a job sold, once. May spend money.

        Args:
            order: The job.
            is_wanted: Tells whether it may still be sent again.
            line: Held while it waits for its turn, so that those who share a line take up one place before others.

        Raises:
            TransportError: It was never sent, and there is no time left to try.
            ApiError: The service refused it.
            SubmissionUnknown: It was sent, and nobody knows what became of it.
        """
        began_at = 0.0

        async def attempt(patience_s: float | None) -> TaskSnapshot:
            nonlocal began_at
            with self.unknown_if_sent(order):
                await self._admit(patience_s, line)
                began_at = time.monotonic()
                try:
                    response = await self._transport.submit(order.payload)
                finally:
                    self._slots.release()
            return self._accepted(order, response)

        snapshot = await self._with_retries(attempt, is_wanted)
        return self._sale(order, snapshot, began_at)

    @asynccontextmanager
    async def stream(self, order: PreparedRequest) -> AsyncGenerator[StreamedResponse | AcceptedJob, None]:
        """Have a job sold, once, and return its events; or the sale, when the service answers in one piece.

        May spend money. Reading the events is done under `doubting`.

        Raises:
            TransportError, ApiError, SubmissionUnknown: As for `submit`.
        """
        began_at = 0.0

        async def attempt(patience_s: float | None) -> StreamedResponse | TaskSnapshot:
            nonlocal began_at
            held.close()  # what another attempt has left
            with self.unknown_if_sent(order):
                await self._admit(patience_s)
                began_at = time.monotonic()
                held.callback(self._slots.release)
                answer = await self._transport.stream(order.payload, held)
                if answer.is_event_stream:
                    return answer
                response = await answer.read(MAX_BODY_BYTES)
            return self._accepted(order, response)

        with ExitStack() as held:
            answer = await self._with_retries(attempt)
            if isinstance(answer, StreamedResponse):
                yield answer
                return
        yield self._sale(order, answer, began_at)

    async def _admit(self, patience_s: float | None, line: asyncio.Lock | None = None) -> None:
        """Wait for a slot, and then for the turn: nothing is between the turn and the sending."""
        async with line or nullcontext():
            await self._slots.acquire()
            try:
                await self._transport.acquire(patience_s)
            except BaseException:
                self._slots.release()
                raise

    @contextmanager
    def unknown_if_sent(self, order: PreparedRequest, delivered: Delivered = Delivered()) -> Iterator[None]:
        """Turn an answer that broke off into what it means for a request that costs money.

        Raises:
            TransportError: The request never went out.
            SubmissionUnknown: It did.
        """
        try:
            yield
        except NoResponse as failure:
            if not failure.was_sent:
                message = f"not sent, nothing was sold: {failure.reason}"
                raise TransportError(message=message, retry_after=failure.retry_after_s) from failure
            raise self.doubt(order, failure.reason, status=failure.status, delivered=delivered) from failure
        except asyncio.CancelledError as cancelled:
            if isinstance(cancelled.__cause__, NoResponse) and cancelled.__cause__.was_sent:
                doubt = self.doubt(order, cancelled.__cause__.reason, delivered=delivered)
                cancelled.__cause__ = doubt
                logger.warning("%s", doubt)  # who cancels rarely looks at causes
            raise

    def doubt(
        self,
        order: PreparedRequest,
        reason: str,
        *,
        status: int | None = None,
        delivered: Delivered = Delivered(),
        answer: ApiError | None = None,
    ) -> SubmissionUnknown:
        """Return the error for a request whose fate is unknown, and remember it."""
        doubt = SubmissionUnknown(
            request=order.request,
            fingerprint=order.payload.fingerprint,
            reason=reason,
            status=answer.status if answer else status,
            partial_images=tuple(delivered.partial),
            images=tuple(delivered.finished),
            request_id=answer.request_id if answer else None,
            headers=answer.headers if answer else {},
        )
        self.unknown_count += 1
        self._remember(copy.copy(doubt))  # the one that is raised will hold the frames of its caller
        return doubt

    def _remember(self, doubt: SubmissionUnknown) -> None:
        """Keep a doubt, and the megabytes of pictures of the latest ones only."""
        self.unknown.append(doubt)
        if len(self.unknown) > _MOST_WITH_PICTURES:
            older = self.unknown[-_MOST_WITH_PICTURES - 1]
            self.unknown[-_MOST_WITH_PICTURES - 1] = attrs.evolve(older, partial_images=(), images=())

    async def _with_retries(
        self, attempt: Callable[[float | None], Awaitable[T]], is_wanted: Callable[[], bool] = lambda: True
    ) -> T:
        """Attempt until it succeeds, must not be repeated, or is not wanted any more."""
        return await retrying(
            attempt,
            RequestKind.SUBMIT,
            "a paid request",
            policy=self._policy,
            transport=self._transport,
            is_wanted=is_wanted,
        )

    def _accepted(self, order: PreparedRequest, response: Response) -> TaskSnapshot:
        """Return what an answer sells, or raise what it is instead."""
        reading = read_submission(response)
        if isinstance(reading, Accepted):
            return reading.snapshot
        if isinstance(reading, UnknownOutcome):
            raise self.doubt(order, reading.reason, answer=reading.error) from reading.error
        raise reading.error

    def _sale(self, order: PreparedRequest, snapshot: TaskSnapshot, began_at: float) -> AcceptedJob:
        """Return the sale of an accepted job; outside the retries, because what cannot be polled was sold, too."""
        return AcceptedJob(snapshot, self._where_to_poll(order, snapshot), began_at)

    def _where_to_poll(self, order: PreparedRequest, snapshot: TaskSnapshot) -> str:
        """Return the path to poll; an address that would take the key elsewhere is not used, the id is."""
        if snapshot.task_id is None or snapshot.is_done:
            return ""
        try:
            path, fault = poll_path(self._transport.base_url, snapshot.task_id, snapshot.poll_url)
        except ValueError:
            name = snapshot.task_id[:80]
            reason = f"it was accepted as task {name!r}, but neither that nor its poll_url can be polled"
            headers = snapshot.billing.headers
            raise attrs.evolve(self.doubt(order, reason), request_id=request_id_of(headers), headers=headers) from None
        if fault:
            logger.warning("poll_url of task %s refused (%s); polling its id", snapshot.task_id, fault)
        return path
