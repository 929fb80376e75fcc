"""Letting a few go on in each round of the event loop.

Each socket that has data costs a tenth of a millisecond or more in the round that reads it: when forty answers arrive
at once, whatever else is ready waits for all of them. A reader that waits for its turn has its socket paused behind
it, so rounds become short, as many as before in all, and everybody else gets in between. Whoever has had a turn queues
up behind all others. Every read takes a turn before it looks for data, so a slow answer queues as well: its next piece
waits for at most one turn of each other reader, and its empty turns cost a round in which nothing is read.
"""

import asyncio
from collections import deque
from weakref import WeakKeyDictionary

__all__ = ["ReadFairness", "rounds"]

_PER_ROUND = 1


class ReadFairness:
    """A queue of which every round of the event loop lets the first ones pass.

    Args:
        per_round: How many.
    """

    def __init__(self, per_round: int = _PER_ROUND) -> None:
        self._per_round = per_round
        self._left = per_round
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._is_counting = False

    async def turn(self) -> None:
        """Return in a round that has room, at once if this one has; cancelling leaves the queue."""
        if self._left and not self._waiting:
            self._left -= 1
            self._count()
            return
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(place)
        self._count()
        await place

    def _count(self) -> None:
        if not self._is_counting:
            self._is_counting = True
            asyncio.get_running_loop().call_soon(self._begin)

    def _begin(self) -> None:
        """Begin a round."""
        self._left, self._is_counting = self._per_round, False
        while self._waiting and self._left:
            place = self._waiting.popleft()
            if not place.done():  # it was not cancelled
                place.set_result(None)
                self._left -= 1
        if self._left < self._per_round:
            self._count()


_of_loops: WeakKeyDictionary[asyncio.AbstractEventLoop, ReadFairness] = WeakKeyDictionary()


def rounds() -> ReadFairness:
    """Return those of the running loop; what holds a loop up does not ask which session it is."""
    loop = asyncio.get_running_loop()
    found = _of_loops.get(loop)
    if found is None:
        found = _of_loops[loop] = ReadFairness()
    return found
