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
from collections.abc import Mapping
from types import MappingProxyType

import attrs
import orjson

from lemon_async._formats.base64_text import RESERVE_BYTES, Base64Text, url_prefix_bytes
from lemon_async.types import Inline

__all__ = ["MAX_TEXT_BYTES", "PIECE_BYTES", "Base64Extractor", "Extracted"]

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


@attrs.frozen
class Extracted:
    """The skeleton of a document, and its pictures by the names that replace them."""

    skeleton: bytes = attrs.field(repr=False)
    pictures: Mapping[str, Inline] = MappingProxyType({})
    fault: str | None = None


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
