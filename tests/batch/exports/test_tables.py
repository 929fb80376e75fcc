"""Tables hold every row, as programs and spreadsheets read them."""

import csv
import hashlib
import io
import sys

import orjson
import pytest

from lemon_async import ContractError
from lemon_async.batch.exports.columns import Columns
from lemon_async.batch.exports.report import Report
from lemon_async.batch.exports.tables import TABLES, check_parquet, table_rows
from lemon_async.batch.records import JournalRow, SavedPicture
from lemon_async.batch.states import State


def row(number=0, *pictures, columns=None, **facts):
    facts = {"state": State.DONE, "request": orjson.dumps({"prompt": f"cat {number}", "model": "flux-pro"}), **facts}
    columns = orjson.dumps(columns) if columns else b""
    return JournalRow(number=number, key=f"sku-{number}", columns=columns, pictures=pictures, **facts)


def write(kind, tmp_path, *rows):
    """Return the bytes of a table, and the report."""
    columns, report, file = Columns(), Report(), io.BytesIO()
    for each in rows:
        columns.learn(each)
    records = table_rows(iter(rows), columns, tmp_path, tmp_path / "tables", report)
    TABLES[kind](file, records, columns.kinds())
    return file.getvalue(), report


def read_csv(content):
    return list(csv.DictReader(io.StringIO(content.decode(), newline="")))


def saved(path, content=b"picture"):
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    return SavedPicture(str(path), len(content), hashlib.sha256(content).hexdigest())


def test_csv_and_json_lines_have_a_line_for_each_row(tmp_path):
    rows = [row(0, attempt=1), row(1, state=State.REFUSED, error="moderation: no")]
    (first, second), lines = (
        read_csv(write("csv", tmp_path, *rows)[0]),
        [orjson.loads(line) for line in write("jsonl", tmp_path, *rows)[0].splitlines()],
    )
    assert list(first) == list(lines[0])
    assert (first["key"], first["state"], first["prompt"], first["attempt"]) == ("sku-0", "done", "cat 0", "1")
    assert (second["state"], second["error"]) == ("refused", "moderation: no")
    assert (lines[0]["attempt"], lines[0]["cost_usd"], lines[0]["paths"]) == (1, None, [])


def test_paths_are_relative_to_the_table_or_absolute(tmp_path):
    inside, outside = saved(tmp_path / "tables" / "a.png"), saved(tmp_path / "b.png")
    content, report = write("jsonl", tmp_path, row(0, inside, outside))
    assert orjson.loads(content)["paths"] == ["a.png", str(tmp_path / "b.png")]
    assert orjson.loads(content)["sha256"] == [inside.sha256, outside.sha256]
    (cells,) = read_csv(write("csv", tmp_path, row(0, inside, outside))[0])
    assert cells["paths"] == f"a.png\n{tmp_path / 'b.png'}"
    assert (report.rows, report.pictures) == (1, 2)


def test_picture_that_is_missing_or_has_another_size_is_reported(tmp_path):
    """Its row stays."""
    gone, cut = saved(tmp_path / "gone.png"), saved(tmp_path / "cut.png")
    (tmp_path / "gone.png").unlink()
    (tmp_path / "cut.png").write_bytes(b"pic")
    content, report = write("jsonl", tmp_path, row(0, gone, cut))
    assert len(orjson.loads(content)["paths"]) == 2
    assert (report.rows, report.pictures, report.left_out) == (1, 0, 2)
    assert "gone.png' cannot be read: No such file" in report.faults[0]
    assert "cut.png' is not the file that was saved" in report.faults[1]


TEXTS = ["a,b", 'say "hi"', "two\nlines", "a\r\nb", "\N{CAT}", "é;'", "", " x ", "\x00"]


def test_csv_is_read_back_as_it_was(tmp_path):
    """Commas, quotes and line ends are quoted."""
    rows = [row(n, columns={"text": text, "last": "end"}) for n, text in enumerate(TEXTS)]
    read = read_csv(write("csv", tmp_path, *rows)[0])
    assert [cells["text"] for cells in read] == TEXTS
    assert {cells["last"] for cells in read} == {"end"}


@pytest.mark.parametrize(
    "text", ["=1+1", '=HYPERLINK("x")', "+cmd|' /C calc'!A0", "-1+cmd()", "@SUM(A1)", "\t=1", "\r=1"]
)
def test_formula_in_csv_gets_an_apostrophe(text, tmp_path):
    """A spreadsheet would run it, whoever wrote it: a column's name, a value or an error of the service."""
    rows = [row(0, columns={text: text}, error=text)]
    (cells,) = read_csv(write("csv", tmp_path, *rows)[0])
    assert cells[f"'{text}"] == f"'{text}"
    assert cells["error"] == f"'{text}"
    assert orjson.loads(write("jsonl", tmp_path, *rows)[0])["error"] == text


@pytest.mark.parametrize("text", ["-5", "+49", "-0.5", "+1e9", "-.5", "-1,000.50", "5", "a=b", "a-b"])
def test_number_in_csv_stays_as_it_is(text, tmp_path):
    (cells,) = read_csv(write("csv", tmp_path, row(0, columns={"x": text}))[0])
    assert cells["x"] == text


def test_number_that_is_negative_stays_a_number(tmp_path):
    (cells,) = read_csv(write("csv", tmp_path, row(0, columns={"x": -5.5}))[0])
    assert cells["x"] == "-5.5"


def test_csv_that_is_empty_has_a_header(tmp_path):
    assert write("csv", tmp_path)[0].startswith(b"key,state,prompt,model,attempt,")
    assert write("jsonl", tmp_path)[0] == b""


def test_parquet_has_a_type_for_each_column(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet", reason="Parquet needs the extra `parquet`")
    rows = [row(n, columns={"x": n, "y": n / 2, "z": True, "t": "=a"}) for n in range(3)]
    content, _ = write("parquet", tmp_path, *rows)
    table = parquet.read_table(io.BytesIO(content))
    types = {field.name: str(field.type) for field in table.schema}
    assert {name: types[name] for name in ("x", "y", "z", "t")} == {
        "x": "int64",
        "y": "double",
        "z": "bool",
        "t": "string",
    }
    assert types["paths"].startswith("list<")
    assert table["x"].to_pylist() == [0, 1, 2]
    assert table["t"].to_pylist() == ["=a"] * 3
    assert parquet.read_table(io.BytesIO(write("parquet", tmp_path)[0])).num_rows == 0


def test_parquet_without_pyarrow_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ContractError, match=r"pip install 'lemon-async\[parquet\]'"):
        check_parquet()
