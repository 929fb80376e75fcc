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
import random
from collections import deque
from itertools import count

import anyio

from lemon_async.api.errors import ApiError, LemonError, SubmissionUnknown, TransportError
from lemon_async.api.models import GenerateRequest, TaskSnapshot
from lemon_async.api.refusals import is_worth_retrying
from lemon_async.api.urls import poll_path
from lemon_async.api.wire import GENERATIONS_PATH, Accepted, Garbled, encode, fingerprint, read_submission
from lemon_async.client.transport import NoAnswer, Transport
from lemon_async.pace.retry import RetryPolicy

__all__ = ["Submissions"]

logger: logging.Logger = logging.getLogger("lemon_async")
_MOST_REMEMBERED = 1000


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
        self._slots = anyio.Semaphore(limit)
        self.under_way: int = 0
        self.unknown: deque[SubmissionUnknown] = deque(maxlen=_MOST_REMEMBERED)

    async def submit(self, request: GenerateRequest) -> tuple[TaskSnapshot, str]:
        """Have a job sold, once, and return what the service said and where to poll. May spend money.

        Raises:
            ContractError: The request cannot be written as JSON; nothing was sent.
            TransportError: It was never sent, and there is no time left to try.
            ApiError: The service refused it.
            SubmissionUnknown: It was sent, and nobody knows what became of it.
        """
        body = encode(request)
        async with self._slots:
            self.under_way += 1
            try:
                return await self._submit_with_retries(request, body)
            finally:
                self.under_way -= 1

    async def _submit_with_retries(self, request: GenerateRequest, body: bytes) -> tuple[TaskSnapshot, str]:
        loop = asyncio.get_running_loop()
        started = loop.time()
        patience_s = None
        doubt: SubmissionUnknown | None = None
        for attempt in count(1):
            try:
                snapshot = await self._attempt(request, body, patience_s)
            except LemonError as error:
                if isinstance(error, SubmissionUnknown):
                    doubt = error
                wait = self._wait_s(error, attempt, loop.time() - started)
                if wait is None and doubt is not None and doubt is not error:
                    raise doubt from error  # "nothing was sold" is true of the last attempt only
                if wait is None:
                    raise
                logger.warning("sending a paid request again in %.1f s, because: %s", wait, error)
            else:
                return snapshot, self._where_to_poll(request, body, snapshot)
            await self._transport.pause(wait)
            patience_s = max(self._policy.max_elapsed_s - (loop.time() - started), 0.0)
        raise AssertionError("unreachable")

    def _wait_s(self, error: LemonError, attempt: int, elapsed_s: float) -> float | None:
        """Return how long to wait before the next attempt, or `None` when there must not be one."""
        if not self._may_repeat(error):
            return None
        return self._policy.wait_s(
            attempt=attempt,
            elapsed_s=elapsed_s,
            retry_after_s=getattr(error, "retry_after", None),
            jitter=random.random(),  # noqa: S311 - spreads load, guards nothing
        )

    def _may_repeat(self, error: LemonError) -> bool:
        if self._transport.is_closed:
            return False
        if isinstance(error, SubmissionUnknown):
            return self._policy.resubmit_unknown
        return isinstance(error, TransportError) or (isinstance(error, ApiError) and is_worth_retrying(error))

    async def _attempt(self, request: GenerateRequest, body: bytes, patience_s: float | None) -> TaskSnapshot:
        try:
            response = await self._transport.submit(GENERATIONS_PATH, body, patience_s=patience_s)
        except NoAnswer as failure:
            if not failure.was_sent:
                raise TransportError(message=f"not sent, nothing was sold: {failure.reason}") from failure
            raise self._doubt(request, body, failure.reason, failure.status) from failure
        except asyncio.CancelledError as cancelled:
            if isinstance(cancelled.__cause__, NoAnswer) and cancelled.__cause__.was_sent:
                doubt = cancelled.__cause__ = self._doubt(request, body, cancelled.__cause__.reason, None)
                logger.warning("%s", doubt)  # who cancels rarely looks at causes
            raise
        reading = read_submission(response)
        if isinstance(reading, Accepted):
            return reading.snapshot
        if isinstance(reading, Garbled):
            raise self._doubt(request, body, reading.reason, response.status) from reading.error
        raise reading.error

    def _where_to_poll(self, request: GenerateRequest, body: bytes, snapshot: TaskSnapshot) -> str:
        """Return the path to poll; an address that would take the key elsewhere is not used, the id is."""
        if snapshot.task_id is None or snapshot.is_done:
            return ""
        try:
            path, fault = poll_path(self._transport.origin, snapshot.task_id, snapshot.poll_url)
        except ValueError:
            reason = (
                f"it was accepted as task {snapshot.task_id[:80]!r}, but neither that nor its poll_url can be polled"
            )
            raise self._doubt(request, body, reason, None) from None
        if fault:
            logger.warning("poll_url of task %s refused (%s); polling its id", snapshot.task_id, fault)
        return path

    def _doubt(self, request: GenerateRequest, body: bytes, reason: str, status: int | None) -> SubmissionUnknown:
        doubt = SubmissionUnknown(request=request, fingerprint=fingerprint(body), reason=reason, status=status)
        self.unknown.append(copy.copy(doubt))  # the one that is raised will hold the frames of its caller
        return doubt
