"""Take the pictures out of a JSON document while it arrives.

Four pictures of 6 MiB in one response are 33 MB of text. Parsing and decoding them in one step would hold up the event
loop, from a thread, too, because both hold the interpreter's lock. So long base64 strings are decoded piece by piece
and replaced by short names, and only the rest, the *skeleton*, is parsed in the end. A short document is its own
skeleton.

    a long string that is                                 then
    named `b64_json`, or a `data:` URL with base64        extracted; if it is not base64, that picture has a fault
    named `url`, and base64 as far as it has arrived      extracted: some gateways put base64 there
    anything else, such as a prompt that looks the same   stays in the skeleton

Rejected: a streaming JSON parser, which walks through megabytes of text character by character.
"""

import io
import re
import secrets
import string
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

import orjson
import pybase64

from lemon_async.types import Inline

__all__ = [
    "MAX_TEXT_BYTES",
    "PIECE_BYTES",
    "RESERVE_BYTES",
    "Base64Extractor",
    "Base64Text",
    "Extracted",
    "decode_base64",
    "decode_data_url",
    "reserve_buffer",
    "url_prefix_bytes",
]

RESERVE_BYTES = 40 * 1024 * 1024
"""More than the largest picture; allocators use new, untouched pages for more than 32 MiB."""

_ALPHABET = (string.ascii_letters + string.digits + "+/").encode()
_WHITE_SPACE = b" \t\r\n\v\f"
_FROM_URLS = bytes.maketrans(b"-_", b"+/")  # the URL-safe alphabet (RFC 4648, section 5)
_PAD = b"="
_URL = re.compile(rb"data:[^,]{0,90};base64,")
_SHORTEST_PLAIN_BYTES = 8
_LONGEST_PREFIX = 110

_ODD_CHARACTER = "it has a character that is not base64"
_GOES_ON = "it continues after its padding"
_ODD_LENGTH = "it is cut: one character is left over"


class Base64Text:
    """Decodes base64 text that arrives in segments.

    Accepts the changes that gateways make: MIME line breaks, the URL-safe alphabet, missing or doubled padding.
    Anything else is a fault, and no byte of that text is kept.

    Args:
        reserve_bytes: Memory to begin with; see `reserve_buffer`.

    Attributes:
        fault: Why the text is not base64.
    """

    __slots__ = ("_carry", "_content", "_is_padded", "fault")

    def __init__(self, reserve_bytes: int = 0) -> None:
        self.fault: str | None = None
        self._carry = b""
        self._content = reserve_buffer(reserve_bytes)
        self._is_padded = False

    def take_plain(self, segment: memoryview) -> bool:
        """Take a segment and return `True` if it has no white space or padding; else take nothing."""
        if self.fault or self._is_padded or len(segment) < _SHORTEST_PLAIN_BYTES:
            return False
        lead = -len(self._carry) % 4
        stop = len(segment) - (len(segment) - lead) % 4
        head, tail = bytes(segment[:lead]), bytes(segment[stop:])
        if (head + tail).translate(None, _ALPHABET) or segment[stop - 1] == _PAD[0]:
            return False
        try:
            first = pybase64.b64decode(self._carry + head, validate=True)
            rest = pybase64.b64decode(segment[lead:stop], validate=True)
        except ValueError:
            return False
        self._content.write(first)
        self._content.write(rest)
        self._carry = tail
        return True

    def take(self, text: bytes) -> None:
        """Take any segment."""
        if self.fault:
            return
        text = self._carry + text.translate(_FROM_URLS, _WHITE_SPACE)
        body = text.rstrip(_PAD)
        if body and (_PAD in body or (self._is_padded and len(body) > len(self._carry))):
            self.fail(_GOES_ON)
            return
        self._is_padded = self._is_padded or len(body) < len(text)
        stop = len(body) - len(body) % 4
        self._carry = body[stop:]
        self._write(body[:stop])

    def fail(self, fault: str = _ODD_CHARACTER) -> None:
        """Set the fault, and release the bytes."""
        self.fault = fault
        self._content = io.BytesIO()

    def end(self) -> Inline:
        """Return the bytes of the whole text."""
        if not self.fault and len(self._carry) == 1:
            self.fail(_ODD_LENGTH)
        self._write(self._carry + _PAD * (-len(self._carry) % 4))
        if self.fault:
            return Inline(None, self.fault)
        self._content.truncate()
        return Inline(self._content.getvalue())

    def _write(self, quartets: bytes) -> None:
        if self.fault:
            return
        try:
            self._content.write(pybase64.b64decode(quartets, validate=True))
        except ValueError:
            self.fail()


