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
        file.seek(0)
        sha256 = hashlib.sha256()
        while chunk := file.read(_CHUNK_BYTES):
            sha256.update(chunk)
        digest = sha256.hexdigest()
        with self._lock:
            known = self._known.get(digest)
            if known is None:
                file.seek(0)
                known = self._known[digest] = self._copy(file, digest)
            return known

    def close(self) -> None:
        """Delete everything."""
        with self._lock:
            self._known.clear()
            self._folder = None
            if self._delete_folder is not None:
                self._delete_folder()

    def _copy(self, file: IO[bytes], digest: str) -> Blob:
        if self._folder is None:
            self._folder = tempfile.mkdtemp(prefix="lemon-emulator-")
            self._delete_folder = weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        path = os.path.join(self._folder, str(next(self._file_numbers)))  # noqa: PTH118 - finalizers want strings
        with open(path, "xb") as copy:  # noqa: PTH123 - likewise
            shutil.copyfileobj(file, copy)
            blob = Blob(digest, copy.tell(), path)
        weakref.finalize(blob, _delete, path)
        return blob


def _delete(path: str) -> None:
    with suppress(OSError):
        os.unlink(path)  # noqa: PTH108 - blob paths are strings
