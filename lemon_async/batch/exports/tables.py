"""Tables of all rows of a journal: CSV, JSON Lines and Parquet. All of this blocks.

JSON Lines and Parquet hold every value as it is. A CSV file is likely to be opened as a spreadsheet, which would run a
text such as `=HYPERLINK(...)` as a formula: text that begins like one gets an apostrophe before it, unless it is a
number. Several paths of one row stand on lines of their own in one cell.
"""

import csv
import io
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from lemon_async.batch.exports.columns import Columns, Kind
from lemon_async.batch.exports.report import Report
from lemon_async.batch.records import JournalRow
from lemon_async.errors import ContractError

__all__ = ["TABLES", "check_parquet", "is_table", "table_rows"]

Row = Mapping[str, Any]

_FORMULA = re.compile(r"[=+\-@\t\r]")
_NUMBER = re.compile(r"[+-]?(\d+([.,]\d*)*|[.,]\d+)([eE][+-]?\d+)?")
_PARQUET_ROWS = 10_000
_FIRST_NAMES = ["key", "state", "prompt", "model"]
_BEGINNINGS = {
    "csv": re.compile(b"key,state,prompt,model,"),
    "jsonl": re.compile(rb'\{"key":"[^\n]*?","state":"[a-z]+","prompt":'),
}
_HEAD_BYTES = 64 * 1024


def table_rows(
    rows: Iterable[JournalRow], columns: Columns, base: Path, folder: Path, report: Report
) -> Iterator[dict[str, Any]]:
    """Yield each row with the paths of its pictures.

    Args:
        rows: The rows of the journal.
        columns: What was learned from them.
        base: The folder that relative paths in the journal start from.
        folder: The folder of the table: paths below it are relative to it, others absolute.
        report: Is updated; a picture whose file is missing or has another size is reported, and stays in the table.
    """
    for row in rows:
        paths = [base / picture.path for picture in row.pictures]
        for path, picture in zip(paths, row.pictures, strict=True):
            if fault := _find_fault(path, picture.size_bytes):
                report.leave_out(row.key, fault)
            else:
                report.pictures += 1
        report.rows += 1
        yield {
            **columns.of_row(row),
            "paths": [_relative(path, folder) for path in paths],
            "sha256": [picture.sha256 for picture in row.pictures],
        }


def check_parquet() -> None:
    """Raise `ContractError` if pyarrow is not installed."""
    try:
        import pyarrow  # noqa: F401, ICN001, PLC0415 - an extra
    except ImportError:
        advice = "needs pyarrow: pip install 'lemon-async[parquet]'"
        raise ContractError.of("format", advice, undone="written") from None


def is_table(path: Path, kind: str) -> bool:
    """Return whether a file is an earlier export, or empty, and may be replaced."""
    if not path.is_file() or not path.stat().st_size:
        return path.is_file()
    if kind == "parquet":
        return _is_parquet_table(path)
    with path.open("rb") as file:
        return _BEGINNINGS[kind].match(file.read(_HEAD_BYTES)) is not None


def _is_parquet_table(path: Path) -> bool:
    import pyarrow as pa  # noqa: PLC0415 - an extra
    from pyarrow import parquet  # noqa: PLC0415 - likewise

    try:
        names: list[str] = parquet.read_schema(path).names
    except pa.ArrowInvalid:
        return False
    return names[: len(_FIRST_NAMES)] == _FIRST_NAMES


def _find_fault(path: Path, size_bytes: int) -> str | None:
    try:
        size = path.stat().st_size
    except OSError as failure:
        return f"{str(path)!r} cannot be read: {failure.strerror}"
    return None if size == size_bytes else f"{str(path)!r} is not the file that was saved"


def _relative(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else str(path)


def _write_csv(file: BinaryIO, rows: Iterable[Row], kinds: Mapping[str, Kind]) -> None:
    text = io.TextIOWrapper(file, "utf-8", newline="")
    writer = csv.writer(text)
    writer.writerow([_cell(name) for name in kinds])
    writer.writerows([_cell(row[name]) for name in kinds] for row in rows)
    text.detach()


def _cell(value: Any) -> Any:
    if isinstance(value, list):
        value = "\n".join(value)
    if isinstance(value, str) and _FORMULA.match(value) and not _NUMBER.fullmatch(value):
        return f"'{value}"
    return value


def _write_jsonl(file: BinaryIO, rows: Iterable[Row], kinds: Mapping[str, Kind]) -> None:
    file.writelines(orjson.dumps({name: row[name] for name in kinds}, option=orjson.OPT_APPEND_NEWLINE) for row in rows)


def _write_parquet(file: BinaryIO, rows: Iterable[Row], kinds: Mapping[str, Kind]) -> None:
    import pyarrow as pa  # noqa: PLC0415 - an extra
    from pyarrow import parquet  # noqa: PLC0415 - likewise

    types = {
        Kind.TEXT: pa.string(),
        Kind.INTEGER: pa.int64(),
        Kind.FLOAT: pa.float64(),
        Kind.BOOL: pa.bool_(),
        Kind.TEXTS: pa.list_(pa.string()),
    }
    schema = pa.schema([(name, types[kind]) for name, kind in kinds.items()])
    rows = iter(rows)
    with parquet.ParquetWriter(file, schema, compression="zstd") as writer:
        while group := list(islice(rows, _PARQUET_ROWS)):
            writer.write_table(pa.Table.from_pylist(group, schema=schema))


TABLES: Mapping[str, Callable[[BinaryIO, Iterable[Row], Mapping[str, Kind]], None]] = {
    "csv": _write_csv,
    "jsonl": _write_jsonl,
    "parquet": _write_parquet,
}
