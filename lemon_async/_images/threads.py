"""Run blocking calls in threads: ours finish before cancellation returns; the caller's may be abandoned."""

import asyncio
import contextvars
import errno
import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import ClassVar, Generic, ParamSpec, TypeVar, cast

import anyio

from lemon_async._formats.json_documents import safe_str
from lemon_async.errors import SaveError

__all__ = ["NotFinished", "on_disk", "run_abandonable", "run_uncancellable", "run_within", "start_thread"]

_MAX_WAIT_S = 5.0
_THREAD_NAME = "lemon_async reading"

P = ParamSpec("P")
T = TypeVar("T")


class NotFinished(TimeoutError):
    """A blocking call has not returned in time."""

    def __init__(self, bound_s: float) -> None:
        super().__init__(errno.ETIMEDOUT, f"the disk has not responded within {bound_s:.3g} s")


async def run_uncancellable(work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Return the result of `work`, run in a thread of the loop's pool.

    Cancelling drops work that has not begun, and waits for work that has, so that nothing it opens is lost. After 5 s
    the work is abandoned, and must clean up after itself.
    """
    return await run_within(math.inf, work, *args, **kwargs)


async def run_within(bound_s: float, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Return the result of `work`, as `run_uncancellable`, unless it takes longer than `bound_s` seconds.

    Time in the queue of the pool does not count while the pool makes progress: a thousand saves may wait for a slow
    disk. A call on a disk that hangs cannot be ended: its thread is abandoned, and must clean up after itself.

    Raises:
        NotFinished: It takes longer. Work that had not begun never begins.
    """
    call = _Work(partial(work, *args, **kwargs))
    working = asyncio.ensure_future(asyncio.to_thread(call.run))
    try:
        while not working.done():
            await asyncio.wait([working], timeout=call.left_s(bound_s))
    except (asyncio.CancelledError, NotFinished) as end:
        if call.claim.acquire(blocking=False):
            working.cancel()
            raise
        working.add_done_callback(lambda work: work.cancelled() or work.exception())  # or asyncio would log it
        if isinstance(end, asyncio.CancelledError):
            # A cancelled scope of anyio cancels every await, again and again.
            with anyio.CancelScope(shield=True):
                await asyncio.wait([working], timeout=_MAX_WAIT_S)
        raise
    return cast("T", working.result())


async def on_disk(bound_s: float, target: Path, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Return the result of `work` on a file, as `run_within`.

    Raises:
        SaveError: It failed, or took longer.
    """
    try:
        return await run_within(bound_s, work, *args, **kwargs)
    except OSError as failure:
        reason = failure.strerror or safe_str(failure)
        raise SaveError(path=str(target), reason=reason, errno=failure.errno) from failure


class _Work(Generic[T]):
    """A call for a thread.

    Attributes:
        claim: If the thread acquires it first, the work begins; if the caller does, the work never begins.
    """

    last_end: ClassVar[float] = 0.0  # of any work

    def __init__(self, work: Callable[[], T]) -> None:
        self.claim = threading.Lock()
        self._work = work
        self._queued_at = time.monotonic()
        self._began_at: float | None = None

    def run(self) -> T | None:
        if not self.claim.acquire(blocking=False):
            return None
        self._began_at = time.monotonic()
        try:
            return self._work()
        finally:
            _Work.last_end = time.monotonic()

    def left_s(self, bound_s: float) -> float:
        """Return the remaining seconds, or raise `NotFinished`."""
        left_s = (self._began_at or max(self._queued_at, _Work.last_end)) + bound_s - time.monotonic()
        if left_s <= 0:
            raise NotFinished(bound_s)
        return left_s


async def run_abandonable(work: Callable[[], T], /, *, is_daemon: bool = True) -> T:
    """Return the result of `work`, run in a new thread; cancelling abandons it there.

    The loop's pool is for work that ends: a few pipes without a writer would fill it.

    Args:
        work: The call; must not raise `StopIteration`.
        is_daemon: Whether the program may exit before the call returns.
    """
    return await asyncio.wrap_future(start_thread(work, is_daemon=is_daemon))


def start_thread(work: Callable[[], T], /, *, is_daemon: bool = True) -> Future[T]:
    """Start a call in a new thread, and return its future; see `run_abandonable`."""
    outcome: Future[T] = Future()
    outcome.set_running_or_notify_cancel()
    call = partial(contextvars.copy_context().run, work)
    threading.Thread(target=_settle, args=(outcome, call), name=_THREAD_NAME, daemon=is_daemon).start()
    return outcome


def _settle(outcome: Future[T], call: Callable[[], T]) -> None:
    try:
        result = call()
    except BaseException as failure:  # noqa: BLE001 - raised where the future is awaited
        outcome.set_exception(failure)
    else:
        outcome.set_result(result)
    finally:
        del outcome  # the failure's traceback holds this frame
