"""Tasks on a command line: `ID`, or `ID:INDEX:NAME` to give its pictures the number and name they were to have."""

import re
from typing import Self

import attrs

from lemon_async._images.naming import slug_of

__all__ = ["Reference"]

# From the end, for an id may hold any sign: names and numbers hold no colon.
_NUMBERED = re.compile(r"(?P<task>.+?):(?P<index>[0-9]{1,18})(:(?P<name>[\w-]+))?")


@attrs.frozen
class Reference:
    """A task to be picked up: what `lemon-async task` takes, and what a command prints that leaves a task behind.

    Attributes:
        task: The id of the task, or a resume token.
        index: The place of its first picture among all of the command that submitted it; `None` if it is not given.
        name: What its pictures are called by in a folder, and the `slug` of a template; empty if it is not given.
    """

    task: str
    index: int | None = None
    name: str = ""

    @classmethod
    def of(cls, task: str, *, index: int, label: str) -> Self:
        """Return the reference to a task whose pictures are called by a label."""
        return cls(task, index, slug_of(label) if label else "")

    @classmethod
    def parse(cls, word: str) -> Self:
        """Read a word of the command line; whether there can be such a task is not checked."""
        found = _NUMBERED.fullmatch(word)
        return cls(found["task"], int(found["index"]), found["name"] or "") if found else cls(word)

    def __str__(self) -> str:
        number = "" if self.index is None else f":{self.index}"
        return f"{self.task}{number}{f':{self.name}' if self.name else ''}"
