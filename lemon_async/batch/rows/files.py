"""Read rows from .csv, .jsonl and .parquet files, in chunks of bounded size, with their line numbers.

What is wrong with a line is a `Fault` in its place, so that all of them can be reported together. After a fault of the
file itself (an open quote, a line that is not UTF-8) nothing more is read, because what follows cannot be trusted.
"""

import csv
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, suppress
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import attrs
import orjson

from lemon_async.batch.rows.fields import shown
from lemon_async.errors import ContractError

__all__ = ["CHUNK_ROWS", "Fault", "Item", "RowFile", "check_kind", "open_rows"]

CHUNK_ROWS = 1000
_CHUNK_BYTES = 4 * 1024 * 1024
_PARQUET_BUFFER_BYTES = 1024 * 1024  # otherwise whole columns are read at a time
_LONGEST_LINE = 16 * 1024 * 1024
_BOM = b"\xef\xbb\xbf"
_WIDE_BOMS = (b"\xff\xfe", b"\xfe\xff")
_SAVE_AS = 'save the file as UTF-8 (in Excel, "CSV UTF-8")'


@attrs.frozen
class Fault:
    """Why there is no row."""

    message: str


Item = tuple[int, Any]
"""The number of a row or of its first line, from 1, and the row, or a `Fault`."""


@attrs.frozen
class RowFile:
    """An open file of rows.

    Attributes:
        noun: What its numbers count, `line` or `row`.
        columns: The names of its columns; `None` if each row has its own.
    """

    noun: str
    columns: tuple[str, ...] | None
    _items: Iterator[Item]
    _weight: Callable[[], int]
    _close: Callable[[], object]

    def next_chunk(self) -> list[Item]:
        """Return the next rows, at most 1,000; none at the end. Blocks."""
        chunk: list[Item] = []
        start = self._weight()
        for item in islice(self._items, CHUNK_ROWS):
            chunk.append(item)
            if self._weight() - start > _CHUNK_BYTES:
                break
        return chunk

    def close(self) -> None:
        """Close the file."""
        self._close()


def open_rows(path: Path) -> RowFile:
    """Open a file of rows. Blocks.

    Raises:
        ContractError: It cannot be read, or is of no known type.
    """
    opener = _OPENERS.get(path.suffix.lower())
    if opener is None:
        known = ", ".join(_OPENERS)
        raise _unusable(f"is a path, {shown(str(path))}, that does not end in {known}; put a single prompt into a list")
    check_kind(path)
    try:
        return opener(path)
    except (OSError, ValueError) as fault:
        reason = getattr(fault, "strerror", None) or fault
        raise _unusable(f"cannot be read from {shown(str(path))}: {reason}") from fault


def check_kind(path: Path) -> None:
    """Refuse pipes and devices: reading them may never end, and a batch reads its file twice. Blocks.

    Raises:
        ContractError: It exists, and is no regular file.
    """
    with suppress(OSError):
        kind = path.stat().st_mode
        if not stat.S_ISREG(kind) and not stat.S_ISDIR(kind):
            raise _unusable(f"cannot be read from {shown(str(path))}: it is a pipe or a device; save it as a file")


def _unusable(advice: str) -> ContractError:
    return ContractError.of("rows", advice)


