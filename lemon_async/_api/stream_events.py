"""Read server-sent events of image streams.

The framing is that of the HTML standard ("Interpreting an event stream"). The events are those of OpenAI's image
streaming: `image_generation.partial_image`, `image_generation.completed`, the same with `image_edit`, and `error`.
"""

import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from lemon_async._api.job_responses import billing_of
from lemon_async._api.response import MAX_BODY_BYTES, fault_of, read_image, whole_of
from lemon_async._formats.base64_json import Base64Extractor, Extracted
from lemon_async._formats.json_documents import Mask, Unreadable, masked_text, one_line, read_json
from lemon_async.types import Billing, ImageData, Inline, TaskFault

__all__ = ["Event", "EventSplitter", "Failed", "Final", "Partial", "Unclear", "read_event"]

_LINE_ENDS = re.compile(rb"[\r\n]+")
_ONE_END = {b"\n", b"\r", b"\r\n"}
_DATA = b"data:"
_LONGEST_LINE_BYTES = 64 * 1024  # of any but data
_MAX_PREVIEWS = 1000  # three can be requested
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_WORD = re.compile(r"[A-Za-z]")
_LONGEST_REASON = 200


class Event(NamedTuple):
    """One event.

    Attributes:
        name: Empty if it has none.
        data: The data without the pictures in them.
        mask: Masks the key in any text made of the data.
        pictures: The pictures taken out of the data, by the text that replaces each.
    """

    name: str
    data: bytes
    mask: Mask = str
    pictures: Mapping[str, Inline] = MappingProxyType({})

    def __repr__(self) -> str:
        return f"<Event {self.name!r}, {len(self.data)} bytes>"


class EventSplitter:
    """Split a stream of bytes into events, wherever its pieces begin and end.

    A picture is one line of megabytes that arrives in many pieces: each is searched once, and decoded on arrival.
    """

    def __init__(self, max_bytes: int = MAX_BODY_BYTES, *, mask: Mask = str) -> None:
        self._max_bytes = max_bytes
        self._mask = mask
        self._seen_bytes = 0
        self._beginning: bytes | None = b""
        self._line = bytearray()
        self._is_in_data = False
        self._is_after_return = False
        self._name = ""
        self._data: Base64Extractor | None = None

    def feed(self, piece: bytes) -> Iterator[Event]:
        """Take the next bytes, and yield the events that they complete; iterate to the end.

        Raises:
            Unreadable: The stream or an event is too long.
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
        """Yield the last event of a stream that has ended, which needs no blank line after it."""
        rest, self._beginning = self._beginning or b"", None
        yield from self._events(rest + b"\n\n")

    def _events(self, piece: bytes) -> Iterator[Event]:
        # "\r\n" ends one line, even if its halves are in two pieces.
        start = 1 if self._is_after_return and piece.startswith(b"\n") else 0
        self._is_after_return = piece.endswith(b"\r") or (self._is_after_return and not piece)
        # Much faster than the search, and most pieces of pictures have no line end.
        has_ends = b"\n" in piece or b"\r" in piece
        for ends in _LINE_ENDS.finditer(piece, start) if has_ends else ():
            self._take(piece[start : ends.start()])
            start = ends.end()
            is_blank = not self._end_line()
            if is_blank or ends[0] not in _ONE_END:
                yield from self._dispatch()
        self._take(piece[start:])

    def _take(self, part: bytes) -> None:
        """Take a part of a line; data go to the extractor of pictures."""
        missing = len(_DATA) + 1 - len(self._line)
        if missing > 0 and part:
            self._line += part[:missing]
            part = part[missing:]
            if len(self._line) > len(_DATA) and self._line.startswith(_DATA):
                self._begin_data(bytes(self._line[len(_DATA) :]).removeprefix(b" "))
                self._is_in_data = True
        if self._is_in_data and self._data is not None:
            self._data.feed(part)
        else:
            self._line += part[: _LONGEST_LINE_BYTES - len(self._line)]

    def _begin_data(self, value: bytes) -> None:
        if self._data is None:
            self._data = Base64Extractor()
        else:
            self._data.feed(b"\n")
        self._data.feed(value)

    def _end_line(self) -> bool:
        """End a line, and return whether it was not blank."""
        line = bytes(self._line)
        self._line.clear()
        if self._is_in_data:
            self._is_in_data = False
        elif line in {b"data", b"data:"}:
            self._begin_data(b"")
        elif line == b"event" or line.startswith(b"event:"):
            self._name = line[len(b"event:") :].removeprefix(b" ").decode("utf-8", "replace")
        return bool(line)

    def _dispatch(self) -> Iterator[Event]:
        name, data = self._name, self._data
        self._name, self._data = "", None
        whole = data.end() if data is not None else Extracted(b"")
        if whole.fault is not None:
            raise Unreadable(f"an event with {whole.fault}")
        if whole.skeleton:
            yield Event(self._mask(name), whole.skeleton, self._mask, whole.pictures)


class Partial(NamedTuple):
    """A preview; `number` counts from 0."""

    image: ImageData
    number: int


class Final(NamedTuple):
    """A finished picture and the billing facts beside it."""

    image: ImageData
    created: int | None
    billing: Billing


class Failed(NamedTuple):
    """The service accepted the job, and it failed."""

    fault: TaskFault


class Unclear(NamedTuple):
    """A gateway reported an error, so that the outcome of the job is unknown."""

    reason: str


def read_event(event: Event) -> Partial | Final | Failed | Unclear | None:
    """Return the meaning of an event, or `None` if it is not about pictures.

    An error is the service's own if it has a message and a code that is a word; gateways send a number or no code.
    """
    parsed = _parsed(event)
    name = parsed.get("type")
    name = name if isinstance(name, str) else event.name
    image = read_image(parsed, event.pictures)
    if image.is_usable and name.endswith(".completed"):  # even with an error in the same event: it is paid for
        return Final(image, whole_of(parsed.get("created_at")), billing_of(parsed, {}))
    if image.is_usable and name.endswith(".partial_image"):
        index = whole_of(parsed.get("partial_image_index")) or 0
        return Partial(image, index if 0 <= index <= _MAX_PREVIEWS else 0)
    error = parsed.get("error") or (parsed if name == "error" else None)
    fault = fault_of(error)
    if isinstance(error, Mapping) and fault is not None and fault.code and _WORD.match(fault.code):
        return Failed(fault)
    if fault is None and name != "error":
        return None
    said = fault.message if fault else one_line(masked_text(event.data, event.mask)) or "nothing"
    return Unclear(f"the stream has an error that is not the service's own: {said[:_LONGEST_REASON]}")


def _parsed(event: Event) -> Mapping[str, Any]:
    try:
        parsed = read_json(event.data, event.mask)
    except ValueError:
        return {}
    return parsed if isinstance(parsed, Mapping) else {}
