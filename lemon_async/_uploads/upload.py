"""Bytes to be uploaded: examined once, and opened again for every attempt.

A form cannot be sent twice: aiohttp reads a file to its end, and an iterator is empty the second time. So a source that
can be read only once is copied first, into memory if it is small and into an unnamed temporary file if not. A file with
a path is opened again for each attempt, and must then be the file that was examined. At most `HEAD_BYTES` of each are
held in memory.

A thread does not keep the event loop free by itself: copying holds the interpreter's lock. So at most `CHUNK_BYTES` are
copied at a time, and hashing or writing them, which releases the lock, comes in between.

A source that can be read only once is read by one request at a time: of two, each would get a part of the picture and
pay for it. It is read in a thread that may be abandoned, because `read` of a pipe may never return.
"""

import asyncio
import errno
import hashlib
import inspect
import io
import os
import stat
import sys
import tempfile
import threading
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Iterator
from contextlib import aclosing, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import attrs

from lemon_async._formats.json_documents import safe_repr, safe_str
from lemon_async._formats.pictures import PictureFacts, StreamValidator
from lemon_async._http.attempt import NoResponse
from lemon_async._images.threads import run_abandonable, run_uncancellable
from lemon_async.errors import ContractError

__all__ = [
    "CHUNK_BYTES",
    "SpooledUpload",
    "UnusableSource",
    "Upload",
    "as_unusable",
    "as_view",
    "drain",
    "examine_bytes",
    "examine_file",
    "examine_path",
    "glance",
    "is_read_once",
    "is_shortage",
    "open_upload",
]

_SHORTAGES = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)

HEAD_BYTES = 1024 * 1024
"""Enough for the headers of a picture: a JPEG may carry several hundred kilobytes of profiles before its size."""

CHUNK_BYTES = 256 * 1024
"""The most that is copied in one step, in 0.1 ms."""

_PIECES_PER_TURN = 256  # of a stream that never waits; they may be empty
_BUSY = "is being read by another request at this moment: give each its own, or its bytes"

# Sources that are being read, by identity: not every object can be hashed. They live at least as long as their entry.
_readers: dict[int, object] = {}
_reads: set[int] = set()  # reads in threads, which may outlive their reader


class UnusableSource(Exception):
    """A source cannot be read; the text is the message of a `Problem`."""


@attrs.frozen(kw_only=True)
class Upload:
    """Bytes that were examined, and how to open them.

    Attributes:
        picture: The facts in the header; `None` if the bytes are not a known picture.
        fault: Why they are not a whole picture; after a `glance`, as far as their beginning shows it.
        digest: SHA-256 of all bytes; empty after a `glance`.
        open: Returns a file at its beginning; blocks, so call it in a thread.
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
    """Collects bytes, and makes an upload of them.

    An abandoned thread may still be writing when it is closed: then that thread closes the file.

    Args:
        max_bytes: Maximum size, or `None`.
    """

    def __init__(self, max_bytes: int | None) -> None:
        self._file = tempfile.SpooledTemporaryFile(HEAD_BYTES)  # noqa: SIM115 - closed by `close`
        self._examiner = _Examiner()
        self._max_bytes = max_bytes
        self._size_bytes = 0
        self._in_use = threading.Lock()
        self._is_closed = False

    def write(self, piece: bytes | bytearray | memoryview) -> None:
        """Append bytes; blocks when they go to the disk.

        Raises:
            UnusableSource: There are too many.
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
        """Return the upload, which can be opened until `close`."""
        return self._examiner.upload(self._open)

    def close(self) -> None:
        """Delete the bytes; never blocks."""
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
        """Return a separate reader: aiohttp closes the file that it sends."""
        with self._using() as file:
            file.seek(0)
            if self._size_bytes <= HEAD_BYTES:
                return io.BytesIO(file.read())
            file.flush()
            return os.fdopen(os.dup(file.fileno()), "rb")


@contextmanager
def as_unusable() -> Iterator[None]:
    """Turn whatever an object of the caller raises into `UnusableSource`."""
    try:
        yield
    except UnusableSource:
        raise
    except Exception as failure:
        raise UnusableSource(f"reading it failed: {safe_str(failure)}") from failure


def is_shortage(fault: object) -> bool:
    """Return whether an error means a shortage on this machine, which says nothing about the request."""
    return isinstance(fault, OSError) and fault.errno in _SHORTAGES


