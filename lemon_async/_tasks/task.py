"""`ImageTask`: a handle on a job of the service that any number of coroutines can await.

The first terminal response, or the error that the poller gives up with, sets the outcome, once. Waiters are plain
futures, woken at every change and dropped with their coroutine. No asyncio task or cancel scope belongs to a handle, so
a wait that is cancelled in one cell of a notebook can be repeated in the next.

Thousands of handles wait at a time, and a full garbage collection stops the event loop while it visits every object
that it follows. So a handle is one such object: what it knows is packed, and what few handles need is made when needed.

It has the methods of `asyncio.Future` but is not one: `asyncio.wait_for`, a task group or a scope of anyio would cancel
a future, and cancelling a wait must never look like cancelling a job that was paid for.
"""

import asyncio
import contextvars
import copy
import time
from collections.abc import AsyncGenerator, Callable, Generator
from typing import Any, Protocol

from lemon_async._api.error_responses import task_failure
from lemon_async._api.job_responses import IS_ID_GUESSED, STATUS, VISIBLE, Packed, PollFailure, pack, unpack
from lemon_async._api.resume_token import cut_prompt, token_of
from lemon_async._formats.json_documents import safe_repr
from lemon_async._images.images import Images
from lemon_async._images.renewable_urls import ResultAccess, TaskRef
from lemon_async._pace.validators import find_callback_fault, is_duration
from lemon_async.errors import ContractError, LemonError, SessionError, TaskCancelled, TaskTimeout
from lemon_async.requests import Request
from lemon_async.types import Billing, TaskSnapshot, is_final

__all__ = ["Callbacks", "ImageTask"]

Callbacks = tuple[tuple[Callable[["ImageTask"], object], contextvars.Context, bool], ...]
"""Functions, the contexts to call them in, and whether they are the program's own: these read the outcome."""


class _Owner(Protocol):
    """The session of a task: its engine, which stands above this module."""

    access: ResultAccess

    def check_usable(self, task: "ImageTask") -> None: ...

    async def request_cancel(self, task: "ImageTask") -> None: ...


