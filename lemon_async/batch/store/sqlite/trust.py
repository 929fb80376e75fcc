"""Check the owner of a file beside a journal: in a folder that others may write to, any user may have made it."""

import os
import socket
import struct
from pathlib import Path

__all__ = ["is_trusted", "peer_uid"]

_ROOT_UID = 0
_CREDENTIALS = struct.Struct("iII")  # pid, uid, gid


def is_trusted(uid: int, journal: Path) -> bool:
    """Return whether a user is ours, the owner of the journal, or root, who could change the journal itself."""
    if not hasattr(os, "geteuid"):
        return True
    if uid in {os.geteuid(), _ROOT_UID}:
        return True
    try:
        return uid == journal.stat().st_uid
    except OSError:
        return False


def peer_uid(connection: socket.socket, path: Path) -> int:
    """Return the user id of the process that listens on a Unix socket, or where systems do not say, of its file.

    Raises:
        OSError: The file has gone.
    """
    if not hasattr(socket, "SO_PEERCRED"):
        return path.stat().st_uid
    found = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _, uid, _ = _CREDENTIALS.unpack(found)
    return int(uid)
