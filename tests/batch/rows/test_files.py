"""Files of rows: whatever is in them becomes rows, or faults that name their lines."""

import csv
import io
import json
import os
import sys

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lemon_async.batch.rows.files import Fault, open_rows
from lemon_async.batch.rows.reader import RowReader
from lemon_async.errors import ContractError

steady = settings(derandomize=True, deadline=None, max_examples=60)
# What a CSV can hold: no NUL, and `\r` is a line end to the standard library's writer.
cells = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=8).filter(
    str.strip
)

QUOTE = "is a quote missing? Nothing after it was read"


def read(path):
    """Return all rows of a file; faults as text."""
    file = open_rows(path)
    try:
        found = []
        while chunk := file.next_chunk():
            found += chunk
    finally:
        file.close()
    return [(number, row.message if isinstance(row, Fault) else row) for number, row in found]


@pytest.fixture
def rows_of(tmp_path):
    def write_and_read(content, name="rows.csv"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return read(path)

    return write_and_read


def refused(rows_of, content, name="rows.csv"):
    with pytest.raises(ContractError) as caught:
        rows_of(content, name)
    return str(caught.value)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("sku,prompt\na,cat\nb,dog\n", [(2, {"sku": "a", "prompt": "cat"}), (3, {"sku": "b", "prompt": "dog"})]),
        ("prompt\ncat", [(2, {"prompt": "cat"})]),
        ("\ufeffprompt,n\r\ncat,2\r\n", [(2, {"prompt": "cat", "n": "2"})]),
        ("prompt;n\ncat, big;2\n", [(2, {"prompt": "cat, big", "n": "2"})]),
        ("prompt\tn\ncat;big\t2\n", [(2, {"prompt": "cat;big", "n": "2"})]),
        (" prompt , n \ncat,2\n", [(2, {"prompt": "cat", "n": "2"})]),
        ('prompt,n\n"a ""big"", cat\nand a dog",2\nhat,3\n',
         [(2, {"prompt": 'a "big", cat\nand a dog', "n": "2"}), (4, {"prompt": "hat", "n": "3"})]),
        ("prompt,n\n\ncat,\n,,\n, \n\n", [(3, {"prompt": "cat"})]),
        ("\n\nprompt\ncat\n", [(4, {"prompt": "cat"})]),
        ("prompt,n,,\ncat,2,,\n", [(2, {"prompt": "cat", "n": "2"})]),
        ("prompt,\ncat,x\n", [(2, "has a cell without a column name: 'x'")]),
        ("prompt,n\ncat\ndog,2,3\nhat,1\n",
         [(2, "has 1 cells, and the first line names 2 columns"),
          (3, "has 3 cells, and the first line names 2 columns"),
          (4, {"prompt": "hat", "n": "1"})]),
        ('prompt,n\n"cat,2\nhat,1\n', [(2, f"is not CSV: unexpected end of data; {QUOTE}")]),
        ('prompt\n"a" cat\nhat\n', [(2, f"""is not CSV: ',' expected after '"'; {QUOTE}""")]),
        ("prompt\n", []),
    ],
)  # fmt: skip
def test_csv(rows_of, content, expected):
    """Line ends, quotes, blank lines, byte order marks and the separators of spreadsheets are read as meant."""
    assert rows_of(content) == expected


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "the file is empty; its first line must name the columns"),
        ("\n \n", "the file is empty"),
        ("\ufeff", "the file is empty"),
        ("prompt,n,n,size,size\na,1,2,3,4\n", "names columns twice: 'n', 'size'"),
        ('prompt,"n\n', "is not CSV: unexpected end of data"),
        ("prompt\ncat\n".encode("utf-16"), "line 1 is UTF-16; save the file as UTF-8"),
        (b"pr\xf6mpt\n", "line 1 is not UTF-8 at byte 3 (invalid start byte); save the file as UTF-8 (in"),
        (b"PK\x03\x04\0\0", "line 1 has a NUL byte"),
    ],
)  # fmt: skip
def test_csv_without_a_header_is_refused(rows_of, content, message):
    """There would be no rows to report problems of."""
    assert message in refused(rows_of, content)


def test_csv_ends_at_a_line_that_is_not_text(rows_of):
    """The rows before it are read, and its number is exact."""
    (_, before), (number, message) = rows_of(b"prompt\ncat\ncaf\xe9\ndog\n")
    assert before == {"prompt": "cat"}
    assert number == 3
    assert message.startswith("is not UTF-8 at byte 4")
    assert rows_of(b"prompt\ncat\0\n") == [(2, "has a NUL byte, as text files do not; nothing after it was read")]


