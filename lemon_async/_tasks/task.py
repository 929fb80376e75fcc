"""Our handle on a task of the service: one poll serves any number of waiters.

A task's outcome is set once, by the poller or by the answer that created it; the first terminal answer wins. Waiters
are plain futures, woken at every change and gone when their coroutine is; nothing here owns an asyncio task or a
cancel scope, so a handle may be awaited in one cell of a notebook, cancelled, and awaited again in the next.
"""

import asyncio
import copy
import logging
import time
from collections.abc import AsyncGenerator, Callable, Generator
from typing import Any, Protocol

import attrs

from lemon_async._api.error_responses import request_id_of
from lemon_async._display.html import facts_table
from lemon_async._formats.safe_text import safe_repr, safe_str
from lemon_async._images.images import Images
from lemon_async._images.renewable_urls import Results
from lemon_async._pace.validators import is_duration
from lemon_async._tasks.resume_token import TaskReference
from lemon_async.errors import (
    ContractError,
    LemonError,
    SessionError,
    TaskCancelled,
    TaskFailed,
    TaskTimeout,
)
from lemon_async.requests import Request
from lemon_async.types import Billing, TaskFault, TaskSnapshot

__all__ = ["ImageTask"]

logger: logging.Logger = logging.getLogger("lemon_async")
_LONGEST_SHOWN = 1000


class TaskOwner(Protocol):
    """What a handle asks of its session."""

    def check_usable(self, task: "ImageTask") -> None:
        """Raise `SessionError` unless called on the session's own event loop, before it is closed."""

    async def cancel(self, task: "ImageTask") -> None:
        """Ask the service to cancel a task."""


