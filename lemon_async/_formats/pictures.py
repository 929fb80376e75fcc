"""Recognize pictures by their first bytes, and check that they are whole.

File names and `Content-Type` headers are claims; a common false one is an HTML error page labelled `image/png`.
"""

import struct
from collections.abc import Callable, Generator, Mapping
from typing import NamedTuple

__all__ = [
    "HEAD_BYTES",
    "PictureFacts",
    "StreamValidator",
    "find_picture_fault",
    "find_size_fault",
    "is_jpeg_frame",
    "sniff",
]

HEAD_BYTES = 64 * 1024
"""Enough to recognize a picture; the size of a photograph may stand behind longer metadata."""

_PNG = b"\x89PNG\r\n\x1a\n"
# Start-of-frame markers carry the size; C4, C8 and CC share their range and mean something else.
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_MAX_SEGMENTS = 1000  # real headers have dozens; megabytes of empty ones must not hold up the event loop
_MAX_PIXELS = 200_000_000  # far above any size of the service, far below what would exhaust memory when decoded


class PictureFacts(NamedTuple):
    """The facts in the header of a picture.

    Attributes:
        format: `png jpeg webp gif avif`.
        size: `(width, height)` in pixels; `None` if the bytes do not reach that far.
        has_transparency: Whether a PNG has an alpha channel or a transparent colour; `None` for other formats.
    """

    format: str
    size: tuple[int, int] | None = None
    has_transparency: bool | None = None


def sniff(content: bytes) -> PictureFacts | None:
    """Return the facts in a picture's first bytes, or `None` if they are not a picture."""
    for signature, (name, measure) in _FORMATS.items():
        if _matches(content, signature):
            transparency = _has_transparency(content) if name == "png" else None
            try:
                return PictureFacts(name, measure(content), transparency)
            except (struct.error, IndexError):
                return PictureFacts(name)
    return None


def find_size_fault(size: tuple[int, int] | None) -> str | None:
    """Return why a picture of this size must not be opened, or `None` if it may."""
    if size is None or 0 < size[0] * size[1] <= _MAX_PIXELS:
        return None
    return f"the header claims {size[0]} x {size[1]} pixels"


def is_jpeg_frame(marker: int) -> bool:
    """Return whether the size follows this marker (ITU T.81, table B.1)."""
    return marker in _JPEG_FRAMES


def _matches(content: bytes, signature: bytes) -> bool:
    """Return whether `content` has a signature, in which `?` stands for any byte."""
    pairs = zip(signature, content, strict=False)
    return len(content) >= len(signature) and all(sign in (ord("?"), byte) for sign, byte in pairs)


def _has_transparency(content: bytes) -> bool | None:
    """Return whether a PNG has an alpha channel (colour types 4 and 6) or a transparent colour (`tRNS`)."""
    if content[25:26] in {b"\x04", b"\x06"}:
        return True
    at = len(_PNG)
    for _ in range(_MAX_SEGMENTS):
        if at + 8 > len(content):
            break
        length, kind = struct.unpack_from(">I4s", content, at)
        if kind in {b"tRNS", b"IDAT", b"IEND"}:  # `tRNS` comes before the pixels
            return bool(kind == b"tRNS")
        at += 12 + length
    return None


def _png_size(content: bytes) -> tuple[int, int]:
    width, height = struct.unpack_from(">II", content, 16)
    return width, height


def _gif_size(content: bytes) -> tuple[int, int]:
    width, height = struct.unpack_from("<HH", content, 6)
    return width, height


def _jpeg_size(content: bytes) -> tuple[int, int] | None:
    at = 2
    for _ in range(_MAX_SEGMENTS):
        if content[at] != 0xFF:
            break
        marker, length = struct.unpack_from(">xBH", content, at)
        if is_jpeg_frame(marker):
            height, width = struct.unpack_from(">HH", content, at + 5)
            return width, height
        at += 1 if marker == 0xFF else 2 + length  # any number of FF may stand before a marker
    return None