class ImageTask:
    """A job of the service; `await task` returns its `Images`.

    Any number of coroutines may await it; cancelling them, or a timeout around them, never cancels the job. It has
    the methods of an `asyncio.Future`. Where asyncio accepts awaitables (`gather`, `shield`, `wait_for`,
    `as_completed`) it accepts a task; `asyncio.wait` takes `asyncio.ensure_future(task)`, `TaskGroup.create_task`
    takes `task.wait()`. Made by `LemonSession.submit` and `LemonSession.task`; `resume_token` lets another process
    continue.

    Attributes:
        id: The service's id; `None` when it answered inline: then the task is done from the start.
        request: The request; `None` for a resumed task.
        label: The `label` of its request, or of the token that it was resumed from.
        prompt: The prompt; for a resumed task, what its token contains of it.
        poll_url: The URL that the service named for polling, verbatim; `None` if it named none.
    """

    __slots__ = (
        "__weakref__", "_accepted", "_began_at", "_callbacks", "_ended_at", "_failed_polls", "_failure", "_images",
        "_is_reported", "_is_seen", "_job", "_mark_read", "_owner", "_packed", "_path", "_poll_failure",
        "_token_prompt", "_waiters", "id", "label", "poll_url", "prompt", "request",
    )  # fmt: skip

    def __init__(
        self,
        owner: _Owner,
        snapshot: TaskSnapshot,
        *,
        path: str = "",
        request: Request | None = None,
        label: str | None = None,
        prompt: str | None = None,
        began_at: float | None = None,
    ) -> None:
        self.id: str | None = snapshot.task_id
        self.request: Request | None = request
        self.label: str | None = label or getattr(request, "label", None)
        self.prompt: str | None = prompt if request is None else getattr(request, "prompt", None)
        self.poll_url: str | None = snapshot.poll_url
        self._packed: Packed = pack(snapshot)
        self._owner = owner
        self._path = path
        self._began_at: float | None = began_at  # on the monotonic clock; unknown for a resumed task
        self._ended_at: float | None = None
        self._token_prompt = prompt  # of the token that it was resumed from
        self._accepted: Packed = self._packed  # the first response: later ones may leave fields out
        self._images: Images | None = None
        self._failure: LemonError | None = None
        self._is_reported = False  # whether a warning has listed it as unfinished
        self._job: int = 0  # its number in events, until its end has been emitted
        self._is_seen = False  # whether the program has its outcome, or the caller's journal has the task
        self._mark_read: Callable[[ImageTask], None] | None = None  # takes it from the list of those that are unread
        self._poll_failure: PollFailure | None = None  # of the last poll
        self._failed_polls = 0  # in a row, as far as it matters to the poller
        self._waiters: set[asyncio.Future[None]] | None = None
        self._callbacks: Callbacks = ()
        if snapshot.is_done:
            self._conclude(snapshot)

    @property
    def _name(self) -> str | None:
        """The id by which responses name it; `None` when only its address is known: then any id is accepted."""
        return None if self._accepted[IS_ID_GUESSED] else self.id

    @property
    def _key(self) -> str:
        """Its key among the tasks of a session."""
        return self._name or self._path

    @property
    def snapshot(self) -> TaskSnapshot:
        """The service's last response about the task."""
        return unpack(self._packed)

    @property
    def status(self) -> str:
        """`pending`, `processing`, `completed` or `failed`, as last reported."""
        status: str = self._packed[STATUS]
        return status

    @property
    def progress(self) -> float | None:
        """As last reported, on the service's own scale; `None` if it was not."""
        return self.snapshot.progress

    @property
    def seconds(self) -> float | None:
        """Seconds from its submit to its end; `None` while it runs, and for a resumed task."""
        return None if self._began_at is None or self._ended_at is None else self._ended_at - self._began_at

    @property
    def billing(self) -> Billing:
        """What the service last reported about money: transaction, usage, every `x-*` header."""
        return self.snapshot.billing

    def done(self) -> bool:
        """Return whether the task is over: awaiting it then returns or raises immediately."""
        return self._images is not None or self._failure is not None

    def cancelled(self) -> bool:
        """Return whether the task was cancelled at the service: awaiting it then raises `TaskCancelled`."""
        return isinstance(self._failure, TaskCancelled)

    def result(self) -> Images:
        """Return the images, or raise as `wait` does.

        Raises:
            asyncio.InvalidStateError: The task is not over.
        """
        error = self.exception()
        if error is not None:
            raise error
        assert self._images is not None  # noqa: S101 - `exception` has checked it
        return self._images

    def exception(self) -> LemonError | None:
        """Return the error that the task ended with, `None` if it ended with images.

        Raises:
            asyncio.InvalidStateError: The task is not over.
        """
        if not self.done():
            raise asyncio.InvalidStateError("the task is not over yet: await it")
        self._see()
        return copy.copy(self._failure)  # each caller raises its own: a shared one would collect all tracebacks

    def add_done_callback(
        self, callback: "Callable[[ImageTask], object]", *, context: contextvars.Context | None = None
    ) -> None:
        """Schedule `callback(task)` for when the task is over, or for now if it is, as `asyncio.Future` does.

        The event loop calls it, in `context` or a copy of the current one; what it raises goes to the loop's exception
        handler. Call this inside a coroutine.

        Raises:
            ContractError: `callback` is not a plain function, or `context` not a context.
        """
        if fault := find_callback_fault(callback):
            raise ContractError.of("callback", fault)
        context = contextvars.copy_context() if context is None else context
        if not isinstance(context, contextvars.Context):
            raise ContractError.of("context", f"must be a contextvars.Context, not {safe_repr(context)}")
        asyncio.get_running_loop()  # raises outside of a coroutine
        self._add_callbacks(((callback, context, True),))

    def _add_callbacks(self, callbacks: Callbacks) -> None:
        """Schedule callbacks for when the task is over; many tasks may share one tuple."""
        self._callbacks += callbacks
        if self.done():
            self._wake()

    def remove_done_callback(self, callback: "Callable[[ImageTask], object]") -> int:
        """Remove every registration of a callback, and return how many there were."""
        before = self._callbacks
        self._callbacks = tuple([entry for entry in before if entry[0] != callback])
        return len(before) - len(self._callbacks)

    def __await__(self) -> Generator[Any, None, Images]:
        """Wait for the images; see `wait`."""
        while not self.done():
            waiter = self._add_waiter()
            try:
                yield from waiter
            finally:
                self._drop_waiter(waiter)
        return self.result()

    async def wait(self, timeout: float | None = None) -> Images:  # noqa: ASYNC109 - as in asyncio.wait
        """Wait for the images.

        Spends nothing more. Cancelling, or reaching `timeout` seconds, ends this wait only: the job continues at the
        service and may be billed, other waiters stay, and the task can be awaited again. The session itself stops
        polling after `PollPolicy.deadline_s`, which ends every wait; `LemonSession.task` with the error's
        `resume_token` then continues.

        Raises:
            TaskFailed: The job failed, or completed without a usable image.
            TaskCancelled: The job was cancelled at the service.
            TaskTimeout: The time is up, and the job has not ended.
            TaskLost: The service does not know the task any more.
            AuthenticationError, AccessDenied: The key may not poll the task.
            SessionError: The session was closed, or belongs to another event loop.
            ContractError: `timeout` is not a finite, non-negative number.
        """
        if timeout is not None and not is_duration(timeout):
            raise ContractError.of("timeout", f"must be seconds, finite and not negative, not {timeout!r}")
        if timeout is None:
            return await self
        try:
            async with asyncio.timeout(timeout):
                return await self
        except TimeoutError:
            if not self.done():  # it may have ended in the same iteration of the loop
                error = self._timeout_error(timeout)
                raise error from error.__cause__
        return self.result()

    async def updates(self) -> AsyncGenerator[TaskSnapshot, None]:
        """Yield the current snapshot, and then each that differs, until the task is over.

        The last one is terminal; a task that ends without one raises as `wait` does. Cancelling, or leaving the loop,
        ends the watching only. Spends nothing.
        """
        seen: Packed = ()
        while True:
            if self._packed is not seen:
                seen = self._packed
                if self.done():
                    self._see()
                yield unpack(seen)
            elif self.done():
                break
            else:
                waiter = self._add_waiter()
                try:
                    await waiter
                finally:
                    self._drop_waiter(waiter)
        if not is_final(seen[STATUS]):
            self.result()

    async def request_cancel(self) -> None:
        """Ask the service to cancel the task, and return once the service has accepted that.

        Await the task for its outcome. Most image models cannot be cancelled: then this raises, and the job continues
        and is billed. Does nothing if the service has ended the task; a task that has only timed out here can still be
        cancelled. Cancelling this coroutine leaves open whether the request arrived. Spends nothing.

        Raises:
            BadRequest, Conflict: The service cannot cancel this task, or not any more.
            AccessDenied, NotFound: The task belongs to another key.
            TransportError: No response came; try again.
        """
        if not is_final(self.status):
            self._owner.check_usable(self)
            await self._owner.request_cancel(self)

    def resume_token(self, *, with_prompt: bool = False) -> str:
        """Return a token that `LemonSession.task` turns into this task, here or in another process.

        It contains no secret; using it requires the key that submitted the task. It contains the `label`, in readable
        form (base64 hides nothing).

        Args:
            with_prompt: Include up to 1,000 characters of the prompt, readable as well. A task that was resumed with
                its prompt always includes it.

        Raises:
            SessionError: The service answered inline, so there is nothing to resume.
        """
        if self.id is None:
            raise SessionError(message="the service answered inline: there is no task to resume")
        return token_of(*self._token_facts(self.prompt if with_prompt else self._token_prompt))

    def _token_facts(self, prompt: str | None) -> tuple[Any, ...]:
        """Return the arguments of `token_of`."""
        return self._accepted, self.id, self._path, self.label, prompt

    def _see(self) -> None:
        """Note that no report needs to list the task, unless one has."""
        self._is_seen = not self._is_reported
        if self._mark_read is not None:
            self._mark_read(self)

    def _update(self, snapshot: TaskSnapshot) -> None:
        """Apply a response of the service; ignored once the task is over."""
        if self.done():
            return
        packed = pack(snapshot)
        if packed[VISIBLE] == self._packed[VISIBLE]:
            return
        self._packed = packed
        if snapshot.is_done:
            self._conclude(snapshot)
        self._wake()

    def _fail(self, failure: LemonError) -> None:
        """End the task without images; ignored once the task is over."""
        if not self.done():
            self._failure = failure
            self._ended_at = time.monotonic()
            self._wake()

    def _timeout_error(self, seconds: float) -> TaskTimeout:
        """Return the error for a wait of so many seconds, with what was last heard of the task."""
        failure = self._poll_failure
        last = f"last failure: {failure.reason}" if failure else f"last status: {self.status}"
        error = TaskTimeout(task=self, reason=f"{seconds:g} s have passed; {last}")
        error.__cause__ = copy.copy(failure.error) if failure else None
        return error

    def _conclude(self, snapshot: TaskSnapshot) -> None:
        """Set the outcome from a terminal snapshot."""
        self._ended_at = time.monotonic()
        if snapshot.status == "completed" and snapshot.images:
            self._images = Images(
                self._packed,
                self._owner.access,
                ref=TaskRef(self, token_of, self._token_facts(self._token_prompt)) if self.id is not None else None,
                request=self.request,
                prompt=self.prompt,
                seconds=self.seconds,
            )
            return
        self._failure = task_failure(snapshot, self)

    def _add_waiter(self) -> "asyncio.Future[None]":
        """Return a future that the next change of the snapshot or the outcome wakes."""
        self._owner.check_usable(self)
        waiter = asyncio.get_running_loop().create_future()
        if self._waiters is None:
            self._waiters = set()
        self._waiters.add(waiter)
        return waiter

    def _drop_waiter(self, waiter: "asyncio.Future[None]") -> None:
        if self._waiters is not None:
            self._waiters.discard(waiter)
            self._waiters = self._waiters or None

    def _wake(self) -> None:
        if self.done():
            callbacks, self._callbacks = self._callbacks, ()
            for callback, context, is_reader in callbacks:
                asyncio.get_running_loop().call_soon(_call, callback, self, is_reader, context=context)
        for waiter in self._waiters or ():
            if not waiter.done():
                waiter.set_result(None)

    def __repr__(self) -> str:
        state = type(self._failure).__name__ if self._failure else self.status
        label = f" label={safe_repr(self.label)}" if self.label else ""
        prompt = f" prompt={safe_repr(self.prompt)}" if self.prompt else ""
        return f"<ImageTask {self.id or 'answered inline'} {state}{label}{prompt}>"

    def _repr_html_(self) -> str:
        """Return a table for notebooks."""
        from lemon_async._display.dashboard import task_table  # noqa: PLC0415 - for notebooks

        age_s = None if self.done() or self._began_at is None else time.monotonic() - self._began_at
        model = getattr(self.request, "model", None) or self.snapshot.model or unpack(self._accepted).model
        return task_table(self, age_s=age_s, model=model, prompt=cut_prompt(self.prompt), error=self._failure)


def _call(callback: Callable[[ImageTask], object], task: ImageTask, is_reader: bool) -> None:
    """Call a callback: a loop in debug mode would raise in the poller if it were given some functions directly."""
    if is_reader:
        task._see()
    callback(task)
