"""Decode base64 text, whole or in pieces.

Accepts the changes that gateways make: MIME line breaks, the URL-safe alphabet, missing or doubled padding. Anything
else is a fault, and no byte of that text is kept.
"""

import io
import re
import string

import pybase64

from lemon_async.types import Inline

__all__ = ["RESERVE_BYTES", "Base64Text", "decode_base64", "decode_data_url", "reserve_buffer", "url_prefix_bytes"]

RESERVE_BYTES = 40 * 1024 * 1024
"""More than the largest picture; allocators serve more than 32 MiB with untouched pages of its own."""

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