def _webp_size(content: bytes) -> tuple[int, int] | None:
    if len(content) < 30:
        return None
    kind = content[12:16]
    if kind == b"VP8X":
        return 1 + int.from_bytes(content[24:27], "little"), 1 + int.from_bytes(content[27:30], "little")
    if kind == b"VP8L":
        bits = int.from_bytes(content[21:25], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", content, 26)
        return width & 0x3FFF, height & 0x3FFF
    return None


def _no_size(_: bytes) -> None:
    return None


_FORMATS: Mapping[bytes, tuple[str, Callable[[bytes], tuple[int, int] | None]]] = {
    _PNG: ("png", _png_size),
    b"\xff\xd8\xff": ("jpeg", _jpeg_size),
    b"RIFF????WEBP": ("webp", _webp_size),
    b"GIF87a": ("gif", _gif_size),
    b"GIF89a": ("gif", _gif_size),
    b"????ftypavif": ("avif", _no_size),
}


_Walk = Generator[tuple[int, int], bytes, str | None]

_SIGNATURE_BYTES = 32  # with the size, where that has a fixed place
_TAIL_BYTES = 8192  # some writers pad to whole blocks
_END = -1  # as a length: the last bytes of all, at most `_TAIL_BYTES`, and none before the offset
_CUT = "the picture is cut off"
_NO_PICTURE = "there is no picture behind the signature"

_IEND_CRC = b"\xaeB`\x82"
_JPEG_END = b"\xff\xd9"
_JPEG_END_DISTANCE_BYTES = 64
_FILL, _START_OF_SCAN = 0xFF, 0xDA
_JPEG_ALONE = frozenset({0x01, *range(0xD0, 0xD8)})  # markers without a segment (ITU T.81, table B.1)
_JPEG_BOUNDS = frozenset({0xD8, 0xD9})
_SHORTEST_WEBP_BYTES = 12  # its name and the head of one chunk


class StreamValidator:
    """Check one picture whose bytes are seen once and in order.

    The signature and the size in the header come first. A PNG, JPEG or WebP is then walked part by part to its end,
    because an end marker proves nothing by itself: the thumbnail in a photograph has one of its own. Other formats are
    only recognized. Nothing is kept but the beginning, the end and the part being looked at, so the same walk checks a
    file in memory, an upload that is being hashed and a download of any size.

    A walk is a generator that yields the `(offset, length)` it wants to see, offsets never falling, is sent those
    bytes (fewer at the end of the picture), and returns the fault, if any.

    Attributes:
        head_bytes: How much of the beginning is kept for `facts`.
        size_bytes: How much has passed.
    """

    def __init__(self, head_bytes: int = HEAD_BYTES) -> None:
        self.head_bytes: int = head_bytes
        self.size_bytes: int = 0
        self._head = bytearray()
        self._tail = bytearray()
        self._rest: bytes | memoryview = b""
        self._walk = _walk_picture()
        self._wanted: tuple[int, int] | None = next(self._walk)
        self._fault: str | None = None

    @property
    def is_picture(self) -> bool:
        """Whether the beginning is that of a picture; false until enough has passed to know."""
        return self.size_bytes >= _SIGNATURE_BYTES and (self._wanted is not None or self._fault is None)

    @property
    def facts(self) -> PictureFacts | None:
        """The facts in the header, as far as it has passed."""
        return sniff(bytes(self._head))

    def feed(self, piece: bytes | memoryview) -> str | None:
        """Take the next bytes, and return the fault of the picture as soon as it is certain."""
        self.size_bytes += len(piece)
        self._head += piece[: self.head_bytes - len(self._head)]
        self._tail += piece[-_TAIL_BYTES:]
        if len(self._tail) > 2 * _TAIL_BYTES:
            del self._tail[:-_TAIL_BYTES]
        self._follow(bytes(self._rest) + piece if self._rest else piece, is_end=False)
        return self._fault

    def end(self) -> str | None:
        """Return the fault of the picture, now that all of it has passed; `None` if it has none."""
        self._follow(self._rest, is_end=True)
        return self._fault

    def _follow(self, data: bytes | memoryview, *, is_end: bool) -> None:
        """Walk as far as `data` allows; it ends with the last byte that has passed."""
        start = self.size_bytes - len(data)
        while self._wanted is not None:
            at, length = self._wanted
            if not is_end and (length == _END or at + length > self.size_bytes):
                self._rest = b"" if length == _END else bytes(data[max(at - start, 0) :])
                return
            self._step(self._last(at) if length == _END else bytes(data[at - start : at - start + length]))
        self._rest = b""

    def _last(self, at: int) -> bytes:
        """Return the end of the picture, but nothing before `at`."""
        length = min(max(self.size_bytes - at, 0), _TAIL_BYTES, len(self._tail))
        return bytes(self._tail[len(self._tail) - length :])

    def _step(self, found: bytes) -> None:
        try:
            self._wanted = self._walk.send(found)
        except StopIteration as end:
            self._wanted, self._fault = None, end.value


def find_picture_fault(content: bytes) -> str | None:
    """Return why `content` is not a whole picture that is safe to open, or `None` if it is."""
    validator = StreamValidator()
    return validator.feed(content) or validator.end()


def _walk_picture() -> _Walk:
    head = yield 0, _SIGNATURE_BYTES
    facts = sniff(head)
    if facts is None:
        return "the bytes are not a known picture" if head else "there are no bytes"
    fault = find_size_fault(facts.size)
    walk = _WALKS.get(facts.format)
    return fault if fault is not None or walk is None else (yield from walk())


def _is_sane(step: int, at: int) -> bool:
    """Return whether `step` parts may end at `at`: encoders write 8 KiB a chunk, attackers empty ones."""
    return step <= 1000 + at // 1024


def _walk_png() -> _Walk:
    """Go from IHDR, which has the size, from chunk to chunk to IEND; anything behind it is harmless."""
    at, step, has_pixels = 8, 0, False
    while _is_sane(step, at):
        head = yield at, 8
        if len(head) < 8:
            break
        length, kind = struct.unpack(">I4s", head)
        has_pixels = has_pixels or kind == b"IDAT"
        if (kind == b"IHDR") != (at == 8) or (kind == b"IEND" and not has_pixels):
            return _NO_PICTURE
        if kind == b"IEND":
            return None if length == 0 and (yield at + 8, 4) == _IEND_CRC else _CUT
        at, step = at + 12 + length, step + 1
    return _CUT


def _walk_jpeg() -> _Walk:
    """Go from segment to segment to the pixels; an end marker counts only behind their beginning."""
    at, step, has_frame = 2, 0, False
    while _is_sane(step, at):
        head = yield at, 9
        if len(head) < 4 or head[0] != _FILL or head[1] in _JPEG_BOUNDS:
            break
        marker, length = struct.unpack_from(">xBH", head)
        step += 1
        if marker == _FILL or marker in _JPEG_ALONE:  # any number of FF may stand before a marker
            at += 1 if marker == _FILL else 2
            continue
        has_frame = has_frame or is_jpeg_frame(marker)
        if is_jpeg_frame(marker) and len(head) == 9:
            height, width = struct.unpack_from(">HH", head, 5)
            if fault := find_size_fault((width, height)):
                return fault
        at += 2 + length
        if marker == _START_OF_SCAN:
            if not has_frame:
                return _NO_PICTURE
            tail = yield at, _END
            return None if _JPEG_END in tail.rstrip(b"\0")[-_JPEG_END_DISTANCE_BYTES:] else _CUT
    return _CUT


def _walk_webp() -> _Walk:
    """Trust the length in the RIFF header."""
    head = yield 0, 8
    size_bytes = int.from_bytes(head[4:8], "little")
    return None if size_bytes >= _SHORTEST_WEBP_BYTES and (yield 7 + size_bytes, 1) else _CUT


_WALKS: Mapping[str, Callable[[], _Walk]] = {"png": _walk_png, "jpeg": _walk_jpeg, "webp": _walk_webp}
