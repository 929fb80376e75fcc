"""Small copies of pictures, drawn by Pillow where it is installed. Everything here blocks: call it in a thread."""

import io
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import attrs

from lemon_async._formats.pictures import sniff
from lemon_async._formats.safe_text import safe_str

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["Paletted", "paletted", "png", "thumbnail"]

_WEBP_QUALITY = 80
_MOST_COLOURS = 128
_HALF_SEEN = 128

T = TypeVar("T")


@attrs.frozen
class Paletted:
    """A picture whose pixels are numbers of colours, row by row.

    Attributes:
        width: In pixels.
        height: In pixels.
        palette: Red, green and blue of each colour, 0-255.
        indices: One byte per pixel.
        transparent: The number that stands for no colour.
    """

    width: int
    height: int
    palette: tuple[tuple[int, int, int], ...]
    indices: bytes = attrs.field(repr=False)
    transparent: int | None = None


def thumbnail(content: bytes, edge: int) -> bytes | None:
    """Return a small copy as a WebP file, at most `edge` pixels long; `None` without Pillow.

    Raises:
        ValueError: The picture cannot be decoded, or would fill the memory; the message says why.
    """
    return _drawn(content, edge, _webp)


def png(content: bytes, edge: int) -> bytes | None:
    """Return a small copy as a PNG file; otherwise as `thumbnail`."""
    return _drawn(content, edge, _png)


def paletted(content: bytes, edge: int) -> Paletted | None:
    """Return a small copy in at most 128 colours; otherwise as `thumbnail`."""
    return _drawn(content, edge, _in_colours)


def _drawn(content: bytes, edge: int, finish: "Callable[[Image], T]") -> T | None:
    try:
        from PIL import Image  # noqa: PLC0415 - an extra
    except ImportError:
        return None
    facts = sniff(content)
    if facts is None:
        raise ValueError("the bytes are no known picture")
    width, height = facts.size or (0, 0)
    # Asked for before Pillow is: from here on it warns, and only from twice as many it refuses.
    if Image.MAX_IMAGE_PIXELS is not None and width * height > Image.MAX_IMAGE_PIXELS:
        raise ValueError(f"{width} x {height} pixels are too many to be decoded for a thumbnail")
    try:
        return finish(_small(content, edge))
    except Exception as damage:  # decoders raise whatever they come across
        raise ValueError(f"it cannot be decoded ({safe_str(damage)})") from damage


def _small(content: bytes, edge: int) -> "Image":
    """Decode a picture, upright, in RGB or RGBA and no longer than `edge`."""
    from PIL import Image, ImageOps  # noqa: PLC0415 - an extra

    with Image.open(io.BytesIO(content)) as image:
        image.draft("RGB", (2 * edge, 2 * edge))  # a JPEG can be decoded small
        mode = "RGBA" if image.has_transparency_data else "RGB"
        plain: Image.Image = image if image.mode == mode else image.convert(mode)
        plain.thumbnail((edge, edge), reducing_gap=2.0)
        upright = ImageOps.exif_transpose(plain)
        upright.load()
        return upright


def _webp(image: "Image") -> bytes:
    file = io.BytesIO()
    image.save(file, "WEBP", quality=_WEBP_QUALITY)
    return file.getvalue()


def _png(image: "Image") -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def _in_colours(image: "Image") -> Paletted:
    opaque = image.convert("RGB").quantize(_MOST_COLOURS)
    flat = opaque.getpalette() or []
    colours = tuple((flat[i], flat[i + 1], flat[i + 2]) for i in range(0, len(flat) - 2, 3))
    indices = opaque.tobytes()
    if image.mode != "RGBA":
        return Paletted(*image.size, colours, indices)
    alpha = image.getchannel("A").tobytes()
    none = len(colours)
    seen = bytes(colour if opacity >= _HALF_SEEN else none for colour, opacity in zip(indices, alpha, strict=True))
    return Paletted(*image.size, colours, seen, transparent=none)
