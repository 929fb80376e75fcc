"""The status of a running batch in a small file beside its journal, for those who may not open the journal.

The owner replaces it about once a second and removes it at the end. If it is left, the owner was killed.
"""

import os
import socket
import stat
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson

from lemon_async.batch.records import Spending
from lemon_async.batch.states import State
from lemon_async.batch.store.sqlite.trust import is_trusted

__all__ = ["StatusFile", "path_of_status", "read_status"]

_EVERY_S = 1.0
_MOST_BYTES = 65536
_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


def path_of_status(journal: Path) -> Path:
    """Return where the status is: beside the file itself, if the path is a link to it."""
    return Path(f"{os.path.realpath(journal)}.status")


def read_status(journal: Path) -> Mapping[str, Any]:
    """Return the last status that an owner of the journal has written; empty if there is none, or one of others."""
    try:
        status = orjson.loads(_read(journal))
    except (OSError, orjson.JSONDecodeError):
        return {}
    sums = ("counts", "spending")
    return status if isinstance(status, dict) and all(isinstance(status.get(name), dict) for name in sums) else {}


def _read(journal: Path) -> bytes:
    """Return what is in the file, unless it is a pipe, which would block, or of another user.

    Raises:
        OSError: It cannot be read.
    """
    descriptor = os.open(path_of_status(journal), _FLAGS)
    try:
        found = os.fstat(descriptor)
        is_usable = stat.S_ISREG(found.st_mode) and is_trusted(found.st_uid, journal)
        return os.read(descriptor, _MOST_BYTES) if is_usable else b""
    finally:
        os.close(descriptor)


class StatusFile:
    """Writes the status, at most once a second; a disk that refuses it is ignored."""

    def __init__(self, journal: Path) -> None:
        self._path = path_of_status(journal)
        self._part = Path(f"{self._path}.part")
        self._started = time.time()
        self._last: tuple[object, object] | None = None
        self._due = 0.0

    def is_due(self) -> bool:
        """Return whether the last status is a second old."""
        return time.monotonic() >= self._due

    def write(self, counts: Mapping[State, int], spending: Spending) -> None:
        """Write the status, unless it is the same as the last one."""
        self._due = time.monotonic() + _EVERY_S
        if self._last == (counts, spending):
            return
        self._last = counts, spending
        with suppress(OSError):
            self._replace(counts, spending)

    def _replace(self, counts: Mapping[State, int], spending: Spending) -> None:
        status = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "started": self._started,
            "updated": time.time(),
            "counts": {str(state): count for state, count in counts.items()},
            "spending": spending.as_json(),
        }
        self._part.unlink(missing_ok=True)  # what a killed owner has left, or a link that leads elsewhere
        with self._part.open("xb") as file:
            file.write(orjson.dumps(status, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
        self._part.replace(self._path)

    def remove(self) -> None:
        """Remove the file."""
        with suppress(OSError):
            self._path.unlink(missing_ok=True)