class _Lines:
    """The lines of a file as text, with their numbers; ends at the first that is not text."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.bytes_read: int = 0
        self.number: int = 0
        self.fault: str | None = None

    def raw(self) -> Iterator[bytes]:
        first = self._file.readline(_LONGEST_LINE)
        if first.startswith(_WIDE_BOMS):
            self.number, self.fault = 1, f"is UTF-16; {_SAVE_AS}"
            return
        line = first.removeprefix(_BOM)
        while line:
            self.number += 1
            self.bytes_read += len(line)
            if len(line) >= _LONGEST_LINE:
                self.fault = f"is longer than {_LONGEST_LINE:,} bytes"
            elif b"\0" in line:
                self.fault = "has a NUL byte, as text files do not"
            if self.fault:
                return
            yield line
            line = self._file.readline(_LONGEST_LINE)

    def text(self) -> Iterator[str]:
        for line in self.raw():
            try:
                text = line.decode()
            except UnicodeDecodeError as fault:
                self.fault = f"is not UTF-8 at byte {fault.start + 1} ({fault.reason}); {_SAVE_AS}"
                return
            yield text


def _open_csv(path: Path) -> RowFile:
    file = path.open("rb")
    try:
        lines = _Lines(file)
        first, text = _peek(lines.text())
        rows = csv.reader(text, delimiter=_delimiter(first), strict=True)
        header = _csv_header(rows, lines)
    except BaseException:
        file.close()
        raise
    items = _csv_items(rows, header, lines)
    return RowFile("line", tuple(filter(None, header)), items, lambda: lines.bytes_read, file.close)


def _peek(lines: Iterator[str]) -> tuple[str, Iterator[str]]:
    first = next(lines, "")

    def whole() -> Iterator[str]:
        if first:
            yield first
        yield from lines

    return first, whole()


def _delimiter(header: str) -> str:
    """Return the comma, or what spreadsheets write instead of it, if the header has no comma."""
    return next((mark for mark in (",", ";", "\t") if mark in header), ",")


def _csv_header(rows: Any, lines: _Lines) -> list[str]:
    try:
        header = [name.strip() for name in next((row for row in rows if row), [])]
    except csv.Error as fault:
        lines.fault = f"is not CSV: {fault}"
        header = []
    if lines.fault:
        raise _unusable(f"line {lines.number} {lines.fault}")
    if not any(header):
        raise _unusable("the file is empty; its first line must name the columns, such as sku,prompt")
    twice = sorted({name for name in header if name and header.count(name) > 1})
    if twice:
        raise _unusable(f"the first line names columns twice: {', '.join(map(shown, twice))}")
    return header


def _csv_items(rows: Any, header: list[str], lines: _Lines) -> Iterator[Item]:
    width = len(header)
    while True:
        start, reason = rows.line_num + 1, ""
        try:
            row = next(rows, None)
        except csv.Error as fault:
            row, reason = None, f"is not CSV: {fault}; is a quote missing? Nothing after it was read"
        if lines.fault:  # it may have ended a row in the middle
            start, reason = lines.number, f"{lines.fault}; nothing after it was read"
        if reason:
            yield start, Fault(reason)
            return
        if row is None:
            return
        cells = {name: cell for name, cell in zip(header, row, strict=False) if cell and not cell.isspace()}
        if len(row) != width and cells:
            yield start, Fault(f"has {len(row)} cells, and the first line names {width} columns")
        elif "" in cells:
            yield start, Fault(f"has a cell without a column name: {shown(cells[''])}")
        elif cells:
            yield start, cells


def _open_jsonl(path: Path) -> RowFile:
    file = path.open("rb")
    lines = _Lines(file)
    return RowFile("line", None, _jsonl_items(lines), lambda: lines.bytes_read, file.close)


def _jsonl_items(lines: _Lines) -> Iterator[Item]:
    for line in lines.raw():
        if line.isspace():
            continue
        try:
            row = orjson.loads(line.strip())
        except orjson.JSONDecodeError as fault:
            yield lines.number, Fault(f"is not JSON: {fault.msg} at column {fault.colno}")
            continue
        if not isinstance(row, dict):
            row = Fault(f'must be a JSON object such as {{"prompt": "a cat"}}, not {shown(row)}')
        yield lines.number, row
    if lines.fault:
        yield lines.number, Fault(f"{lines.fault}; nothing after it was read")


def _open_parquet(path: Path) -> RowFile:
    try:
        import pyarrow as pa  # noqa: PLC0415 - an extra
        from pyarrow import parquet  # noqa: PLC0415 - likewise
    except ImportError as fault:
        raise _unusable("from .parquet need pyarrow: pip install 'lemon-async[parquet]'") from fault
    try:
        file = parquet.ParquetFile(path, buffer_size=_PARQUET_BUFFER_BYTES)
    except pa.ArrowInvalid as fault:
        raise _unusable(f"cannot be read from {shown(str(path))}: {fault}") from fault
    names = tuple(file.schema_arrow.names)
    if len(set(names)) < len(names):
        file.close()
        raise _unusable("the file names columns twice")
    return RowFile("row", names, _parquet_items(file, pa.ArrowException), lambda: 0, file.close)


def _parquet_items(file: Any, fault_type: type[Exception]) -> Iterator[Item]:
    number = 0
    with closing(file.iter_batches(batch_size=CHUNK_ROWS, use_threads=False)) as batches:
        while True:
            try:
                batch = next(batches, None)
            except (fault_type, OSError) as fault:
                yield number + 1, Fault(f"cannot be read: {fault}; nothing after it was read")
                return
            if batch is None:
                return
            for row in batch.to_pylist():
                number += 1
                yield number, row


_OPENERS: Mapping[str, Callable[[Path], RowFile]] = {
    ".csv": _open_csv,
    ".jsonl": _open_jsonl,
    ".parquet": _open_parquet,
}
