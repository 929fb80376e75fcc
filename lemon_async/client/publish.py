"""Putting a file into place so that nobody ever sees half of it."""

import contextlib
import errno
import os
import secrets
import stat
from pathlib import Path

__all__ = ["publish"]


def publish(path: Path, content: bytes) -> None:
    """Write `content` to `path`, all of it or nothing; blocks, so call it in a thread.

    The bytes go to a new file in the same folder, to the disk, and only then under the final name. A symbolic
    link under that name is replaced, not followed. The mode is what the umask makes of 0666.

    Raises:
        OSError: When the folder is missing, full or not writable, or when a device, a pipe or a folder stands at
            `path`; what stands there is then untouched.
    """
    with contextlib.suppress(FileNotFoundError):
        mode = path.lstat().st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, "is a folder: name a file in it", str(path))
        if not (stat.S_ISREG(mode) or stat.S_ISLNK(mode)):
            raise FileExistsError(errno.EEXIST, "there is something else than a file", str(path))
    # Names are limited in bytes, mostly to 255, and a character has up to four.
    partial = path.with_name(f".{path.name[:40]}.{secrets.token_hex(6)}.part")
    try:
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
    except OSError as failure:  # in terms of what the caller knows
        raise OSError(failure.errno, failure.strerror, str(path)) from None
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
