"""Write files and folders that appear whole or not at all. All of this blocks: call it in a thread."""

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

__all__ = ["replacing", "replacing_folder"]


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Open a hidden file that replaces `path` at the end of the block, and is on the disk by then.

    If the block raises, the hidden file is removed and `path` is as it was. The permissions of a file that is replaced
    are kept.
    """
    hidden = _hidden(path)
    try:
        with hidden.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(OSError):  # most often because there is no file yet
            shutil.copymode(path, hidden)
        hidden.replace(path)
    except BaseException:
        hidden.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


@contextlib.contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Create a hidden folder that replaces `path` at the end of the block.

    If the block raises, the hidden folder is removed and `path` is as it was. A process that is killed between two
    renames leaves both folders under hidden names, and nothing at `path`.
    """
    hidden, old = _hidden(path), _hidden(path)
    try:
        hidden.mkdir(parents=True)
        yield hidden
        with contextlib.suppress(FileNotFoundError):
            path.rename(old)
        hidden.rename(path)
    except BaseException:
        if old.exists() and not path.exists():
            old.rename(path)
        shutil.rmtree(hidden, ignore_errors=True)
        raise
    shutil.rmtree(old, ignore_errors=True)
    _sync_folder(path.parent)


def _hidden(path: Path) -> Path:
    return path.parent / f".lemon-async.{secrets.token_hex(8)}.part"


def _sync_folder(folder: Path) -> None:
    """Sync a folder to the disk, if the system can; the bytes are there already."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
