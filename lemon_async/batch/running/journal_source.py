"""Where the journal of a batch comes from: a file, a URL, or one that the caller has opened."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from os import PathLike, fspath
from pathlib import Path

import attrs

from lemon_async.batch.journal import Journal
from lemon_async.batch.opening import open_journal
from lemon_async.batch.store.faults import MissingJournal
from lemon_async.batch.store.postgres.address import Address
from lemon_async.errors import ContractError

__all__ = ["JournalSource"]


@attrs.frozen
class JournalSource:
    """The journal of a batch, before it is open.

    Args:
        given: A path, a URL, or an open journal.
        base_url: The service that its rows are for.
    """

    _given: str | PathLike[str] | Journal = attrs.field(repr=False)  # may have a password
    _base_url: str
    _address: Address | None = attrs.field(init=False, repr=False)

    @_address.default
    def _find_address(self) -> Address | None:
        return Address.of(self._given) if isinstance(self._given, str | PathLike) else None

    @property
    def name(self) -> str:
        """The path or address, without credentials."""
        if self._address is not None:
            return self._address.name
        return fspath(self._given) if isinstance(self._given, str | PathLike) else self._given.name

    async def is_missing(self) -> bool:
        """Return whether it is a file that is not there yet."""
        if self._address is not None or not isinstance(self._given, str | PathLike):
            return False
        return not await asyncio.to_thread(Path(self._given).exists)

    @asynccontextmanager
    async def opened(self, *, create: bool) -> AsyncGenerator[Journal | None, None]:
        """Open it, unless the caller has; `None` if it is missing and not to be created.

        Raises:
            JournalError: It cannot be used.
        """
        if not isinstance(self._given, str | PathLike):
            yield self._given
            return
        async with AsyncExitStack() as stack:
            journal = None
            with suppress(MissingJournal):
                opening = open_journal(self._given, base_url=self._base_url, create=create)
                journal = await stack.enter_async_context(opening)
            yield journal

    def nothing(self) -> ContractError:
        """Return the error of a batch that has neither rows nor a journal."""
        words = f"there is no journal {self.name!r} to continue; pass the rows of a new one"
        return ContractError.of("rows", words)
