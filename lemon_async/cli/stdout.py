"""Write to stdout: text that is safe to print, or the bytes of one picture (`-o -`)."""

import asyncio
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TextIO

import attrs
import click
import orjson

from lemon_async import Image, Images, LemonError
from lemon_async.cli.arguments import slug_of
from lemon_async.types import Problem

__all__ = [
    "STDOUT", "Stdout", "aligned", "encodable", "json_text", "plain", "print_line", "stdout_problems", "write_stdout",
]  # fmt: skip

STDOUT = "-"


def plain(text: object) -> str:
    """Return text without control characters: a server must not control the terminal."""
    return "".join(c if c.isprintable() or c == "\n" else " " for c in str(text))


def encodable(text: str, stream: TextIO | None) -> str:
    """Return text that a stream can write: characters that its encoding lacks are escaped."""
    encoding = _encoding_of(stream)
    return text.encode(encoding, "backslashreplace").decode(encoding)


def print_line(text: object) -> None:
    """Print a line to stdout."""
    click.echo(encodable(plain(text), sys.stdout))


def json_text(value: object, *, is_indented: bool = False) -> str:
    """Return equivalent JSON that is safe to print: control characters are escaped.

    So is everything outside ASCII if stdout lacks a character for some of it.

    Raises:
        RecursionError: It is nested too deeply to be written.
    """
    try:
        text = orjson.dumps(value, option=orjson.OPT_INDENT_2 if is_indented else 0).decode()
    except TypeError:
        raise RecursionError("the response is nested too deeply to be shown") from None
    encoding = _encoding_of(sys.stdout)
    has_all = text.encode(encoding, "ignore").decode(encoding) == text
    # Unprintable characters occur only in strings, except for the line breaks of the indentation.
    return "".join(c if (c.isprintable() and (has_all or c.isascii())) or c == "\n" else _escaped(c) for c in text)


def aligned(rows: Sequence[Sequence[object]]) -> Iterator[str]:
    """Yield the lines of a table that people can read and whose columns `awk` can count.

    White space within a cell becomes an underscore and a missing value a dash; the last column stays as it is.
    """
    table = [[*(_cell(cell) for cell in row[:-1]), " ".join(plain(row[-1]).split())] for row in rows]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


@attrs.frozen
class Stdout:
    """stdout in the place of a `Destination`."""

    async def save(self, images: Images, *, label: str, **_: Any) -> Sequence[Path | Exception]:
        """Write the first picture to stdout; pictures that stdout does not take are saved in the current folder."""
        return [await self._save(image, label) for image in images]

    async def _save(self, image: Image, label: str) -> Path | Exception:
        try:
            await _write_first(image)
        except LemonError as failure:
            return failure
        except OSError as fault:
            try:
                path = await image.save(slug_of(label or image.revised_prompt or "") or "image", replace=False)
            except LemonError as failure:
                return failure
            return OSError(f"stdout did not take the picture ({fault}): it is saved as {path}")
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


async def _write_first(image: Image) -> None:
    if image.index:
        raise OSError(f"stdout takes one picture, and this is number {image.index + 1}")
    await write_stdout(await image.read())


async def write_stdout(content: bytes) -> None:
    """Write bytes to stdout; cancelling does not wait for a slow reader.

    Raises:
        OSError: They cannot be written.
    """
    sys.stdout.flush()
    outcome: Future[None] = Future()
    # A separate daemon thread: the loop would wait for the threads of its pool.
    threading.Thread(target=_write, args=(sys.stdout.fileno(), memoryview(content), outcome), daemon=True).start()
    await asyncio.wrap_future(outcome)


def _write(descriptor: int, content: memoryview, outcome: Future[None]) -> None:
    """Write past `sys.stdout`, whose lock an abandoned thread would hold when the interpreter ends."""
    result: OSError | None = None
    try:
        while content:
            content = content[os.write(descriptor, content) :]
    except OSError as failure:
        result = failure
    if outcome.set_running_or_notify_cancel():
        outcome.set_exception(result) if result else outcome.set_result(None)


def _encoding_of(stream: TextIO | None) -> str:
    return getattr(stream, "encoding", None) or "utf-8"


def _cell(value: object) -> str:
    return "_".join(plain("" if value is None else value).split()) or "-"


def _escaped(character: str) -> str:
    """Two escapes stand for one character beyond the first 65,536 (RFC 8259, section 7)."""
    units = character.encode("utf-16-be")
    return "".join(f"\\u{units[i : i + 2].hex()}" for i in range(0, len(units), 2))