def glance(head: bytes, size_bytes: int, reopen: Callable[[], BinaryIO]) -> Upload:
    """Return an upload of bytes of which only the first `HEAD_BYTES` were read."""
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
        UnusableSource: It cannot be read, or is not a regular file.
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
    """Glance at the rest of a seekable file, and leave its position unchanged; blocks.

    Raises:
        OSError, ValueError: It cannot be read.
        UnusableSource: `read` returns something else than bytes.
    """
    start = file.tell()
    head = bytes(as_view(file.read(HEAD_BYTES)))
    size_bytes = file.seek(0, os.SEEK_END) - start
    file.seek(start)
    return glance(head, size_bytes, lambda: file)


def as_view(piece: object) -> memoryview:
    """Return a view of a bytes-like object, without a copy if possible.

    Raises:
        UnusableSource: It is something else.
        ValueError: It is a released memoryview.
    """
    if not isinstance(piece, bytes | bytearray | memoryview):
        raise UnusableSource(f"must give bytes, not {type(piece).__name__} (a file is opened with mode 'rb')")
    view = memoryview(piece)
    if not view.c_contiguous or not view.nbytes:
        return memoryview(view.tobytes())
    return view.cast("B")


def is_read_once(source: object) -> bool:
    """Return whether reading a source a second time would find nothing."""
    try:
        return isinstance(source, AsyncIterator) or callable(getattr(source, "read", None))
    except Exception:  # noqa: BLE001 - reading it will report the fault
        return False


async def drain(source: Any, spool: SpooledUpload) -> None:
    """Copy a stream or a file to its end, however small its pieces are, and close a generator.

    Cancelling abandons a read of the caller's file that does not return.

    Raises:
        UnusableSource: It cannot be read, or another request is reading it.
    """
    with as_unusable():
        stream = aiter(source) if isinstance(source, AsyncIterable) else _chunks(source)
        with _exclusive(source if is_read_once(source) else stream):
            await _copy(stream, spool)


async def _copy(stream: AsyncIterator[Any], spool: SpooledUpload) -> None:
    held, count = bytearray(), 0
    async with aclosing(stream) if isinstance(stream, AsyncGenerator) else nullcontext(stream) as iterator:
        async for piece in iterator:
            view = as_view(piece)
            if held and len(held) + len(view) >= CHUNK_BYTES:
                await run_uncancellable(spool.write, held)
                held = bytearray()
            if len(view) >= CHUNK_BYTES:  # copied before its owner can change it
                await run_uncancellable(spool.write, view)
            else:
                held += view
            count += 1
            if count % _PIECES_PER_TURN == 0:
                await asyncio.sleep(0)
        await run_uncancellable(spool.write, held)


@contextmanager
def _exclusive(source: object) -> Iterator[None]:
    """Reserve a source, unless it is being read."""
    reader = object()
    if id(source) in _reads or _readers.setdefault(id(source), reader) is not reader:
        raise UnusableSource(_BUSY)
    try:
        yield
    finally:
        del _readers[id(source)]


async def _chunks(file: Any) -> AsyncGenerator[memoryview, None]:
    while chunk := as_view(await _chunk(file)):
        yield chunk


async def _chunk(file: Any) -> object:
    """Read the next bytes; `read` may be a coroutine function, as in a web framework's upload."""
    if inspect.iscoroutinefunction(file.read):
        return await file.read(CHUNK_BYTES)
    # Python aborts if it exits while a daemon thread is reading standard input.
    is_stdin = file is getattr(sys.stdin, "buffer", None)
    return await run_abandonable(partial(_read_on, file), is_daemon=not is_stdin)


def _read_on(file: Any) -> object:
    _reads.add(id(file))
    try:
        return file.read(CHUNK_BYTES)
    except StopIteration as error:  # a future does not accept it
        raise UnusableSource("reading it failed: StopIteration") from error
    finally:
        _reads.discard(id(file))


def open_upload(place: str, upload: Upload) -> BinaryIO:
    """Open an upload for one attempt; blocks.

    Raises:
        ContractError: The file is gone or has changed; nothing was sent.
        NoResponse: This machine cannot open another file; nothing was sent.
    """
    try:
        return upload.open()
    except (OSError, ValueError) as fault:
        reason = getattr(fault, "strerror", None) or safe_str(fault)
        if is_shortage(fault):
            raise NoResponse(f"{place} cannot be opened: {reason}", was_sent=False) from fault
        raise ContractError.of(place, f"cannot be opened again: {reason}") from fault


def _open_regular(path: Path) -> BinaryIO:
    """Open a regular file: opening a pipe would wait for a writer."""
    mode = path.stat().st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(None, "it is a folder")
    if not stat.S_ISREG(mode):
        raise OSError(None, "it is neither a file nor a link to one")
    return path.open("rb")


def _identity(file: BinaryIO) -> tuple[int, ...]:
    facts = os.fstat(file.fileno())
    return facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns
