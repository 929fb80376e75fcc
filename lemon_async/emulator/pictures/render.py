"""Draw pictures from a seed: a soft gradient, a few discs and the prompt.

Runs in a worker thread. The background is drawn small and scaled up, because resizing releases the interpreter lock
and drawing shapes on a 4k canvas does not. The rest holds the lock for less than 10 ms, except for WebP files of
several megapixels, whose encoder copies all pixels under the lock.
"""

import io
from colorsys import hsv_to_rgb
from random import Random
from typing import Any

from PIL import Image, ImageDraw

from lemon_async.emulator.pictures.caption import lay_out
from lemon_async.emulator.pictures.picture import Picture

_BACKGROUND_EDGE = 512
_PALETTE_GRID = 3
_DISCS = 9
_BAND = (12, 14, 24, 150)
_DEFAULT_COMPRESSION = 85

Colour = tuple[int, int, int]


def render(picture: Picture) -> bytes:
    """Draw a picture and encode it."""
    image = draw(picture)
    if picture.is_transparent and picture.format != "jpeg":
        image.putalpha(_vignette(image.size))
    return encode(image, picture)


def draw(picture: Picture) -> Image.Image:
    """Return the drawing with its caption, opaque."""
    random = Random(f"{picture.prompt}\0{picture.seed}\0{picture.index}")  # noqa: S311 - no secret
    caption = lay_out(picture)
    image = _background(picture, random, caption.top / picture.height)
    caption.write(image)
    return image


def preview(file: bytes, picture: Picture, coarseness: int) -> bytes:
    """Blur an encoded picture: one pixel for `coarseness` of them along each edge."""
    image = Image.open(io.BytesIO(file))
    coarse = image.reduce(max(1, min(coarseness, *image.size)))
    return encode(coarse.resize(image.size, Image.Resampling.BILINEAR), picture)


def _background(picture: Picture, random: Random, band_top: float) -> Image.Image:
    """Return everything but the caption; the dark band begins at `band_top`, from 0 to 1."""
    scale = min(1.0, _BACKGROUND_EDGE / max(picture.width, picture.height))
    size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    palette = _palette(random)
    grid = Image.new("RGB", (_PALETTE_GRID, _PALETTE_GRID))
    for x in range(_PALETTE_GRID):
        for y in range(_PALETTE_GRID):
            grid.putpixel((x, y), random.choice(palette))
    image = grid.resize(size, Image.Resampling.BICUBIC)
    _scatter(image, palette, random)
    band = (0, round(band_top * size[1]), *size)
    ImageDraw.Draw(image, "RGBA").rectangle(band, fill=_BAND)
    return image.resize((picture.width, picture.height), Image.Resampling.BILINEAR)


def _palette(random: Random) -> list[Colour]:
    """Return neighbouring hues with one complementary accent."""
    hue = random.random()
    hues = [hue, hue + 0.06, hue + 0.12, hue + 0.5]
    tones = [(0.55, 0.95), (0.65, 0.8), (0.75, 0.55), (0.5, 0.98)]
    channels = [hsv_to_rgb(hue, *tone) for hue, tone in zip(hues, tones, strict=True)]
    return [(round(255 * red), round(255 * green), round(255 * blue)) for red, green, blue in channels]


def _scatter(image: Image.Image, palette: list[Colour], random: Random) -> None:
    """Blend translucent discs into the image."""
    draw = ImageDraw.Draw(image, "RGBA")
    width, height = image.size
    unit = min(width, height)
    for _ in range(_DISCS):
        radius = unit * random.uniform(0.06, 0.32)
        x, y = random.uniform(0, width), random.uniform(0, height)
        colour = (*random.choice(palette), random.randrange(50, 130))
        box = (x - radius, y - radius, x + radius, y + radius)
        draw.ellipse(box, fill=colour)


def _vignette(size: tuple[int, int]) -> Image.Image:
    """Return an alpha channel: opaque in the middle, transparent in the corners."""
    return Image.radial_gradient("L").point(lambda level: 255 - level).resize(size)


def encode(image: Image.Image, picture: Picture) -> bytes:
    """Encode with settings that favour speed over size."""
    quality = _DEFAULT_COMPRESSION if picture.compression is None else picture.compression
    options: dict[str, dict[str, Any]] = {
        "png": {"compress_level": 1},
        "jpeg": {"quality": max(1, quality)},
        "webp": {"quality": quality, "method": 0},
    }
    file = io.BytesIO()
    image.save(file, picture.format, **options[picture.format])
    return file.getvalue()
