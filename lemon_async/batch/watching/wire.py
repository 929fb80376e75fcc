"""Rows as JSON, between the owner of a journal and those who watch it. Pure.

Text may have lone surrogates, as in names of files; `json` escapes them, unlike orjson.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any

import attrs
import orjson

from lemon_async.batch.records import JournalRow, SavedPicture
from lemon_async.batch.states import State

__all__ = ["row_in", "row_out", "rows_out", "to_line"]

_MOST_BYTES = 2**20
_MOST_PER_ROW = 2**16
_MOST_CHARACTERS = 4096
_PLAIN = (
    "number", "key", "state", "attempt", "changed_at", "task", "fingerprint", "price_usd", "cost_usd", "sunk_usd",
    "error",
)  # fmt: skip


def to_line(answer: Mapping[str, Any]) -> bytes:
    """Return an object as a line of JSON."""
    return json.dumps(answer, separators=(",", ":")).encode() + b"\n"


def rows_out(rows: Iterable[JournalRow]) -> list[dict[str, Any]]:
    """Return as many rows as one answer may hold, at least the first one."""
    answer: list[dict[str, Any]] = []
    size = 0
    for row in rows:
        each = row_out(row)
        size += len(each["request"]) + len(each["columns"])
        if answer and size > _MOST_BYTES:
            break
        answer.append(each)
    return answer


def row_out(row: JournalRow) -> dict[str, Any]:
    """Return a row as a JSON object; a very long one without its columns, and with the beginning of its prompt."""
    request, columns = row.request, row.columns
    if len(request) + len(columns) > _MOST_PER_ROW:
        request, columns = _shortened(request), b""
    return {
        **{name: getattr(row, name) for name in _PLAIN},
        "request": request.decode(errors="replace"),
        "columns": columns.decode(errors="replace"),
        "pictures": [attrs.astuple(picture) for picture in row.pictures],
    }


def _shortened(request: bytes) -> bytes:
    try:
        fields = orjson.loads(request)
    except orjson.JSONDecodeError:
        return b"{}"
    wanted = {name: fields.get(name) for name in ("model", "prompt", "size")}
    return orjson.dumps({name: text[:_MOST_CHARACTERS] for name, text in wanted.items() if isinstance(text, str)})


def row_in(answer: Mapping[str, Any]) -> JournalRow:
    """Return the row of an object."""
    return JournalRow(
        **{name: answer[name] for name in _PLAIN if name != "state"},
        state=State(answer["state"]),
        request=answer["request"].encode(),
        columns=answer["columns"].encode(),
        pictures=tuple(SavedPicture(*picture) for picture in answer["pictures"]),
    )
