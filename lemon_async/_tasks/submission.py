"""Submit paid requests, each at most once.

    outcome    recognised by                                         then
    not sent   no connection: DNS, connect, TLS, our rate limit      sent again, while the retry policy allows
    refused    a JSON error of the service: 429, retryable 503       sent again, after the wait it asks for
    refused    any other JSON error of the service                   raised
    accepted   a readable response with images or a task             returned, never sent again
    unknown    anything else after the first byte, cancelling too    `SubmissionUnknown`, not sent again

The rejected alternative is an idempotency key: none is documented, so a second POST is a second job.
"""

import asyncio
import copy
import logging
import time
from collections import Counter, deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import anyio
import attrs

from lemon_async._api.error_responses import request_id_of
from lemon_async._api.job_responses import Accepted, UnknownOutcome, read_submission
from lemon_async._api.response import MAX_BODY_BYTES, Response
from lemon_async._api.urls import poll_path
from lemon_async._http.attempt import NoResponse, StreamedResponse
from lemon_async._http.log_facts import about_job
from lemon_async._http.transport import Payload, Transport, retrying
from lemon_async._pace.retry import RequestKind, RetryPolicy
from lemon_async._tasks.journal_entry import JournalEntry
from lemon_async.errors import ApiError, SubmissionUnknown, TransportError
from lemon_async.requests import Request
from lemon_async.types import ImageData, SubmissionCounts, TaskSnapshot

if TYPE_CHECKING:
    from lemon_async._http.job_events import JobEvents

__all__ = ["AcceptedJob", "Delivered", "PreparedRequest", "Submissions"]

logger: logging.Logger = logging.getLogger("lemon_async")
# Within what the rate limit allows for the network: requests that a slow journal delays must not start all together.
_SLOT_GOOD_FOR_S = 0.2
_MAX_KEPT = 1000
_MAX_KEPT_WITH_IMAGES = 16

T = TypeVar("T")
Attempt = Callable[[float | None], Awaitable[T]]


@attrs.define(eq=False, repr=False)
class PreparedRequest:
    """A request and its body, and what emits its events."""

    request: Request
    payload: Payload
    events: "JobEvents | None" = None
    attempt: int = attrs.field(default=0, init=False)  # the number of the current one, from 1

    def log_facts(self, task_id: str | None = None) -> dict[str, Any]:
        """Return the `extra` of a log record about its job."""
        return about_job(task_id=task_id, model=self.request.model, attempt=self.attempt)

    @contextmanager
    def ended_by_failure(self) -> Iterator[None]:
        """If the block fails, emit the end of the job: there is no other attempt."""
        try:
            yield
        except BaseException as error:
            if self.events is not None:
                self.events.failed(error)
            raise


@attrs.frozen(eq=False, repr=False)
class Delivered:
    """The images that a stream has delivered so far."""

    partial: list[ImageData] = attrs.field(factory=list[ImageData])
    finished: list[ImageData] = attrs.field(factory=list[ImageData])


class AcceptedJob(NamedTuple):
    """A job that the service has accepted.

    Attributes:
        snapshot: The response.
        began_at: When it was sent, on the monotonic clock.
        path: Where to poll; empty when the job is over already.
    """

    snapshot: TaskSnapshot
    began_at: float
    path: str = ""


