"""Keep checked rows in a temporary file until they are added to a journal; all of this blocks."""

import os
import tempfile
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

from lemon_async.batch.records import NewRow
from lemon_async.errors import JournalError

__all__ = ["RowSpool"]

_CHUNK_ROWS = 1000
_CHUNK_BYTES = 4 * 1024 * 1024
_IN_MEMORY_BYTES = 8 * 1024 * 1024


class RowSpool:
    """Rows in a temporary file, four lines each; a few of them in memory alone.

    Every method raises `JournalError` if the file cannot be used.
    """

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(_IN_MEMORY_BYTES)  # noqa: SIM115 - closed by `close`
        self.close: Callable[[], object] = weakref.finalize(self, self._file.close)
        """Remove the file; may be called again, and happens by itself when the spool is not used any more."""

    def add(self, rows: Iterable[NewRow]) -> None:
        """Append rows."""
        with _reported():
            self._file.seek(0, os.SEEK_END)
            for row in rows:
                # Neither a key nor JSON has a line end.
                lines = row.key.encode(), row.request, row.columns, row.digest.hex().encode()
                self._file.write(b"%b\n%b\n%b\n%b\n" % lines)

    def load(self, position: int) -> tuple[Sequence[NewRow], int]:
        """Return the rows that begin at a position, none at the end, and where the next ones begin."""
        rows: list[NewRow] = []
        with _reported():
            self._file.seek(position)
            end = position
            while len(rows) < _CHUNK_ROWS and end - position < _CHUNK_BYTES:
                key, request, columns, digest = (self._file.readline() for _ in range(4))
                if not key:
                    break
                end += len(key) + len(request) + len(columns) + len(digest)
                rows.append(NewRow(key[:-1].decode(), request[:-1], columns[:-1], bytes.fromhex(digest.decode())))
        return rows, end


@contextmanager
def _reported() -> Iterator[None]:
    """Report that there is no room for the file."""
    try:
        yield
    except OSError as fault:
        advice = "make room, or set TMPDIR to a folder with more of it; nothing was added or sent"
        raise JournalError(message=f"the temporary file of the rows failed: {fault}; {advice}") from fault
