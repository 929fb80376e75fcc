"""What the bytes of a picture say of themselves: format, size in pixels, and whether the end is there.

Names and `Content-Type` headers are claims; an HTML error page labelled `image/png` is the usual lie.
"""

import struct
from collections.abc import Callable, Mapping

import attrs

from lemon_async._formats.structure import CUT, END, MOST_TAIL_BYTES, WALKS, find_size_fault, is_jpeg_frame

__all__ = [
    "HEAD_BYTES",
    "TAIL_BYTES",
    "PictureFacts",
    "find_fault_at",
    "find_head_fault",
    "find_picture_fault",
    "judge_picture",
    "sniff",
]

HEAD_BYTES = 64 * 1024
"""How much of the beginning tells what a picture is; the size of a photograph can stand behind long metadata."""

TAIL_BYTES = 64
"""How much of the end tells whether it is there."""

_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_END = b"IEND\xaeB`\x82"
_JPEG_END = b"\xff\xd9"
_MOST_SEGMENTS = 1000  # real headers have dozens; megabytes of empty ones must not hold the event loop


@attrs.frozen
class PictureFacts:
    """What the header tells.

    Attributes:
        format: `png jpeg webp gif avif`.
        size: `(width, height)` in pixels, where it tells that.
        has_transparency: Whether there is an alpha channel or a transparent colour; told of PNG only.
    """

    format: str
    size: tuple[int, int] | None = None
    has_transparency: bool | None = None


def sniff(content: bytes) -> PictureFacts | None:
    """Return what a picture's first bytes tell, or `None` when they are no picture."""
    for signature, (name, measure) in _FORMATS.items():
        if _matches(content, signature):
            transparency = _has_transparency(content) if name == "png" else None
            try:
                return PictureFacts(name, measure(content), transparency)
            except (struct.error, IndexError):
                return PictureFacts(name)
    return None


def find_picture_fault(content: bytes) -> str | None:
    """Return why `content` is not a whole picture that is safe to open, or `None` when it is one."""
    return find_fault_at(lambda offset, length: content[offset : offset + length], len(content))


def find_fault_at(read_at: Callable[[int, int], bytes], size_bytes: int) -> str | None:
    """Return why what can be read anywhere is not a whole picture that is safe to open, or `None` when it is one.

    Reads the beginning and a few bytes of each part, some thousand times for the largest of pictures.

    Args:
        read_at: Returns as many bytes as its second argument says from the offset that its first one is, fewer at
            the end.
        size_bytes: How many there are in all.
    """
    facts = sniff(read_at(0, HEAD_BYTES))
    fault = find_head_fault(facts, size_bytes)
    if facts is None or fault is not None:
        return fault
    walk = WALKS[facts.format]()
    try:
        wanted = next(walk)
        while True:
            wanted = walk.send(_read(read_at, size_bytes, *wanted))
    except StopIteration as end:
        verdict: str | None = end.value
        return verdict


def find_head_fault(facts: PictureFacts | None, size_bytes: int) -> str | None:
    """Return what the beginning alone tells against a picture; `facts` is what `sniff` made of it."""
    if facts is None:
        return "there are no bytes" if not size_bytes else "the bytes are no known picture"
    return find_size_fault(facts.size)


def judge_picture(facts: PictureFacts | None, head: bytes, tail: bytes, size_bytes: int) -> str | None:
    """Return what the two ends of a picture tell against it, or `None`; `find_fault_at` looks between them, too.

    Args:
        facts: What `sniff` made of `head`.
        head: Its first bytes, as many as one cares to read.
        tail: Its last `TAIL_BYTES`.
        size_bytes: How many there are in all.
    """
    fault = find_head_fault(facts, size_bytes)
    if facts is None or fault is not None:
        return fault
    return None if _ENDS[facts.format](head, tail, size_bytes) else CUT


def _read(read_at: Callable[[int, int], bytes], size_bytes: int, offset: int, length: int) -> bytes:
    if length == END:
        offset = max(offset, size_bytes - MOST_TAIL_BYTES)
        length = max(size_bytes - offset, 0)
    return read_at(offset, length) if offset < size_bytes else b""


def _matches(content: bytes, signature: bytes) -> bool:
    """A `?` in a signature stands for any byte (the length inside a container)."""
    pairs = zip(signature, content, strict=False)
    return len(content) >= len(signature) and all(sign in (ord("?"), byte) for sign, byte in pairs)


def _has_transparency(content: bytes) -> bool | None:
    """Tell whether a PNG has an alpha channel (colour types 4 and 6) or marks a colour as transparent (`tRNS`)."""
    if content[25:26] in {b"\x04", b"\x06"}:
        return True
    at = len(_PNG)
    for _ in range(_MOST_SEGMENTS):
        if at + 8 > len(content):
            break
        length, kind = struct.unpack_from(">I4s", content, at)
        if kind in {b"tRNS", b"IDAT", b"IEND"}:  # what is transparent is told before the pixels
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
    for _ in range(_MOST_SEGMENTS):
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
_ENDS: Mapping[str, Callable[[bytes, bytes, int], bool]] = {
    "png": lambda _head, tail, _size: _PNG_END in tail,
    "jpeg": lambda _head, tail, _size: _JPEG_END in tail,
    "webp": lambda head, _tail, size: size >= 8 + int.from_bytes(head[4:8], "little"),
    "gif": lambda _head, tail, _size: tail.rstrip(b"\0").endswith(b";"),
    "avif": lambda _head, _tail, _size: True,
}
