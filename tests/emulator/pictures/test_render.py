"""Pictures are reproducible, have the requested size and format, and are drawn fast."""

import io
import time

import pytest
from PIL import Image

from lemon_async.emulator.pictures.picture import Picture
from lemon_async.emulator.pictures.render import preview, render

BASE = {"prompt": "a cat", "width": 64, "height": 64}


def opened(raw):
    """Decode a picture."""
    image = Image.open(io.BytesIO(raw))
    image.load()
    return image


@pytest.mark.parametrize("format_", ["png", "jpeg", "webp"])
def test_picture_has_the_requested_format_and_size(format_):
    """Also when it is much longer than wide, or larger than the background is drawn."""
    for size in ((64, 64), (1024, 640), (300, 900)):
        image = opened(render(Picture("a cat", *size, format=format_)))
        assert (image.format.lower(), image.size) == (format_, size)


def test_prompt_seed_and_index_determine_the_picture():
    """Equal pictures have equal bytes; each difference shows."""
    changes = ({}, {"prompt": "a dog"}, {"seed": 1}, {"index": 1})
    files = [render(Picture(**BASE | change)) for change in changes]
    assert len(set(files)) == len(changes)
    assert render(Picture(**BASE)) == files[0]


def test_compression_makes_smaller_files():
    """0 is allowed, too."""
    sizes = [len(render(Picture("p", 256, 256, format="jpeg", compression=compression))) for compression in (0, 5, 95)]
    assert sizes == sorted(set(sizes))


def test_transparent_picture_has_clear_corners_and_an_opaque_middle():
    """JPEG has no transparency."""
    image = opened(render(Picture("a cat", 320, 200, is_transparent=True)))
    assert image.mode == "RGBA"
    assert image.getpixel((0, 0))[3] == 0
    assert image.getpixel((160, 100))[3] > 200
    assert opened(render(Picture(**BASE, is_transparent=True, format="jpeg"))).mode == "RGB"


def test_any_prompt_can_be_drawn():
    """Control characters, other scripts and very long words included."""
    for prompt in ("x", "word " * 800, "x" * 4000, "\0\n\t", "猫 🐱 ü", "ends in space "):
        assert opened(render(Picture(prompt, 96, 96))).size == (96, 96)


def test_preview_is_coarse_and_as_large_as_the_picture():
    """Halves of a pixel row do not survive; the file keeps its format."""
    picture = Picture("a cat", 128, 64, format="jpeg")
    file = render(picture)
    coarse, fine = (opened(preview(file, picture, coarseness)) for coarseness in (32, 2))
    assert (coarse.size, coarse.format) == ((128, 64), "JPEG")
    assert len({colour for _, colour in coarse.getcolors(10_000)}) < len(
        {colour for _, colour in fine.getcolors(10_000)}
    )


def test_picture_of_a_megapixel_is_drawn_in_half_a_second():
    """Of CPU, and in the best of three tries, so that a busy machine does not fail it; the aim is 120 ms."""

    def seconds():
        start = time.thread_time()
        render(Picture("a cat", 1024, 1024))
        return time.thread_time() - start

    assert min(seconds() for _ in range(3)) < 0.5
