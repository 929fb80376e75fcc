"""Pictures that clients send: kept on disk for exactly as long as somebody refers to them.

An edit may bring 16 files of 50 MiB, and its task may be drawn an hour later, so nothing of them stays
in memory. Equal files are kept once. A file goes when the last order, upload or drawing that knows it
has gone; the folder goes with the vault.
"""

import hashlib
import os
import shutil
import tempfile
import threading
import weakref
from contextlib import suppress
from itertools import count
from typing import IO

from lemon_async.emulator.pictures.picture import Blob

_CHUNK_BYTES = 2**20


class BlobStore:
    """A folder of files that are deleted when nobody refers to them any more; safe to use in threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: weakref.WeakValueDictionary[str, Blob] = weakref.WeakValueDictionary()
        self._names = count()
        self._folder: str | None = None
        self._sweep: weakref.finalize[[str], BlobStore] | None = None

    def __len__(self) -> int:
        return len(self._known)

    def add(self, file: IO[bytes]) -> Blob:
        """Copy a file into the store; blocks."""
        path = self._new_path()
        try:
            digest, size = _copy(file, path)
        except BaseException:
            _delete(path)
            raise
        with self._lock:
            known = self._known.get(digest)
            if known is None:
                known = self._known[digest] = Blob(digest, size, path)
                weakref.finalize(known, _delete, path)
                return known
        _delete(path)
        return known

    def close(self) -> None:
        """Delete everything."""
        with self._lock:
            self._known.clear()
            self._folder = None
            if self._sweep is not None:
                self._sweep()

    def _new_path(self) -> str:
        with self._lock:
            if self._folder is None:
                self._folder = tempfile.mkdtemp(prefix="lemon-emulator-")
                self._sweep = weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
            return os.path.join(self._folder, str(next(self._names)))  # noqa: PTH118 - finalizers want strings


def _copy(file: IO[bytes], path: str) -> tuple[str, int]:
    digest, size = hashlib.sha256(), 0
    file.seek(0)
    with open(path, "xb") as copy:  # noqa: PTH123 - likewise
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
            size += len(chunk)
            copy.write(chunk)
    return digest.hexdigest(), size


def _delete(path: str) -> None:
    with suppress(OSError):
        os.unlink(path)  # noqa: PTH108 - likewise
