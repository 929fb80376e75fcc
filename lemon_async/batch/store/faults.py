"""What is wrong with a journal or with rows for it, in the words of every store. Pure."""

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any

import orjson

from lemon_async.batch.records import NewRow
from lemon_async.errors import ContractError, JournalError
from lemon_async.types import Problem

__all__ = ["MissingJournal", "conflict", "missing", "not_text", "refusal"]

_MOST_LISTED = 20
_MOST_FIELDS = 3
_MOST_CHARACTERS = 60


class MissingJournal(JournalError):
    """There is no journal under a name."""


def missing(name: object, words: str) -> MissingJournal:
    """Return the error of a journal that is to be read and does not exist."""
    return MissingJournal(message=f"there is no journal {str(name)!r}: {words}; check its name")


def refusal(name: object, words: str) -> JournalError:
    """Return the error of a journal that cannot be used."""
    return JournalError(message=f"cannot use the journal {str(name)!r}: {words}")


def conflict(pairs: Iterable[tuple[tuple[bytes, bytes], NewRow]]) -> ContractError:
    """Return the error of rows whose keys are in the journal with other contents: `((request, columns), row)`."""
    pairs = iter(pairs)
    problems = [Problem(f"row {row.key!r}", _difference(known, row)) for known, row in islice(pairs, _MOST_LISTED)]
    if more := sum(1 for _ in pairs):
        problems.append(Problem("rows", f"{more} more differ from those in the journal"))
    return ContractError(problems=tuple(problems), undone="added")


def not_text(keys: Sequence[str]) -> ContractError:
    """Return the error of keys that have no UTF-8 form."""
    advice = "its key has no UTF-8 form; give it a readable key"
    return ContractError(problems=tuple(Problem(f"row {key!r}", advice) for key in keys[:_MOST_LISTED]), undone="added")


def _difference(known: tuple[bytes, bytes], row: NewRow) -> str:
    """Name the fields in which two contents of one key differ, with both values."""
    then, now = _fields(*known), _fields(row.request, row.columns)
    names = [name for name in {**then, **now} if then.get(name) != now.get(name)]
    listed = [f"{name} was {_short(then.get(name))} and is {_short(now.get(name))}" for name in names[:_MOST_FIELDS]]
    if len(names) > _MOST_FIELDS:
        listed.append(f"{len(names) - _MOST_FIELDS} more")
    return f"is in the journal with other content ({'; '.join(listed)}); give it another key, or use another journal"


def _fields(request: bytes, columns: bytes) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for text in (request, columns):
        try:
            part = orjson.loads(text or b"{}")
        except orjson.JSONDecodeError:
            part = {"content": text.decode(errors="replace")}
        fields |= part if isinstance(part, dict) else {"content": part}
    return fields


def _short(value: Any) -> str:
    text = "absent" if value is None else repr(value)
    return text if len(text) <= _MOST_CHARACTERS else f"{text[: _MOST_CHARACTERS - 1]}…"
