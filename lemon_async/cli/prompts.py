"""Prompts from a file, one in each line, or from stdin."""

import sys
from collections.abc import Sequence
from pathlib import Path

from lemon_async.api.errors import Problem

__all__ = ["read_prompts"]

_STDIN = "-"
_MOST_BYTES = 64 * 2**20


def read_prompts(source: str) -> tuple[Sequence[str], tuple[Problem, ...]]:
    """Return the prompts of a file, without blank lines and outer spaces, and what is wrong with it; blocks.

    All are read before anything is sent, so that all that is wrong with them is told before.
    """
    try:
        text = _content(source).decode("utf-8-sig")
    except UnicodeDecodeError as damage:
        return _refused(f"{source!r} is not text in UTF-8, from byte {damage.start} on")
    except OSError as refusal:
        return _refused(f"cannot read {source!r}: {refusal.strerror or refusal}")
    except ValueError as refusal:  # it is too long, there is a NUL in the name, stdin is closed
        return _refused(f"cannot read {source!r}: {refusal}")
    prompts = [line.strip() for line in text.split("\n") if line.strip()]
    return (prompts, ()) if prompts else _refused(f"there is no prompt in {source!r}: one in each line")


def _content(source: str) -> bytes:
    if source == _STDIN:
        if sys.stdin is None:
            raise ValueError("stdin is closed")
        content = sys.stdin.buffer.read(_MOST_BYTES + 1)
    else:
        with Path(source).open("rb") as file:
            content = file.read(_MOST_BYTES + 1)
    if len(content) > _MOST_BYTES:
        raise ValueError(f"it has more than {_MOST_BYTES // 2**20} MB")
    return content


def _refused(advice: str) -> tuple[Sequence[str], tuple[Problem, ...]]:
    return (), (Problem("--prompts", advice),)
