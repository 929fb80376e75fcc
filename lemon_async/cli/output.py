"""What may be printed."""

import sys
from collections.abc import Iterator, Sequence

import click
import orjson

__all__ = ["aligned", "json_text", "plain", "say"]


def plain(text: object) -> str:
    """Return text without control characters: what a server says must not drive the terminal."""
    return "".join(c if c.isprintable() or c == "\n" else " " for c in str(text))


def say(text: object) -> None:
    """Print a line to stdout; what its encoding does not have is escaped, not an error."""
    encoding = _encoding()
    click.echo(plain(text).encode(encoding, "backslashreplace").decode(encoding))


def json_text(value: object, *, is_indented: bool = False) -> str:
    """Return JSON that is safe to print and still says the same: control characters are escaped.

    So is all that is not ASCII, where stdout has no character for some of it.

    Raises:
        RecursionError: It is nested too deeply to be written.
    """
    try:
        text = orjson.dumps(value, option=orjson.OPT_INDENT_2 if is_indented else 0).decode()
    except TypeError:
        raise RecursionError("the answer is nested too deeply to be shown") from None
    encoding = _encoding()
    has_all = text.encode(encoding, "ignore").decode(encoding) == text
    # What is not printable stands inside of strings, but for the line breaks of the indentation.
    return "".join(c if (c.isprintable() and (has_all or c.isascii())) or c == "\n" else _escaped(c) for c in text)


def aligned(rows: Sequence[Sequence[object]]) -> Iterator[str]:
    """Yield the lines of a table whose columns people can read and `awk` can count.

    White space within a cell is replaced, and what is missing is a dash; the last column is what it is.
    """
    table = [[*(_cell(cell) for cell in row[:-1]), " ".join(plain(row[-1]).split())] for row in rows]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _encoding() -> str:
    return getattr(sys.stdout, "encoding", None) or "utf-8"


def _cell(value: object) -> str:
    return "_".join(plain("" if value is None else value).split()) or "-"


def _escaped(character: str) -> str:
    """Two escapes stand for one character beyond the first 65,536 (RFC 8259, section 7)."""
    units = character.encode("utf-16-be")
    return "".join(f"\\u{units[i : i + 2].hex()}" for i in range(0, len(units), 2))
