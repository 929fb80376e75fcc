"""Read what users type or pipe: lines of prompts and tasks, references to tasks, and fields that we do not know."""

import re
import sys
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import attrs
import orjson

from lemon_async.types import Problem

__all__ = ["STDIN", "Reference", "read_extra", "read_lines", "slug_of"]

STDIN = "-"
_MAX_BYTES = 64 * 2**20
_MAX_SLUG = 48
# From the end, because an id may hold any character: names and numbers hold no colon.
_NUMBERED = re.compile(r"(?P<task>.+?):(?P<index>[0-9]{1,18})(:(?P<name>[\w-]+))?")


@attrs.frozen
class Reference:
    """A task as `lemon-async task` takes it: `ID`, or `ID:INDEX:NAME`.

    Attributes:
        task: The id of the task, or a resume token.
        index: The number of its first picture in the command that submitted it; `None` if not given.
        name: The base name of its pictures in a folder, and the `slug` of a template; empty if not given.
    """

    task: str
    index: int | None = None
    name: str = ""

    @classmethod
    def parse(cls, word: str) -> Self:
        """Read a word of the command line; whether there can be such a task is not checked."""
        found = _NUMBERED.fullmatch(word)
        return cls(found["task"], int(found["index"]), found["name"] or "") if found else cls(word)

    def __str__(self) -> str:
        number = "" if self.index is None else f":{self.index}"
        return f"{self.task}{number}{f':{self.name}' if self.name else ''}"


def slug_of(text: str) -> str:
    """Return a label as part of a file name: lower-case letters of any script, digits and dashes; may be empty."""
    words = unicodedata.normalize("NFC", text[: 8 * _MAX_SLUG]).lower()
    return re.sub(r"\W+", "-", words).strip("-_")[:_MAX_SLUG].strip("-_")


def read_lines(source: str | None, *, option: str, noun: str) -> tuple[Sequence[str], tuple[Problem, ...]]:
    """Return the lines of a file, stripped and without blank ones, and the problems with it; blocks.

    Args:
        source: The name of a file; `-` is stdin, and `None` has no lines.
        option: The option or argument that named it.
        noun: What each line holds.
    """
    if source is None:
        return (), ()
    try:
        text = _read(source).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        fault = f"{source!r} is not UTF-8 text, from byte {error.start} on"
    except OSError as error:
        fault = f"cannot read {source!r}: {error.strerror or error}"
    except ValueError as error:  # too long, a NUL in the name, stdin is closed
        fault = f"cannot read {source!r}: {error}"
    else:
        lines = [line.strip() for line in text.split("\n") if line.strip()]
        if lines:
            return lines, ()
        fault = f"there is no {noun} in {source!r}: write one on each line"
    return (), (Problem(option, fault),)


def read_extra(pairs: Sequence[str]) -> tuple[dict[str, Any], tuple[Problem, ...]]:
    """Return the fields that `--extra` names, and the problems with it."""
    split = [pair.partition("=") for pair in pairs]
    wrong = (Problem("--extra", f"must be NAME=VALUE, not {pair!r}") for pair in pairs if pair.find("=") < 1)
    return {name: _value(value) for name, equals, value in split if name and equals}, tuple(wrong)


def _value(text: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return text


def _read(source: str) -> bytes:
    if source == STDIN:
        if sys.stdin is None:
            raise ValueError("stdin is closed")
        content = sys.stdin.buffer.read(_MAX_BYTES + 1)
    else:
        with Path(source).open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
    if len(content) > _MAX_BYTES:
        raise ValueError(f"it has more than {_MAX_BYTES // 2**20} MB")
    return content
