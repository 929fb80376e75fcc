"""Read the rows of a batch to their end, check all of them, and only then hand them to a journal.

What was checked is kept in a temporary file (rows take about as much as in their journal), so that nothing is added
when the last row has a problem, a generator is read once for a plan and a run together, and what is added is what was
checked even if the file changes meanwhile. Files are read, and rows are made, in threads and in chunks; the caller's
iterables are read in the event loop, a few milliseconds at a time.
"""

import asyncio
import hashlib
import os
import tempfile
import time
import weakref
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import attrs
import orjson

from lemon_async.batch.records import NewRow
from lemon_async.batch.rows.builder import KeyOption, RowBuilder, Validate
from lemon_async.batch.rows.fields import FIELDS, field_of, guess_field, shown
from lemon_async.batch.rows.files import CHUNK_ROWS, Item, open_rows
from lemon_async.batch.rows.request_json import dump_request
from lemon_async.errors import ContractError, JournalError
from lemon_async.requests import EditRequest, Request
from lemon_async.types import Problem

__all__ = ["RowReader", "RowSource", "RowsFound", "run_in_thread"]

_Row = str | Request | Mapping[str, Any]
_Items = Iterable[_Row] | AsyncIterable[_Row]
RowSource = str | os.PathLike[str] | _Items
"""A path to a .csv, .jsonl or .parquet file, or an (async) iterable of prompts, requests and mappings."""

_DIGEST_VERSION = 1
_IN_MEMORY_BYTES = 8 * 1024 * 1024
_STEP_S = 0.004

P = ParamSpec("P")
T = TypeVar("T")


@attrs.frozen(kw_only=True)
class RowsFound:
    """What a source of rows holds.

    Attributes:
        rows: The number of rows without problems.
        repeated: The number of rows that were left out, because the same row under the same key came before.
        columns: The columns that are no fields, and travel with the rows.
        problems: The first 20 problems; each names its row and column.
        problem_count: The number of all problems.
    """

    rows: int
    repeated: int = 0
    columns: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()
    problem_count: int = 0

    def check(self) -> None:
        """Raise the problems, if there are any.

        Raises:
            ContractError: With the first 20 problems, and the number of the others.
        """
        if self.problem_count:
            more = self.problem_count - len(self.problems)
            rest = (Problem("rows", f"{more:,} more problems"),) if more else ()
            raise ContractError(problems=(*self.problems, *rest))


class RowReader:
    """The rows of a batch, read once. Spends nothing, and writes to a temporary file only.

    Args:
        source: See `RowSource`. An iterable must end.
        key: The column that identifies a row, or a function of the row; by default the request does.
        fields: Default fields of the requests; a column of a row wins. `model` may be a list: every row is then made
            for each of them.
        validate: Returns the problems of a request, such as `LemonSession.validate`; called in a thread.

    Raises:
        ContractError: An argument is invalid.
    """

    def __init__(
        self,
        source: RowSource,
        *,
        validate: Validate,
        key: KeyOption = None,
        fields: Mapping[str, Any] | None = None,
    ) -> None:
        fields = {name: value for name, value in (fields or {}).items() if value is not None}
        problems = [*_find_source_problems(source), *_find_option_problems(key, fields)]
        if problems:
            raise ContractError(problems=tuple(problems))
        self._source, self._key, self._fields, self._validate = source, key, fields, validate
        self._spool: tempfile.SpooledTemporaryFile[bytes] | None = None
        self._found: RowsFound | None = None

    async def digest(self) -> str | None:
        """Return the digest of a file and of all options that change its rows; `None` if they cannot be compared.

        Raises:
            ContractError: The file cannot be read.
        """
        if not isinstance(self._source, str | os.PathLike) or callable(self._key):
            return None
        try:
            picture = {name: self._fields[name] for name in ("image", "mask") if name in self._fields}
            source = dump_request(EditRequest("", **{"image": (), **picture}))
            plain = {name: value for name, value in self._fields.items() if name not in picture}
            options = orjson.dumps([_DIGEST_VERSION, self._key, plain], option=orjson.OPT_SORT_KEYS)
        except (ContractError, TypeError):
            return None
        return await run_in_thread(_digest_of_file, Path(self._source), options + source)

    async def read(self) -> RowsFound:
        """Read all rows, once; cancelling ends it after the current chunk.

        Raises:
            ContractError: The source cannot be read as rows at all.
            JournalError: The temporary file cannot be written.
        """
        if self._found is None:
            source = self._source
            builder = await (
                self._read_file(Path(source)) if isinstance(source, str | os.PathLike) else self._read_iterable(source)
            )
            self._found = RowsFound(
                rows=builder.row_count,
                repeated=builder.repeated,
                columns=tuple(builder.columns),
                problems=tuple(builder.problems),
                problem_count=builder.problem_count,
            )
        return self._found

    async def chunks(self, *, is_checked: bool = True) -> AsyncIterator[Sequence[NewRow]]:
        """Yield all rows, in chunks of about 1,000; they are read first if they have not been. May be called again.

        Args:
            is_checked: Whether to yield nothing if any row has a problem; otherwise those without problems.

        Raises:
            ContractError: There are problems.
            JournalError: The temporary file cannot be written or read.
        """
        found = await self.read()
        if is_checked:
            found.check()
        position = 0
        while True:
            rows, position = await run_in_thread(self._load, position)
            if not rows:
                return
            yield rows

    def close(self) -> None:
        """Remove the temporary file; may be called again."""
        if self._spool is not None:
            self._spool.close()

    def _builder(self, noun: str) -> RowBuilder:
        return RowBuilder(noun, self._key, self._fields, self._validate)

    async def _read_file(self, path: Path) -> RowBuilder:
        file = await run_in_thread(open_rows, path)
        try:
            builder = self._builder(file.noun)
            if file.columns is not None and not builder.take_header(file.columns):
                return builder
            while chunk := await run_in_thread(file.next_chunk):
                await run_in_thread(self._keep, builder, chunk)
            builder.finish()
            return builder
        finally:
            file.close()

    async def _read_iterable(self, source: _Items) -> RowBuilder:
        builder = self._builder("row")
        async for chunk in _chunks_of(source):
            await run_in_thread(self._keep, builder, chunk)
        return builder

    def _keep(self, builder: RowBuilder, chunk: Sequence[Item]) -> None:
        rows = [row for number, item in chunk for row in builder.build(number, item)]
        lines = [
            part for row in rows for part in (row.key.encode(), row.request, row.columns, row.digest.hex().encode())
        ]
        with _spooling():
            self._open_spool().write(b"".join(b"%b\n" % line for line in lines))

    def _load(self, position: int) -> tuple[list[NewRow], int]:
        """Return the rows that begin at a position of the temporary file, and where the next ones begin."""
        spool = self._open_spool()
        with _spooling():
            spool.seek(position)
            lines = [line[:-1] for line in islice(spool, 4 * CHUNK_ROWS)]
            position += sum(map(len, lines)) + len(lines)
        fields = iter(lines)
        rows = [
            NewRow(key.decode(), request, columns, bytes.fromhex(digest.decode()))
            for key, request, columns, digest in zip(fields, fields, fields, fields, strict=True)
        ]
        return rows, position

    def _open_spool(self) -> "tempfile.SpooledTemporaryFile[bytes]":
        if self._spool is None:
            self._spool = tempfile.SpooledTemporaryFile(_IN_MEMORY_BYTES)  # noqa: SIM115 - closed by `close`
            weakref.finalize(self, self._spool.close)  # if a plan was all that was wanted
        return self._spool


