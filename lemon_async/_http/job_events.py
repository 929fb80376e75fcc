"""Emit what happens to one job until the service has accepted it, or until it is known that it will not."""

import asyncio
import time
from collections.abc import Callable

from lemon_async._api.job_responses import MODEL
from lemon_async._http.emitter import Emitter, Job, without_frames
from lemon_async.errors import ApiError, LemonError, SubmissionUnknown, TransportError
from lemon_async.events import (
    Accepted,
    Completed,
    Event,
    Failed,
    NotSent,
    OutcomeUnknown,
    Refused,
    Submitted,
)
from lemon_async.requests import Request
from lemon_async.types import TaskSnapshot

__all__ = ["JobEvents"]


class JobEvents:
    """The events of one job and its attempts; it ends with one `Completed` or `Failed` if it had any.

    Args:
        emitter: Passes them on.
        request: The request.
        path: Where it is sent.
    """

    __slots__ = (
        "_attempt", "_began_at", "_emitter", "_error", "_is_over", "_is_sending", "_path", "_request", "_sent_at",
        "job",
    )  # fmt: skip

    def __init__(self, emitter: Emitter, request: Request, path: str) -> None:
        self.job: int = emitter.new_job()
        self._emitter = emitter
        self._request = request
        self._path = path
        self._attempt = 1
        self._began_at = time.monotonic()
        self._sent_at: float | None = None
        self._is_sending = self._is_over = False
        self._error: LemonError | None = None  # of the last attempt, or the one whose outcome is unknown

    def submitted(self) -> None:
        """The request is about to be sent."""
        self._sent_at = time.monotonic()
        self._is_sending = True
        event = Submitted(
            at=time.time(),
            job=self.job,
            model=self._request.model,
            request=self._request,
            attempt=self._attempt,
            waited_s=max(self._sent_at - self._began_at, 0.0),
        )
        self._emitter.pass_on(event)

    def refused(self, error: ApiError) -> None:
        """The service has refused it."""
        self._attempt_failed(Refused, error)

    def not_sent(self, error: TransportError) -> None:
        """It could not be sent."""
        self._attempt_failed(NotSent, error)

    def unknown(self, error: SubmissionUnknown) -> None:
        """It was sent, and its outcome is unknown."""
        self._attempt_failed(OutcomeUnknown, error)

    def retry_scheduled(self, attempt: int, wait_s: float, error: LemonError) -> None:
        """There will be another attempt."""
        self._attempt = attempt + 1
        self._began_at = time.monotonic() + wait_s
        self._emitter.retry_scheduled(f"POST {self._path}", attempt, wait_s, error, job=self.job)

    def accepted(self, task: Job) -> None:
        """It was accepted; from now on, its task emits what happens to it."""
        self._accepted(task.status, task_id=task.id, model=task._accepted[MODEL])
        self._is_over = True
        task._job = self.job
        if task.done():
            self._emitter.ended(task)

    def streamed(self, snapshot: TaskSnapshot, error: LemonError | None = None) -> None:
        """A stream has ended: it was accepted, and completed unless there is an error."""
        self._accepted(snapshot.status)
        self._is_over = True
        if error is None:
            self._emit(Completed, images=len(snapshot.images), seconds=self._seconds(), billing=snapshot.billing)
        else:
            self._emit(Failed, error=error, money="released", seconds=self._seconds())

    def failed(self, error: BaseException) -> None:
        """There will be no other attempt: emit what is missing, if anything has been emitted."""
        if self._is_sending and isinstance(error, LemonError | asyncio.CancelledError):
            reason = str(error) if isinstance(error, LemonError) else "cancelled before it was sent"
            self.not_sent(TransportError(message=f"not sent, nothing was sold: {reason}"))
        if self._is_over or self._is_sending or self._error is None:
            return
        self._is_over = True
        is_open = isinstance(self._error, SubmissionUnknown)
        shown = error if isinstance(error, LemonError) and not is_open else self._error
        self._emit(Failed, error=shown, money="open" if is_open else "none", seconds=self._seconds())

    def _accepted(self, status: str, *, task_id: str | None = None, model: str | None = None) -> None:
        self._is_sending = False
        event = Accepted(
            at=time.time(),
            job=self.job,
            task_id=task_id,
            model=self._request.model or model,
            status=status,
            attempt=self._attempt,
            seconds=self._seconds() or 0.0,
        )
        self._emitter.pass_on(event)

    def _attempt_failed(self, kind: Callable[..., Event], error: LemonError) -> None:
        seconds = (self._seconds() or 0.0) if self._is_sending else 0.0
        self._is_sending = False
        if not isinstance(self._error, SubmissionUnknown):  # later attempts prove nothing about it
            self._error = without_frames(error)
        self._emit(kind, error=error, attempt=self._attempt, seconds=seconds)

    def _seconds(self) -> float | None:
        return None if self._sent_at is None else time.monotonic() - self._sent_at

    def _emit(self, kind: Callable[..., Event], **facts: object) -> None:
        self._emitter.emit(kind, job=self.job, model=self._request.model, **facts)
