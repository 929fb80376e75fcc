"""Work in threads: of our own, which nobody leaves in the middle, and of others, which may never end."""

import asyncio
import contextvars
import threading
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import ParamSpec, TypeVar, cast

import anyio

__all__ = ["finish_in_thread", "leave_in_thread"]

_LONGEST_WAIT_S = 5.0
_THREAD_NAME = "lemon_async reading"

P = ParamSpec("P")
T = TypeVar("T")


async def finish_in_thread(work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Return what `work` returns in a thread of the loop's pool.

    Cancelling drops work that has not begun, and waits for the end of work that has, so that nothing it opens is lost.
    It does not wait for ever: after 5 s the work is left, and has to tidy up after itself.
    """
    turn = threading.Lock()  # who gets it decides: the thread that the work begins, the caller that it never does

    def begin() -> T | None:
        return work(*args, **kwargs) if turn.acquire(blocking=False) else None

    working = asyncio.ensure_future(asyncio.to_thread(begin))
    try:
        return cast("T", await asyncio.shield(working))
    except asyncio.CancelledError:
        if turn.acquire(blocking=False):
            working.cancel()
            raise
        working.add_done_callback(_see)
        # In a cancelled scope of anyio every await is cancelled, again and again.
        with anyio.CancelScope(shield=True):
            await asyncio.wait([working], timeout=_LONGEST_WAIT_S)
        raise


async def leave_in_thread(work: Callable[[], T], /, *, is_daemon: bool = True) -> T:
    """Return what `work` returns in a thread of its own; cancelling leaves it there, for as long as it takes.

    The loop's pool is for work that ends: a few pipes to which nobody writes would fill it.

    Args:
        work: What to do; raises no `StopIteration`.
        is_daemon: Whether the program may end before the work does.
    """
    outcome: Future[T] = Future()
    outcome.set_running_or_notify_cancel()
    call = partial(contextvars.copy_context().run, work)
    threading.Thread(target=_settle, args=(outcome, call), name=_THREAD_NAME, daemon=is_daemon).start()
    return await asyncio.wrap_future(outcome)


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
