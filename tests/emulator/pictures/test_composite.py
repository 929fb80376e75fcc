"""Edits change every pixel inside the mask and none outside."""

import io

import pytest
from PIL import Image, ImageChops

from lemon_async.emulator.pictures.blob_store import BlobStore
from lemon_async.emulator.pictures.composite import composite
from lemon_async.emulator.pictures.decode import inspect
from lemon_async.emulator.pictures.picture import Picture
from lemon_async.emulator.pictures.render import draw

SIZE = (60, 40)
LEFT = (0, 0, 30, 40)


@pytest.fixture
def blobs():
    blobs = BlobStore()
    yield blobs
    blobs.close()


@pytest.fixture
def edit(blobs, pixels):
    """How to edit images; returns the result."""

    def run(*images, mask=None, size=SIZE, prompt="a hat", **options):
        sources = tuple(add(blobs, image) for image in images)
        mask = mask and add(blobs, mask)
        picture = Picture(prompt, *size, sources=sources, mask=mask, **options)
        return pixels(composite(picture))

    return run


def add(blobs, image):
    """Store an image as a PNG and decode it."""
    file = io.BytesIO()
    image.save(file, "PNG")
    return inspect(blobs.add(file))


def photo(mode="RGB", size=SIZE):
    """Return a picture in which few pixels are equal."""
    gradient = Image.linear_gradient("L")
    bands = (gradient, gradient.rotate(90), Image.radial_gradient("L"))
    image = Image.merge("RGB", [band.resize(size) for band in bands])
    return image.convert(mode)


def stencil(box=LEFT, size=SIZE, mode="RGBA"):
    """Return a mask that is transparent in a box."""
    image = Image.new(mode, size, (0, 0, 0, 255) if mode == "RGBA" else (0, 255))
    image.paste((0, 0, 0, 0) if mode == "RGBA" else (0, 0), box)
    return image


def differing(before, after):
    """Count the pixels that differ."""
    bands = [ImageChops.difference(a, b) for a, b in zip(before.split(), after.split(), strict=True)]
    pairs = zip(*(band.get_flattened_data() for band in bands), strict=True)
    return sum(any(pixel) for pixel in pairs)


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
@pytest.mark.parametrize("mask_mode", ["RGBA", "LA"])
def test_mask_changes_every_pixel_inside_and_none_outside(edit, mode, mask_mode):
    """Outside, the result equals the source bit by bit."""
    before = photo(mode)
    after = edit(before, mask=stencil(mode=mask_mode))
    right = (30, 0, 60, 40)
    assert after.mode == mode
    assert after.crop(right).tobytes() == before.crop(right).tobytes()
    assert differing(before.crop(LEFT), after.crop(LEFT)) == 30 * 40


def test_half_transparent_mask_protects(edit):
    """Only fully transparent areas are edited."""
    mask = stencil()
    mask.putalpha(mask.getchannel("A").point(lambda level: max(level, 1)))
    before = photo()
    assert edit(before, mask=mask).tobytes() == before.tobytes()


def test_pixel_that_the_drawing_would_not_change_is_changed(edit):
    """The drawing itself as the source is the worst case: the two are equal."""
    before = draw(Picture("a hat", *SIZE))
    after = edit(before, mask=stencil((0, 0, *SIZE)))
    assert differing(before, after) == SIZE[0] * SIZE[1]


def test_inside_of_the_mask_shows_the_drawing_of_the_prompt(edit):
    """A small hole shows a part of a drawing of the whole size."""
    drawing = draw(Picture("a hat", *SIZE))
    after = edit(photo(), mask=stencil())
    assert after.crop(LEFT).tobytes() == drawing.crop(LEFT).tobytes()


def test_large_hole_shows_a_whole_drawing(edit):
    """It has the size of the hole, so that its caption can be read."""
    box = (10, 20, 110, 120)
    after = edit(photo(size=(160, 160)), mask=stencil(box, (160, 160)), size=(160, 160))
    drawing = draw(Picture("a hat", 100, 100))
    assert differing(after.crop(box), drawing) < 100  # pixels in which the source happens to equal the drawing


def test_transparent_areas_of_the_source_are_the_mask_when_there_is_none(edit):
    """As with dall-e-2."""
    before = photo("RGBA")
    before.putalpha(stencil().getchannel("A"))
    after = edit(before)
    assert after.crop((30, 0, 60, 40)).tobytes() == before.crop((30, 0, 60, 40)).tobytes()
    assert after.crop(LEFT).getchannel("A").getextrema() == (255, 255)
    assert differing(before.crop(LEFT), after.crop(LEFT)) == 30 * 40


def test_mask_wins_over_the_transparency_of_the_source(edit):
    """A mask is more explicit."""
    before = photo("RGBA")
    before.putalpha(stencil().getchannel("A"))
    after = edit(before, mask=stencil((30, 0, 60, 40)))
    assert after.crop(LEFT).tobytes() == before.crop(LEFT).tobytes()


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_picture_without_a_mask_is_edited_as_a_whole_and_still_visible(edit, mode):
    """It is blended with the drawing."""
    before = photo()
    after = edit(photo(mode))
    assert after.mode == "RGB"
    assert differing(before, after) > 0.9 * SIZE[0] * SIZE[1]
    other = edit(Image.new("RGB", SIZE, "white"))
    assert differing(other, after) > 0.9 * SIZE[0] * SIZE[1]


def test_each_of_several_sources_is_shown(edit):
    """As thumbnails from the top left."""
    red, blue = (Image.new("RGB", SIZE, colour) for colour in ("red", "blue"))
    after = edit(red, blue)
    assert [after.getpixel((x, 2)) for x in (2, 7)] == [(255, 0, 0), (0, 0, 255)]


def test_result_of_another_size_is_made_of_resized_source_and_mask(edit):
    """Source and mask are scaled to the size of the result."""
    before = photo().resize((120, 80), Image.Resampling.BICUBIC)
    after = edit(photo(), mask=stencil(), size=(120, 80))
    assert after.crop((60, 0, 120, 80)).tobytes() == before.crop((60, 0, 120, 80)).tobytes()
    assert differing(before.crop((0, 0, 60, 80)), after.crop((0, 0, 60, 80))) == 60 * 80


def test_equal_edits_are_equal_and_others_are_not(edit):
    """Prompt, seed and index determine the drawing."""
    first, again = (edit(photo(), mask=stencil()) for _ in range(2))
    assert first.tobytes() == again.tobytes()
    for change in ({"index": 1}, {"seed": 1}, {"prompt": "a cap"}):
        assert edit(photo(), mask=stencil(), **{"prompt": "a hat", **change}).tobytes() != first.tobytes()


def test_variations_of_one_picture_differ_from_it_and_from_each_other(edit):
    """They have no prompt."""
    before = photo()
    first, second = (edit(before, prompt="", index=index) for index in range(2))
    assert differing(before, first) > 0.9 * SIZE[0] * SIZE[1]
    assert differing(first, second) > 0.9 * SIZE[0] * SIZE[1]


def test_output_format_is_kept(edit):
    """JPEG drops the transparency."""
    for kind in ("jpeg", "webp", "png"):
        assert edit(photo("RGBA"), mask=stencil(), format=kind).format == kind.upper()


def test_tiny_pictures_can_be_edited(edit):
    """One pixel is enough, also for sixteen sources."""
    for size in ((1, 1), (1, 300), (300, 1)):
        for mask in (None, stencil((0, 0, 1, 1), size)):
            assert edit(photo(size=size), mask=mask, size=size).size == size
        assert edit(*[photo(size=size)] * 16, size=size).size == size
