"""Where the journal of a batch comes from: a file, a URL, or one that the caller has opened."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from os import PathLike, fspath
from pathlib import Path

import attrs

from lemon_async.batch.journal import Journal
from lemon_async.batch.opening import open_journal
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
    async def opened(self, *, may_be_empty: bool) -> AsyncGenerator[Journal, None]:
        """Open it, unless the caller has.

        Args:
            may_be_empty: Whether there are rows to add to it; otherwise, a database without rows counts as missing.

        Raises:
            ContractError: There is none to continue.
            JournalError: It cannot be used.
        """
        if not isinstance(self._given, str | PathLike):
            yield self._given
            return
        if not may_be_empty and await self.is_missing():
            raise self._nothing()
        async with open_journal(self._given, base_url=self._base_url) as journal:
            if not may_be_empty and self._address is not None and not any((await journal.counts()).values()):
                raise self._nothing()
            yield journal

    def _nothing(self) -> ContractError:
        words = f"there is no journal {self.name!r} to continue; pass the rows of a new one"
        return ContractError.of("rows", words)
