"""Is it a picture? The header, the number of pixels, and whether it can be decoded to its end.

Runs in a worker thread. Pillow's `Image.open` is not used: it guesses among dozens of formats, and warns
about large pictures through the warnings of the whole program. The bound here is our own, and it is
checked before a pixel is decoded.
"""

import io
import struct
from collections.abc import Callable
from typing import BinaryIO

from PIL import Image, JpegImagePlugin, PngImagePlugin, WebPImagePlugin

from lemon_async.emulator.sources import NoPicture, Source, Stored

MAX_PIXELS = 200_000_000

_HEAD_BYTES = 32


def examine(stored: Stored) -> Source:
    """Decode a file once.

    Raises:
        NoPicture: It is no PNG, JPEG or WebP that can be decoded, or one of too many pixels.
    """
    with open(stored.path, "rb") as file:  # noqa: PTH123 - paths of the vault are strings
        image, format_ = _decode(file)
        return Source(stored, format_, *image.size, image.has_transparency_data)


def load(source: Source) -> Image.Image:
    """The pixels of a source, as RGB or RGBA."""
    with open(source.path, "rb") as file:  # noqa: PTH123 - likewise
        image, _ = _decode(file)
        if image.mode.startswith("I;16"):
            image = image.convert("I").point(lambda level: level / 256).convert("L")
        return image.convert("RGBA" if source.has_alpha else "RGB")


def _decode(file: BinaryIO) -> tuple[Image.Image, str]:
    format_, open_picture = _format_of(file.read(_HEAD_BYTES))
    if format_ == "webp":
        file.seek(0)
        _check_pixels(*_webp_size(file.read(_HEAD_BYTES)))
    try:
        file.seek(0)
        image = open_picture(file)
        _check_pixels(*image.size)
        image.verify()
        file.seek(0)
        image = open_picture(file)
        image.load()
    except NoPicture:
        raise
    except Exception as error:  # decoders of hostile bytes raise anything
        raise NoPicture(f"is no {format_.upper()} that can be decoded: {error}") from error
    return image, format_


def _format_of(head: bytes) -> tuple[str, Callable[[BinaryIO], Image.Image]]:
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png", PngImagePlugin.PngImageFile
    if head.startswith(b"\xff\xd8\xff"):
        return "jpeg", JpegImagePlugin.JpegImageFile
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "webp", WebPImagePlugin.WebPImageFile
    raise NoPicture("must be a PNG, JPEG or WebP picture")


def _check_pixels(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise NoPicture(f"has {width}x{height} pixels; {MAX_PIXELS:,} is the most")


def _webp_size(head: bytes) -> tuple[int, int]:
    """Width and height by the header: opening a WebP file makes room for all its pixels at once."""
    file = io.BytesIO(head[12:])
    kind, _length = file.read(4), file.read(4)
    body = file.read()
    if kind == b"VP8X" and len(body) >= 10:
        return 1 + int.from_bytes(body[4:7], "little"), 1 + int.from_bytes(body[7:10], "little")
    if kind == b"VP8L" and len(body) >= 5:
        bits = int.from_bytes(body[1:5], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if kind == b"VP8 " and len(body) >= 10:
        width, height = struct.unpack_from("<HH", body, 6)
        return width & 0x3FFF, height & 0x3FFF
    raise NoPicture("is no WebP that can be decoded: the header is cut off")
