"""Share the event loop between readers of responses: one read in each iteration of the loop.

Reading a socket that has data costs the loop a tenth of a millisecond or more. When forty responses arrive together,
everything else that is ready would wait for all of them. Readers therefore pass a checkpoint before each read: the loop
lets one of them through in each iteration, in order of arrival, and other callbacks run in between. A reader that waits
at the checkpoint also pauses its socket.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable
from weakref import WeakKeyDictionary

__all__ = ["ReadFairness", "checkpoint"]


class ReadFairness:
    """A queue from which each iteration of the event loop releases the first few.

    Args:
        per_iteration: How many.
    """

    def __init__(self, per_iteration: int = 1) -> None:
        self._per_iteration = per_iteration
        self._left = per_iteration
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._is_scheduled = False

    async def checkpoint(self) -> None:
        """Wait for an iteration with room; returns immediately if this one has. Cancelling leaves the queue."""
        if self._left and not self._waiters:
            self._left -= 1
            self._schedule()
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        self._schedule()
        await waiter

    def _schedule(self) -> None:
        if not self._is_scheduled:
            self._is_scheduled = True
            asyncio.get_running_loop().call_soon(self._release)

    def _release(self) -> None:
        """Start an iteration."""
        self._left, self._is_scheduled = self._per_iteration, False
        while self._waiters and self._left:
            waiter = self._waiters.popleft()
            if not waiter.done():  # it was not cancelled
                waiter.set_result(None)
                self._left -= 1
        if self._left < self._per_iteration:
            self._schedule()


_by_loop: WeakKeyDictionary[asyncio.AbstractEventLoop, ReadFairness] = WeakKeyDictionary()


def checkpoint() -> Awaitable[None]:
    """Pass the checkpoint of the running loop, which all sessions share; see `ReadFairness.checkpoint`."""
    loop = asyncio.get_running_loop()
    found = _by_loop.get(loop)
    if found is None:
        found = _by_loop[loop] = ReadFairness()
    return found.checkpoint()
