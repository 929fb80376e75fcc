"""Bytes that are going to be uploaded: examined once, opened anew for every attempt.

A form cannot be sent twice: aiohttp reads a file to its end, and an iterator is empty the second time. So what has no
name on the disk is copied first, into memory if it is small and into an unnamed temporary file if not, and what has
one is opened again for each attempt and must then be what was examined. Nothing larger than `HEAD_BYTES` is held.

Work in a thread does not keep the loop free by itself: copying holds the interpreter. So no more than `CHUNK_BYTES` are
copied at a time, with the hashing or writing of them in between, which lets go of it.
"""

import errno
import hashlib
import io
import os
import stat
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import attrs

from lemon_async._formats.pictures import PictureFacts
from lemon_async._formats.safe_text import safe_repr, safe_str
from lemon_async._formats.stream_validator import StreamValidator
from lemon_async._http.attempt import NoResponse
from lemon_async.errors import ContractError

__all__ = [
    "CHUNK_BYTES",
    "SpooledUpload",
    "UnusableSource",
    "Upload",
    "as_bytes",
    "as_unusable",
    "as_view",
    "examine_bytes",
    "examine_file",
    "examine_path",
    "glance",
    "is_shortage",
    "open_upload",
]

_SHORTAGES = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)

HEAD_BYTES = 1024 * 1024
"""Enough for the headers of a picture: a JPEG may carry several hundred kilobytes of profiles before its size."""

CHUNK_BYTES = 256 * 1024
"""The most that is copied in one step: 0.1 ms."""


class UnusableSource(Exception):
    """A source cannot be read; the message says why, in the words of a `Problem`."""


@attrs.frozen(kw_only=True)
class Upload:
    """What is known of some bytes, and how to get at them.

    Attributes:
        picture: The facts in the header; `None` if the bytes are no known picture.
        fault: Why they are not a whole picture; after a `glance`, as far as their beginning shows it.
        digest: SHA-256 of them all; empty after a `glance`.
        open: Returns them as a file at its beginning; blocks, so call it in a thread.
    """

    size_bytes: int
    picture: PictureFacts | None = None
    fault: str | None = None
    digest: str = ""
    open: Callable[[], BinaryIO] = attrs.field(repr=False)


class _Examiner:
    """Hashes bytes and checks the picture in them, in one pass."""

    def __init__(self) -> None:
        self._hashing = hashlib.sha256()
        self._validator = StreamValidator(HEAD_BYTES)

    def feed(self, piece: bytes | memoryview) -> None:
        """Take the next bytes, at most `CHUNK_BYTES`."""
        self._hashing.update(piece)
        self._validator.feed(piece)

    def upload(self, reopen: Callable[[], BinaryIO]) -> Upload:
        """Return the upload of all the bytes."""
        return Upload(
            size_bytes=self._validator.size_bytes,
            picture=self._validator.facts,
            fault=self._validator.end(),
            digest=self._hashing.hexdigest(),
            open=reopen,
        )


class SpooledUpload:
    """Collects bytes from anywhere; `finish` makes an upload of them.

    A thread that was left behind may still be at it when it is closed: then that thread closes it.

    Args:
        max_bytes: Bound of the size; `None` is none.
    """

    def __init__(self, max_bytes: int | None) -> None:
        self._file = tempfile.SpooledTemporaryFile(HEAD_BYTES)  # noqa: SIM115 - closed by `close`
        self._examiner = _Examiner()
        self._max_bytes = max_bytes
        self._size_bytes = 0
        self._in_use = threading.Lock()
        self._is_closed = False

    def write(self, piece: bytes | bytearray | memoryview) -> None:
        """Take the next bytes, however many; blocks when they go to the disk.

        Raises:
            Unusable: There are too many.
        """
        view = as_view(piece)
        self._size_bytes += len(view)
        if self._max_bytes is not None and self._size_bytes > self._max_bytes:
            raise UnusableSource(f"has more than the {self._max_bytes:,} bytes that are taken")
        with self._using() as file:
            for at in range(0, len(view), CHUNK_BYTES):
                self._examiner.feed(view[at : at + CHUNK_BYTES])
                file.write(view[at : at + CHUNK_BYTES])

    def finish(self) -> Upload:
        """Return what was collected; it is there until `close`."""
        return self._examiner.upload(self._open)

    def close(self) -> None:
        """Forget the bytes; never blocks."""
        self._is_closed = True
        if self._in_use.acquire(blocking=False):
            try:
                self._file.close()
            finally:
                self._in_use.release()

    @contextmanager
    def _using(self) -> Iterator[Any]:
        try:
            with self._in_use:
                yield self._file
        finally:
            if self._is_closed:
                self.close()

    def _open(self) -> BinaryIO:
        """Return a reader of its own: who sends a file closes it, too."""
        with self._using() as file:
            file.seek(0)
            if self._size_bytes <= HEAD_BYTES:
                return io.BytesIO(file.read())
            file.flush()
            return os.fdopen(os.dup(file.fileno()), "rb")


