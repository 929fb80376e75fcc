"""Pass the events of a session to the program's functions, whatever those do."""

import copy
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sized
from itertools import count
from typing import Any, Literal, Protocol, TypeVar

from lemon_async._api.job_responses import MODEL, Packed, PollFailure, PollSuccess, unpack_billing
from lemon_async._api.urls import redact
from lemon_async.errors import LemonError
from lemon_async.events import (
    Called,
    Completed,
    Downloaded,
    Event,
    EventHandler,
    Failed,
    Polled,
    RateLimited,
    RateLimitWaited,
    Resumed,
    RetryScheduled,
    Saved,
)
from lemon_async.requests import Request

__all__ = ["Emitter", "IdlingHandler", "Job", "without_frames"]

logger: logging.Logger = logging.getLogger("lemon_async")
# These are meant for the program. What else a function raises must not cost a picture, also if it is no `Exception`: a
# plain call cannot be cancelled, pytest's `fail` ends no session, and neither does a panic of Rust.
_INTERRUPTIONS = (KeyboardInterrupt, SystemExit)
_SHORTEST_WAIT_S = 0.001
_MONEY: Mapping[str, Literal["settled", "released"]] = {"completed": "settled", "failed": "released"}

E = TypeVar("E", bound=Event)
L = TypeVar("L", bound=LemonError)


class Job(Protocol):
    """What an `ImageTask` knows of its job: its class stands above this room, and users see no more than they need."""

    _job: int
    _packed: Packed
    _accepted: Packed
    _failure: LemonError | None
    id: str | None
    request: Request | None

    @property
    def _images(self) -> Sized | None: ...

    @property
    def status(self) -> str:
        """As last reported."""

    @property
    def seconds(self) -> float | None:
        """Seconds from its submit to its end."""

    def done(self) -> bool:
        """Return whether it is over."""


class IdlingHandler:
    """Base of handlers that have no use for events at times; others must not be taken for one, such as mocks."""

    def is_idle(self) -> bool:
        """Return whether it wants no event of a job that begins now."""
        raise NotImplementedError