class ImageTask:
    """A job of the service that can be awaited by many coroutines, and picked up again by another process.

    `await task` returns its `Images`. Made by `LemonSession.submit` and `LemonSession.task`.

    Attributes:
        id: The service's id; `None` when it answered inline, and nothing is left to wait for.
        request: What was asked for; `None` for a resumed task.
        snapshot: The last answer of the service about the task.
    """

    __slots__ = (
        "__weakref__", "_began_at", "_callbacks", "_ended_at", "_failure", "_images", "_is_reported", "_owner", "_path",
        "_reference", "_results", "_waiters", "id", "request", "snapshot",
    )  # fmt: skip

    def __init__(
        self,
        owner: TaskOwner,
        snapshot: TaskSnapshot,
        *,
        results: Results,
        path: str = "",
        request: Request | None = None,
        reference: TaskReference | None = None,
        began_at: float | None = None,
    ) -> None:
        self.id: str | None = snapshot.task_id
        self.request: Request | None = request
        self.snapshot: TaskSnapshot = snapshot
        self._owner = owner
        self._path = path
        # On the monotonic clock; a task that was submitted by somebody else has no beginning here.
        self._began_at: float | None = began_at
        self._ended_at: float | None = None
        # From the first answer: later ones need not repeat what they said of themselves.
        self._reference = reference or TaskReference(
            snapshot.task_id or "",
            snapshot.poll_url,
            snapshot.model,
            snapshot.created,
            getattr(request, "label", None),
            is_id_guessed=snapshot.is_id_guessed,
        )
        self._results = results
        self._images: Images | None = None
        self._failure: LemonError | None = None
        self._is_reported = False  # whether a warning has listed it as left behind
        self._waiters: set[asyncio.Future[None]] = set()
        self._callbacks: list[Callable[[ImageTask], None]] = []
        if snapshot.is_done:
            self._conclude()

    @property
    def poll_url(self) -> str | None:
        """Where the service said to poll, in its own words; `None` when it did not."""
        return self._reference.poll_url

    @property
    def _name(self) -> str | None:
        """What answers call it; `None` when only its address is known, and any name there is its own."""
        return None if self._reference.is_id_guessed else self.id

    @property
    def _key(self) -> str:
        """What identifies it in its session."""
        return self._name or self._path

    @property
    def label(self) -> str | None:
        """What the caller calls it: the `label` of its request, or of the token that it was resumed from."""
        return self._reference.label

    @property
    def prompt(self) -> str | None:
        """What was asked for; of a resumed task, what its token says, which may be a beginning or nothing."""
        return self._reference.prompt if self.request is None else getattr(self.request, "prompt", None)

    @property
    def status(self) -> str:
        """`pending`, `processing`, `completed` or `failed`, as last heard."""
        return self.snapshot.status

    @property
    def progress(self) -> float | None:
        """As last heard, on the service's own scale; `None` when it did not say."""
        return self.snapshot.progress

    @property
    def seconds(self) -> float | None:
        """From its submit to its end, as this session saw them; `None` while it runs, and for a resumed task."""
        return None if self._began_at is None or self._ended_at is None else self._ended_at - self._began_at

    @property
    def billing(self) -> Billing:
        """What the service last said about money: transaction, usage, every `x-*` header."""
        return self.snapshot.billing

    def done(self) -> bool:
        """Whether awaiting returns or raises at once."""
        return self._images is not None or self._failure is not None

    def __await__(self) -> Generator[Any, None, Images]:
        """Wait for the images; see `wait`."""
        return self.wait().__await__()

    async def wait(self, timeout: float | None = None) -> Images:  # noqa: ASYNC109 - as in asyncio.wait
        """Wait for the images.

        Spends nothing beyond what the submit has. Cancelling, or running out of `timeout` seconds, ends this wait
        only: the job goes on at the service and may be billed, other waiters stay, and the task can be awaited again.
        The session itself stops asking after `PollPolicy.deadline_s`: then every wait ends, and
        `LemonSession.task` with the error's `resume_token` starts anew.

        Raises:
            TaskFailed: The service gave up, or completed without a usable image.
            TaskCancelled: The task was cancelled at the service.
            TaskTimeout: The time is over; the task is not.
            TaskLost: The service does not know the task any more.
            AuthenticationError, AccessDenied: The key may not ask for the task.
            SessionError: The session was closed, or belongs to another event loop.
        """
        if timeout is not None and not is_duration(timeout):
            raise ContractError.of("timeout", f"must be seconds, finite and not negative, not {timeout!r}")
        if self.done():
            return self._result()
        try:
            async with asyncio.timeout(timeout):
                while not self.done():
                    await self._change()
        except TimeoutError:
            if not self.done():  # it may have ended in the same turn of the loop
                raise TaskTimeout(task=self, reason=f"{timeout:g} s were not enough") from None
        return self._result()

    async def updates(self) -> AsyncGenerator[TaskSnapshot, None]:
        """Yield the last snapshot, and then each that differs, until the task is over.

        The last one is terminal; a task that ends without one raises as `wait` does. Leaving the loop or
        cancelling ends the watching only. Spends nothing.
        """
        seen: TaskSnapshot | None = None
        while True:
            if self.snapshot is not seen:
                seen = self.snapshot
                yield seen
            elif self.done():
                break
            else:
                await self._change()
        if not seen.is_done:
            self._result()

    async def request_cancel(self) -> None:
        """Ask the service to cancel the task; when this returns, the service has accepted that.

        Awaiting the task tells how it ended. Most image models cannot be cancelled: then the error says so, and
        the task runs on and is billed. A task that the service has ended is left alone; one whose handle has only
        timed out can still be cancelled. Cancelling this coroutine leaves open whether the request arrived. Spends
        nothing.

        Raises:
            BadRequest, Conflict: The service cannot cancel this task (any more).
            AccessDenied, NotFound: It is not this key's task.
            TransportError: No answer came; ask again.
        """
        if not self.snapshot.is_done:
            self._owner.check_usable(self)
            await self._owner.cancel(self)

    def resume_token(self, *, with_prompt: bool = False) -> str:
        """Return a word that `LemonSession.task` turns into this task, here or in another process.

        It holds no secret; using it takes the key that the task was submitted with. A `label` is part of it, in
        readable form (base64 hides nothing).

        Args:
            with_prompt: Put the prompt into it, too, so that the resumed task shows what it is: up to 1,000
                characters, in readable form. A task that was resumed with its prompt always passes it on.

        Raises:
            SessionError: The service answered inline, so that there is nothing to resume.
        """
        if self.id is None:
            raise SessionError(message="the service answered inline: there is no task to resume")
        reference = self._reference
        if reference.poll_url and self._path:  # relative to the base URL, which may be another where it is used
            reference = attrs.evolve(reference, poll_url=self._path)
        return (attrs.evolve(reference, prompt=self.prompt) if with_prompt else reference).token()

    def _update(self, snapshot: TaskSnapshot) -> None:
        """Take in an answer of the service; a task that is over stays as it is."""
        if self.done() or _facts(snapshot) == _facts(self.snapshot):
            return
        self.snapshot = snapshot
        if snapshot.is_done:
            self._conclude()
        self._wake()

    def _fail(self, failure: LemonError) -> None:
        """End the task without images; the first outcome stays."""
        if not self.done():
            self._failure = failure
            self._ended_at = time.monotonic()
            self._wake()

    def _when_done(self, callback: Callable[["ImageTask"], None]) -> Callable[[], None]:
        """Have `callback` called with the task once it is over, at once if it is; return how to call that off."""
        if self.done():
            callback(self)
            return lambda: None
        self._callbacks.append(callback)
        return lambda: self._callbacks.remove(callback) if callback in self._callbacks else None

    def _conclude(self) -> None:
        snapshot = self.snapshot
        self._ended_at = time.monotonic()
        if snapshot.status == "completed" and snapshot.images:
            self._images = Images(
                snapshot, self._results, task=self, request=self.request, prompt=self.prompt, seconds=self.seconds
            )
            return
        fault = snapshot.fault or TaskFault("the service gave no reason")
        headers = snapshot.billing.headers
        said: dict[str, Any] = {"task": self, "headers": headers, "request_id": request_id_of(headers)}
        if snapshot.status == "completed":
            self._failure = TaskFailed(reason="it completed without a usable image", **said)
        elif snapshot.is_cancelled:
            self._failure = TaskCancelled(reason=fault.message, **said)
        else:
            self._failure = TaskFailed(reason=fault.message, code=fault.code, **said)

    def _result(self) -> Images:
        if self._images is not None:
            return self._images
        # Each waiter gets its own copy: a shared exception would collect everybody's tracebacks.
        raise copy.copy(self._failure or SessionError(message="the task is not over yet"))

    async def _change(self) -> None:
        """Wait until the snapshot or the outcome has changed."""
        self._owner.check_usable(self)
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.add(waiter)
        try:
            await waiter
        finally:
            self._waiters.discard(waiter)

    def _wake(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
        if self.done():
            callbacks, self._callbacks = self._callbacks, []
            for callback in callbacks:
                try:
                    callback(self)
                except Exception:
                    # Raised here it would end the poller, and with it the tasks of everybody else.
                    logger.exception("a callback of %r failed", self)

    def __repr__(self) -> str:
        state = type(self._failure).__name__ if self._failure else self.status
        label = f" label={safe_repr(self.label)}" if self.label else ""
        prompt = f" prompt={safe_repr(self.prompt)}" if self.prompt else ""
        return f"<ImageTask {self.id or 'answered inline'} {state}{label}{prompt}>"

    def _repr_html_(self) -> str:
        """Return the same for a notebook, with what is known of the job."""
        age_s = None if self._began_at is None else time.monotonic() - self._began_at
        facts = {
            "id": self.id or "answered inline",
            "label": self.label,
            "status": self.status,
            "progress": None if self.done() else self.progress,
            "seconds": None if self.seconds is None else f"{self.seconds:.1f}",
            "age": None if self.done() or age_s is None else f"{age_s:.0f} s",
            "model": getattr(self.request, "model", None) or self.snapshot.model or self._reference.model,
            "prompt": _cut(self.prompt),
            "error": f"{type(self._failure).__name__}: {safe_str(self._failure)}" if self._failure else None,
        }
        return facts_table(((name, value) for name, value in facts.items() if value is not None), title="ImageTask")


def _cut(text: object) -> str | None:
    """Return so much of a text as a table has room for."""
    if not isinstance(text, str):
        return None
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}…"


def _facts(snapshot: TaskSnapshot) -> tuple[object, ...]:
    """What makes two answers different news."""
    return snapshot.status, snapshot.progress, snapshot.images, snapshot.fault
