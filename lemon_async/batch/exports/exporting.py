"""Export a journal: check the destination, read the rows twice, and write a file or folder that appears whole."""

import asyncio
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from os import PathLike, fsdecode
from pathlib import Path
from typing import Literal, get_args

import anyio
import attrs
import orjson

from lemon_async.batch.exports.columns import Columns
from lemon_async.batch.exports.files import replacing, replacing_folder
from lemon_async.batch.exports.pictures import write_image_folder, write_web_dataset
from lemon_async.batch.exports.report import Report
from lemon_async.batch.exports.tables import TABLES, check_parquet, is_table, table_rows
from lemon_async.batch.journal import Journal
from lemon_async.batch.records import JournalRow
from lemon_async.batch.states import State
from lemon_async.errors import ContractError, SaveError

__all__ = ["Export", "Format", "export", "folder_of"]

Format = Literal["imagefolder", "webdataset", "csv", "jsonl", "parquet"]

_CHUNK_ROWS = 1000
_MAX_WAIT_S = 5.0
_MARK = ".lemon-async.json"
_SPLIT = "train"
_PICTURES: Mapping[str, Callable[[Path, Iterator[JournalRow], Columns, Path, Report], None]] = {
    "imagefolder": write_image_folder,
    "webdataset": write_web_dataset,
}


@attrs.frozen
class Export:
    """A finished export; a path to the system.

    Attributes:
        path: The destination.
        rows: Number of rows in it.
        pictures: Number of pictures in it.
        left_out: Number of pictures whose files are missing or have changed: datasets leave them out, tables list them.
        faults: What is wrong with the first 100 of these.
    """

    path: Path
    rows: int
    pictures: int
    left_out: int = 0
    faults: tuple[str, ...] = ()

    def __fspath__(self) -> str:
        return str(self.path)

    def __str__(self) -> str:
        return str(self.path)


async def export(
    journal: Journal,
    destination: str | PathLike[str],
    *,
    format: Format = "imagefolder",  # noqa: A002 - the usual word
) -> Export:
    """Write what a journal holds as a dataset or a table; a batch need not be finished.

    `imagefolder`: `train/` with the pictures of all rows that are done and `metadata.jsonl`, one line per picture, as
    `datasets.load_dataset("imagefolder", data_dir=destination)` reads it. Pictures are hard links where possible, which
    take no space; a program that writes into one changes both.

    `webdataset`: `train/000000.tar` and so on with the same pictures, each with a JSON file; two exports are equal.

    `csv`, `jsonl`, `parquet` (extra `parquet`): a file with one line per row of any state. In CSV, text that a
    spreadsheet would run as a formula begins with an apostrophe.

    Each column has one kind: columns of mixed values are text. A column whose name is taken gets `_` at its end.

    The pictures of datasets are compared with their digests. An earlier export at the destination is replaced; nothing
    else is. Cancelling takes effect after the picture being written, and leaves the destination as it was; a disk that
    hangs is waited for at most 5 s. Costs nothing.

    Args:
        journal: From `open_journal`.
        destination: A folder, or the file of a table; missing folders are created.
        format: What to write.

    Raises:
        ContractError: The format or the destination does not fit, or an extra is missing; nothing was written.
        SaveError: The destination cannot be written; it is as it was.
        JournalError: The journal cannot be read.
    """
    if format not in get_args(Format):
        raise ContractError.of("format", f"must be one of {', '.join(get_args(Format))}", undone="written")
    stop = threading.Event()
    work = _Work(journal, _checked(destination), format, stop)
    running = asyncio.ensure_future(asyncio.to_thread(work.run))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        stop.set()
        running.add_done_callback(lambda work: work.cancelled() or work.exception())  # or asyncio would log it
        with anyio.CancelScope(shield=True):  # a cancelled scope of anyio cancels every await
            await asyncio.wait([running], timeout=_MAX_WAIT_S)
        raise


def _checked(destination: object) -> Path:
    """Return the destination as an absolute path, or raise `ContractError`."""
    try:
        text = fsdecode(destination)  # type: ignore[arg-type]  # other types raise, which is the check
    except TypeError as error:
        raise ContractError.of("destination", "must be a path", undone="written") from error
    if not text or "\0" in text:
        raise ContractError.of("destination", f"must be a path, not {text!r}", undone="written")
    return Path(text).absolute()


