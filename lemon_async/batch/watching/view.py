"""Look at the journal of a batch, whether it runs or not: `watch_journal`.

    the journal                       its rows come from
    a file that a process has open    that process, through the socket beside the file
    a file that no process has open   the file, without a lock (`closed_file.py`)
    a database                        the database

A file that a process has open without serving it (on Windows, or while it ends) has a summary, and no rows.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Sequence
from contextlib import asynccontextmanager
from os import PathLike
from pathlib import Path
from typing import Protocol, TypeVar

from lemon_async.batch.journal import Journal
from lemon_async.batch.opening import open_journal
from lemon_async.batch.records import JournalRow
from lemon_async.batch.states import State
from lemon_async.batch.store.faults import refusal
from lemon_async.batch.store.postgres.address import Address, hidden
from lemon_async.batch.watching.summary import JournalSummary, sum_up

__all__ = ["BatchView", "watch_journal"]

T = TypeVar("T")
_ANSWER_WITHIN_S = 5.0


class BatchView(Protocol):
    """A journal to look at. Nothing here writes, spends money or delays a batch; every wait may be cancelled."""

    @property
    def name(self) -> str:
        """The path or address of the journal, without credentials."""

    @property
    def folder(self) -> Path | None:
        """What relative paths of pictures are relative to; `None`: all of them are absolute."""

    async def summary(self) -> JournalSummary:
        """Return how the batch stands.

        Raises:
            JournalError: It cannot be read: it is missing, damaged, no journal, or being opened or closed.
        """

    async def rows(self, *states: State, before: int | None = None, limit: int = 200) -> Sequence[JournalRow]:
        """Return rows in these states (by default in all) with numbers below `before`, the last one first.

        It may return fewer than `limit` although there are more; an empty result means that there are no more. While a
        batch runs in another process, rows of more than 64 KB lack their columns and have only the beginning of their
        prompt.

        Raises:
            JournalError: As `summary`, or `JournalSummary.has_rows` is false.
        """


@asynccontextmanager
async def watch_journal(journal: str | PathLike[str]) -> AsyncGenerator[BatchView, None]:
    """Look at a journal while a batch runs, before, and after it.

    A file need not exist yet, may be replaced, and is opened again by itself. It is never locked or written, so a batch
    can start at any time. A database is opened as `open_journal` does. Spends nothing; cancelling ends the looking.

    Raises:
        JournalError: The database cannot be used.
    """
    journal = hidden(journal)
    if Address.of(journal) is not None:
        async with open_journal(journal) as opened:
            yield _OpenView(opened)
        return
    from lemon_async.batch.watching.file_view import FileView  # noqa: PLC0415 - only those of files need sqlite3

    view = FileView(journal)
    try:
        yield view
    finally:
        await view.aclose()


class _OpenView:
    """A journal that is open here."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    @property
    def name(self) -> str:
        return self._journal.name

    @property
    def folder(self) -> Path | None:
        return self._journal.folder

    async def summary(self) -> JournalSummary:
        return await self._soon(sum_up(self._journal))

    async def rows(self, *states: State, before: int | None = None, limit: int = 200) -> Sequence[JournalRow]:
        return await self._soon(self._journal.last_rows(*states, before=before, limit=limit))

    async def _soon(self, reading: Awaitable[T]) -> T:
        try:
            async with asyncio.timeout(_ANSWER_WITHIN_S):
                return await reading
        except TimeoutError:
            raise refusal(self.name, "its server does not respond") from None
