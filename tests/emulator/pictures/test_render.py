import io
import time

import pytest
from PIL import Image

from lemon_async.emulator.pictures.picture import Picture
from lemon_async.emulator.pictures.render import render


def opened(**fields):
    options = {"prompt": "a cat", "width": 320, "height": 200, **fields}
    image = Image.open(io.BytesIO(render(Picture(**options))))
    image.load()
    return image


@pytest.mark.parametrize("format_", ["png", "jpeg", "webp"])
@pytest.mark.parametrize("size", [(64, 64), (1024, 640), (300, 900)])
def test_picture_has_the_asked_format_and_size(format_, size):
    image = opened(width=size[0], height=size[1], format=format_)
    assert (image.format.lower(), image.size) == (format_, size)


def test_equal_pictures_have_equal_bytes():
    assert render(Picture("a cat", 128, 128, 1, 2)) == render(Picture("a cat", 128, 128, 1, 2))


@pytest.mark.parametrize("change", [{"prompt": "a dog"}, {"seed": 1}, {"index": 1}])
def test_prompt_seed_and_index_each_change_the_picture(change):
    base = {"prompt": "a cat", "width": 64, "height": 64}
    assert render(Picture(**base)) != render(Picture(**base | change))


def test_compression_makes_smaller_files():
    def size(compression):
        return len(render(Picture("p", 256, 256, format="jpeg", compression=compression)))

    assert size(5) < size(95)
    assert size(0)


def test_transparent_picture_has_clear_corners_and_an_opaque_middle():
    image = opened(is_transparent=True)
    assert image.mode == "RGBA"
    assert image.getpixel((0, 0))[3] == 0
    assert image.getpixel((160, 100))[3] > 200
    assert opened(is_transparent=True, format="jpeg").mode == "RGB"


@pytest.mark.parametrize("prompt", ["x", "word " * 800, "x" * 4000, "\0\n\t", "猫 🐱 ü", "ends in space "])
def test_any_prompt_can_be_drawn(prompt):
    assert opened(prompt=prompt, width=96, height=96).size == (96, 96)


def test_usual_picture_is_drawn_in_a_moment():
    """Three tries, so that a busy machine does not fail it; the aim is 120 ms."""

    def seconds():
        start = time.perf_counter()
        render(Picture("a cat", 1024, 1024))
        return time.perf_counter() - start

    assert min(seconds() for _ in range(3)) < 0.5
