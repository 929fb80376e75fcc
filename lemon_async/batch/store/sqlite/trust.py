"""Whose files beside a journal are believed: in a folder that others may write to, anybody may have made them."""

import os
import socket
import struct
from pathlib import Path

__all__ = ["is_trusted", "user_behind"]

_ROOT = 0
_CREDENTIALS = struct.Struct("iII")  # process, user, group


def is_trusted(user: int, journal: Path) -> bool:
    """Return whether a user is this one, the owner of a journal, or root, who could change the journal itself."""
    if not hasattr(os, "geteuid"):
        return True
    if user in {os.geteuid(), _ROOT}:
        return True
    try:
        return user == journal.stat().st_uid
    except OSError:
        return False


def user_behind(connection: socket.socket, path: Path) -> int:
    """Return the user who listens on a Unix socket; on systems that do not say, the owner of its file.

    Raises:
        OSError: The file has gone.
    """
    if not hasattr(socket, "SO_PEERCRED"):
        return path.stat().st_uid
    found = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _, user, _ = _CREDENTIALS.unpack(found)
    return int(user)
