"""Draw edits: pictures composed of source pictures.

With a mask, every pixel outside the hole is that of the source, bit by bit, and every pixel inside differs from it.
Without one, the whole picture is blended with a drawing. Sources are first scaled to the size of the result. Runs in a
worker thread.
"""

from functools import reduce

from attrs import evolve
from PIL import Image, ImageChops, ImageOps

from lemon_async.emulator.pictures.decode import load
from lemon_async.emulator.pictures.picture import Picture
from lemon_async.emulator.pictures.render import draw, encode

_BLEND = 0.45
_MIN_DRAWING_EDGE = 64
_THUMBNAILS_PER_ROW = 8


def composite(picture: Picture) -> bytes:
    """Edit the first source of a picture and encode the result."""
    first = load(picture.sources[0])
    size = (picture.width, picture.height)
    if first.size != size:
        first = first.resize(size, Image.Resampling.BICUBIC)
    hole = _hole(picture, first)
    edited = _blended(first, picture) if hole is None else _fill(first, hole, picture)
    if picture.format == "jpeg":
        edited = edited.convert("RGB")
    return encode(edited, picture)


def _hole(picture: Picture, first: Image.Image) -> Image.Image | None:
    """Return an image that is white where the picture is to be edited; None if the request does not say where."""
    if picture.mask is not None:
        alpha = load(picture.mask).getchannel("A").resize(first.size, Image.Resampling.NEAREST)
    elif first.mode == "RGBA":
        alpha = first.getchannel("A")
    else:
        return None
    hole = alpha.point([255] + [0] * 255)
    # A mask without a hole requests no change; a source without one is an ordinary picture.
    return hole if picture.mask is not None or hole.getbbox() else None


def _fill(first: Image.Image, hole: Image.Image, picture: Picture) -> Image.Image:
    """Draw into the hole, and invert every pixel at which the drawing happens to equal the source."""
    before = first.convert("RGB")
    drawing = _draw_at_hole(before, hole.getbbox(), picture)
    distance = reduce(ImageChops.lighter, ImageChops.difference(drawing, before).split())
    drawing.paste(ImageChops.invert(before), mask=distance.point([255] + [0] * 255))
    result = first.copy()
    result.paste(drawing.convert(first.mode), mask=hole)
    return result


def _draw_at_hole(before: Image.Image, box: tuple[int, int, int, int] | None, picture: Picture) -> Image.Image:
    """Place a drawing with its caption where the hole is; a small hole shows a part of a larger drawing."""
    left, top, right, bottom = box or (0, 0, 0, 0)
    if min(right - left, bottom - top) < _MIN_DRAWING_EDGE:
        return draw(picture)
    drawing = before.copy()
    drawing.paste(draw(evolve(picture, width=right - left, height=bottom - top)), (left, top))
    return drawing


def _blended(first: Image.Image, picture: Picture) -> Image.Image:
    """Blend the source with a drawing; a variation, which has no prompt, is also mirrored."""
    base = first.convert("RGB")
    if not picture.prompt:
        base = ImageOps.mirror(base)
    result = Image.blend(base, draw(picture), _BLEND)
    if len(picture.sources) > 1:
        _add_thumbnails(result, picture)
    return result


def _add_thumbnails(result: Image.Image, picture: Picture) -> None:
    """Add a thumbnail of every source, in rows from the top left."""
    edge = max(1, min(result.size) // _THUMBNAILS_PER_ROW)
    for index, source in enumerate(picture.sources):
        row, column = divmod(index, _THUMBNAILS_PER_ROW)
        thumbnail = ImageOps.fit(load(source).convert("RGB"), (edge, edge))
        result.paste(thumbnail, (column * edge, row * edge))
