"""The Unix socket beside a journal on which its owner serves the rows, for those who may not open the file.

The owner holds the file's lock, so it may replace the socket of an owner that was killed. A new socket is made in a
folder that only this user can enter, and moved to its place with its final mode: at no moment can other users connect.
"""

import errno
import logging
import os
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from lemon_async.batch.store.sqlite.trust import is_trusted, peer_uid

__all__ = ["SocketFile", "connect_to_owner", "path_of_socket"]

logger: logging.Logger = logging.getLogger("lemon_async")

_BACKLOG = 8
_CONNECT_WITHIN_S = 2.0


def path_of_socket(journal: Path) -> Path:
    """Return where the socket is: beside the file itself, if the path is a link to it."""
    return Path(f"{os.path.realpath(journal)}.socket")


def connect_to_owner(journal: Path) -> socket.socket:
    """Connect to the process that has a journal open; blocks.

    Raises:
        OSError: There is none, or it serves no rows; `ConnectionRefusedError` if it was killed, `PermissionError` if
            neither it nor the journal is ours.
    """
    path = path_of_socket(journal)
    connection = _unix_socket()
    try:
        connection.settimeout(_CONNECT_WITHIN_S)
        with _address(path) as address:
            connection.connect(address)
        if not is_trusted(peer_uid(connection, path), journal):
            raise PermissionError(errno.EPERM, "is of another user than the journal", str(path))  # noqa: TRY301 - closes it
    except BaseException:
        connection.close()
        raise
    return connection


class SocketFile:
    """Makes and removes the socket; a system or a disk that refuses it is ignored: a batch runs without it."""

    def __init__(self, journal: Path) -> None:
        self._path = path_of_socket(journal)
        self._listener: socket.socket | None = None

    def listen(self) -> socket.socket | None:
        """Return the listening socket, or `None`."""
        try:
            with tempfile.TemporaryDirectory(prefix=f".{self._path.name}.", dir=self._path.parent) as folder:
                self._listener = self._listen(Path(folder, "s"))
        except OSError as fault:
            logger.debug("cannot serve the rows on %r: %s", str(self._path), fault)
        return self._listener

    def _listen(self, part: Path) -> socket.socket:
        listener = _unix_socket()
        try:
            with _address(part) as address:
                listener.bind(address)
            part.chmod(0o600)
            listener.listen(_BACKLOG)
            part.replace(self._path)
        except BaseException:
            listener.close()
            raise
        return listener

    def remove(self) -> None:
        """Close and remove the socket, if there is one."""
        if self._listener is not None:  # whoever asked for it may have been cancelled
            self._listener.close()
        with suppress(OSError):
            self._path.unlink(missing_ok=True)


def _unix_socket() -> socket.socket:
    """Return a new socket.

    Raises:
        OSError: This system has none.
    """
    if not hasattr(socket, "AF_UNIX"):
        raise OSError("this system has no Unix sockets")
    return socket.socket(socket.AF_UNIX)


@contextmanager
def _address(path: Path) -> Iterator[str]:
    """Yield a name for a socket: addresses have 107 bytes at most, which a path through the folder's number avoids."""
    if sys.platform != "linux":
        yield str(path)
        return
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
