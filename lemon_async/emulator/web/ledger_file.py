"""Append the ledger to a file, one JSON object per line, so that programs in any language can read it.

An entry is in the file before the response that it belongs to is sent. Jobs that end without being polled are settled
by a task that looks at the clock. What is in the file is complete up to its last line: after an error nothing more is
written. A file that is deleted meanwhile begins again with the next entry.
"""

import asyncio
import logging
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import orjson
from attrs import define, field

from lemon_async.emulator.clock import Clock
from lemon_async.emulator.service.ledger import LedgerEntry
from lemon_async.emulator.service.store import Store

logger: logging.Logger = logging.getLogger("lemon_async")

_SETTLE_S = 0.25
_AT_ONCE = 100


@define(eq=False)
class LedgerFile:
    """The file at `path`, to which entries are appended between `open` and `close`."""

    path: Path
    store: Store
    clock: Clock
    _file: IO[bytes] | None = field(default=None, init=False)
    _settling: asyncio.Task[None] | None = field(default=None, init=False)

    def open(self) -> None:
        """Open the file, and begin to settle; does nothing if it is open.

        Raises:
            OSError: The file cannot be written.
        """
        if self._settling is None:
            self._file = _open(self.path)
            self._end_line(self._file)
            self.store.ledger.on_entry(self._append)
            self._settling = asyncio.create_task(self._settle(), name="lemon-emulator-ledger")

    def close(self) -> None:
        """Settle what is over, and close the file."""
        if self._settling is not None:
            self.store.settle(self.clock.now())
            self.store.ledger.on_entry(None)
            self._settling.cancel()
            self._settling = None
        if self._file is not None:
            self._file.close()
            self._file = None

    async def _settle(self) -> None:
        while True:
            is_more = self.store.settle(self.clock.now(), _AT_ONCE)
            await asyncio.sleep(0 if is_more else _SETTLE_S)

    def _append(self, entry: LedgerEntry) -> None:
        if self._file is None:
            return
        line = orjson.dumps(entry_json(entry, self.clock)) + b"\n"
        fault: OSError | None = None
        written = 0
        try:
            if _is_deleted(self._file):
                self._file.close()
                self._file = _open(self.path)
                logger.warning("the ledger file was deleted; it begins again with entry %d", entry.seq)
            written = self._file.write(line)
        except OSError as error:
            fault = error
        # A disk that is nearly full takes a part of it, and so does a pipe that is not read.
        if written != len(line):
            logger.error("the ledger file ends before entry %d: it cannot be written", entry.seq, exc_info=fault)
            self._file.close()
            self._file = None

    @staticmethod
    def _end_line(file: IO[bytes]) -> None:
        """End the last line if a run was killed while it wrote it."""
        if file.readable() and file.seekable() and file.tell():
            file.seek(-1, 2)
            if file.read(1) != b"\n":
                file.write(b"\n")


def _open(path: Path) -> IO[bytes]:
    """Open a file to append to; a pipe so that its reader delays nothing, and is missed when it is gone."""
    is_plain = path.is_file() or not path.exists()
    mode, flags = ("ab+", os.O_RDWR) if is_plain else ("ab", os.O_WRONLY)
    flags |= os.O_APPEND | os.O_CREAT | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    return os.fdopen(os.open(path, flags, 0o666), mode, buffering=0)


def _is_deleted(file: IO[bytes]) -> bool:
    """Return whether a file has no name any more; pipes and devices need none."""
    found = os.fstat(file.fileno())
    return stat.S_ISREG(found.st_mode) and not found.st_nlink


def entry_json(entry: LedgerEntry, clock: Clock) -> Mapping[str, Any]:
    """Return an entry as JSON, with its Unix time."""
    return {
        "number": entry.seq,
        "at": clock.unix_at(entry.at_s),
        "kind": entry.kind,
        "job": entry.job,
        "task_id": entry.task_id,
        "model": entry.model,
        "amount_usd": entry.amount_usd,
    }
