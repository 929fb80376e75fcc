"""One picture on its way, over as many answers as that takes: what is kept, and what is asked for next.

A break costs only what has not arrived, if the server lets us go on behind it. With a validator (RFC 9110, 13.1.5) it
tells by itself whether the picture is still the same; without one, its length has to. An answer that does not fit what
was asked for is not believed, and nothing of it is joined to what is here.
"""

import re
import zlib
from collections.abc import Mapping

import attrs

from lemon_async._formats.stream_validator import StreamValidator

__all__ = ["MAX_BYTES", "PrefixSkipper", "RangeMismatch", "ResumableDownload", "TooMuch"]

MAX_BYTES = 128 * 1024 * 1024

_CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18}|\*)", re.ASCII | re.IGNORECASE)
_MARKS = ("ETag", "Last-Modified")


class RangeMismatch(Exception):
    """An answer is not the part that was asked for."""


class TooMuch(Exception):
    """A picture is larger than any that makes sense."""

    def __str__(self) -> str:
        return f"the answer is larger than {MAX_BYTES:,} bytes"


@attrs.define(eq=False, repr=False)
class ResumableDownload:
    """What has arrived of one picture.

    Attributes:
        seen: The picture, as far as it is here.
        total_bytes: How long it will be, if that was told.
    """

    seen: StreamValidator = attrs.field(factory=StreamValidator)
    total_bytes: int | None = None
    _end_bytes: int | None = None  # of what the present answer holds
    _marks: Mapping[str, str] = attrs.field(factory=dict)
    _takes_ranges: bool = False
    _is_believed: bool = True
    _held: bytes = b""
    _is_handed_on: bool = False

    @property
    def kept_bytes(self) -> int:
        """How much need not be sent again."""
        return self.seen.size_bytes if self._takes_ranges and self._is_believed else 0

    @property
    def is_short(self) -> bool:
        """Whether an answer that is over has left bytes out."""
        return self.total_bytes is not None and self.seen.size_bytes < self.total_bytes

    @property
    def _validator(self) -> str | None:
        etag = self._marks.get("ETag", "")
        return etag if etag.startswith('"') else self._marks.get("Last-Modified")

    def question(self) -> dict[str, str]:
        """Return the headers that ask for what is missing; none for all of it."""
        if not self.kept_bytes:
            return {}
        return {"Range": f"bytes={self.kept_bytes}-", "If-Range": self._validator or ""}

    def begin(self, headers: Mapping[str, str], length: int | None) -> bool:
        """Begin anew with an answer that holds all; return whether anything of an earlier one was handed on.

        Raises:
            TooMuch: It says so in its `length`.
        """
        if length is not None and length > MAX_BYTES:
            raise TooMuch
        was_handed_on, self._is_handed_on = self._is_handed_on, False
        self.forget()
        self.total_bytes = self._end_bytes = length
        self._marks = _marks_of(headers)
        # Without a mark to tell it by, the rest of another picture would be taken for that of this one.
        self._takes_ranges = headers.get("Accept-Ranges", "").strip().lower() != "none" and self._validator is not None
        return was_handed_on

    def go_on(self, status: int, headers: Mapping[str, str], length: int | None) -> None:
        """Go on with an answer that holds a part.

        Raises:
            Misfit: It is not the part that was asked for, or one of another picture.
            TooMuch: All of it would be too large.
        """
        safe_str = _CONTENT_RANGE.fullmatch(headers.get("Content-Range", "").strip())
        if status == 416 or safe_str is None:
            raise RangeMismatch("the rest was asked for, and the answer does not say that it is that")
        first, end = int(safe_str[1]), int(safe_str[2]) + 1
        total = self.total_bytes if safe_str[3] == "*" else int(safe_str[3])
        marks = _marks_of(headers)
        # Which an answer with a part repeats, if the whole had it (RFC 9110, 15.3.7).
        has_etag = not self._marks.get("ETag", "").startswith('"') or "ETag" in marks
        is_same = has_etag and all(self._marks.get(name, mark) == mark for name, mark in marks.items())
        is_as_long = self.total_bytes in {None, total} and length in {None, end - first}
        if not (is_same and is_as_long and self.seen.size_bytes == first < end <= (total or end)):
            raise RangeMismatch("the rest was asked for, and something else was sent")
        if end > MAX_BYTES:
            raise TooMuch
        self.total_bytes, self._end_bytes = total, end

    def take(self, piece: bytes) -> str | None:
        """Take in the next bytes; return what is wrong with the picture as soon as that is certain.

        Raises:
            Misfit: There are more than there can be.
            TooMuch: There are more than make sense.
        """
        size_bytes = self.seen.size_bytes + len(piece)
        if self._end_bytes is not None and size_bytes > self._end_bytes:
            raise RangeMismatch("more was sent than was announced")
        if size_bytes > MAX_BYTES:
            raise TooMuch
        self._held = self._held + piece if self._held else piece
        return self.seen.feed(piece)

    def hand_on(self, *, is_end: bool = False) -> bytes:
        """Return what has come since the last call; nothing while it need not be a picture at all."""
        if not (is_end or self.seen.is_picture):
            return b""
        held, self._held = self._held, b""
        self._is_handed_on = self._is_handed_on or bool(held)
        return held

    def forget(self) -> None:
        """Let what is here be sent again."""
        self.seen = StreamValidator()
        self._held = b""

    def distrust(self) -> None:
        """Let what is here be sent again, and ask for no part any more."""
        self.forget()
        self._is_believed = False


@attrs.define(eq=False, repr=False)
class PrefixSkipper:
    """Leaves out what has been handed over already when a picture comes anew.

    Attributes:
        is_other: Whether it is not the same picture.
    """

    is_other: bool = False
    _handed_bytes: int = 0
    _handed_crc: int = 0
    _again_bytes: int | None = None  # how much has come anew; `None` when nothing has to
    _again_crc: int = 0

    @property
    def is_short(self) -> bool:
        """Whether less has come anew than was handed over."""
        return self._again_bytes is not None

    def begin(self) -> None:
        """Expect the picture from its first byte."""
        self._again_bytes, self._again_crc = (0, 0) if self._handed_bytes else (None, 0)

    def fresh(self, piece: bytes) -> bytes:
        """Return what has not been handed over before, and count it as handed over."""
        if self._again_bytes is not None:
            known = piece[: self._handed_bytes - self._again_bytes]
            self._again_bytes += len(known)
            self._again_crc = zlib.crc32(known, self._again_crc)
            piece = piece[len(known) :]
            if self._again_bytes < self._handed_bytes:
                return b""
            self._again_bytes = None
            self.is_other = self._again_crc != self._handed_crc
            if self.is_other:
                return b""
        self._handed_bytes += len(piece)
        self._handed_crc = zlib.crc32(piece, self._handed_crc)
        return piece


def _marks_of(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: headers[name].strip() for name in _MARKS if name in headers}