def reserve_buffer(size_bytes: int) -> io.BytesIO:
    """Return a buffer to be filled piece by piece, whose content can be taken without a copy.

    The system provides pages of a large buffer only when they are written to. A buffer that grows would be copied again
    and again, and joining pieces at the end would touch megabytes of new memory in one step: both hold up the event
    loop, even from another thread.
    """
    try:
        return io.BytesIO(bytes(size_bytes))
    except MemoryError:  # a system without overcommit
        return io.BytesIO()


def decode_base64(text: str) -> Inline:
    """Return the bytes of base64 text."""
    try:
        return Inline(pybase64.b64decode(text, validate=True))
    except ValueError:
        pass
    whole = Base64Text()
    whole.take(text.encode("utf-8", "replace"))
    return whole.end()


def decode_data_url(text: str) -> Inline | None:
    """Return the bytes of a `data:` URL with base64, or `None` if it is something else."""
    prefix_bytes = url_prefix_bytes(text[:_LONGEST_PREFIX].encode("utf-8", "replace")) if text[:5] == "data:" else 0
    return decode_base64(text[prefix_bytes:]) if prefix_bytes and text[:prefix_bytes].isascii() else None


def url_prefix_bytes(head: bytes) -> int:
    """Return where the base64 begins in a `data:` URL, or 0 if it is something else."""
    prefix = _URL.match(head)
    return prefix.end() if prefix else 0


PIECE_BYTES = 128 * 1024
"""The recommended size of the pieces to feed."""
LONG_BYTES = 16 * 1024
"""Strings up to this length stay in the skeleton."""
MAX_TEXT_BYTES = 1024 * 1024
"""Bound of the skeleton, which is parsed in one step."""
_HEAD_BYTES = 120

# Text between strings, and complete strings that are neither long nor full of escapes: thousands in one step.
_SHORT_ONES = re.compile(
    rb'[^"]*+(?:"[^"\\]{0,127}+(?:\\.[^"\\]{0,31}+){0,63}+"[^"]*+)*+',
    re.DOTALL,
)
# The inside of a string, up to its end, or to half an escape where the data end.
_INSIDE = re.compile(rb'[^"\\]*+(?:\\(?:[^u]|u(?![0-9A-Fa-f]{0,3}\Z))[^"\\]*+)*+', re.DOTALL)
_NAME = re.compile(rb'(?<!\\)"(b64_json|url)"\s*:\s*\Z')


class Extracted(NamedTuple):
    """The skeleton of a document, and its pictures by the names that replace them."""

    skeleton: bytes
    pictures: Mapping[str, Inline] = MappingProxyType({})
    fault: str | None = None

    def __repr__(self) -> str:
        return f"<Extracted {len(self.skeleton)} bytes, {len(self.pictures)} pictures, fault={self.fault!r}>"


