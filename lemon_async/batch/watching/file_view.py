"""Look at a journal in a file, which processes open and close meanwhile."""

import asyncio
import os
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from os import PathLike
from pathlib import Path
from typing import Any, TypeVar, cast

from lemon_async.batch.records import JournalRow
from lemon_async.batch.states import State
from lemon_async.batch.store.faults import missing, refusal
from lemon_async.batch.store.sqlite.socket_file import connect_to_owner
from lemon_async.batch.store.sqlite.status_file import read_status
from lemon_async.batch.watching.closed_file import BusyFile, ClosedFile
from lemon_async.batch.watching.owner import OwnerGone, OwnerLink
from lemon_async.batch.watching.row_server import MOST_NUMBER
from lemon_async.batch.watching.summary import JournalSummary
from lemon_async.batch.watching.wire import row_in
from lemon_async.errors import JournalError

__all__ = ["FileView"]

T = TypeVar("T")
_PATIENCE_S = 1.5  # a killed owner's files are left alone for a second
_RETRY_EVERY_S = 0.05
# What it takes to read the answer or the status of an owner that writes others.
_OTHER_VERSION = (AttributeError, LookupError, TypeError, ValueError)


class FileView:
    """A `BatchView` of a file; it finds the process that has the file open, and its successors."""

    def __init__(self, path: str | PathLike[str]) -> None:
        self._path = Path(os.path.abspath(path))  # noqa: PTH100 - reads no disk
        self._turn = asyncio.Lock()
        self._owner: OwnerLink | None = None
        self._file: tuple[int, int] | None = None
        self._closed: ClosedFile | None = None
        self._using_file = threading.Lock()

    @property
    def name(self) -> str:
        """The path of the journal."""
        return str(self._path)

    @property
    def folder(self) -> Path | None:
        """The folder of the journal."""
        return self._path.parent

    async def summary(self) -> JournalSummary:
        """Return how the batch stands, as `BatchView.summary`."""

        async def ask(owner: OwnerLink) -> JournalSummary:
            answer = await owner.ask(ask="summary")
            facts = {name: answer[name] for name in ("budget_usd", "runs", "owner")}
            return JournalSummary.of_json(answer, **facts)

        if found := await self._read(ask, ClosedFile.summary):
            return found
        status = await asyncio.to_thread(read_status, self._path)
        if not status:
            raise self._busy()
        owner = {name: status.get(name) for name in ("pid", "host", "started")}
        try:
            return JournalSummary.of_json(status, owner=owner, has_rows=False)
        except _OTHER_VERSION:
            raise self._busy() from None

    async def rows(self, *states: State, before: int | None = None, limit: int = 200) -> Sequence[JournalRow]:
        """Return rows, as `BatchView.rows`."""
        end = MOST_NUMBER if before is None else before

        async def ask(owner: OwnerLink) -> Sequence[JournalRow]:
            answer = await owner.ask(ask="rows", states=states, before=end, limit=limit)
            return [row_in(each) for each in answer["rows"]]

        found = await self._read(ask, lambda file: file.last_rows(states, end, limit))
        if found is None:
            raise self._busy()
        return found

    async def aclose(self) -> None:
        """Close what is open; may be called again."""
        self._leave_owner()
        await asyncio.to_thread(self._leave_file)

    async def _read(self, ask: Callable[[OwnerLink], Awaitable[T]], look: Callable[[ClosedFile], T]) -> T | None:
        """Ask the owner, or read the closed file; return `None` if the file is in use and its owner does not answer."""
        async with self._turn:
            until = time.monotonic() + _PATIENCE_S
            while True:
                is_last = time.monotonic() > until  # one that has begun in time may have taken long itself
                try:
                    if await self._find_owner():
                        return await self._ask(ask)
                    return await asyncio.to_thread(self._look, look)
                except (BusyFile, OwnerGone) as fault:
                    if isinstance(fault, OwnerGone):
                        self._leave_owner()
                    is_hung = isinstance(fault.__cause__, TimeoutError) and time.monotonic() > until
                    if is_last or is_hung:
                        return None
                    await asyncio.sleep(_RETRY_EVERY_S)

    async def _ask(self, ask: Callable[[OwnerLink], Awaitable[T]]) -> T:
        try:
            return await ask(cast("OwnerLink", self._owner))
        except _OTHER_VERSION as fault:
            raise OwnerGone from fault

    async def _find_owner(self) -> bool:
        """Connect to the owner, unless that was done; return whether there is one.

        Raises:
            BusyFile: There is one, and it does not answer.
            JournalError: There is no such file.
        """
        file = await asyncio.to_thread(self._identity)
        if file != self._file:
            self._leave_owner()
            self._file = file
        if self._owner is None and (connection := await asyncio.to_thread(self._connect)):
            self._owner = await OwnerLink.over(connection)
        return self._owner is not None

    def _leave_owner(self) -> None:
        if self._owner is not None:
            self._owner.close()
            self._owner = None

    def _busy(self) -> JournalError:
        error = refusal(self._path, "a process has it open that does not show its rows")
        error.owner = {}
        return error

    # In a thread

    def _identity(self) -> tuple[int, int]:
        try:
            found = self._path.stat()
        except FileNotFoundError:
            raise missing(self._path, "there is no file") from None
        except OSError as fault:
            raise refusal(self._path, fault.strerror or str(fault)) from fault
        return found.st_dev, found.st_ino

    def _connect(self) -> socket.socket | None:
        status = read_status(self._path)
        if status and not _may_live(status):  # its socket may still be open in a process that it has forked
            return None
        try:
            return connect_to_owner(self._path)
        except ConnectionRefusedError:  # it was killed
            return None
        except OSError:
            if status:
                raise BusyFile from None
            return None

    def _look(self, look: Callable[[ClosedFile], T]) -> T:
        with self._using_file:
            if self._closed is not None:
                with suppress(BusyFile):
                    return look(self._closed)
                self._drop()  # it has changed since it was opened, which may be long ago
            self._closed = ClosedFile(self._path)
            return look(self._closed)

    def _leave_file(self) -> None:
        with self._using_file:
            self._drop()

    def _drop(self) -> None:
        if self._closed is not None:
            self._closed.close()
            self._closed = None


def _may_live(owner: Mapping[str, Any]) -> bool:
    """Return whether the process of a status may still have the journal open."""
    if os.name != "posix" or owner.get("host") != socket.gethostname() or not isinstance(owner.get("pid"), int):
        return bool(owner)
    try:
        os.kill(owner["pid"], 0)
    except (OSError, OverflowError) as fault:
        return isinstance(fault, PermissionError)
    return True