def folder_of(journal: Journal) -> Path:
    """Return the folder that relative paths of a journal start from."""
    return journal.folder or Path.cwd()


class _Stopped(Exception):
    """The caller was cancelled."""


@attrs.frozen
class _Work:
    """One export; `run` blocks."""

    journal: Journal
    destination: Path
    format: Format
    stop: threading.Event
    loop: asyncio.AbstractEventLoop = attrs.field(factory=asyncio.get_running_loop)
    report: Report = attrs.field(factory=Report)

    def run(self) -> Export:
        try:
            (self._write_table if self.format in TABLES else self._write_pictures)()
        except OSError as failure:
            path = str(failure.filename or self.destination)
            raise SaveError(path=path, reason=failure.strerror or str(failure), errno=failure.errno) from failure
        counts = attrs.asdict(self.report)
        return Export(self.destination, **{**counts, "faults": tuple(self.report.faults)})

    def _write_table(self) -> None:
        target = self.destination
        if self.format == "parquet":
            check_parquet()
        self._check_file()
        columns = self._learn()
        rows = table_rows(self._rows(), columns, folder_of(self.journal), target.parent, self.report)
        target.parent.mkdir(parents=True, exist_ok=True)
        with replacing(target) as file:
            TABLES[self.format](file, rows, columns.kinds())

    def _write_pictures(self) -> None:
        target = self.destination / _SPLIT
        self._check_folder(target)
        columns = self._learn(State.DONE)
        with replacing_folder(target) as folder:
            rows = self._with_first(columns.early())
            _PICTURES[self.format](folder, rows, columns, folder_of(self.journal), self.report)
            mark = {"format": self.format, "journal": self.journal.name, **attrs.asdict(self.report)}
            (folder / _MARK).write_bytes(orjson.dumps(mark, option=orjson.OPT_INDENT_2))

    def _learn(self, *states: State) -> Columns:
        columns = Columns()
        for row in self._rows(*states):
            columns.learn(row)
        return columns

    def _rows(self, *states: State) -> Iterator[JournalRow]:
        """Yield the rows in order; called in the thread, while the loop reads them."""
        after = -1
        while rows := self._read(*states, after=after):
            for row in rows:
                if self.stop.is_set():
                    raise _Stopped
                yield row
            after = rows[-1].number

    def _with_first(self, numbers: Collection[int]) -> Iterator[JournalRow]:
        """Yield the rows that are done, those with certain numbers before all others."""
        for number in numbers:
            yield from self._read(State.DONE, after=number - 1, limit=1)
        yield from (row for row in self._rows(State.DONE) if row.number not in numbers)

    def _read(self, *states: State, after: int, limit: int = _CHUNK_ROWS) -> Sequence[JournalRow]:
        reading = self.journal.rows(*states, after=after, limit=limit)
        return asyncio.run_coroutine_threadsafe(reading, self.loop).result()

    def _check_file(self) -> None:
        """Raise `ContractError` if the destination is anything but a new file or a table of an earlier export."""
        target = self.destination
        if target.is_dir():
            raise self._refusal("is a folder: name a file in it")
        if target.is_symlink() or (target.exists() and not is_table(target, self.format)):
            raise self._refusal(f"is another file, no {self.format} export: name a new one")

    def _check_folder(self, target: Path) -> None:
        """Raise `ContractError` if the dataset would replace anything but an earlier one."""
        if self.destination.exists() and not self.destination.is_dir():
            raise self._refusal("is a file: name a folder")
        if target.is_symlink() or (target.exists() and not (target.is_dir() and self._is_ours(target))):
            raise self._refusal(f"has a {_SPLIT!r} that is no export: name another folder")

    def _is_ours(self, folder: Path) -> bool:
        return (folder / _MARK).is_file() or not any(folder.iterdir())

    def _refusal(self, advice: str) -> ContractError:
        return ContractError.of("destination", f"{advice}: {str(self.destination)!r}", undone="written")
