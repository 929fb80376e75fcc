"""Split the columns of a row into fields of a request and the caller's own, and convert what is text.

    prompt, model, size, …                     the field of that name; spaces around text go, except those of a prompt
    n, output_compression, partial_images, …   a whole number
    async, async_                              true or false; yes, no, on, off, 1 and 0 in text
    extra                                      a JSON object
    image                                      one path, address or file id, or several as a JSON list
    any other name                             the caller's own: it travels with the row

`None` and empty cells of a CSV are absent. A column whose name is nearly that of a field is a problem, because it would
be ignored otherwise, and the row bought without it.
"""

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from difflib import get_close_matches
from reprlib import Repr
from typing import Any

import attrs
import orjson

from lemon_async.requests import EditRequest, GenerateRequest
from lemon_async.types import Problem

__all__ = ["FIELDS", "Layout", "field_of", "find_column_problems", "guess_field", "layout_of", "shown"]

_LIKENESS = 0.75
# The service's other names of pictures: a row with one of them is not meant to be made from its prompt alone.
_SPELLINGS = frozenset({"image_url", "image_urls", "images"})
# English words that are near to a field and yet often name something else.
_PLAIN_WORDS = frozenset(
    ("age", "ages", "equality", "lab", "labels", "line", "lines", "mark", "mode", "modes", "prize", "quantity", "side",
     "sides", "site", "sites", "task", "tasks", "text", "tile", "title", "use", "used", "users")
)  # fmt: skip
_WHOLE = re.compile(r"[+-]?[0-9]{1,18}")
_FLAGS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
_short = Repr()
_short.maxstring = _short.maxother = 80


def shown(value: object) -> str:
    """Return a short `repr` of a value."""
    return _short.repr(value)


def _whole(value: Any) -> Any:
    if isinstance(value, str):
        if not _WHOLE.fullmatch(value.strip()):
            raise ValueError(f"must be a whole number, not {shown(value)}")
        return int(value)
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _flag(value: Any) -> Any:
    found = _FLAGS.get(value.strip().lower()) if isinstance(value, str) else value
    if not isinstance(found, bool):
        raise ValueError(f"must be true or false, not {shown(value)}")  # noqa: TRY004 - as for the other fields
    return found


def _object(value: Any) -> Any:
    if isinstance(value, str):
        try:
            value = orjson.loads(value)
        except orjson.JSONDecodeError as fault:
            raise ValueError(f"must be a JSON object: {fault.msg}") from None
    if not isinstance(value, Mapping):
        raise ValueError(f'must be a JSON object such as {{"seed": 7}}, not {shown(value)}')  # noqa: TRY004 - likewise
    return value


def _pictures(value: Any) -> Any:
    """Return one picture or a list of them; text that begins with `[` is a list."""
    if not isinstance(value, str) or not value.strip().startswith("["):
        return _text(value)
    try:
        several = orjson.loads(value)
    except orjson.JSONDecodeError as fault:
        raise ValueError(
            f'must be a path, an address, or a JSON list such as ["a.png", "b.png"]: {fault.msg}'
        ) from None
    return several


def _text(value: Any) -> Any:
    return value.strip() if isinstance(value, str) else value


def _name(value: Any) -> Any:
    """Return ids that are numbers in JSON as text."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else _text(value)


_CONVERTERS: Mapping[str, Callable[[Any], Any]] = {
    **dict.fromkeys(("n", "output_compression", "compression", "partial_images"), _whole),
    **dict.fromkeys(("user", "label"), _name),
    "async_": _flag,
    "extra": _object,
    "image": _pictures,
    "prompt": lambda value: value,
}
FIELDS = frozenset({*attrs.fields_dict(GenerateRequest), *attrs.fields_dict(EditRequest)})
"""The names of all fields that a column can be."""
_PUBLIC = sorted(name.rstrip("_") for name in FIELDS)


def field_of(column: str) -> str | None:
    """Return the field of a column, or `None` if it is the caller's own."""
    if column == "async":
        return "async_"
    return column if column in FIELDS else None


def guess_field(column: str) -> str | None:
    """Return the field that a column's name is probably meant to be, or `None`."""
    if column in _SPELLINGS:
        return "image"
    if column in _PLAIN_WORDS or set(re.split(r"[\W_]+", column)) & FIELDS:
        return None if column.strip().casefold() not in FIELDS else column.strip().casefold()
    alike = get_close_matches(column.casefold(), _PUBLIC, n=1, cutoff=_LIKENESS)
    return alike[0] if alike else None


@attrs.frozen
class Layout:
    """What the columns of a row are.

    Attributes:
        fields: Column, field and converter of each field.
        others: The caller's own columns.
    """

    fields: tuple[tuple[str, str, Callable[[Any], Any]], ...]
    others: tuple[str, ...]

    def fields_in(self, row: Mapping[str, Any], problems: list[Problem]) -> dict[str, Any]:
        """Return the fields of a row, without those that are `None`, and add the problems of their values."""
        fields = {}
        for column, field, convert in self.fields:
            if (value := row[column]) is not None:
                try:
                    fields[field] = convert(value)
                except ValueError as fault:
                    problems.append(Problem(column, str(fault)))
        return fields


def layout_of(columns: Iterable[str]) -> Layout:
    """Return what columns with these names are."""
    names = tuple(columns)
    fields = tuple((name, field, _CONVERTERS.get(field, _text)) for name in names if (field := field_of(name)))
    return Layout(fields, tuple(name for name in names if field_of(name) is None))


def find_column_problems(columns: Collection[Any]) -> Iterator[Problem]:
    """Yield the problems of names of columns that stand together in a row."""
    if {"async", "async_"} <= set(columns):
        yield Problem("async", "is given twice, as async and as async_; remove one of them")
    for name in columns:
        if not isinstance(name, str):
            yield Problem(shown(name), "is not the name of a column; names are text")
        elif field_of(name) is None and (guess := guess_field(name)) and guess not in columns:
            advice = f"is not a field; did you mean {guess!r}? If the column is your own, give it another name"
            yield Problem(shown(name), advice)
