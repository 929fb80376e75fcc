"""The columns of an export: the same in every line, and of one kind each, whatever the rows hold.

Readers infer the type of a column from the first lines, or need a header before the first row. So a first pass over the
rows learns the fields of their requests and their other columns; only names and kinds are kept, not values.

A column is of numbers or truth values if all its values are; anything else is text: other values as JSON, missing ones
as the empty text. Rows that are the first to have a number in some column are exported before all others, or a reader
would take a column whose first numbers are missing for one of nothing. A column of the caller whose name an export
needs gets `_` at its end.
"""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from enum import Enum, auto
from typing import Any

import attrs
import orjson

from lemon_async.batch.records import JournalRow

__all__ = ["Columns", "Kind"]


class Kind(Enum):
    """What a column holds."""

    TEXT = auto()
    INTEGER = auto()
    FLOAT = auto()
    BOOL = auto()
    TEXTS = auto()


_LEADING = {"key": Kind.TEXT, "state": Kind.TEXT}
_TRAILING = {
    "attempt": Kind.INTEGER,
    "changed_at": Kind.TEXT,
    "task_id": Kind.TEXT,
    "price_usd": Kind.FLOAT,
    "cost_usd": Kind.FLOAT,
    "sunk_usd": Kind.FLOAT,
    "error": Kind.TEXT,
    "paths": Kind.TEXTS,
    "sha256": Kind.TEXTS,
}
_OF_PICTURES = ("task_id", "cost_usd")
# `datasets` takes the names that end in `file_name` for paths of pictures.
_RESERVED = frozenset({*_LEADING, *_TRAILING, "image", "images", "__key__", "__url__"})
_RESERVED_ENDS = ("file_name", "file_names")

_Place = tuple[str, str]  # of the request, the other columns or the journal, and its name there
_COST = ("journal", "cost_usd")


@attrs.define
class Columns:
    """The columns of all rows that `learn` has seen."""

    _kinds: dict[_Place, Kind | None] = attrs.field(
        factory=lambda: {("request", "prompt"): Kind.TEXT, ("request", "model"): Kind.TEXT}, init=False
    )
    _names: dict[_Place, str] = attrs.field(factory=dict[_Place, str], init=False)
    _first: dict[_Place, int] = attrs.field(factory=dict[_Place, int], init=False)

    def learn(self, row: JournalRow) -> None:
        """Take notice of the columns of a row."""
        for place, value in _values(row):
            if self._kinds.get(place) is Kind.TEXT:  # text it stays
                continue
            self._kinds[place] = _merged(self._kinds.get(place), value)
            if value is not None:
                self._first.setdefault(place, row.number)
        if row.cost_usd is not None:
            self._first.setdefault(_COST, row.number)
        if len(self._names) < len(self._kinds):
            self._name()

    def early(self) -> list[int]:
        """Return the numbers of the rows that are the first to have a value where other rows have nothing."""
        return sorted({row for place, row in self._first.items() if self._kinds.get(place) is not Kind.TEXT})

    def kinds(self) -> Mapping[str, Kind]:
        """Return the columns of a table, in order."""
        self._name()
        own = {self._names[place]: kind or Kind.TEXT for place, kind in self._kinds.items()}
        return {**_LEADING, **own, **_TRAILING}

    def of_row(self, row: JournalRow) -> dict[str, Any]:
        """Return the values of a row for a table, except the paths and digests of its pictures."""
        facts = _facts(row)
        return {
            **{name: facts[name] for name in _LEADING},
            **self._own(row),
            **{name: facts[name] for name in _TRAILING if name in facts},
        }

    def of_picture(self, row: JournalRow) -> dict[str, Any]:
        """Return the values of a row for each of its pictures."""
        facts = _facts(row)
        return {"key": row.key, **self._own(row), **{name: facts[name] for name in _OF_PICTURES}}

    def _own(self, row: JournalRow) -> dict[str, Any]:
        found = dict(_values(row))
        return {
            self._names[place]: _as_kind(found.get(place), kind or Kind.TEXT) for place, kind in self._kinds.items()
        }

    def _name(self) -> None:
        taken = set(self._names.values())
        for place in self._kinds:
            if place in self._names:
                continue
            name = place[1]
            while name in taken or name in _RESERVED or name.endswith(_RESERVED_ENDS):
                name += "_"
            taken.add(name)
            self._names[place] = name


def _values(row: JournalRow) -> Iterator[tuple[_Place, Any]]:
    for source, text in (("request", row.request), ("columns", row.columns)):
        for name, value in (orjson.loads(text) if text else {}).items():
            yield (source, name), value


def _facts(row: JournalRow) -> dict[str, Any]:
    return {
        "key": row.key,
        "state": str(row.state),
        "attempt": row.attempt,
        "changed_at": datetime.fromtimestamp(row.changed_at, UTC).isoformat(timespec="seconds"),
        "task_id": row.task_id or "",
        "price_usd": row.price_usd,
        "cost_usd": row.cost_usd,
        "sunk_usd": row.sunk_usd,
        "error": row.error or "",
    }


def _kind(value: object) -> Kind:
    if isinstance(value, bool):
        return Kind.BOOL
    if isinstance(value, int) and -(2**63) <= value < 2**63:
        return Kind.INTEGER
    return Kind.FLOAT if isinstance(value, float) else Kind.TEXT


def _merged(kind: Kind | None, value: object) -> Kind | None:
    """Return the kind of a column that has one more value; `None` if it has no value yet."""
    if value is None:
        return kind
    other = _kind(value)
    if kind is None or kind is other:
        return other
    return Kind.FLOAT if {kind, other} == {Kind.INTEGER, Kind.FLOAT} else Kind.TEXT


def _as_kind(value: Any, kind: Kind) -> Any:
    if kind is Kind.TEXT:
        return value if isinstance(value, str) else "" if value is None else orjson.dumps(value).decode()
    return float(value) if kind is Kind.FLOAT and value is not None else value
