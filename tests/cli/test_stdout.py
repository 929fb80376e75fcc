"""Printed text cannot control a terminal and loses no information."""

import contextlib
import io

import orjson
import pytest

from lemon_async import ContractError
from lemon_async.cli.stdout import aligned, json_text, plain, print_line


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a nice cat, größer als 猫", "a nice cat, größer als 猫"),
        ("two\nlines", "two\nlines"),
        ("\x1b[2J\x1b]0;title\x07", " [2J ]0;title "),
        ("over\rwritten\b\x7f", "over written  "),
        ("right\u202eleft\u200b", "right left "),
        (ContractError(problems=()), "0 problems, nothing was sent:"),
        (None, "None"),
    ],
    ids=repr,
)
def test_text_of_a_server_controls_no_terminal(text, shown):
    assert plain(text) == shown


def test_line_is_said_as_plain_text(capsys):
    print_line("a\x1b[2Jb")
    assert capsys.readouterr().out == "a [2Jb\n"


def test_line_is_printed_in_the_encoding_of_the_output():
    """A character that the encoding lacks is escaped, and the command continues."""
    output = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    with contextlib.redirect_stdout(output):
        print_line("猫")
    output.flush()
    assert output.buffer.getvalue() == b"\\u732b\n"


@pytest.mark.parametrize("is_indented", [False, True])
@pytest.mark.parametrize(
    "text", ["größer als 猫", "\x1b[2J\x07\x00\x7f\x9b", "\u202e\u2028", "\U000e0041", "a\nb"], ids=ascii
)
def test_json_is_printable_and_says_the_same(text, is_indented):
    value = {"id": text, text: [1, None]}
    shown = json_text(value, is_indented=is_indented)
    assert orjson.loads(shown) == value
    assert plain(shown) == shown
    assert is_indented == ("\n" in shown)


@pytest.mark.parametrize("text", ["größer", "猫", "\U0001f600"], ids=ascii)
def test_json_is_in_ascii_where_the_output_lacks_a_character(text):
    """Python's own escapes are not JSON."""
    output = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    with contextlib.redirect_stdout(output):
        print_line(json_text({"id": text}))
    output.flush()
    assert orjson.loads(output.buffer.getvalue()) == {"id": text}


def test_json_that_is_nested_too_deeply_is_refused_in_words():
    value = []
    for _ in range(300):
        value = [value]
    with pytest.raises(RecursionError, match="the response is nested too deeply to be shown"):
        json_text(value)


def test_table_is_aligned_and_its_columns_can_be_counted():
    """A cell with white space stays one word for `awk`, and a missing one becomes a dash."""
    rows = [("dall-e-3", None, "generate", ""), ("a b\nc", "open\x1bai", 5, "a  name")]
    assert list(aligned(rows)) == ["dall-e-3  -        generate", "a_b_c     open_ai  5         a name"]
    assert list(aligned([])) == []
