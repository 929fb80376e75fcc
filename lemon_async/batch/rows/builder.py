"""Make rows of a journal from prompts, requests and columns: fields, defaults, key and digest.

    default fields   <  fields of the row, so that a column wins over an option
    model=[a, b]        every row is made once for each, with the key <key>:<model>
    key                 a column, or a function of the row; else the digest of the request and its occurrence

Keys depend neither on line numbers nor on the order of columns. A problem names its row, and all rows are looked at, so
that all problems of a source are found together.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from numbers import Integral
from pathlib import PurePath
from typing import Any

import attrs
import orjson

from lemon_async.batch.records import JournalRow, NewRow
from lemon_async.batch.rows.fields import Layout, find_column_problems, layout_of, shown
from lemon_async.batch.rows.files import Fault
from lemon_async.batch.rows.key_table import KeyTable
from lemon_async.batch.rows.request_json import dump_request, load_request
from lemon_async.errors import ContractError
from lemon_async.requests import EditRequest, GenerateRequest, Request, VariationRequest
from lemon_async.types import Problem

__all__ = ["KeyOption", "RowBuilder", "Validate", "checked_key", "columns_of", "digest_of", "request_of"]

KeyOption = str | Callable[[Any], object] | None
"""The column that identifies a row, or a function of the row; `None` for the request itself."""
Validate = Callable[[Request], Sequence[Problem]]
"""Returns the problems of a request; may read files."""

_LONGEST_KEY = 200
_DIGEST_DIGITS = 16
_CHECK_BITS = 24
_MOST_LAYOUTS = 4096
_MOST_LISTED = 20
_SHARED = "price_usd"  # the problem of all rows of a model, which must not hide others
_OPTIONS = orjson.OPT_SERIALIZE_NUMPY
_SORTED = _OPTIONS | orjson.OPT_SORT_KEYS
_NAMES = {kind: frozenset(attrs.fields_dict(kind)) for kind in (GenerateRequest, EditRequest, VariationRequest)}


def request_of(row: JournalRow | NewRow) -> Request:
    """Return the request of a row, labelled with its key unless it has a label."""
    request = load_request(row.request)
    return request if request.label is not None else attrs.evolve(request, label=row.key)


def columns_of(row: JournalRow | NewRow) -> dict[str, Any]:
    """Return the columns of a row that are no fields, in their order."""
    return dict(orjson.loads(row.columns)) if row.columns else {}


def digest_of(row: JournalRow | NewRow) -> bytes:
    """Return the digest of a row, which does not depend on the order of its columns."""
    return _digest(row.request, orjson.dumps(columns_of(row), option=_SORTED) if row.columns else b"")


def _digest(request: bytes, sorted_columns: bytes) -> bytes:
    return hashlib.sha256(b"%b\n%b" % (request, sorted_columns)).digest()


class RowBuilder:
    """Makes rows of one source, which must come in their order; not for several threads at a time.

    Args:
        noun: What the numbers of rows count, such as `line`.
        key: See `KeyOption`.
        fields: Default fields; `model` may be a list.
        validate: See `Validate`.

    Attributes:
        problems: The first 20; the price that a model lacks once.
        problem_count: The number of all.
        row_count: The number of rows that were made.
        repeated: The number of rows that were left out, because the same row under the same key came before.
        columns: The caller's own columns, in the order in which they came.
    """

    def __init__(self, noun: str, key: KeyOption, fields: Mapping[str, Any], validate: Validate) -> None:
        self._noun, self._key, self._validate = noun, key, validate
        self._defaults = {name: value for name, value in fields.items() if value is not None}
        model = self._defaults.get("model")
        self._models: Sequence[str | None] = (None,)
        if model is not None and not isinstance(model, str):
            self._models = self._defaults.pop("model")
        self._seen = KeyTable()
        self._layouts: dict[tuple[Any, ...], Layout] = {}
        self._shared: set[Problem] = set()
        self._has_header = False
        self._misnamed: set[str] = set()
        self.problems: list[Problem] = []
        self.problem_count: int = 0
        self.row_count: int = 0
        self.repeated: int = 0
        self.columns: dict[str, None] = {}

    def take_header(self, columns: Sequence[str]) -> bool:
        """Take the names of the columns that all rows have; return whether rows can be made of them."""
        self._has_header = True
        self.columns.update(dict.fromkeys(layout_of(columns).others))
        problems = list(find_column_problems(columns))
        needed = {"prompt"} if "prompt" not in self._defaults else set()
        missing = sorted((needed | ({self._key} if isinstance(self._key, str) else set())) - set(columns))
        if missing:
            given = ", ".join(map(shown, columns[:_MOST_LISTED]))
            problems += [Problem(name, f"there is no such column; the columns are {given}") for name in missing]
        self._note(None, problems)
        return not missing

    def build(self, number: int, item: Any) -> list[NewRow]:
        """Return the rows for one row of the source: none if there are problems, several if there are models."""
        if isinstance(item, Fault):
            self._note(number, [Problem("row", item.message)])
            return []
        problems: list[Problem] = []
        start, fields, columns = self._split(item, problems)
        key = self._key_of(item, problems)
        contents = [self._content(start, fields, model, problems) for model in self._models]
        packed, in_order = _pack(columns, problems)
        rows = []
        for model, content in zip(self._models, contents, strict=True):
            digest = _digest(content, packed)
            own_key = self._own_key(key, model, content, problems)
            if not problems and self._is_new(number, own_key, digest, problems):
                rows.append(NewRow(own_key, content, in_order, digest))
        if problems:
            self._note(number, problems)
            return []
        self.row_count += len(rows)
        return rows

    def finish(self) -> None:
        """Note it if a file had no rows."""
        if not self.row_count and not self.problem_count:
            self._note(None, [Problem("rows", "the file has no rows")])

    def _note(self, number: int | None, problems: Sequence[Problem]) -> None:
        place = "" if number is None else f"{self._noun} {number}, "
        for problem in dict.fromkeys(problems):
            self.problem_count += 1
            if len(self.problems) < _MOST_LISTED and problem not in self._shared:
                if problem.field == _SHARED:
                    self._shared.add(problem)
                self.problems.append(attrs.evolve(problem, field=f"{place}{problem.field}"))

    def _split(self, item: Any, problems: list[Problem]) -> tuple[Request | None, dict[str, Any], dict[str, Any]]:
        """Return the request to start from, if there is one, the fields and the caller's own columns."""
        if isinstance(item, dict | Mapping):  # `dict` is the quicker check
            layout = self._layout_of(item, problems)
            columns = {name: value for name in layout.others if (value := item[name]) is not None}
            return None, layout.fields_in(item, problems), columns
        if isinstance(item, str):
            return None, {"prompt": item}, {}
        if isinstance(item, Request):
            return item, {}, {}
        problems.append(Problem("row", f"must be a prompt, a request or a mapping, not {shown(item)}"))
        return None, {"prompt": "-"}, {}

    def _layout_of(self, row: Mapping[Any, Any], problems: list[Problem]) -> Layout:
        names = tuple(row)
        found = self._layouts.get(names)
        if found is None:
            found = self._layouts[names] = layout_of(name for name in names if isinstance(name, str))
            self.columns.update(dict.fromkeys(found.others))
            if not self._has_header:
                fresh = [problem for problem in find_column_problems(names) if problem.field not in self._misnamed]
                self._misnamed.update(problem.field for problem in fresh)
                problems += fresh
            if len(self._layouts) > _MOST_LAYOUTS:
                self._layouts.clear()
        return found

    def _key_of(self, item: Any, problems: list[Problem]) -> str | None:
        """Return the key that the caller gives, or `None`."""
        if self._key is None:
            return None
        name = self._key if isinstance(self._key, str) else "key"
        try:
            if callable(self._key):
                return checked_key(self._key(item))
            if isinstance(item, dict | Mapping):
                return checked_key(item.get(self._key))
            problems.append(Problem(name, "is a column, and this row has none; give a function as key="))
        except ValueError as fault:
            problems.append(Problem(name, str(fault)))
        except Exception as fault:  # noqa: BLE001 - a function of the caller's
            problems.append(Problem(name, f"the function raised {shown(fault)}"))
        return None

    def _content(
        self, start: Request | None, fields: Mapping[str, Any], model: str | None, problems: list[Problem]
    ) -> bytes:
        """Return a request as JSON; empty, with problems, if it is no valid request."""
        try:
            request = self._request(start, fields, model)
            problems += self._validate(request)
            return dump_request(request)
        except ContractError as error:
            problems += error.problems
            return b""

    def _request(self, start: Request | None, fields: Mapping[str, Any], model: str | None) -> Request:
        """Return a request: the defaults, the fields of the row, and the model of the axis.

        Raises:
            ContractError: A field that this kind of request does not have, or no prompt.
        """
        own_kind = None if start is None else next(kind for kind in _NAMES if isinstance(start, kind))
        if own_kind is not None:
            fields = {name: value for name in _NAMES[own_kind] if (value := getattr(start, name)) not in (None, {})}
        merged = {**self._defaults, **fields}
        kind = own_kind or _kind_of(merged)
        if model is not None:
            merged["model"] = model
        problems = [Problem(name, f"is not a field of {kind.__name__}") for name in merged if name not in _NAMES[kind]]
        if model is not None and "model" in fields:
            problems.append(Problem("model", "is given by the row, and by model=[...] as well; remove one of them"))
        if "prompt" not in merged and kind is not VariationRequest:
            problems.append(Problem("prompt", "is missing or empty"))
        if problems:
            raise ContractError(problems=tuple(problems))
        return kind(**merged)

    def _own_key(self, key: str | None, model: str | None, content: bytes, problems: list[Problem]) -> str:
        """Return the key of one of the rows: that of the caller and the model, or else digest and occurrence."""
        if problems:
            return ""
        if key is not None:
            own = key if model is None else f"{key}:{model}"
            if len(own) > _LONGEST_KEY:
                problems.append(Problem("key", f"must have at most {_LONGEST_KEY} characters, with the model"))
            return own
        own = hashlib.sha256(content).hexdigest()[:_DIGEST_DIGITS]
        occurrence = (self._seen.get(own) or 0) + 1
        self._seen.put(own, occurrence)
        return own if occurrence == 1 else f"{own}-{occurrence}"

    def _is_new(self, number: int, key: str, digest: bytes, problems: list[Problem]) -> bool:
        """Return whether the key came for the first time; note the problem of other content under the same key."""
        if self._key is None:
            return True
        check = int.from_bytes(digest[: _CHECK_BITS // 8])
        known = self._seen.setdefault(key, number << _CHECK_BITS | check)
        if known is None:
            return True
        if known & (1 << _CHECK_BITS) - 1 == check:
            self.repeated += 1
            return False
        other = f"{self._noun} {known >> _CHECK_BITS}"
        problems.append(Problem("key", f"{shown(key)} is the key of {other}, too, which has other content"))
        return False


def _kind_of(fields: dict[str, Any]) -> type[GenerateRequest | EditRequest]:
    """Return the kind of request that has these fields; a mask without a picture is an edit that validation refuses."""
    if "image" not in fields and "mask" not in fields:
        return GenerateRequest
    fields.setdefault("image", ())
    return EditRequest


def checked_key(value: object) -> str:
    """Return a key as text.

    Raises:
        ValueError: It is not one line of text.
    """
    if value is None:
        raise ValueError("the key is missing or empty")
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    is_text = isinstance(value, str) or (isinstance(value, Integral) and not isinstance(value, bool))
    key = str(value).strip() if is_text else ""
    if not key or len(key) > _LONGEST_KEY or not key.isprintable():
        raise ValueError(f"a key must be one line of text of 1 to {_LONGEST_KEY} characters, not {shown(value)}")
    return key


def _pack(columns: Mapping[str, Any], problems: list[Problem]) -> tuple[bytes, bytes]:
    """Return columns as JSON, sorted by name and in their order; empty if there are none."""
    if not columns:
        return b"", b""
    try:
        return orjson.dumps(columns, _as_json, _SORTED), orjson.dumps(columns, _as_json, _OPTIONS)
    except TypeError:
        for name, value in columns.items():
            try:
                orjson.dumps(value, _as_json, _SORTED)
            except TypeError as fault:
                problems.append(Problem(name, f"cannot be kept as JSON: {fault}; write it to a file, or leave it out"))
        return b"", b""


def _as_json(value: object) -> object:
    if isinstance(value, PurePath | Decimal):
        return str(value)
    raise TypeError(type(value).__name__)
