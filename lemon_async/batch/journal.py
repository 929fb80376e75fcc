"""The journal of a batch: the protocol that every store follows."""

from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from lemon_async.batch.records import Change, Claim, JournalRow, NewRow, Spending
from lemon_async.batch.states import State

__all__ = ["Journal", "pages_of"]


class Journal(Protocol):
    """The durable record of a batch.

    Every method raises `JournalError` if the store fails: then nothing more may be sent, because it could not be
    recorded. Cancelling a wait does not undo what was asked for. Nothing here spends money.
    """

    @property
    def name(self) -> str:
        """The path or address of the store, without credentials."""

    @property
    def folder(self) -> Path | None:
        """What the paths of pictures are relative to if they lie in it; `None`: all of them are absolute."""

    @property
    def is_shared(self) -> bool:
        """Whether other processes may use the journal at the same time."""

    async def add(self, rows: Sequence[NewRow]) -> int:
        """Add the rows whose key is new, in this order, and return their number; all of them or none.

        Raises:
            ContractError: A key exists with another digest; at most 20 are listed.
        """

    async def check(self, rows: Sequence[NewRow]) -> None:
        """Raise what `add` would raise for these rows, and add nothing."""

    def record(self, change: Change) -> Awaitable[State | None]:
        """Queue a change, in the order of the calls, and return what waits until it is durable.

        The result is the new state; `None` if the change is impossible in the state of the row, or would exceed the
        cap, so that nothing was written.
        """

    async def rows(self, *states: State, after: int = -1, limit: int = 1000) -> Sequence[JournalRow]:
        """Return rows in these states (by default in all) with numbers above `after`, in order."""

    async def last_rows(self, *states: State, before: int | None = None, limit: int = 1000) -> Sequence[JournalRow]:
        """Return rows in these states (by default in all) with numbers below `before`, the last one first."""

    async def claim(
        self, run: str, *states: State, after: int = -1, limit: int = 1000, keys: Sequence[str] | None = None
    ) -> Claim:
        """Return rows as `rows` does, or those with these keys, and hold them for a run: no other run gets them.

        Rows that another run holds are left out, and those that this run holds already. A run lets go of a row when the
        row is no longer open (`State.is_open`), of all by `release` and when the journal is closed. If the process of a
        run has ended, its rows are free, and those whose request was being sent are doubtful.
        """

    async def release(self, run: str) -> None:
        """Let go of all rows that a run holds."""

    async def runs(self) -> int:
        """Return how many runs hold rows now, in all processes."""

    async def find(self, key: str) -> JournalRow | None:
        """Return one row, or `None`."""

    async def counts(self) -> Mapping[State, int]:
        """Return the number of rows in every state."""

    async def spending(self) -> Spending:
        """Return the sums of money."""

    async def owner_of(self, path: str) -> str | None:
        """Return the key of the row that has this file, or `None`."""

    async def read_note(self, name: str) -> str | None:
        """Return a note about the whole batch, such as its file template, or `None`."""

    async def write_note(self, name: str, text: str) -> None:
        """Keep a note about the whole batch."""

    async def aclose(self) -> None:
        """Write what is queued, and release the store; may be called again."""


async def pages_of(journal: Journal, *states: State) -> AsyncIterator[Sequence[JournalRow]]:
    """Yield all rows in these states (by default in all), in order and in pages."""
    last = -1
    while rows := await journal.rows(*states, after=last):
        yield rows
        last = rows[-1].number
