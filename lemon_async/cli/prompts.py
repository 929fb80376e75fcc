"""Lines of a file or of stdin: prompts, and tasks to be picked up."""

import sys
from collections.abc import Sequence
from pathlib import Path

from lemon_async.errors import Problem

__all__ = ["STDIN", "read_lines"]

STDIN = "-"
_MOST_BYTES = 64 * 2**20


def read_lines(source: str | None, *, option: str, noun: str) -> tuple[Sequence[str], tuple[Problem, ...]]:
    """Return the lines of a file, without blank ones and outer spaces, and what is wrong with it; blocks.

    All are read before anything is sent, so that everything wrong with them is reported first.

    Args:
        source: The name of a file; `-` is stdin, and `None` has no lines.
        option: What the user gave it with.
        noun: What stands in each line.
    """
    if source is None:
        return (), ()
    try:
        text = _content(source).decode("utf-8-sig")
    except UnicodeDecodeError as damage:
        fault = f"{source!r} is not text in UTF-8, from byte {damage.start} on"
    except OSError as refusal:
        fault = f"cannot read {source!r}: {refusal.strerror or refusal}"
    except ValueError as refusal:  # it is too long, there is a NUL in the name, stdin is closed
        fault = f"cannot read {source!r}: {refusal}"
    else:
        lines = [line.strip() for line in text.split("\n") if line.strip()]
        if lines:
            return lines, ()
        fault = f"there is no {noun} in {source!r}: one in each line"
    return (), (Problem(option, fault),)


def _content(source: str) -> bytes:
    if source == STDIN:
        if sys.stdin is None:
            raise ValueError("stdin is closed")
        content = sys.stdin.buffer.read(_MOST_BYTES + 1)
    else:
        with Path(source).open("rb") as file:
            content = file.read(_MOST_BYTES + 1)
    if len(content) > _MOST_BYTES:
        raise ValueError(f"it has more than {_MOST_BYTES // 2**20} MB")
    return content
