"""Work in threads: of our own, which nobody leaves in the middle, and of others, which may never end."""

import asyncio
import contextvars
import errno
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import ClassVar, Generic, ParamSpec, TypeVar, cast

import anyio

__all__ = ["NotFinished", "run_abandonable", "run_uncancellable", "run_within", "start_thread"]

_LONGEST_WAIT_S = 5.0
_THREAD_NAME = "lemon_async reading"

P = ParamSpec("P")
T = TypeVar("T")


class NotFinished(TimeoutError):
    """The disk has not answered in time."""

    def __init__(self, bound_s: float) -> None:
        super().__init__(errno.ETIMEDOUT, f"the disk has not answered within {bound_s:.3g} s")


async def run_uncancellable(work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Return what `work` returns in a thread of the loop's pool.

    Cancelling drops work that has not begun, and waits for the end of work that has, so that nothing it opens is lost.
    It does not wait for ever: after 5 s the work is left, and has to tidy up after itself.
    """
    return await _finish(partial(work, *args, **kwargs), None)


async def run_within(bound_s: float, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Return what `work` returns, as `finish_in_thread`, unless that takes longer than `bound_s` seconds.

    Time in the queue of the pool does not count as long as the pool gets on: a thousand saves may wait for a slow disk.
    Work on a disk that hangs cannot be ended: its thread is left, and has to tidy up after itself.

    Raises:
        Unanswered: It takes longer. Work that had not begun never begins.
    """
    return await _finish(partial(work, *args, **kwargs), bound_s)


class _Work(Generic[T]):
    """Work for a thread, and when it has begun.

    Attributes:
        is_taken: If the thread acquires it, the work begins; if the caller does, the work never begins.
    """

    last_end: ClassVar[float] = 0.0  # of any

    def __init__(self, work: Callable[[], T]) -> None:
        self.is_taken = threading.Lock()
        self._work = work
        self._queued_at = time.monotonic()
        self._began_at: float | None = None

    def run(self) -> T | None:
        if not self.is_taken.acquire(blocking=False):
            return None
        self._began_at = time.monotonic()
        try:
            return self._work()
        finally:
            _Work.last_end = time.monotonic()

    def left_s(self, bound_s: float) -> float:
        """Return how many seconds it may still take."""
        since = self._began_at or max(self._queued_at, _Work.last_end)
        return since + bound_s - time.monotonic()


async def _finish(work: Callable[[], T], bound_s: float | None) -> T:
    under_way = _Work(work)
    working = asyncio.ensure_future(asyncio.to_thread(under_way.run))
    try:
        if bound_s is None:
            await asyncio.wait([working])
        while bound_s is not None and not working.done() and (left_s := under_way.left_s(bound_s)) > 0:
            await asyncio.wait([working], timeout=left_s)
    except asyncio.CancelledError:
        if under_way.is_taken.acquire(blocking=False):
            working.cancel()
            raise
        working.add_done_callback(_see)
        # In a cancelled scope of anyio every await is cancelled, again and again.
        with anyio.CancelScope(shield=True):
            await asyncio.wait([working], timeout=_LONGEST_WAIT_S)
        raise
    if bound_s is None or working.done():
        return cast("T", working.result())
    if under_way.is_taken.acquire(blocking=False):
        working.cancel()
    else:
        working.add_done_callback(_see)
    raise NotFinished(bound_s)


async def run_abandonable(work: Callable[[], T], /, *, is_daemon: bool = True) -> T:
    """Return what `work` returns in a thread of its own; cancelling leaves it there, for as long as it takes.

    The loop's pool is for work that ends: a few pipes to which nobody writes would fill it.

    Args:
        work: What to do; raises no `StopIteration`.
        is_daemon: Whether the program may end before the work does.
    """
    return await asyncio.wrap_future(start_thread(work, is_daemon=is_daemon))


def start_thread(work: Callable[[], T], /, *, is_daemon: bool = True) -> Future[T]:
    """Begin work in a thread of its own, and return a future of its outcome; see `leave_in_thread`."""
    outcome: Future[T] = Future()
    outcome.set_running_or_notify_cancel()
    call = partial(contextvars.copy_context().run, work)
    threading.Thread(target=_settle, args=(outcome, call), name=_THREAD_NAME, daemon=is_daemon).start()
    return outcome


def _settle(outcome: Future[T], call: Callable[[], T]) -> None:
    try:
        result = call()
    except BaseException as failure:  # noqa: BLE001 - it is raised where it is waited for
        outcome.set_exception(failure)
    else:
        outcome.set_result(result)
    finally:
        del outcome  # it holds the failure, whose traceback holds this frame


def _see(working: asyncio.Future[T]) -> None:
    """Look at a failure, so that nobody reports it as lost."""
    if not working.cancelled():
        working.exception()
