"""Open a journal by its path or URL."""

import os
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from os import PathLike
from pathlib import Path

from lemon_async.batch.journal import Journal
from lemon_async.batch.store.faults import refusal
from lemon_async.batch.store.postgres.address import Address, hidden
from lemon_async.batch.store.store import Store
from lemon_async.batch.threaded_journal import open_threaded

__all__ = ["open_journal"]


@asynccontextmanager
async def open_journal(path: str | PathLike[str], *, base_url: str | None = None) -> AsyncGenerator[Journal, None]:
    """Open the journal of a batch, and create it if it is missing.

    Rows whose request was being sent when their owner ended become doubtful. Sends and spends nothing.
    Leaving the block writes what is queued, also if it is cancelled, and takes at most 5 s.

    Args:
        path: An SQLite file on a local disk, which no other process has open; or `postgresql://user@host/database`,
            which any number of processes may use at the same time. `?schema=` names the schema of the journal, by
            default `lemon_async`; other parameters are those of libpq.
        base_url: The service that the rows are for; `None` does not check it.

    Raises:
        JournalError: It cannot be used: it is in use (see `JournalError.owner`), damaged, read-only, on a network file
            system, out of reach, or of another program, version or service. On leaving: what was queued could not be
            written.
    """
    path = hidden(path)
    async with _opened(path, base_url) as journal:
        yield journal


def _opened(path: str | PathLike[str], base_url: str | None) -> AbstractAsyncContextManager[Journal]:
    if (address := Address.of(path)) is not None:
        return open_threaded(
            address.name, lambda: _postgres(address, base_url), folder=None, medium="the PostgreSQL server"
        )
    file = Path(os.path.abspath(path))  # noqa: PTH100 - reads no disk
    return open_threaded(str(file), lambda: _sqlite(file, base_url), folder=file.parent)


def _sqlite(file: Path, base_url: str | None) -> Store:
    from lemon_async.batch.store.sqlite.store import SqliteStore  # noqa: PLC0415 - only batches pay for sqlite3

    return SqliteStore(file, base_url)


def _postgres(address: Address, base_url: str | None) -> Store:
    try:
        from lemon_async.batch.store.postgres.store import PostgresStore  # noqa: PLC0415 - psycopg is an extra
    except ImportError as missing:
        raise refusal(address.name, "it needs psycopg; pip install 'lemon-async[postgres]'") from missing
    return PostgresStore(address, base_url)
