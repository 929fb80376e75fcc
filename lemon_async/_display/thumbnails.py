"""Draw small copies of pictures with Pillow, if it is installed. This blocks: call it in a thread."""

import io
from typing import TYPE_CHECKING

from lemon_async._formats.json_documents import safe_str
from lemon_async._formats.pictures import sniff

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["thumbnail"]

_WEBP_QUALITY = 80


def thumbnail(content: bytes, edge: int) -> bytes | None:
    """Return a small copy as a WebP file, upright and at most `edge` pixels long; `None` without Pillow.

    Raises:
        ValueError: The picture cannot be decoded or has too many pixels; the message says why.
    """
    try:
        from PIL import Image  # noqa: PLC0415 - an extra
    except ImportError:
        return None
    facts = sniff(content)
    if facts is None:
        raise ValueError("the bytes are not a known picture format")
    width, height = facts.size or (0, 0)
    # Pillow itself only warns from this limit on, and refuses at twice as many pixels.
    if Image.MAX_IMAGE_PIXELS is not None and width * height > Image.MAX_IMAGE_PIXELS:
        raise ValueError(f"{width} x {height} pixels are too many to be decoded for a thumbnail")
    file = io.BytesIO()
    try:
        _draw_small(content, edge).save(file, "WEBP", quality=_WEBP_QUALITY)
    except Exception as error:  # decoders raise anything
        raise ValueError(f"it cannot be decoded ({safe_str(error)})") from error
    return file.getvalue()


def _draw_small(content: bytes, edge: int) -> "Image":
    """Decode a picture in RGB or RGBA, upright and at most `edge` pixels long."""
    from PIL import Image, ImageOps  # noqa: PLC0415 - an extra

    with Image.open(io.BytesIO(content)) as image:
        image.draft("RGB", (2 * edge, 2 * edge))  # a JPEG can be decoded at a smaller scale
        mode = "RGBA" if image.has_transparency_data else "RGB"
        plain: Image.Image = image if image.mode == mode else image.convert(mode)
        plain.thumbnail((edge, edge), reducing_gap=2.0)
        upright = ImageOps.exif_transpose(plain)
        upright.load()
        return upright
