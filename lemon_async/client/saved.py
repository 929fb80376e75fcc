"""A picture's file, as it was when it was written: memory lets go of what is safe on the disk."""

import os
from pathlib import Path
from typing import Self

import attrs

__all__ = ["Saved"]


@attrs.frozen
class Saved:
    """Where a picture is, and how to tell that it still is.

    Attributes:
        path: The file, by a path that a change of the working folder does not change.
    """

    path: Path
    _whole: Path
    _mark: tuple[int, ...]

    @classmethod
    def at(cls, path: Path) -> Self:
        """Take note of a file that has just been written; blocks.

        Raises:
            OSError: It is not there.
        """
        whole = path.absolute()
        return cls(path, whole, _mark_of(whole.stat()))

    def read(self) -> bytes | None:
        """Return its bytes, or `None` if it is gone or another one by now; blocks."""
        try:
            with self._whole.open("rb") as file:
                return file.read() if _mark_of(os.fstat(file.fileno())) == self._mark else None
        except OSError:
            return None


def _mark_of(status: os.stat_result) -> tuple[int, ...]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
