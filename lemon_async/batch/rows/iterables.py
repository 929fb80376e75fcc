"""Read rows from iterables of the caller's, in the event loop and a few milliseconds at a time."""

import inspect
import os
import time
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from typing import Any

from lemon_async.batch.rows.files import CHUNK_ROWS, Item
from lemon_async.requests import Request

__all__ = ["RowSource", "Rows", "chunks_of", "find_source_fault", "is_read_once"]

_Row = str | Request | Mapping[str, Any]
Rows = Iterable[_Row] | AsyncIterable[_Row]
RowSource = str | os.PathLike[str] | Rows
"""A path to a .csv, .jsonl or .parquet file, or an (async) iterable of prompts, requests and mappings."""

_STEP_S = 0.004
_END = object()


def find_source_fault(source: object) -> str | None:
    """Return why an object cannot be a source of rows, or why iterating it would not give its rows."""
    if isinstance(source, str | os.PathLike):
        return None
    if isinstance(source, bytes | bytearray | memoryview | Mapping | Request):
        return f"must be a path or an iterable of rows, not one {type(source).__name__}; use a list"
    if hasattr(source, "columns") and hasattr(source, "shape"):  # which gives the names of its columns as prompts
        return "is a table; give its rows: to_dict('records') of pandas, to_dicts() of polars, to_pylist() of pyarrow"
    if callable(getattr(source, "read", None)):  # which gives the header as a prompt
        return "is an open file; give its path, or a list of its lines if each is a prompt"
    if not isinstance(source, Iterable | AsyncIterable):
        return f"must be a path or an iterable of rows, not {type(source).__name__}"
    is_spent = (inspect.isgenerator(source) and source.gi_frame is None) or (
        inspect.isasyncgen(source) and source.ag_frame is None
    )
    return "is an exhausted generator; make a new one" if is_spent else None


def is_read_once(source: object) -> bool:
    """Return whether iterating a source again continues where it was left."""
    return isinstance(source, Iterator | AsyncIterator)


async def chunks_of(source: Rows) -> AsyncIterator[list[Item]]:
    """Yield the items of an iterable, with their numbers from 1, in chunks; the caller awaits between them."""
    pull = _pull_of(source)
    number, is_over = 0, False
    while not is_over:
        chunk: list[Item] = []
        until = time.perf_counter() + _STEP_S
        while len(chunk) < CHUNK_ROWS and time.perf_counter() < until:
            item = await pull()
            if is_over := item is _END:
                break
            number += 1
            chunk.append((number, item))
        yield chunk


def _pull_of(source: Rows) -> Callable[[], Awaitable[Any]]:
    """Return a coroutine function that returns the next item, or `_END`."""
    if isinstance(source, AsyncIterable):
        asynchronous = aiter(source)
        return lambda: anext(asynchronous, _END)
    iterator = iter(source)

    async def pull() -> Any:
        return next(iterator, _END)

    return pull
