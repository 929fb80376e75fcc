"""Where pictures end: a walk along the parts of each format, from the first to the last.

A walk is a generator that asks for bytes and returns what is wrong, if anything. It asks in the order in which bytes
arrive, so that one walk judges a file that can be read anywhere and a download of which nothing is kept.
A signature at the end is no proof by itself: the thumbnail inside a photograph has one of its own.
"""

import struct
from collections.abc import Callable, Generator, Mapping

__all__ = ["CUT", "END", "MOST_TAIL_BYTES", "WALKS", "Walk", "find_size_fault", "is_jpeg_frame"]

Walk = Generator[tuple[int, int], bytes, str | None]
"""Yields `(offset, length)`, offsets never falling; is sent those bytes, fewer where the picture ends before."""

END = -1
"""As a length: the last bytes of all, at most `MOST_TAIL_BYTES` of them, and none before the offset."""

MOST_TAIL_BYTES = 8192  # some writers pad to whole blocks
CUT = "the picture is cut off"

_IEND_CRC = b"\xaeB`\x82"
_JPEG_END = b"\xff\xd9"
_NEAR_BYTES = 64
_FILL, _START_OF_SCAN = 0xFF, 0xDA
_JPEG_ALONE = frozenset({0x01, *range(0xD0, 0xD8)})  # markers without a segment (ITU T.81, table B.1)
_JPEG_BOUNDS = frozenset({0xD8, 0xD9})
# Start-of-frame markers carry the size; C4, C8 and CC share their range and are something else.
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_SHORTEST_WEBP = 12  # its name and the head of one chunk
_AVIF_PARTS = frozenset({b"mdat", b"index"})
_AVIF_INDEXES = frozenset({b"meta", b"moov"})
_MOST_PIXELS = 200_000_000
"""Far above any size of the service, far below what would fill a memory when decoded."""


def find_size_fault(size: tuple[int, int] | None) -> str | None:
    """Return why a picture of this size is not opened, or `None` when nothing speaks against it."""
    if size is None or 0 < size[0] * size[1] <= _MOST_PIXELS:
        return None
    return f"the header claims {size[0]} x {size[1]} pixels"


def is_jpeg_frame(marker: int) -> bool:
    """Tell whether a marker is followed by the size (ITU T.81, table B.1)."""
    return marker in _JPEG_FRAMES


def _is_sane(step: int, at: int) -> bool:
    """Tell whether so many steps may have led no further: encoders write 8 KiB a chunk, attackers none."""
    return step <= 1000 + at // 1024


def _walk_png() -> Walk:
    """Go from chunk to chunk to the one that is the end; what stands behind it is harmless."""
    at, step = 8, 0
    while _is_sane(step, at):
        head = yield at, 8
        if len(head) < 8:
            break
        length, kind = struct.unpack(">I4s", head)
        if kind == b"IEND":
            return None if length == 0 and (yield at + 8, 4) == _IEND_CRC else CUT
        at, step = at + 12 + length, step + 1
    return CUT


def _walk_jpeg() -> Walk:
    """Go from segment to segment to the pixels; the end counts only behind their beginning."""
    at, step = 2, 0
    while _is_sane(step, at):
        head = yield at, 9
        if len(head) < 4 or head[0] != _FILL or head[1] in _JPEG_BOUNDS:
            break
        marker, length = struct.unpack_from(">xBH", head)
        step += 1
        if marker == _FILL or marker in _JPEG_ALONE:  # any number of FF may stand before a marker
            at += 1 if marker == _FILL else 2
            continue
        if is_jpeg_frame(marker) and len(head) == 9:
            height, width = struct.unpack_from(">HH", head, 5)
            if fault := find_size_fault((width, height)):
                return fault
        at += 2 + length
        if marker == _START_OF_SCAN:
            tail = yield at, END
            return None if _JPEG_END in tail.rstrip(b"\0")[-_NEAR_BYTES:] else CUT
    return CUT


def _walk_webp() -> Walk:
    """Believe the length in the header (RIFF)."""
    head = yield 0, 8
    size_bytes = int.from_bytes(head[4:8], "little")
    return None if size_bytes >= _SHORTEST_WEBP and (yield 7 + size_bytes, 1) else CUT


def _walk_avif() -> Walk:
    """Go from box to box (ISO 14496-12, 4.2); with the index and the pixels there, the rest may be padding."""
    at, step = 0, 0
    wanted = set(_AVIF_PARTS)
    while _is_sane(step, at):
        head = yield at, 16
        if not wanted and not head.rstrip(b"\0"):
            return None
        if len(head) < 8:
            break
        size_bytes, kind = struct.unpack_from(">I4s", head)
        if size_bytes == 1 and len(head) == 16:
            size_bytes = int.from_bytes(head[8:], "big")
        wanted.discard(b"index" if kind in _AVIF_INDEXES else kind)
        if size_bytes == 0 and not wanted:  # it goes to the end, wherever that is
            return None
        if size_bytes < 8 or not (yield at + size_bytes - 1, 1):
            break
        at, step = at + size_bytes, step + 1
    return CUT


def _walk_gif() -> Walk:
    """Look at the trailer alone."""
    tail = yield 6, END
    return None if tail.rstrip(b"\0").endswith(b";") else CUT


WALKS: Mapping[str, Callable[[], Walk]] = {
    "png": _walk_png,
    "jpeg": _walk_jpeg,
    "webp": _walk_webp,
    "gif": _walk_gif,
    "avif": _walk_avif,
}
