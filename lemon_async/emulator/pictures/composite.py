"""Edits: pictures made of other pictures.

With a mask, every pixel outside of it is the source's, bit by bit, and every pixel inside differs from it.
Without one, the whole picture is blended with a drawing. Sources are brought to the size of the result
first. Runs in a worker thread, like `render`.
"""

from functools import reduce

from attrs import evolve
from PIL import Image, ImageChops, ImageOps

from lemon_async.emulator.pictures.decode import load
from lemon_async.emulator.pictures.picture import Picture
from lemon_async.emulator.pictures.render import draw, encode

_BLEND = 0.45
_SMALLEST_DRAWING = 64
_THUMBNAILS_PER_ROW = 8


def composite(picture: Picture) -> bytes:
    """Edit the first source of a picture and encode the result."""
    first = load(picture.sources[0])
    size = (picture.width, picture.height)
    if first.size != size:
        first = first.resize(size, Image.Resampling.BICUBIC)
    hole = _hole(picture, first)
    edited = _whole(first, picture) if hole is None else _filled(first, hole, picture)
    if picture.format == "jpeg":
        edited = edited.convert("RGB")
    return encode(edited, picture)


def _hole(picture: Picture, first: Image.Image) -> Image.Image | None:
    """White where the picture is to be edited; None when nothing says where."""
    if picture.mask is not None:
        alpha = load(picture.mask).getchannel("A").resize(first.size, Image.Resampling.NEAREST)
    elif first.mode == "RGBA":
        alpha = first.getchannel("A")
    else:
        return None
    hole = alpha.point([255] + [0] * 255)
    # A mask without a hole asks for no change; a source without one is an ordinary picture.
    return hole if picture.mask is not None or hole.getbbox() else None


def _filled(first: Image.Image, hole: Image.Image, picture: Picture) -> Image.Image:
    """Draw into the hole, with another colour wherever the drawing happens to be the source's."""
    before = first.convert("RGB")
    drawing = _in_place(before, hole.getbbox(), picture)
    distance = reduce(ImageChops.lighter, ImageChops.difference(drawing, before).split())
    drawing.paste(ImageChops.invert(before), mask=distance.point([255] + [0] * 255))
    result = first.copy()
    result.paste(drawing.convert(first.mode), mask=hole)
    return result


def _in_place(before: Image.Image, box: tuple[int, int, int, int] | None, picture: Picture) -> Image.Image:
    """The drawing where the hole is, caption and all; a small hole shows a part of a larger one."""
    left, top, right, bottom = box or (0, 0, 0, 0)
    if min(right - left, bottom - top) < _SMALLEST_DRAWING:
        return draw(picture)
    drawing = before.copy()
    drawing.paste(draw(evolve(picture, width=right - left, height=bottom - top)), (left, top))
    return drawing


def _whole(first: Image.Image, picture: Picture) -> Image.Image:
    """Blend the source with a drawing; a variation has no prompt and is turned as well."""
    base = first.convert("RGB")
    if not picture.prompt:
        base = ImageOps.mirror(base)
    result = Image.blend(base, draw(picture), _BLEND)
    if len(picture.sources) > 1:
        _add_thumbnails(result, picture)
    return result


def _add_thumbnails(result: Image.Image, picture: Picture) -> None:
    """Show every source in rows from the top left."""
    edge = max(1, min(result.size) // _THUMBNAILS_PER_ROW)
    for index, source in enumerate(picture.sources):
        row, column = divmod(index, _THUMBNAILS_PER_ROW)
        thumbnail = ImageOps.fit(load(source).convert("RGB"), (edge, edge))
        result.paste(thumbnail, (column * edge, row * edge))
