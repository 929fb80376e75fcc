"""Which run holds which row, and what becomes of rows whose process has ended. Pure."""

from collections.abc import Iterable

import attrs

from lemon_async.batch.records import Change, JournalRow
from lemon_async.batch.states import Transition
from lemon_async.batch.store.ledger import RowFacts

__all__ = ["Claims", "abandoned"]

_OWNER_DIED = "the process ended before the response to its request was recorded"
_INLINE_LOST = "answered inline; the process ended before its pictures were saved"


def abandoned(sent: Iterable[str], inline: Iterable[str]) -> list[Change]:
    """Return the changes of rows whose process has ended.

    Args:
        sent: The keys of rows whose request was being sent: it may have arrived.
        inline: The keys of rows whose response came inline: their pictures are lost.
    """
    doubtful = [Change(key=key, transition=Transition.DOUBT, error=_OWNER_DIED) for key in sent]
    return doubtful + [Change(key=key, transition=Transition.LOSE, error=_INLINE_LOST) for key in inline]


@attrs.define
class Claims:
    """The runs of one process that hold rows, by the numbers of the rows."""

    _holders: dict[int, str] = attrs.field(factory=dict[int, str])

    def holder(self, number: int) -> str | None:
        """Return the run that holds a row."""
        return self._holders.get(number)

    def take(self, run: str, rows: Iterable[JournalRow]) -> list[JournalRow]:
        """Hold the rows that are free, and return them."""
        taken = [row for row in rows if row.number not in self._holders]
        self._holders.update((row.number, run) for row in taken)
        return taken

    def note(self, row: RowFacts) -> None:
        """Follow a change of a row."""
        if row.holder is None:
            self._holders.pop(row.number, None)
        else:
            self._holders[row.number] = row.holder

    def release(self, run: str) -> None:
        """Let go of all rows of a run."""
        self._holders = {number: holder for number, holder in self._holders.items() if holder != run}

    def held_elsewhere(self, run: str, numbers: Iterable[int] | None = None) -> int:
        """Return how many rows other runs hold, of these or of all."""
        holders = self._holders.values() if numbers is None else map(self._holders.get, numbers)
        return sum(holder not in {None, run} for holder in holders)

    def runs(self) -> int:
        """Return how many runs hold rows."""
        return len(set(self._holders.values()))
