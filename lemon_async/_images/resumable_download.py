"""The state of one download over several responses: what has arrived, and what to request next.

After a break, only the missing bytes are requested, if the server supports ranges and sent an `ETag` or
`Last-Modified` (RFC 9110, 13.1.5), by which it checks that the picture is still the same. A response that does not fit
the request is rejected as a whole: none of its bytes are joined to the earlier ones.
"""

import re
import zlib
from collections.abc import Mapping

import attrs

from lemon_async._formats.pictures import StreamValidator

__all__ = ["MAX_BYTES", "PrefixSkipper", "RangeMismatch", "ResumableDownload", "TooLarge"]

MAX_BYTES = 128 * 1024 * 1024

_CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18}|\*)", re.ASCII | re.IGNORECASE)
_VALIDATORS = ("ETag", "Last-Modified")


class RangeMismatch(Exception):
    """A response is not the requested part."""


class TooLarge(Exception):
    """A picture is larger than `MAX_BYTES`."""

    def __str__(self) -> str:
        return f"the response is larger than {MAX_BYTES:,} bytes"


@attrs.define(eq=False, repr=False)
class ResumableDownload:
    """The part of one picture that has arrived.

    Attributes:
        picture: Checks the bytes so far.
        total_bytes: Size of the picture, if known.
    """

    picture: StreamValidator = attrs.field(factory=StreamValidator)
    total_bytes: int | None = None
    _end_bytes: int | None = None  # of the part in the current response
    _validators: Mapping[str, str] = attrs.field(factory=dict)
    _has_ranges: bool = False
    _uses_ranges: bool = True
    _held: bytes = b""
    _is_passed_on: bool = False

    @property
    def kept_bytes(self) -> int:
        """Number of bytes that need not be requested again."""
        return self.picture.size_bytes if self._has_ranges and self._uses_ranges else 0

    @property
    def is_short(self) -> bool:
        """Whether bytes are missing at the end of a response."""
        return self.total_bytes is not None and self.picture.size_bytes < self.total_bytes

    @property
    def _condition(self) -> str | None:
        etag = self._validators.get("ETag", "")
        return etag if etag.startswith('"') else self._validators.get("Last-Modified")

    def range_headers(self) -> dict[str, str]:
        """Return the headers that request the missing bytes; none to request all."""
        if not self.kept_bytes:
            return {}
        return {"Range": f"bytes={self.kept_bytes}-", "If-Range": self._condition or ""}

    def start(self, headers: Mapping[str, str], length: int | None) -> bool:
        """Start over with a complete response; return whether bytes of an earlier one were passed on.

        Raises:
            TooLarge: By its `length`.
        """
        if length is not None and length > MAX_BYTES:
            raise TooLarge
        was_passed_on, self._is_passed_on = self._is_passed_on, False
        self.restart()
        self.total_bytes = self._end_bytes = length
        self._validators = _validators_of(headers)
        # Without a validator, the rest of another picture could be joined to this one.
        self._has_ranges = headers.get("Accept-Ranges", "").strip().lower() != "none" and self._condition is not None
        return was_passed_on

    def resume(self, status: int, headers: Mapping[str, str], length: int | None) -> None:
        """Continue with a partial response.

        Raises:
            RangeMismatch: It is not the requested part, or a part of another picture.
            TooLarge: The picture is.
        """
        content_range = _CONTENT_RANGE.fullmatch(headers.get("Content-Range", "").strip())
        if status == 416 or content_range is None:
            raise RangeMismatch("the rest was requested, and the response does not say that it is the rest")
        first, end = int(content_range[1]), int(content_range[2]) + 1
        total = self.total_bytes if content_range[3] == "*" else int(content_range[3])
        validators = _validators_of(headers)
        # A partial response repeats the ETag of the complete one (RFC 9110, 15.3.7).
        has_etag = not self._validators.get("ETag", "").startswith('"') or "ETag" in validators
        is_same = has_etag and all(self._validators.get(name, value) == value for name, value in validators.items())
        is_as_long = self.total_bytes in {None, total} and length in {None, end - first}
        if not (is_same and is_as_long and self.picture.size_bytes == first < end <= (total or end)):
            raise RangeMismatch("the rest was requested, and something else was sent")
        if end > MAX_BYTES:
            raise TooLarge
        self.total_bytes, self._end_bytes = total, end

    def feed(self, piece: bytes) -> str | None:
        """Add the next bytes; return the fault of the picture as soon as it is certain.

        Raises:
            RangeMismatch: There are more bytes than announced.
            TooLarge: There are more than `MAX_BYTES`.
        """
        size_bytes = self.picture.size_bytes + len(piece)
        if self._end_bytes is not None and size_bytes > self._end_bytes:
            raise RangeMismatch("more was sent than was announced")
        if size_bytes > MAX_BYTES:
            raise TooLarge
        self._held = self._held + piece if self._held else piece
        return self.picture.feed(piece)

    def pop_checked(self, *, is_end: bool = False) -> bytes:
        """Return the bytes since the last call; none until they are known to begin a picture."""
        if not (is_end or self.picture.is_picture):
            return b""
        held, self._held = self._held, b""
        self._is_passed_on = self._is_passed_on or bool(held)
        return held

    def restart(self) -> None:
        """Drop the bytes, to request them again."""
        self.picture = StreamValidator()
        self._held = b""

    def disable_ranges(self) -> None:
        """Drop the bytes, and request no ranges any more."""
        self.restart()
        self._uses_ranges = False


@attrs.define(eq=False, repr=False)
class PrefixSkipper:
    """Skips the bytes that were passed on already when a picture is fetched again.

    Attributes:
        is_different: Whether it is not the same picture.
    """

    is_different: bool = False
    _passed_bytes: int = 0
    _passed_crc: int = 0
    _again_bytes: int | None = None  # number of bytes fetched again; `None` if none are needed
    _again_crc: int = 0

    @property
    def is_short(self) -> bool:
        """Whether fewer bytes were fetched again than passed on."""
        return self._again_bytes is not None

    def restart(self) -> None:
        """Expect the picture from its first byte again."""
        self._again_bytes, self._again_crc = (0, 0) if self._passed_bytes else (None, 0)

    def skip(self, piece: bytes) -> bytes:
        """Return the bytes that were not passed on before, and count them as passed on."""
        if self._again_bytes is not None:
            known = piece[: self._passed_bytes - self._again_bytes]
            self._again_bytes += len(known)
            self._again_crc = zlib.crc32(known, self._again_crc)
            piece = piece[len(known) :]
            if self._again_bytes < self._passed_bytes:
                return b""
            self._again_bytes = None
            self.is_different = self._again_crc != self._passed_crc
            if self.is_different:
                return b""
        self._passed_bytes += len(piece)
        self._passed_crc = zlib.crc32(piece, self._passed_crc)
        return piece


def _validators_of(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: headers[name].strip() for name in _VALIDATORS if name in headers}
