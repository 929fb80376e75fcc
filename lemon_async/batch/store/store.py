"""What a store of a journal does: the calls of `Journal`, synchronous and for one thread."""

import socket
from collections.abc import Mapping, Sequence
from typing import Protocol

from lemon_async.batch.records import Change, Claim, JournalRow, NewRow, Spending
from lemon_async.batch.states import State

__all__ = ["Store"]


class Store(Protocol):
    """A store, open from its construction to `close`.

    Every method raises `JournalError` if it fails; after that of a write nothing is written any more.
    """

    def apply(self, changes: Sequence[Change]) -> Sequence[State | None]:
        """Make changes, in one transaction; return the new state for each, as `Journal.record`."""

    def add(self, rows: Sequence[NewRow]) -> int:
        """Add rows, as `Journal.add`."""

    def check(self, rows: Sequence[NewRow]) -> None:
        """Check rows, as `Journal.check`."""

    def rows(self, states: Sequence[State], after: int, limit: int) -> Sequence[JournalRow]:
        """Return rows, as `Journal.rows`."""

    def last_rows(self, states: Sequence[State], before: int, limit: int) -> Sequence[JournalRow]:
        """Return rows, as `Journal.last_rows`."""

    def claim(self, run: str, states: Sequence[State], after: int, limit: int, keys: Sequence[str] | None) -> Claim:
        """Hold rows for a run, as `Journal.claim`."""

    def release(self, run: str) -> None:
        """Let go of the rows of a run, as `Journal.release`."""

    def runs(self) -> int:
        """Return how many runs hold rows."""

    def find(self, key: str) -> JournalRow | None:
        """Return a row, as `Journal.find`."""

    def counts(self) -> Mapping[State, int]:
        """Return the number of rows in every state."""

    def spending(self) -> Spending:
        """Return the sums of money."""

    def owner_of(self, path: str) -> str | None:
        """Return the key of the row that has this file."""

    def read_note(self, name: str) -> str | None:
        """Return a note."""

    def write_note(self, name: str, text: str) -> None:
        """Keep a note."""

    def tend(self) -> None:
        """Do what is due; called after every group of calls, and about once a second."""

    def listen(self) -> socket.socket | None:
        """Return a socket that accepts connections until `close`, for those who may not open the store.

        `None` if there is no need, because others may open it, or no way. Called once.
        """

    def give_up(self) -> None:
        """Let the call that is under way fail soon, if it can; the only method for other threads."""

    def close(self) -> None:
        """Release the store; may be called again."""
