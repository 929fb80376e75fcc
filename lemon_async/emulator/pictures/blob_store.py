"""Keep the files that clients send on disk for as long as an object refers to them.

An edit may hold 16 files of 50 MiB, and its task may be drawn an hour later, so the files do not stay in memory. Equal
files are stored once. A file is deleted with the last job, upload or drawing that refers to it; the folder is deleted
with the store.
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
    """A folder of files, each deleted when no `Blob` refers to it any more; thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: weakref.WeakValueDictionary[str, Blob] = weakref.WeakValueDictionary()
        self._file_numbers = count()
        self._folder: str | None = None
        self._delete_folder: weakref.finalize[[str], BlobStore] | None = None

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
            if self._delete_folder is not None:
                self._delete_folder()

    def _new_path(self) -> str:
        with self._lock:
            if self._folder is None:
                self._folder = tempfile.mkdtemp(prefix="lemon-emulator-")
                self._delete_folder = weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
            return os.path.join(self._folder, str(next(self._file_numbers)))  # noqa: PTH118 - finalizers want strings


def _copy(file: IO[bytes], path: str) -> tuple[str, int]:
    digest, size = hashlib.sha256(), 0
    file.seek(0)
    with open(path, "xb") as copy:  # noqa: PTH123 - blob paths are strings
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
            size += len(chunk)
            copy.write(chunk)
    return digest.hexdigest(), size


def _delete(path: str) -> None:
    with suppress(OSError):
        os.unlink(path)  # noqa: PTH108 - blob paths are strings
