"""What is wrong with a journal in SQLite, and what to do about it. Does not load `sqlite3`."""

import os
import re
import socket
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import orjson

from lemon_async.batch.records import NewRow
from lemon_async.batch.store.status_file import read_status
from lemon_async.errors import ContractError, JournalError
from lemon_async.types import Problem

__all__ = ["conflict", "describe", "network_file_system", "not_text", "refusal"]

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
_MOST_LISTED = 20
_MOST_FIELDS = 3
_MOST_CHARACTERS = 60


def refusal(path: Path, words: str) -> JournalError:
    """Return the error of a journal that cannot be used."""
    return JournalError(message=f"cannot use the journal {str(path)!r}: {words}")


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


def conflict(pairs: Iterable[tuple[tuple[bytes, bytes], NewRow]]) -> ContractError:
    """Return the error of rows whose keys are in the journal with other contents: `((request, columns), row)`."""
    pairs = iter(pairs)
    problems = [Problem(f"row {row.key!r}", _difference(known, row)) for known, row in islice(pairs, _MOST_LISTED)]
    if more := sum(1 for _ in pairs):
        problems.append(Problem("rows", f"{more} more differ from those in the journal"))
    return ContractError(problems=tuple(problems), undone="added")


def not_text(keys: Sequence[str]) -> ContractError:
    """Return the error of keys that have no UTF-8 form."""
    advice = "its key has no UTF-8 form; give it a readable key"
    return ContractError(problems=tuple(Problem(f"row {key!r}", advice) for key in keys[:_MOST_LISTED]), undone="added")


def _difference(known: tuple[bytes, bytes], row: NewRow) -> str:
    """Name the fields in which two contents of one key differ, with both values."""
    then, now = _fields(*known), _fields(row.request, row.columns)
    names = [name for name in {**then, **now} if then.get(name) != now.get(name)]
    listed = [f"{name} was {_short(then.get(name))} and is {_short(now.get(name))}" for name in names[:_MOST_FIELDS]]
    if len(names) > _MOST_FIELDS:
        listed.append(f"{len(names) - _MOST_FIELDS} more")
    return f"is in the journal with other content ({'; '.join(listed)}); give it another key, or use another journal"


def _fields(request: bytes, columns: bytes) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for text in (request, columns):
        try:
            part = orjson.loads(text or b"{}")
        except orjson.JSONDecodeError:
            part = {"content": text.decode(errors="replace")}
        fields |= part if isinstance(part, dict) else {"content": part}
    return fields


def _short(value: Any) -> str:
    text = "absent" if value is None else repr(value)
    return text if len(text) <= _MOST_CHARACTERS else f"{text[: _MOST_CHARACTERS - 1]}…"