@contextmanager
def as_unusable() -> Iterator[None]:
    """Tell of whatever an object of the caller raises in the words of a `Problem`.

    Raises:
        Unusable: Something was raised.
    """
    try:
        yield
    except UnusableSource:
        raise
    except Exception as failure:
        raise UnusableSource(f"reading it failed: {safe_str(failure)}") from failure


def is_shortage(fault: object) -> bool:
    """Tell whether this machine is short of something: that passes, and says nothing about a request."""
    return isinstance(fault, OSError) and fault.errno in _SHORTAGES


def glance(head: bytes, size_bytes: int, reopen: Callable[[], BinaryIO]) -> Upload:
    """Return what the first `HEAD_BYTES` show of bytes that are not read as a whole."""
    validator = StreamValidator(HEAD_BYTES)
    fault = validator.feed(head)
    if len(head) == size_bytes:
        fault = validator.end()
    return Upload(size_bytes=size_bytes, picture=validator.facts, fault=fault, open=reopen)


def examine_bytes(content: bytes) -> Upload:
    """Hash bytes and check the picture in them; blocks."""
    examiner = _Examiner()
    view = memoryview(content)
    for at in range(0, len(view), CHUNK_BYTES):
        examiner.feed(view[at : at + CHUNK_BYTES])
    return examiner.upload(lambda: io.BytesIO(content))


def examine_path(path: Path, *, is_hashed: bool, max_bytes: int | None = None) -> Upload:
    """Read a file to its end if it is to be hashed and not larger than `max_bytes`, else its beginning; blocks.

    Raises:
        Unusable: It cannot be read, or is no regular file.
    """
    try:
        with _open_regular(path) as file:
            identity = _identity(file)
            upload = examine_file(file)
            if is_hashed and (max_bytes is None or upload.size_bytes <= max_bytes):
                examiner = _Examiner()
                while piece := file.read(CHUNK_BYTES):
                    examiner.feed(piece)
                upload = examiner.upload(lambda: file)
    except OSError as fault:
        raise UnusableSource(f"cannot read {safe_repr(str(path))}: {fault.strerror or safe_str(fault)}") from fault
    except ValueError as fault:
        raise UnusableSource(f"cannot be a file name: {safe_str(fault)}") from fault

    def reopen() -> BinaryIO:
        file = _open_regular(path)
        if _identity(file) == identity:
            return file
        file.close()
        raise OSError(None, "it has changed since it was checked")

    return attrs.evolve(upload, open=reopen)


def examine_file(file: BinaryIO) -> Upload:
    """Glance at the rest of a seekable file, and leave it where it stands; blocks.

    Raises:
        OSError, ValueError: It cannot be read.
        Unusable: It gives something else than bytes.
    """
    start = file.tell()
    head = as_bytes(file.read(HEAD_BYTES))
    size_bytes = file.seek(0, os.SEEK_END) - start
    file.seek(start)
    return glance(head, size_bytes, lambda: file)


def as_bytes(piece: object) -> bytes:
    """Return a piece of a stream.

    Raises:
        Unusable: It is something else than bytes.
    """
    return bytes(as_view(piece)) if type(piece) is not bytes else piece


def as_view(piece: object) -> memoryview:
    """Return the bytes of a piece of a stream, without a copy where that can be.

    Raises:
        Unusable: It is something else than bytes.
        ValueError: It was let go of.
    """
    if not isinstance(piece, bytes | bytearray | memoryview):
        raise UnusableSource(f"must give bytes, not {type(piece).__name__} (a file is opened with mode 'rb')")
    view = memoryview(piece)
    if not view.c_contiguous or not view.nbytes:
        return memoryview(view.tobytes())
    return view.cast("B")


def open_upload(place: str, upload: Upload) -> BinaryIO:
    """Open an upload for one attempt; blocks.

    Raises:
        ContractError: It is not there any more, or not what was examined; nothing was sent.
        NoAnswer: This machine has no room for another open file; nothing was sent.
    """
    try:
        return upload.open()
    except (OSError, ValueError) as fault:
        reason = getattr(fault, "strerror", None) or safe_str(fault)
        if is_shortage(fault):
            raise NoResponse(f"{place} cannot be opened: {reason}", was_sent=False) from fault
        raise ContractError.of(place, f"cannot be opened again: {reason}") from fault


def _open_regular(path: Path) -> BinaryIO:
    """Open a file that has bytes: opening a pipe would wait for somebody to write."""
    mode = path.stat().st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(None, "it is a folder")
    if not stat.S_ISREG(mode):
        raise OSError(None, "it is neither a file nor a link to one")
    return path.open("rb")


def _identity(file: BinaryIO) -> tuple[int, ...]:
    facts = os.fstat(file.fileno())
    return facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns
