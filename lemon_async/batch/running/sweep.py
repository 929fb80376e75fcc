"""One pass over the rows of a journal that a run may take: it claims them, chunk by chunk."""

from collections import deque
from collections.abc import Sequence
from typing import Self

import attrs

from lemon_async.batch.journal import Journal
from lemon_async.batch.records import JournalRow
from lemon_async.batch.states import State

__all__ = ["Sweep"]

_MAX_CHUNK = 500
_ORDER = (State.SOLD, State.FAILED, State.NEW)
Place = tuple[Sequence[State], Sequence[str] | None]


@attrs.define
class Sweep:
    """The rows that are free: those that are sold, then those that have failed, then new ones.

    Attributes:
        held_elsewhere: Number of rows that other runs hold, of those that were passed so far.
    """

    _journal: Journal
    _run: str
    _limit: int
    _places: deque[Place]
    held_elsewhere: int = attrs.field(default=0, init=False)
    _after: int = attrs.field(default=-1, init=False)

    @classmethod
    def of(cls, journal: Journal, run: str, in_flight: int, keys: Sequence[str] | None = None) -> Self:
        """Return a sweep over all rows, or over those with these keys, which claims at most `in_flight` at a time."""
        limit = min(in_flight, _MAX_CHUNK)
        if keys is None:
            return cls(journal, run, limit, deque(((state,), None) for state in _ORDER))
        return cls(journal, run, limit, deque((_ORDER, keys[at : at + limit]) for at in range(0, len(keys), limit)))

    def has_more(self, *, but_not: State | None = None) -> bool:
        """Return whether there are rows to look at, besides those in a certain state."""
        return bool(self._places) and self._places[0][0] != (but_not,)

    async def claim(self) -> Sequence[JournalRow]:
        """Claim the next rows; return none if the next states or keys have none.

        Raises:
            JournalError: The journal cannot be used.
        """
        states, keys = self._places[0]
        claim = await self._journal.claim(self._run, *states, after=self._after, limit=self._limit, keys=keys)
        if claim.rows:
            self._after = -1 if keys else claim.rows[-1].number
            return sorted(claim.rows, key=lambda row: _ORDER.index(row.state))
        self._places.popleft()
        self._after = -1
        self.held_elsewhere = claim.held_elsewhere + (self.held_elsewhere if keys else 0)
        return ()