class Base64Extractor:
    """Takes a JSON document in pieces of any size, and extracts long base64 from it."""

    def __init__(self, long_bytes: int = LONG_BYTES) -> None:
        self._long_bytes = long_bytes
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._skeleton = io.BytesIO()
        self._pictures: dict[str, Inline] = {}
        self._text: Base64Text | None = None
        self._start = b""
        self._is_kept = False
        self._token = ""
        self._fault: str | None = None

    def feed(self, piece: bytes) -> None:
        """Take the next piece; small ones are joined first, so that their number does not matter."""
        if self._fault:
            return
        self._held.append(piece)
        self._held_bytes += len(piece)
        if self._held_bytes > self._long_bytes:
            self._take_held()

    def end(self) -> Extracted:
        """Return the skeleton and the pictures."""
        if self._skeleton.tell() or self._pictures or self._text or self._is_kept:
            self._take_held()
        rest = b"".join(self._held)
        if self._text is not None:  # a cut picture stays in the skeleton
            rest = self._start + rest
        if self._skeleton.tell():
            self._skeleton.write(rest)
            rest = self._skeleton.getvalue()
        return Extracted(b"" if self._fault else rest, self._pictures, self._fault)

    def _take_held(self) -> None:
        whole = self._held[0] if len(self._held) == 1 else b"".join(self._held)
        self._held.clear()
        at = 0
        while at < len(whole) and not self._fault:
            after = self._decode(whole, at) if self._text is not None else self._keep(whole, at)
            if after == at:
                break
            at = after
        self._held_bytes = 0 if self._fault else len(whole) - at
        if self._held_bytes:
            self._held.append(whole[at:])

    def _keep(self, whole: bytes, at: int) -> int:
        """Write text that is not long base64 to the skeleton, and return where it ends."""
        start = at
        while at < len(whole):
            if self._is_kept:
                at = self._past_string(whole, at)
                if self._is_kept:  # it continues in the next piece
                    break
            at = _end_of(_SHORT_ONES, whole, at)
            if at == len(whole):
                break
            end = _end_of(_INSIDE, whole, at + 1)
            is_open = end == len(whole) or whole[end] != _QUOTE
            if end - at - 1 <= self._long_bytes:
                if is_open:  # its length is not known yet
                    break
                at = end + 1
                continue
            self._write(whole, start, at)
            start = at
            prefix = url_prefix_bytes(whole[at + 1 : min(end, at + _HEAD_BYTES)])
            if self._begins(whole, at + 1, end, is_url=prefix > 0):
                return at + 1 + prefix
            self._is_kept, at = True, at + 1
        self._write(whole, start, at)
        return at

    def _past_string(self, whole: bytes, at: int) -> int:
        end = _end_of(_INSIDE, whole, at)
        self._is_kept = end == len(whole) or whole[end] != _QUOTE
        return end if self._is_kept else end + 1

    def _begins(self, whole: bytes, at: int, end: int, *, is_url: bool) -> bool:
        """Begin to decode a string if it is a picture, and return whether it is."""
        name = b"b64_json" if is_url else self._name()
        if name == b"url":  # most are links
            attempt = Base64Text()
            _take(attempt, whole, at, _end_of(_INSIDE, whole, at, min(end, at + self._long_bytes)))
            name = None if attempt.fault else name
        if name is None:
            return False
        self._text, self._start = Base64Text(RESERVE_BYTES), whole[at - 1 : at + _HEAD_BYTES]
        return True

    def _name(self) -> bytes | None:
        """Return the name of the string that begins here, if it is one for pictures."""
        with self._skeleton.getbuffer() as view:
            found = _NAME.search(bytes(view[-_HEAD_BYTES:]))
        return found[1] if found else None

    def _decode(self, whole: bytes, at: int) -> int:
        """Decode the open string as far as it has arrived, and return where that ends."""
        text = self._text
        assert text is not None  # noqa: S101 - checked by the caller
        quote = whole.find(b'"', at)
        end = len(whole) if quote < 0 else quote
        if not text.take_plain(memoryview(whole)[at:end]):  # escapes, white space, padding, or not base64
            end = _end_of(_INSIDE, whole, at)
            _take(text, whole, at, end)
        if end < len(whole) and whole[end] == _QUOTE:
            self._close(text.end())
            return end + 1
        return end

    def _close(self, inline: Inline) -> None:
        self._token = self._token or secrets.token_hex(8)  # a server cannot guess it, and so cannot send it
        name = f"base64, left out ({self._token}-{len(self._pictures)})"
        self._pictures[name] = inline
        self._text = None
        self._skeleton.write(b'"%b"' % name.encode())

    def _write(self, whole: bytes, start: int, stop: int) -> None:
        self._skeleton.write(memoryview(whole)[start:stop])
        if self._skeleton.tell() > MAX_TEXT_BYTES:
            self._fault = f"more than {MAX_TEXT_BYTES:,} bytes of text beside its pictures"
            self._skeleton, self._pictures = io.BytesIO(), {}


_QUOTE = ord('"')


def _end_of(pattern: re.Pattern[bytes], whole: bytes, at: int, stop: int | None = None) -> int:
    found = pattern.match(whole, at, len(whole) if stop is None else stop)
    return found.end() if found else at


def _take(text: Base64Text, whole: bytes, start: int, end: int) -> None:
    """Undo the JSON escapes in a part of a string, and take the result."""
    raw = whole[start:end]
    plain = raw.replace(b"\\/", b"/")
    if b"\\" in plain:
        try:
            plain = orjson.loads(b'"%b"' % raw.translate(None, b"\t\r\n")).encode()
        except ValueError:
            text.fail()
            return
    text.take(plain)
