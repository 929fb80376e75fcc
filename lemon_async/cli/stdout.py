"""What goes to stdout: text that is safe to print, or the bytes of one picture (`-o -`)."""

import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

import attrs
import click
import orjson

from lemon_async._images.image import Image
from lemon_async._images.threads import run_abandonable
from lemon_async.errors import Problem

__all__ = ["STDOUT", "Stdout", "aligned", "encodable", "json_text", "plain", "say", "stdout_problems", "write_stdout"]

STDOUT = "-"


def plain(text: object) -> str:
    """Return text without control characters: what a server says must not drive the terminal."""
    return "".join(c if c.isprintable() or c == "\n" else " " for c in str(text))


def encodable(text: str, stream: TextIO | None) -> str:
    """Return text that a stream can write: what its encoding does not have is escaped, not an error."""
    encoding = _encoding_of(stream)
    return text.encode(encoding, "backslashreplace").decode(encoding)


def say(text: object) -> None:
    """Print a line to stdout."""
    click.echo(encodable(plain(text), sys.stdout))


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
    encoding = _encoding_of(sys.stdout)
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


@attrs.frozen
class Stdout:
    """stdout in the place of a `Destination`."""

    async def save(self, image: Image, *_: object, **__: Any) -> Path:
        """Write a picture to stdout, once all of it is here.

        Raises:
            DownloadError: As for `Image.read`.
            OSError: It cannot be written, or is not the first picture of its job.
        """
        if image.index:
            raise OSError(f"stdout takes one picture, and this is number {image.index + 1}")
        await write_stdout(await image.read())
        return Path(STDOUT)


def stdout_problems(*, pictures: int) -> tuple[Problem, ...]:
    """Return why pictures cannot go to stdout."""
    found = []
    if pictures > 1:
        found.append(f"'-' takes one picture, not {pictures}")
    if sys.stdout is None:
        found.append("'-': stdout is closed")
    elif sys.stdout.isatty():
        found.append("'-': stdout is a terminal; redirect it to a file or a pipe")
    return tuple(Problem("-o", fault) for fault in found)


async def write_stdout(content: bytes) -> None:
    """Write bytes to stdout; cancelling does not wait for a slow reader.

    Raises:
        OSError: They cannot be written.
    """
    sys.stdout.flush()
    await run_abandonable(lambda: _write(sys.stdout.fileno(), memoryview(content)))


def _encoding_of(stream: TextIO | None) -> str:
    return getattr(stream, "encoding", None) or "utf-8"


def _cell(value: object) -> str:
    return "_".join(plain("" if value is None else value).split()) or "-"


def _escaped(character: str) -> str:
    """Two escapes stand for one character beyond the first 65,536 (RFC 8259, section 7)."""
    units = character.encode("utf-16-be")
    return "".join(f"\\u{units[i : i + 2].hex()}" for i in range(0, len(units), 2))


def _write(descriptor: int, content: memoryview) -> None:
    """Write past `sys.stdout`, whose lock a thread that is left behind would hold when the interpreter ends."""
    while content:
        content = content[os.write(descriptor, content) :]
