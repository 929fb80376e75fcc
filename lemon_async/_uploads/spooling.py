"""Sources that can be read only once: files from where they stand, and streams.

They are copied, by one request at a time: of two that read the same one, each would get a part, and pay for it. A file
is read in a thread that nobody waits for in the end: `read` of a pipe may never return, and nothing of ours is lost.
"""

import asyncio
import inspect
import sys
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, aclosing, contextmanager, nullcontext
from functools import partial
from typing import Any

from lemon_async._images.threads import run_abandonable, run_uncancellable
from lemon_async._uploads.upload import CHUNK_BYTES, SpooledUpload, UnusableSource, as_unusable, as_view

__all__ = ["drain", "is_read_once"]

_PIECES_PER_TURN = 256  # of a stream that never waits; they may be empty
_BUSY = "is being read by another request at this moment: give each its own, or its bytes"

# By identity, because not everything can be hashed; the objects live at least as long as they are in here.
_readers: dict[int, object] = {}
_reads: set[int] = set()


def is_read_once(source: object) -> bool:
    """Tell whether a second reading would find nothing."""
    try:
        return isinstance(source, AsyncIterator) or callable(getattr(source, "read", None))
    except Exception:  # noqa: BLE001 - a strange object; reading it will tell
        return False


async def drain(source: Any, spool: SpooledUpload) -> None:
    """Copy a stream or a file to its end, however small the pieces are in which it comes, and close a generator.

    Raises:
        Unusable: It cannot be read, or is being read by somebody else.
    """
    with as_unusable():
        stream = aiter(source) if isinstance(source, AsyncIterable) else _chunks(source)
        with _alone(source if is_read_once(source) else stream):
            await _copy(stream, spool)


async def _copy(stream: AsyncIterator[Any], spool: SpooledUpload) -> None:
    held, count = bytearray(), 0
    async with _closing(stream) as iterator:
        async for piece in iterator:
            view = as_view(piece)
            if held and len(held) + len(view) >= CHUNK_BYTES:
                await run_uncancellable(spool.write, held)
                held = bytearray()
            if len(view) >= CHUNK_BYTES:  # copied in a thread, before its owner goes on and may change it
                await run_uncancellable(spool.write, view)
            else:
                held += view
            count += 1
            if count % _PIECES_PER_TURN == 0:
                await asyncio.sleep(0)
        await run_uncancellable(spool.write, held)


@contextmanager
def _alone(source: object) -> Iterator[None]:
    """Keep others from a source, and refuse one that others are at."""
    me = object()
    if id(source) in _reads or _readers.setdefault(id(source), me) is not me:
        raise UnusableSource(_BUSY)
    try:
        yield
    finally:
        del _readers[id(source)]


def _closing(iterator: AsyncIterator[Any]) -> AbstractAsyncContextManager[AsyncIterator[Any]]:
    return aclosing(iterator) if isinstance(iterator, AsyncGenerator) else nullcontext(iterator)


async def _chunks(file: Any) -> AsyncGenerator[memoryview, None]:
    while chunk := as_view(await _chunk(file)):
        yield chunk


async def _chunk(file: Any) -> object:
    """Read on; `read` may be a coroutine, as that of a web framework's upload is."""
    if inspect.iscoroutinefunction(file.read):
        return await file.read(CHUNK_BYTES)
    # Python aborts when it ends while a thread is reading its standard input: there it waits.
    is_stdin = file is getattr(sys.stdin, "buffer", None)
    return await run_abandonable(partial(_read_on, file), is_daemon=not is_stdin)


def _read_on(file: Any) -> object:
    _reads.add(id(file))
    try:
        return file.read(CHUNK_BYTES)
    except StopIteration as odd:  # no future takes it
        raise UnusableSource("reading it failed: StopIteration") from odd
    finally:
        _reads.discard(id(file))