class Emitter:
    """Passes events on; a session without `on_event` has no emitter, so its events are never made.

    `emit` makes an event of any kind. The four that every job has (`Submitted`, `Accepted`, `Polled`, `Completed`) are
    made where they happen, with the arguments of their class, and passed to `pass_on`: that takes half as much CPU.

    Args:
        handlers: The program's functions.
    """

    def __init__(self, handlers: Iterable[EventHandler]) -> None:
        self._handlers = tuple(handlers)
        self._has_failed = False
        self._queue: deque[Event] = deque()
        self._jobs = count(1)

    def new_job(self) -> int:
        """Return the number of another job."""
        return next(self._jobs)

    def is_idle(self) -> bool:
        """Return whether no function wants the events of a job that begins now: then they need not be made."""
        return all(isinstance(each, IdlingHandler) and each.is_idle() for each in self._handlers)

    def emit(self, kind: Callable[..., E], /, **facts: Any) -> None:
        """Make an event of what has just happened, and pass it on."""
        if isinstance(error := facts.get("error"), LemonError):
            facts["error"] = without_frames(error)
        self.pass_on(kind(at=time.time(), **facts))

    def pass_on(self, event: Event) -> None:
        """Call every function with an event; raises nothing but what interrupts the program.

        Events that a function causes by calling into the session follow when every function has seen this one.
        """
        self._queue.append(event)
        if len(self._queue) > 1:
            return
        try:
            while self._queue:
                for handler in self._handlers:
                    try:
                        handler(self._queue[0])
                    except _INTERRUPTIONS:
                        raise
                    except BaseException:  # noqa: BLE001 - see above
                        self._log(handler)
                self._queue.popleft()
        finally:
            self._queue.clear()

    def _log(self, handler: EventHandler) -> None:
        """Log the first failure with its traceback: a handler that is wrong once mostly is so every time."""
        level = logging.DEBUG if self._has_failed else logging.ERROR
        self._has_failed = True
        words = "the function %r of `on_event` has failed; it harms nothing, and is called again"
        logger.log(level, words, handler, exc_info=True)

    # Tasks

    def resumed(self, task: Job) -> None:
        """Give a task a number, and emit that it was resumed."""
        task._job = self.new_job()
        self.emit(Resumed, **_facts_of(task))
        if task.done():
            self.ended(task)

    def polled(self, task: Job, reading: PollSuccess | PollFailure, seconds: float) -> None:
        """Emit the end of a poll, unless the end of its task was emitted."""
        if not task._job:
            return
        if isinstance(reading, PollFailure):
            self.emit(Polled, **_facts_of(task), seconds=seconds, error=reading.error)
        else:
            event = Polled(
                at=time.time(),
                job=task._job,
                task_id=task.id,
                model=_model_of(task),
                status=reading.snapshot.status,
                progress=reading.snapshot.progress,
                seconds=seconds,
            )
            self.pass_on(event)

    def ended(self, task: Job) -> None:
        """Emit how a task has ended, once."""
        if not task._job:
            return
        job, task._job = task._job, 0
        if task._images is not None:  # not `result`: an event does not mean that the program has read the outcome
            event = Completed(
                at=time.time(),
                job=job,
                task_id=task.id,
                model=_model_of(task),
                images=len(task._images),
                seconds=task.seconds,
                billing=unpack_billing(task._packed),
            )
            self.pass_on(event)
        else:
            facts = {"task_id": task.id, "model": _model_of(task), "seconds": task.seconds}
            self.emit(Failed, **facts, job=job, error=task._failure, money=_MONEY.get(task.status, "open"))

    # Requests

    def rate_limited(self, retry_after_s: float | None) -> None:
        """Emit a 429."""
        self.emit(RateLimited, retry_after_s=retry_after_s)

    def waited(self, kind: Literal["submit", "poll", "other"], seconds: float) -> None:
        """Emit a wait for the rate limit, unless there was none to speak of."""
        if seconds > _SHORTEST_WAIT_S:
            self.emit(RateLimitWaited, kind=kind, seconds=seconds)

    def retry_scheduled(
        self, what: str, attempt: int, wait_s: float, error: LemonError, *, job: int | None = None
    ) -> None:
        """Emit that a request will be sent again."""
        self.emit(RetryScheduled, what=what, attempt=attempt, wait_s=wait_s, error=error, job=job)

    def called(
        self, method: str, path: str, *, status: int | None, seconds: float, error: LemonError | None = None
    ) -> None:
        """Emit the end of a free request."""
        self.emit(Called, method=method, path=path, status=status, seconds=seconds, error=error)

    # Pictures

    def downloaded(
        self, url: str, *, size_bytes: int = 0, seconds: float, task_id: str | None, error: LemonError | None = None
    ) -> None:
        """Emit the end of a download."""
        self.emit(Downloaded, url=redact(url), size_bytes=size_bytes, seconds=seconds, task_id=task_id, error=error)

    def saved(self, path: str, *, size_bytes: int, task_id: str | None) -> None:
        """Emit that a picture is in its file."""
        self.emit(Saved, path=path, size_bytes=size_bytes, task_id=task_id)


def without_frames(error: L) -> L:
    """Return a twin of an error: one that is raised holds the frames of its caller, and so does its cause."""
    twin = copy.copy(error)
    twin.__cause__ = None
    return twin


def _facts_of(task: Job) -> dict[str, Any]:
    """Return what every event of a job has."""
    return {"job": task._job, "task_id": task.id, "model": _model_of(task)}


def _model_of(task: Job) -> str | None:
    """Return the model of the request, or else the one that the service reports."""
    asked = None if task.request is None else task.request.model
    model: str | None = asked or task._accepted[MODEL] or task._packed[MODEL]
    return model
