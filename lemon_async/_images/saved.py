"""A picture's file, as it was when it was written: memory lets go of what is safe on the disk."""

import os
from pathlib import Path
from typing import Self

import attrs

__all__ = ["Saved"]

_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
_SIZE = 2


@attrs.frozen
class Saved:
    """Where a picture is, and how to tell that it still is.

    Attributes:
        path: The file, by a path that a change of the working folder does not change.
    """

    path: Path
    _mark: tuple[int, ...]

    @classmethod
    def at(cls, path: Path) -> Self | None:
        """Take note of a file that has just been written; `None` if it is gone already. Blocks."""
        whole = path.absolute()
        try:
            return cls(whole, _mark_of(whole.stat()))
        except OSError:
            return None

    @property
    def size_bytes(self) -> int:
        """How many bytes it has."""
        return self._mark[_SIZE]

    def read(self) -> bytes | None:
        """Return its bytes, or `None` if it is gone or another one by now; blocks."""
        try:
            number = os.open(self.path, _FLAGS)
            with open(number, "rb") as file:  # noqa: PTH123 - of a path, that of a pipe would wait for ever
                return file.read() if _mark_of(os.fstat(number)) == self._mark else None
        except OSError:
            return None


def _mark_of(status: os.stat_result) -> tuple[int, ...]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
