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

from lemon_async.api.converter import converter, fault_of
from lemon_async.api.models import Billing, ImageData, TaskFault
from lemon_async.api.response import MAX_BODY_BYTES, Unreadable
from lemon_async.api.wire import billing_of

__all__ = ["Event", "EventSplitter", "Failed", "Final", "Partial", "read_event"]

_LINE_END = re.compile(rb"\r\n|\n|\r")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@attrs.frozen
class Event:
    """One event: its name, empty when it has none, and its data."""

    name: str
    data: bytes = attrs.field(repr=False)


class EventSplitter:
    """Cuts a stream of bytes into events, wherever its pieces begin and end."""

    def __init__(self, max_bytes: int = MAX_BODY_BYTES) -> None:
        self._max_bytes = max_bytes
        self._seen_bytes = 0
        self._has_begun = False
        self._rest = bytearray()
        self._scanned = 0
        self._name = ""
        self._data: list[bytes] = []

    def feed(self, piece: bytes) -> Iterator[Event]:
        """Take the next bytes, and yield the events that they complete.

        Raises:
            Unreadable: When the stream is longer than any that makes sense.
        """
        self._seen_bytes += len(piece)
        if self._seen_bytes > self._max_bytes:
            raise Unreadable(f"a stream of more than {self._max_bytes:,} bytes")
        self._rest += piece
        if not self._has_begun and not self._begin():
            return
        for line in self._lines():
            if line:
                self._take(line)
            else:
                yield from self._dispatch()

    def end(self) -> Iterator[Event]:
        """Yield what a stream that has ended still holds: a last event needs no blank line after it to count."""
        if self._rest:
            self._take(bytes(self._rest).rstrip(b"\r"))
            self._rest.clear()
        yield from self._dispatch()

    def _begin(self) -> bool:
        """Take off a byte order mark; return false as long as it may be on its way."""
        if len(self._rest) < len(_BYTE_ORDER_MARK):
            return False
        if self._rest.startswith(_BYTE_ORDER_MARK):
            del self._rest[: len(_BYTE_ORDER_MARK)]
        self._has_begun = True
        return True

    def _lines(self) -> Iterator[bytes]:
        start = 0
        try:
            while found := _LINE_END.search(self._rest, max(self._scanned, start)):
                if found[0] == b"\r" and found.end() == len(self._rest):
                    break  # the other half of "\r\n" may be on its way
                yield bytes(self._rest[start : found.start()])
                start = found.end()
        finally:
            del self._rest[:start]
            # A picture is one line of megabytes: what was searched once is not searched again.
            self._scanned = max(len(self._rest) - 1, 0)

    def _take(self, line: bytes) -> None:
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            self._data.append(value)
        elif field == b"event":
            self._name = value.decode("utf-8", "replace")

    def _dispatch(self) -> Iterator[Event]:
        name, data = self._name, b"\n".join(self._data)
        self._name, self._data = "", []
        if data:
            yield Event(name, data)


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
    image = converter().structure(parsed, ImageData)
    if image.is_usable and name.endswith(".completed"):  # whatever else stands there: it is paid for
        return Final(image, _whole(parsed.get("created_at")), billing_of(parsed, {}))
    if name == "error" or parsed.get("error") is not None:
        fault = fault_of(parsed.get("error")) or fault_of(parsed or event.data.decode("utf-8", "replace"))
        return Failed(fault or TaskFault("the service gave no reason"))
    if image.is_usable and name.endswith(".partial_image"):
        return Partial(image, _whole(parsed.get("partial_image_index")) or 0)
    return None


def _parsed(event: Event) -> Mapping[str, Any]:
    try:
        parsed = orjson.loads(event.data)
    except orjson.JSONDecodeError:
        return {}
    return parsed if isinstance(parsed, Mapping) else {}


def _whole(value: object) -> int | None:
    return value if type(value) is int else None