def _find_source_problems(source: object) -> Iterator[Problem]:
    if isinstance(source, bytes | Mapping | Request):
        yield Problem("rows", f"must be a path or an iterable of rows, not one {type(source).__name__}; use a list")
    elif not isinstance(source, str | os.PathLike | Iterable | AsyncIterable):
        yield Problem("rows", f"must be a path or an iterable of rows, not {type(source).__name__}")


def _find_option_problems(key: object, fields: Mapping[str, Any]) -> Iterator[Problem]:
    if not (key is None or callable(key) or (isinstance(key, str) and key.strip())):
        yield Problem("key", f"must be the name of a column, or a function of the row, not {shown(key)}")
    for name in fields:
        if name not in FIELDS:
            guess = guess_field(name)
            yield Problem(name, f"is not a field{f'; did you mean {field_of(guess)}=?' if guess else ''}")
    model = fields.get("model")
    if model is not None and not isinstance(model, str):
        models = list(model) if isinstance(model, list | tuple) else []
        if not models or not all(isinstance(name, str) for name in models) or len(set(models)) < len(models):
            yield Problem("model", f"must be a model id, or a list of different ones, not {shown(model)}")


@contextmanager
def _spooling() -> Iterator[None]:
    """Report that there is no room for the temporary file."""
    try:
        yield
    except OSError as fault:
        advice = "make room, or set TMPDIR to a folder with more of it; nothing was added or sent"
        raise JournalError(message=f"the temporary file of the rows failed: {fault}; {advice}") from fault


def _digest_of_file(path: Path, options: bytes) -> str:
    try:
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").digest()
    except OSError as fault:
        raise ContractError.of("rows", f"cannot be read from {shown(str(path))}: {fault.strerror or fault}") from fault
    return hashlib.sha256(b"%b\n%b" % (content, options)).hexdigest()


async def _chunks_of(source: _Items) -> AsyncIterator[list[Item]]:
    """Yield the items of an iterable with their numbers from 1, and hold up the event loop for milliseconds only."""
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


_END = object()


def _pull_of(source: _Items) -> Callable[[], Awaitable[Any]]:
    """Return a coroutine function that returns the next item, or `_END`."""
    if isinstance(source, AsyncIterable):
        asynchronous = aiter(source)
        return lambda: anext(asynchronous, _END)
    iterator = iter(source)

    async def pull() -> Any:
        return next(iterator, _END)

    return pull


async def run_in_thread(work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a short blocking function in a thread; it is over, too, when cancelling is."""
    running = asyncio.ensure_future(asyncio.to_thread(work, *args, **kwargs))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running])
        raise
