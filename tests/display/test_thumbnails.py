"""Small copies of pictures."""

import io
import sys

import pytest
from PIL import Image

from lemon_async._display.thumbnails import thumbnail
from lemon_async._formats.pictures import sniff


def test_thumbnail_keeps_the_shape(picture):
    """In any format, the longer edge has the requested length."""
    for kind in ["PNG", "JPEG", "WEBP", "GIF", "AVIF"]:
        facts = sniff(thumbnail(picture((300, 150), "RGB", kind=kind), 64))
        assert (facts.format, facts.size) == ("webp", (64, 32))


def test_thumbnail_of_a_small_picture_is_as_large():
    """Small pictures are not enlarged."""
    assert sniff(thumbnail(make("RGB", (10, 5)), 64)).size == (10, 5)


def make(mode, size=(40, 20), *, kind="PNG", colour=0, **options):
    file = io.BytesIO()
    Image.new(mode, size, colour).save(file, kind, **options)
    return file.getvalue()


MODES = [
    make("P"),
    make("1"),
    make("L"),
    make("LA"),
    make("I;16"),
    make("CMYK", kind="JPEG"),
    make("P", transparency=0),
]


def test_thumbnail_is_made_of_every_mode():
    """Palettes, greys and inks are turned into what a browser shows."""
    for content in MODES:
        assert sniff(thumbnail(content, 16)).size == (16, 8)


def test_thumbnail_keeps_what_is_transparent():
    """Transparent pixels stay transparent."""
    small = Image.open(io.BytesIO(thumbnail(make("RGBA", colour=(255, 0, 0, 0)), 16)))
    assert small.mode == "RGBA"
    assert small.getpixel((3, 3))[3] == 0


def test_thumbnail_stands_upright():
    """The orientation in the EXIF data is applied."""
    exif = Image.Exif()
    exif[0x0112] = 6
    assert sniff(thumbnail(make("RGB", kind="JPEG", exif=exif), 16)).size == (8, 16)


def test_thumbnail_of_a_bomb_is_refused(monkeypatch):
    """A picture whose header claims too many pixels is not decoded."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 799)
    with pytest.raises(ValueError, match="40 x 20 pixels are too many"):
        thumbnail(make("RGB"), 16)


def test_thumbnail_of_a_bomb_that_hides_its_size_is_refused(monkeypatch):
    """Pillow checks the sizes that the library cannot read."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(ValueError, match="cannot be decoded"):
        thumbnail(make("RGB", kind="AVIF"), 16)


def test_thumbnail_of_a_damaged_picture_is_refused():
    """A damaged picture has no thumbnail."""
    for edit in [lambda raw: raw[:60], lambda raw: raw[:40] + b"?" * 20 + raw[60:]]:
        with pytest.raises(ValueError, match="cannot be decoded"):
            thumbnail(edit(make("RGB", (64, 64), colour="red")), 16)


def test_thumbnail_of_anything_but_a_picture_is_refused():
    """Pillow is not given unknown formats."""
    for content in [b"", b"<html>"]:
        with pytest.raises(ValueError, match="not a known picture"):
            thumbnail(content, 16)


def test_nothing_is_drawn_without_pillow(monkeypatch):
    """Pillow is an extra; without it the result is `None`."""
    content = make("RGB")
    monkeypatch.setitem(sys.modules, "PIL", None)
    assert thumbnail(content, 16) is None
