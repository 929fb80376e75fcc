"""Keep what the newest paid requests consist of, so that they can be sent again.

Files are not kept, only their names. Long base64 is cut, and so is everything beyond a number of bytes; such a request
can be looked at, but not replayed.
"""

import re
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import orjson
from attrs import define, field, frozen

from lemon_async.emulator.service.messages import Call

MAX_RECORDINGS = 1_000
MAX_RECORDED_BYTES = 64 * 2**10

_MAX_TEXT_CHARS = 1_000
_KEPT_CHARS = 60
_DATA_URL = re.compile(r"data:[^,]{0,100};base64,")
# Pictures are at most this deep: {"images": [{"image_url": "data:..."}]}.
_MAX_DEPTH = 3


@frozen
class Recording:
    """A request body; `fields` is JSON, or None if it is too large or too deep.

    `files` are the names of the field and of the file of each upload. A body that is not `is_whole` was cut.
    """

    endpoint: str
    model: str | None
    prompt: str | None
    fields: bytes | None
    files: tuple[tuple[str, str], ...] = ()
    is_form: bool = False
    is_whole: bool = True

    def read_fields(self) -> dict[str, Any] | None:
        """Return the fields of the body."""
        return None if self.fields is None else orjson.loads(self.fields)


@define(eq=False)
class Recordings:
    """The newest bodies, by the number of their request."""

    most: int = MAX_RECORDINGS
    _kept: OrderedDict[int, Recording] = field(factory=OrderedDict, init=False)

    def find(self, number: int) -> Recording | None:
        """Return the body of a request, if it is still kept."""
        return self._kept.get(number)

    def add(self, number: int, call: Call, model: str | None, prompt: str | None) -> None:
        """Keep the body of a request, and drop the oldest one."""
        cut = _without_base64(call.body)
        fields = _written(cut)
        self._kept[number] = Recording(
            endpoint=call.endpoint,
            model=model and model[:_MAX_TEXT_CHARS],
            prompt=prompt and prompt[:_MAX_TEXT_CHARS],
            fields=fields,
            files=tuple((upload.name, upload.filename) for upload in call.uploads),
            is_form=call.is_form,
            is_whole=fields is not None and cut == call.body,
        )
        if len(self._kept) > self.most:
            self._kept.popitem(last=False)


def _written(body: Any) -> bytes | None:
    """Return a body as JSON; None if it is too large, or cannot be written although it could be read."""
    try:
        fields = orjson.dumps(body)
    except orjson.JSONEncodeError:  # it is very deep, or a form has text that is not UTF-8
        return None
    return fields if len(fields) <= MAX_RECORDED_BYTES else None


def _without_base64(value: Any, depth: int = 0) -> Any:
    """Return a JSON value in which long base64 is cut."""
    if isinstance(value, str):
        is_long = len(value) > _MAX_TEXT_CHARS and _DATA_URL.match(value)
        return f"{value[:_KEPT_CHARS]}… ({len(value)} characters)" if is_long else value
    if depth == _MAX_DEPTH:
        return value
    if isinstance(value, Mapping):
        return {name: _without_base64(entry, depth + 1) for name, entry in value.items()}
    return [_without_base64(entry, depth + 1) for entry in value] if isinstance(value, list) else value
