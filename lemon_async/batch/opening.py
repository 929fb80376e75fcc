"""Open a journal by its path or URL."""

import os
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from os import PathLike
from pathlib import Path

from lemon_async.batch.journal import Journal
from lemon_async.batch.store.faults import refusal
from lemon_async.batch.store.postgres.address import Address, hidden
from lemon_async.batch.store.store import Store
from lemon_async.batch.threaded_journal import open_threaded

__all__ = ["open_journal"]


@asynccontextmanager
async def open_journal(
    path: str | PathLike[str], *, base_url: str | None = None, create: bool = False
) -> AsyncGenerator[Journal, None]:
    """Open the journal of a batch.

    Rows whose request was being sent when their owner ended become doubtful. Sends and spends nothing.
    Leaving the block writes what is queued, also if it is cancelled, and takes at most 5 s.

    Args:
        path: An SQLite file on a local disk, which no other process has open; or `postgresql://user@host/database`,
            which any number of processes may use at the same time. `?schema=` names the schema of the journal, by
            default `lemon_async`; other parameters are those of libpq.
        base_url: The service that the rows are for; `None` does not check it.
        create: Whether to create it if it is missing, as a batch does.

    Raises:
        JournalError: It cannot be used: it is missing, in use (see `JournalError.owner`), damaged, read-only, on a
            network file system, out of reach, or of another program, version or service. On leaving: what was queued
            could not be written.
    """
    path = hidden(path)
    async with _opened(path, base_url, create=create) as journal:
        yield journal


def _opened(path: str | PathLike[str], base_url: str | None, *, create: bool) -> AbstractAsyncContextManager[Journal]:
    if (address := Address.of(path)) is not None:
        open_store = partial(_postgres, address, base_url, create=create)
        return open_threaded(address.name, open_store, folder=None, medium="the PostgreSQL server")
    file = Path(os.path.abspath(path))  # noqa: PTH100 - reads no disk
    return open_threaded(str(file), partial(_sqlite, file, base_url, create=create), folder=file.parent)


def _sqlite(file: Path, base_url: str | None, *, create: bool) -> Store:
    from lemon_async.batch.store.sqlite.store import SqliteStore  # noqa: PLC0415 - only batches pay for sqlite3

    return SqliteStore(file, base_url, create=create)


def _postgres(address: Address, base_url: str | None, *, create: bool) -> Store:
    try:
        from lemon_async.batch.store.postgres.store import PostgresStore  # noqa: PLC0415 - psycopg is an extra
    except ImportError as missing:
        raise refusal(address.name, "it needs psycopg; pip install 'lemon-async[postgres]'") from missing
    return PostgresStore(address, base_url, create=create)