class Submissions:
    """The paid requests of one session, and how many there were.

    Args:
        transport: Sends them.
        policy: When one is sent again.
        limit: Number of paid requests in flight; more wait, without a time limit.
    """

    def __init__(self, transport: Transport, policy: RetryPolicy, *, limit: int) -> None:
        self._transport = transport
        self._policy = policy
        self._limit = limit
        self._slots = anyio.Semaphore(limit, fast_acquire=True)
        self._sold = self._settled = self._released = self._unknown = 0
        self._open: Counter[str | None] = Counter()
        self.unknown: deque[SubmissionUnknown] = deque(maxlen=_MAX_KEPT)

    @property
    def resubmits(self) -> bool:
        """Whether a request whose outcome is unknown may be sent again."""
        return self._policy.resubmit_unknown

    @property
    def under_way(self) -> int:
        """Number of paid requests in flight."""
        return self._limit - self._slots.value

    @property
    def counts(self) -> SubmissionCounts:
        """How many requests were accepted, and how their jobs ended."""
        return SubmissionCounts(self._sold, self._settled, self._released, self._unknown)

    def count_accepted(self, snapshot: TaskSnapshot) -> None:
        """Count an accepted request."""
        self._sold += 1
        self._open[snapshot.task_id] += 1
        self.count_ended(snapshot)

    def count_ended(self, snapshot: TaskSnapshot) -> None:
        """Count the end of a task that was accepted in this session, unless it has not ended or was counted."""
        if not snapshot.is_done or not self._open[snapshot.task_id]:
            return
        self._open[snapshot.task_id] -= 1
        if not self._open[snapshot.task_id]:
            del self._open[snapshot.task_id]
        if snapshot.status == "completed":
            self._settled += 1
        else:
            self._released += 1

    async def submit(
        self,
        prepared: PreparedRequest,
        *,
        is_wanted: Callable[[], bool] = lambda: True,
        queue: asyncio.Lock | None = None,
        entry: JournalEntry | None = None,
    ) -> AcceptedJob:
        """Submit one job, at most once. May spend money.

        Args:
            prepared: The job.
            is_wanted: Returns whether it may still be sent again.
            queue: A lock to hold while waiting for the rate limit, so that those who share it take one place there.
            entry: Its entry in the caller's journal, if there is one.

        Raises:
            TransportError: It was never sent, and there is no time left to try again.
            ApiError: The service refused it.
            SubmissionUnknown: It was sent, and its outcome is unknown.
            HookFailed: A method of the journal raised.
            HookRefused: The journal does not want it sent.
        """

        async def attempt(max_wait_s: float | None) -> AcceptedJob:
            prepared.attempt += 1
            with self.unknown_if_sent(prepared):
                await self._admit(max_wait_s, queue)
                try:
                    if entry is not None:
                        await self._intend(entry, prepared, max_wait_s)
                    began_at = time.monotonic()
                    if prepared.events is not None:
                        prepared.events.submitted()
                    response = await self._transport.submit(prepared.payload)
                finally:
                    self._slots.release()
            return self._accepted(prepared, response, began_at)

        recorded = attempt if entry is None else entry.recorded(attempt)
        with prepared.ended_by_failure():
            return self._addressed(prepared, await self._with_retries(prepared, recorded, is_wanted))

    @asynccontextmanager
    async def stream(self, prepared: PreparedRequest) -> AsyncGenerator[StreamedResponse | AcceptedJob, None]:
        """Submit one job, at most once, and return its event stream, or the job if the service does not stream.

        May spend money. Read the events under `unknown_if_sent`.

        Raises:
            TransportError, ApiError, SubmissionUnknown: As for `submit`.
        """

        async def attempt(max_wait_s: float | None) -> StreamedResponse | AcceptedJob:
            prepared.attempt += 1
            held.close()  # releases what the previous attempt held
            with self.unknown_if_sent(prepared):
                await self._admit(max_wait_s)
                began_at = time.monotonic()
                held.callback(self._slots.release)
                if prepared.events is not None:
                    prepared.events.submitted()
                response = await self._transport.stream(prepared.payload, held)
                if response.is_event_stream:
                    return response
                body = await response.read(MAX_BODY_BYTES)
            return self._accepted(prepared, body, began_at)

        with ExitStack() as held:
            with prepared.ended_by_failure():
                response = await self._with_retries(prepared, attempt)
            if isinstance(response, StreamedResponse):
                yield response
                return
        with prepared.ended_by_failure():
            job = self._addressed(prepared, response)
        yield job

    async def _admit(self, max_wait_s: float | None, queue: asyncio.Lock | None = None) -> None:
        """Wait for a slot, and then for the rate limit: nothing comes between that and sending."""
        async with queue or nullcontext():
            await self._slots.acquire()
            try:
                await self._transport.acquire(max_wait_s)
            except BaseException:
                self._slots.release()
                raise

    async def _intend(self, entry: JournalEntry, prepared: PreparedRequest, max_wait_s: float | None) -> None:
        """Open the entry; if that takes long, wait for the rate limit again, because the slot is not good any more."""
        admitted_at = time.monotonic()
        await entry.intend(prepared.payload)
        if time.monotonic() > admitted_at + _SLOT_GOOD_FOR_S:
            await self._transport.acquire(max_wait_s)

    @contextmanager
    def unknown_if_sent(self, prepared: PreparedRequest, delivered: Delivered = Delivered()) -> Iterator[None]:
        """Turn a missing response into what it means for a paid request.

        Raises:
            TransportError: The request was not sent.
            SubmissionUnknown: It was.
        """
        try:
            yield
        except NoResponse as failure:
            if not failure.was_sent:
                message = f"not sent, nothing was sold: {failure.reason}"
                unsent = TransportError(message=message, retry_after=failure.retry_after_s)
                if prepared.events is not None:
                    prepared.events.not_sent(unsent)
                raise unsent from failure
            raise self.unknown_outcome(
                prepared, failure.reason, status=failure.status, delivered=delivered
            ) from failure
        except asyncio.CancelledError as cancelled:
            if isinstance(cancelled.__cause__, NoResponse) and cancelled.__cause__.was_sent:
                unknown = self.unknown_outcome(prepared, cancelled.__cause__.reason, delivered=delivered)
                cancelled.__cause__ = unknown
                logger.warning("%s", unknown, extra=prepared.log_facts())  # code that cancels rarely reads causes
            raise

    def unknown_outcome(
        self,
        prepared: PreparedRequest,
        reason: str,
        *,
        status: int | None = None,
        delivered: Delivered = Delivered(),
        refusal: ApiError | None = None,
    ) -> SubmissionUnknown:
        """Return the error for a request whose outcome is unknown, and keep a copy in `unknown`."""
        error = SubmissionUnknown(
            request=prepared.request,
            fingerprint=prepared.payload.fingerprint,
            reason=reason,
            status=refusal.status if refusal else status,
            partial_images=tuple(delivered.partial),
            images=tuple(delivered.finished),
            request_id=refusal.request_id if refusal else None,
            headers=refusal.headers if refusal else {},
        )
        self._unknown += 1
        self.unknown.append(copy.copy(error))  # the one that is raised will hold the frames of its caller
        if len(self.unknown) > _MAX_KEPT_WITH_IMAGES:  # megabytes each
            older = self.unknown[-_MAX_KEPT_WITH_IMAGES - 1]
            self.unknown[-_MAX_KEPT_WITH_IMAGES - 1] = attrs.evolve(older, partial_images=(), images=())
        if prepared.events is not None:
            prepared.events.unknown(error)
        return error

    async def _with_retries(
        self, prepared: PreparedRequest, attempt: Attempt[T], is_wanted: Callable[[], bool] = lambda: True
    ) -> T:
        """Call `attempt` until it succeeds, must not be repeated, or is not wanted any more."""
        return await retrying(
            attempt,
            RequestKind.SUBMIT,
            "a paid request",
            policy=self._policy,
            transport=self._transport,
            is_wanted=is_wanted,
            on_retry=None if prepared.events is None else prepared.events.retry_scheduled,
            model=prepared.request.model,
        )

    def _accepted(self, prepared: PreparedRequest, response: Response, began_at: float) -> AcceptedJob:
        """Return the accepted job, or raise."""
        reading = read_submission(response)
        if isinstance(reading, Accepted):
            return AcceptedJob(reading.snapshot, began_at)
        if isinstance(reading, UnknownOutcome):
            raise self.unknown_outcome(prepared, reading.reason, refusal=reading.error) from reading.error
        if prepared.events is not None:
            prepared.events.refused(reading.error)
        raise reading.error

    def _addressed(self, prepared: PreparedRequest, job: AcceptedJob) -> AcceptedJob:
        """Find where to poll; outside the retries, because a job that cannot be polled was accepted, too.

        An address that would take the key elsewhere is replaced by that of the id.
        """
        snapshot = job.snapshot
        if snapshot.task_id is None or snapshot.is_done:
            return job
        try:
            path, fault = poll_path(self._transport.base_url, snapshot.task_id, snapshot.poll_url)
        except ValueError:
            name = snapshot.task_id[:80]
            reason = f"it was accepted as task {name!r}, but neither that nor its poll_url can be polled"
            headers = snapshot.billing.headers
            error = self.unknown_outcome(prepared, reason)
            raise attrs.evolve(error, request_id=request_id_of(headers), headers=headers) from None
        if fault:
            extra = prepared.log_facts(snapshot.task_id)
            logger.warning("poll_url of task %s refused (%s); polling its id", snapshot.task_id, fault, extra=extra)
        return job._replace(path=path)
