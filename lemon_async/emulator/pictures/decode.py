"""Decode the pictures that clients send: check the header, the number of pixels and every byte.

Runs in a worker thread. Pillow's `Image.open` is not used: it guesses among dozens of formats, and warns about large
pictures through the `warnings` filters of the whole program. The limits here are checked before a pixel is decoded,
because a PNG of 150 kB can hold 50 million equal pixels. They allow photos of 48 megapixels and everything that the
service draws, and keep a decoder below about half a gigabyte.
"""

import io
import struct
import threading
from collections.abc import Callable
from typing import BinaryIO

from PIL import Image, JpegImagePlugin, PngImagePlugin, WebPImagePlugin

from lemon_async.emulator.pictures.picture import Blob, InvalidImage, SourceImage

# libwebp takes 16 bytes for each pixel, the other decoders 4 to 12.
MAX_PIXELS = {"png": 50_000_000, "jpeg": 50_000_000, "webp": 25_000_000}

DECODING = threading.Lock()

_HEAD_BYTES = 32


def inspect(blob: Blob) -> SourceImage:
    """Decode a file once.

    Raises:
        InvalidImage: It is not a PNG, JPEG or WebP file that can be decoded, or it has too many pixels.
    """
    with open(blob.path, "rb") as file:  # noqa: PTH123 - blob paths are strings
        image, format_ = _decode(file)
        return SourceImage(blob, format_, *image.size, image.has_transparency_data)


def load(source: SourceImage) -> Image.Image:
    """Return the pixels of a source as RGB or RGBA."""
    with open(source.blob.path, "rb") as file:  # noqa: PTH123 - blob paths are strings
        image, _ = _decode(file)
        if image.mode.startswith("I;16"):
            image = image.convert("I").point(lambda level: level / 256).convert("L")
        mode = "RGBA" if source.has_alpha else "RGB"
        # A WebP image keeps its decoder, which is larger than the pixels; a converted copy does not.
        return image if image.mode == mode and source.format != "webp" else image.convert(mode)


def _decode(file: BinaryIO) -> tuple[Image.Image, str]:
    """Decode one picture at a time: two threads would need twice the memory."""
    with DECODING:
        return _decode_unlocked(file)


def _decode_unlocked(file: BinaryIO) -> tuple[Image.Image, str]:
    format_, open_picture = _format_of(file.read(_HEAD_BYTES))
    if format_ == "webp":
        file.seek(0)
        _check_pixels(format_, *_webp_size(file.read(_HEAD_BYTES)))
    try:
        file.seek(0)
        image = open_picture(file)
        _check_pixels(format_, *image.size)
        if format_ == "png":  # Check its checksums; the other formats have none.
            image.verify()
            file.seek(0)
            image = open_picture(file)
        image.load()
    except InvalidImage:
        raise
    except Exception as error:  # decoders of hostile bytes raise anything
        raise InvalidImage(f"is not a valid {format_.upper()} file: {error}") from error
    return image, format_


def _format_of(head: bytes) -> tuple[str, Callable[[BinaryIO], Image.Image]]:
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png", PngImagePlugin.PngImageFile
    if head.startswith(b"\xff\xd8\xff"):
        return "jpeg", JpegImagePlugin.JpegImageFile
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "webp", WebPImagePlugin.WebPImageFile
    raise InvalidImage("must be a PNG, JPEG or WebP file")


def _check_pixels(format_: str, width: int, height: int) -> None:
    if width * height > MAX_PIXELS[format_]:
        raise InvalidImage(f"has {width}x{height} pixels; the limit for {format_.upper()} is {MAX_PIXELS[format_]:,}")


def _webp_size(head: bytes) -> tuple[int, int]:
    """Read width and height from the header: opening a WebP file allocates memory for all its pixels."""
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
    raise InvalidImage("is not a valid WEBP file: the header is truncated")
