"""An event loop in a thread of its own."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

__all__ = ["LoopThread"]

T = TypeVar("T")


class LoopThread:
    """An event loop in a daemon thread.

    Ray Data runs async functions on a loop that stands still while its output queue is full: responses to paid
    requests would time out meanwhile.
    """

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="lemon_async generator", daemon=True)
        self._thread.start()

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the thread, and return its result; cancelling cancels it."""
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))

    def close(self, last: Callable[[], Coroutine[Any, Any, None]], within_s: float) -> None:
        """Run a last coroutine, within bounds, and end the thread. Blocks in the main thread only.

        A finalizer runs in whichever thread drops the last reference. That may be this one, as after an error that it
        has raised, or one that the coroutine waits for.
        """
        if threading.current_thread() is threading.main_thread():
            self._end(last, within_s)
        else:  # no daemon: the interpreter waits for it
            threading.Thread(target=self._end, args=(last, within_s), name="lemon_async closing").start()

    def _end(self, last: Callable[[], Coroutine[Any, Any, None]], within_s: float) -> None:
        if not self._thread.is_alive():
            return
        ending = asyncio.run_coroutine_threadsafe(last(), self._loop)
        with suppress(Exception):  # there is no caller to raise it to
            ending.result(within_s)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(within_s)
        if not self._thread.is_alive():
            self._loop.close()
