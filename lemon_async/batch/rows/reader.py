"""Read the rows of a batch to their end, check all of them, and only then hand them to a journal.

What was checked is kept in a temporary file (rows take about as much as in their journal), so that nothing is added
when the last row has a problem, a generator is read once for a plan and a run together, and what is added is what was
checked even if the file changes meanwhile. Files are read, and rows are made, in threads and in chunks; the caller's
iterables are read in the event loop, a few milliseconds at a time.
"""

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import anyio
import attrs
import orjson

from lemon_async.batch.records import NewRow
from lemon_async.batch.rows.builder import KeyOption, RowBuilder, Validate
from lemon_async.batch.rows.fields import FIELDS, field_of, guess_field, shown
from lemon_async.batch.rows.files import Item, RowFile, check_kind, open_rows
from lemon_async.batch.rows.identity import identity_of
from lemon_async.batch.rows.iterables import Rows, RowSource, chunks_of, find_source_fault, is_read_once
from lemon_async.batch.rows.request_json import dump_request
from lemon_async.batch.rows.spool import RowSpool
from lemon_async.errors import ContractError
from lemon_async.requests import EditRequest
from lemon_async.types import Problem

__all__ = ["RowReader", "RowSource", "RowsFound", "run_in_thread"]

_DIGEST_VERSION = 1

P = ParamSpec("P")
T = TypeVar("T")


@attrs.frozen(kw_only=True)
class RowsFound:
    """What a source of rows holds.

    Attributes:
        rows: The number of rows without problems.
        repeated: The number of rows that were left out, because the same row under the same key came before.
        columns: The columns that are no fields, and travel with the rows.
        problems: The first 20 problems, the price that a model lacks once; each names its row and column.
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
            ContractError: With the first problems, and the number of the others.
        """
        if self.problem_count:
            more = self.problem_count - len(self.problems)
            rest = (Problem("rows", f"{more:,} more problems"),) if more else ()
            raise ContractError(problems=(*self.problems, *rest))


class RowReader:
    """The rows of a batch, read once. Spends nothing, and writes to a temporary file only.

    Args:
        source: See `RowSource`. An iterable must end.
        key: The column that identifies a row, or a function of the row, which a thread calls; by default its request.
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
        fault = find_source_fault(source)
        problems = [*([Problem("rows", fault)] if fault else []), *_find_option_problems(key, fields)]
        if problems:
            raise ContractError(problems=tuple(problems))
        self._source, self._key, self._fields, self._validate = source, key, fields, validate
        self._spool = RowSpool()
        self._is_broken = False
        self._found: RowsFound | None = None

    @property
    def identity(self) -> str:
        """What identifies the rows, in words."""
        return identity_of(self._key, self._fields)

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
            if self._is_broken:
                raise ContractError.of("rows", "is an iterator that was read in part; make a new one")
            try:
                self._found = await self._read()
            except BaseException:
                self._is_broken = is_read_once(self._source)
                raise
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
            rows, position = await run_in_thread(self._spool.load, position)
            if not rows:
                return
            yield rows

    def close(self) -> None:
        """Remove the temporary file; may be called again."""
        self._spool.close()

    async def _read(self) -> RowsFound:
        self.close()
        self._spool = RowSpool()
        source = self._source
        if isinstance(source, str | os.PathLike):
            builder = await self._read_file(Path(source))
        else:
            builder = await self._read_iterable(source)
        return RowsFound(
            rows=builder.row_count,
            repeated=builder.repeated,
            columns=tuple(builder.columns),
            problems=tuple(builder.problems),
            problem_count=builder.problem_count,
        )

    def _builder(self, noun: str) -> RowBuilder:
        return RowBuilder(noun, self._key, self._fields, self._validate)

    async def _read_file(self, path: Path) -> RowBuilder:
        with ExitStack() as held:
            file = await run_in_thread(_open_held, path, held)
            builder = self._builder(file.noun)
            if file.columns is not None and not builder.take_header(file.columns):
                return builder
            while chunk := await run_in_thread(file.next_chunk):
                await run_in_thread(self._keep, builder, chunk)
        builder.finish()
        return builder

    async def _read_iterable(self, source: Rows) -> RowBuilder:
        builder = self._builder("row")
        async for chunk in chunks_of(source):
            await run_in_thread(self._keep, builder, chunk)
        return builder

    def _keep(self, builder: RowBuilder, chunk: Sequence[Item]) -> None:
        self._spool.add(row for number, item in chunk for row in builder.build(number, item))


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


def _open_held(path: Path, held: ExitStack) -> RowFile:
    """Return an open file, which `held` closes also if its waiter was cancelled."""
    file = open_rows(path)
    held.callback(file.close)
    return file


def _digest_of_file(path: Path, options: bytes) -> str:
    check_kind(path)
    try:
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").digest()
    except OSError as fault:
        raise ContractError.of("rows", f"cannot be read from {shown(str(path))}: {fault.strerror or fault}") from fault
    return hashlib.sha256(b"%b\n%b" % (content, options)).hexdigest()


async def run_in_thread(work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a short blocking function in a thread; it is over, too, when cancelling is."""
    running = asyncio.ensure_future(asyncio.to_thread(work, *args, **kwargs))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        with anyio.CancelScope(shield=True):
            await asyncio.wait([running])
        running.exception()  # or else it is logged as not retrieved
        raise
