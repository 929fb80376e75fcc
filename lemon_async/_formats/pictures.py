"""Recognize pictures by their first bytes: format, size in pixels, transparency.

File names and `Content-Type` headers are claims; an HTML error page labelled `image/png` is the usual one.
"""

import struct
from collections.abc import Callable, Mapping

import attrs

__all__ = ["HEAD_BYTES", "PictureFacts", "find_size_fault", "is_jpeg_frame", "sniff"]

HEAD_BYTES = 64 * 1024
"""Enough to recognize a picture; the size of a photograph may stand behind longer metadata."""

_PNG = b"\x89PNG\r\n\x1a\n"
# Start-of-frame markers carry the size; C4, C8 and CC share their range and mean something else.
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_MAX_SEGMENTS = 1000  # real headers have dozens; megabytes of empty ones must not hold up the event loop
_MAX_PIXELS = 200_000_000  # far above any size of the service, far below what would fill a memory when decoded


@attrs.frozen
class PictureFacts:
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
    """Return the facts in a picture's first bytes, or `None` if they are no picture."""
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
