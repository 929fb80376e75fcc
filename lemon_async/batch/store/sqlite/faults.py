"""What is wrong with a journal in SQLite, and what to do about it. Does not load `sqlite3`."""

import os
import re
import socket
from contextlib import suppress
from pathlib import Path

from lemon_async.batch.store.faults import refusal
from lemon_async.batch.store.sqlite.status_file import path_of_status, read_status
from lemon_async.errors import JournalError

__all__ = ["check_place", "describe", "network_file_system"]

_NETWORK = re.compile(
    r"(nfs\d?|cifs|smb\d?|smbfs|ncpfs|afs|ceph|lustre|gpfs|beegfs|gfs2?|ocfs2|orangefs|coda"
    r"|fuse\.(sshfs|ceph|glusterfs|s3fs|gcsfuse|rclone|goofys|blobfuse2?|mount-s3|juicefs|smbnetfs|davfs2?))"
)
_AGAIN = "then run the batch again to continue"
# By the beginning of SQLite's name of the error; the first one that fits.
_ADVICE = {
    "SQLITE_NOTADB": "it is not a journal, nor any SQLite database; choose another name",
    "SQLITE_CORRUPT": "it is damaged; use `.recover` of SQLite: an older copy would buy again what was bought since",
    "SQLITE_FULL": f"the disk is full; free some space, {_AGAIN}",
    "SQLITE_READONLY": f"it is read-only; make the file and its folder writable, {_AGAIN}",
    "SQLITE_PERM": f"it may not be written; make the file and its folder writable, {_AGAIN}",
    "SQLITE_IOERR_FSYNC": f"the disk failed to sync, so that changes may be lost; check it, {_AGAIN}",
    "SQLITE_IOERR_DIR_FSYNC": f"the disk failed to sync, so that changes may be lost; check it, {_AGAIN}",
    "SQLITE_IOERR_LOCK": "its file system has no locks; put it on a local disk",
    "SQLITE_IOERR": f"the disk failed to read or write; check it, {_AGAIN}",
    "SQLITE_TOOBIG": "a value is too large for SQLite",
    "SQLITE_NOMEM": "memory is exhausted",
}
_CAN_BE_ANOTHER = os.access in os.supports_effective_ids


def describe(path: Path, failure: Exception) -> JournalError:
    """Return the error of a journal for one of SQLite or of the disk."""
    if isinstance(failure, OSError):
        return refusal(path, f"{failure.strerror or failure}; check the disk, {_AGAIN}")
    name = getattr(failure, "sqlite_errorname", None) or ""
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return _in_use(path)
    if name.startswith("SQLITE_CANTOPEN"):
        return refusal(path, _why_unopened(path))
    if name == "SQLITE_IOERR_LOCK" and not os.access(path, os.W_OK, effective_ids=_CAN_BE_ANOTHER):
        name = "SQLITE_READONLY"  # there is no lock for writing on a file that is open for reading
    advice = next((advice for prefix, advice in _ADVICE.items() if name.startswith(prefix)), None)
    return refusal(path, f"{advice or failure}{f' ({name})' if name else ''}")


def _in_use(path: Path) -> JournalError:
    owner = read_status(path)
    if (owner.get("pid"), owner.get("host")) == (os.getpid(), socket.gethostname()):
        error = refusal(path, "this process has it open already; leave the block of that batch or journal first")
        error.owner = owner
        return error
    who = f"process {owner['pid']} on {owner.get('host', '?')}" if "pid" in owner else "another process"
    error = refusal(path, f"{who} has it open; wait until it ends, or stop it")
    error.owner = owner
    return error


def _why_unopened(path: Path) -> str:
    if path.is_dir():
        return "it is a folder; give the name of a file"
    if not path.parent.is_dir():
        return f"there is no folder {str(path.parent)!r}; create it"
    return "it, or a file beside it, cannot be opened; check the permissions of the file and of its folder"


def network_file_system(mounts: str, folder: Path) -> str | None:
    """Return the type of the network file system that holds a folder, or `None`.

    Args:
        mounts: The text of `/proc/self/mountinfo`.
        folder: An absolute path without symbolic links.
    """
    best, kind = -1, ""
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        if len(fields := before.split(" ")) < 5 or not after:
            continue
        point = Path(re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), fields[4]))
        if folder.is_relative_to(point) and len(point.parts) >= best:  # a later mount hides an earlier one
            best, kind = len(point.parts), after.split(" ")[0]
    return kind if _NETWORK.fullmatch(kind) else None


def check_place(path: Path, wal: Path, mounts: Path) -> None:
    """Refuse network file systems, and a file whose log is missing or may have another name."""
    with suppress(OSError):
        if kind := network_file_system(mounts.read_text(), wal.parent):
            words = f"it is on a network file system ({kind}), where locks and syncs do not protect it"
            raise refusal(path, f"{words}; put it on a local disk")
    if path.is_file() and (names := path.stat().st_nlink) > 1:
        words = f"it has {names} names (hard links), and a killed run leaves changes in a log beside one of them"
        raise refusal(path, f"{words}; remove the others")
    if path.exists() and not wal.exists() and (status := path_of_status(path)).exists():
        words = f"its last run was killed and has left changes in {wal.name!r}, which is missing; put it back"
        raise refusal(path, f"{words}, or remove {status.name!r} to continue without them")
