"""Server-sent events, and what they say of pictures in the making.

The framing is that of the HTML standard ("Interpreting an event stream"), the names of events are those of OpenAI's
image streaming: `image_generation.partial_image`, `image_generation.completed`, the same with `image_edit`, and
`error`.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import attrs
import orjson

from lemon_async.api.converter import fault_of, image_of
from lemon_async.api.masking import Mask, masked_json, masked_text
from lemon_async.api.models import Billing, ImageData, TaskFault
from lemon_async.api.response import MAX_BODY_BYTES, Unreadable
from lemon_async.api.wire import billing_of

__all__ = ["Event", "EventSplitter", "Failed", "Final", "Partial", "read_event"]

_LINE_END = re.compile(rb"\r\n|\n|\r")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@attrs.frozen
class Event:
    """One event: its name, empty when it has none, its data as they came, and what masks all text made of them."""

    name: str
    data: bytes = attrs.field(repr=False)
    mask: Mask = attrs.field(default=str, repr=False, eq=False)


class EventSplitter:
    """Cuts a stream of bytes into events, wherever its pieces begin and end.

    A picture is one line of megabytes that comes in many pieces: each is searched once, and they are joined once.
    """

    def __init__(self, max_bytes: int = MAX_BODY_BYTES, *, mask: Mask = str) -> None:
        self._max_bytes = max_bytes
        self._mask = mask
        self._seen_bytes = 0
        self._beginning: bytes | None = b""
        self._line: list[bytes] = []
        self._is_after_return = False
        self._name = ""
        self._data: list[bytes] = []

    def feed(self, piece: bytes) -> Iterator[Event]:
        """Take the next bytes, and yield the events that they complete; to be read to its end.

        Raises:
            Unreadable: When the stream is longer than any that makes sense.
        """
        self._seen_bytes += len(piece)
        if self._seen_bytes > self._max_bytes:
            raise Unreadable(f"a stream of more than {self._max_bytes:,} bytes")
        if self._beginning is not None:
            piece = self._beginning + piece
            self._beginning = piece if len(piece) < len(_BYTE_ORDER_MARK) else None
            if self._beginning is not None:
                return
            piece = piece.removeprefix(_BYTE_ORDER_MARK)
        yield from self._events(piece)

    def end(self) -> Iterator[Event]:
        """Yield what a stream that has ended still holds: a last event needs no blank line after it to count."""
        rest, self._beginning = self._beginning or b"", None
        yield from self._events(rest + b"\n\n")

    def _events(self, piece: bytes) -> Iterator[Event]:
        # "\r\n" is one end of a line, even if its halves come apart.
        start = 1 if self._is_after_return and piece.startswith(b"\n") else 0
        self._is_after_return = piece.endswith(b"\r") or (self._is_after_return and not piece)
        while found := _LINE_END.search(piece, start):
            self._line.append(piece[start : found.start()])
            start = found.end()
            line = b"".join(self._line)
            self._line.clear()
            if line:
                self._take(line)
            else:
                yield from self._dispatch()
        self._line.append(piece[start:])

    def _take(self, line: bytes) -> None:
        colon = line.find(b":")
        field = line if colon < 0 else line[:colon]
        value_at = len(field) + (2 if line.startswith(b" ", len(field) + 1) else 1)
        if field == b"data":
            self._data.append(line[value_at:])
        elif field == b"event":
            self._name = line[value_at:].decode("utf-8", "replace")

    def _dispatch(self) -> Iterator[Event]:
        name, data = self._name, b"\n".join(self._data)
        self._name, self._data = "", []
        if data:
            yield Event(self._mask(name), data, self._mask)


@attrs.frozen
class Partial:
    """A preview; `index` counts from 0."""

    image: ImageData
    index: int


@attrs.frozen
class Final:
    """A finished picture, and what the service says about money beside it."""

    image: ImageData
    created: int | None
    billing: Billing


@attrs.frozen
class Failed:
    """The service gave the job up after it had accepted it."""

    fault: TaskFault


def read_event(event: Event) -> Partial | Final | Failed | None:
    """Say what an event tells, or return `None` when that is nothing about pictures."""
    parsed = _parsed(event)
    name = parsed.get("type")
    name = name if isinstance(name, str) else event.name
    image = image_of(parsed)
    if image.is_usable and name.endswith(".completed"):  # whatever else stands there: it is paid for
        return Final(image, _whole(parsed.get("created_at")), billing_of(parsed, {}))
    if image.is_usable and name.endswith(".partial_image"):
        return Partial(image, _whole(parsed.get("partial_image_index")) or 0)
    fault = fault_of(parsed.get("error"))
    if name == "error" and fault is None:
        fault = fault_of(parsed or masked_text(event.data, event.mask)) or TaskFault("the service gave no reason")
    return Failed(fault) if fault else None


def _parsed(event: Event) -> Mapping[str, Any]:
    try:
        parsed = masked_json(event.data, event.mask)
    except orjson.JSONDecodeError:
        return {}
    return parsed if isinstance(parsed, Mapping) else {}


def _whole(value: object) -> int | None:
    return value if type(value) is int else None
