"""Parquet files are rows, where the extra is installed: `.ci/run` does, the ordinary set-up does without."""

import datetime as dt
import decimal

import pytest

from lemon_async.batch.rows.builder import columns_of, request_of
from lemon_async.batch.rows.reader import RowReader
from lemon_async.errors import ContractError

pa = pytest.importorskip("pyarrow", reason="Parquet needs the extra `parquet`")
parquet = pytest.importorskip("pyarrow.parquet", reason="likewise")


@pytest.fixture
def read(tmp_path):
    """Return the rows of a table, through a file."""

    async def read_rows(table, **options):
        path = tmp_path / "rows.parquet"
        parquet.write_table(table, path)
        reader = RowReader(path, validate=lambda _: (), **options)
        try:
            return [row async for chunk in reader.chunks() for row in chunk]
        finally:
            reader.close()

    return read_rows


async def test_rows_are_read_in_order(read):
    """Numbers become keys, and what is null is absent."""
    rows = [{"sku": at, "prompt": f"cat {at}", "n": None if at % 2 else 2.0} for at in range(2500)]
    found = await read(pa.Table.from_pylist(rows), key="sku")
    assert [row.key for row in found] == [str(at) for at in range(2500)]
    assert [request_of(row).n for row in found[:2]] == [2, None]
    assert columns_of(found[1]) == {"sku": 1}


async def test_columns_keep_what_json_can_hold(read):
    """Dates and decimals become text, nested values stay."""
    row = {"day": dt.date(2026, 11, 21), "price": decimal.Decimal("1.20"), "tags": ["a"], "box": {"w": 1}}
    (found,) = await read(pa.Table.from_pylist([{"prompt": "x", **row}]))
    assert columns_of(found) == {"day": "2026-11-21", "price": "1.20", "tags": ["a"], "box": {"w": 1}}


async def test_bytes_are_refused_by_column(read):
    """As in a dataset that holds its pictures."""
    with pytest.raises(ContractError, match="row 1, picture: cannot be kept as JSON"):
        await read(pa.table({"prompt": ["x"], "picture": [b"PNG"]}))


async def test_missing_columns_are_one_problem(read):
    """Whatever the number of rows."""
    with pytest.raises(ContractError) as caught:
        await read(pa.table({"text": ["x", "y"]}))
    assert [str(problem) for problem in caught.value.problems] == [
        "prompt: there is no such column; the columns are 'text'"
    ]


async def test_columns_that_are_named_twice_are_refused(read):
    """One of them would be lost."""
    with pytest.raises(ContractError, match="names columns twice"):
        await read(pa.Table.from_arrays([pa.array(["x"]), pa.array(["y"])], names=["prompt", "prompt"]))


async def test_damaged_files_are_refused(tmp_path):
    """At the start if the end is missing, and in the middle otherwise."""
    path = tmp_path / "rows.parquet"
    parquet.write_table(pa.table({"prompt": [f"cat {at}" for at in range(5000)]}), path, compression="gzip")
    whole = path.read_bytes()
    damaged = [b"", b"prompt\n", whole[:-100], whole[:200] + bytes(2000) + whole[2200:]]
    for content in damaged:
        path.write_bytes(content)
        with pytest.raises(ContractError, match="cannot be read"):
            await RowReader(path, validate=lambda _: ()).chunks().__anext__()