def test_csv_names_the_line_inside_a_row(rows_of):
    """A quoted cell goes over several lines; the fault is the byte, not the quote."""
    ((number, message),) = rows_of(b'prompt\n"cat\ncaf\xe9\ndog"\n')
    assert (number, message.partition(" (")[0]) == (3, "is not UTF-8 at byte 4")


def test_csv_with_huge_cells_is_refused(rows_of):
    """Neither an open quote nor a line without an end is read into memory as a whole."""
    assert "field larger than field limit" in rows_of("prompt\n" + "x" * (csv.field_size_limit() + 1))[0][1]
    assert "field larger than field limit" in rows_of('prompt\n"' + "x\n" * csv.field_size_limit())[0][1]
    assert "is longer than 16,777,216 bytes" in rows_of("prompt\n" + "x" * 17_000_000)[0][1]


@steady
@given(st.lists(st.fixed_dictionaries({"prompt": cells, "a b": cells, 'c"': cells}), max_size=5))
def test_csv_of_the_standard_library_round_trips(tmp_path_factory, rows):
    """What Python's `csv` has written is read exactly."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, ["prompt", "a b", 'c"'])
    writer.writeheader()
    writer.writerows(rows)
    path = tmp_path_factory.getbasetemp() / "round.csv"
    path.write_bytes(text.getvalue().encode())
    assert [row for _, row in read(path)] == rows


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('{"prompt": "cat", "n": 2, "tags": ["a"], "size": null}\n',
         [(1, {"prompt": "cat", "n": 2, "tags": ["a"], "size": None})]),
        ('\ufeff{"prompt": "cat"}\r\n\r\n{"prompt": "dog"}', [(1, {"prompt": "cat"}), (3, {"prompt": "dog"})]),
        ('{"prompt": "cat"\n{"prompt": "dog"}\n',
         [(1, "is not JSON: unexpected end of data at column 17"), (2, {"prompt": "dog"})]),
        ('"cat"\n[1]\n', [(1, """must be a JSON object such as {"prompt": "a cat"}, not 'cat'"""),
                          (2, """must be a JSON object such as {"prompt": "a cat"}, not [1]""")]),
        ('{"prompt": "cat"}\n\0\n',
         [(1, {"prompt": "cat"}), (2, "has a NUL byte, as text files do not; nothing after it was read")]),
        (b'{"prompt": "caf\xe9"}\n', None),
        ("", []),
    ],
)  # fmt: skip
def test_jsonl(rows_of, content, expected):
    """Each line is an object or a fault of its own."""
    found = rows_of(content, "rows.JSONL")
    assert found == expected or (expected is None and "is not JSON" in found[0][1])


@steady
@given(
    st.lists(st.dictionaries(st.text(max_size=5), st.none() | st.integers(-9, 9) | cells | st.lists(cells)), max_size=5)
)
def test_jsonl_round_trips(tmp_path_factory, rows):
    """What a JSON library has written is read exactly."""
    path = tmp_path_factory.getbasetemp() / "round.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert [row for _, row in read(path)] == rows


def test_chunks_are_bounded_by_rows_and_bytes(tmp_path):
    """A chunk takes at most 1,000 rows, and not many megabytes."""
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"prompt":"x"}\n' * 2500)
    file = open_rows(path)
    assert [len(file.next_chunk()) for _ in range(4)] == [1000, 1000, 500, 0]
    file.close()
    path.write_bytes((orjson.dumps({"prompt": "x" * 1_000_000}) + b"\n") * 12)
    file = open_rows(path)
    assert len(file.next_chunk()) == 5
    file.close()


def test_unreadable_files_are_refused(rows_of, tmp_path):
    """A prompt is not taken for a path without saying so."""
    assert "put a single prompt into a list" in refused(rows_of, "", "rows.txt")
    with pytest.raises(ContractError, match="No such file"):
        open_rows(tmp_path / "none.csv")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(ContractError, match="Is a directory"):
        open_rows(tmp_path / "folder.csv")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
async def test_pipe_is_refused(tmp_path):
    """Opening it would wait for a writer, uncancellable."""
    path = tmp_path / "rows.jsonl"
    os.mkfifo(path)
    with pytest.raises(ContractError, match=r"rows\.jsonl.*: it is a pipe or a device; save it as a file"):
        open_rows(path)
    with pytest.raises(ContractError, match="it is a pipe or a device"):
        await RowReader(path, validate=lambda _: []).digest()


def test_parquet_needs_an_extra(tmp_path, monkeypatch):
    """The advice is a command."""
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "rows.parquet").touch()
    with pytest.raises(ContractError, match=r"pip install 'lemon-async\[parquet\]'"):
        open_rows(tmp_path / "rows.parquet")
