"""The header of a picture gives its format, size and transparency, whole or cut."""

import io
import struct
import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from lemon_async._formats.pictures import PictureFacts, find_size_fault, is_jpeg_frame, sniff

steady = settings(derandomize=True, deadline=None)

SIZE = (19, 11)


def draw(kind, mode="RGB", size=SIZE, **options):
    """Return the bytes of a picture that no encoder can shrink to nothing."""
    picture = Image.effect_noise(size, 80).convert(mode)
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def draw_animated(kind):
    frames = [Image.new("RGB", SIZE, colour) for colour in ("red", "green", "blue")]
    buffer = io.BytesIO()
    frames[0].save(buffer, kind, save_all=True, append_images=frames[1:])
    return buffer.getvalue()


def exif():
    tags = Image.Exif()
    tags[0x010E] = "a description, " * 20
    return tags


def with_fill_bytes(jpeg):
    """Any JPEG marker may be preceded by fill bytes (ITU T.81, B.1.1.2)."""
    at = jpeg.index(b"\xff\xc0")
    return jpeg[:at] + b"\xff\xff\xff" + jpeg[at:]


PICTURES = {
    "png": draw("PNG"),
    "png with alpha": draw("PNG", "RGBA"),
    "png grey with alpha": draw("PNG", "LA"),
    "png of colours": draw("PNG", "P"),
    "png of colours with a transparent one": draw("PNG", "P", transparency=0),
    "png with a transparent colour": draw("PNG", transparency=(1, 2, 3)),
    "png grey with a transparent one": draw("PNG", "L", transparency=7),
    "png of one pixel": draw("PNG", size=(1, 1)),
    "jpeg": draw("JPEG"),
    "jpeg progressive": draw("JPEG", progressive=True),
    "jpeg grey": draw("JPEG", "L"),
    "jpeg with exif": draw("JPEG", exif=exif(), comment=b"a comment"),
    "jpeg with fill bytes": with_fill_bytes(draw("JPEG")),
    "webp VP8": draw("WEBP"),
    "webp VP8L": draw("WEBP", lossless=True),
    "webp VP8X": draw("WEBP", exif=exif()),
    "webp VP8X with alpha": draw("WEBP", "LA"),
    "webp animated": draw_animated("WEBP"),
    "gif": draw("GIF"),
    "gif animated": draw_animated("GIF"),
    "avif": draw("AVIF"),
}


def test_sniff_returns_format_and_size():
    for name, picture in PICTURES.items():
        kind = name.partition(" ")[0]
        size = (1, 1) if "one pixel" in name else SIZE
        facts = sniff(picture)
        assert (facts.format, facts.size) == (kind, None if kind == "avif" else size)


def test_sniff_returns_whether_a_png_can_have_transparent_areas():
    """An alpha channel, or a colour that is marked as transparent; for other formats it is unknown."""
    for name, picture in PICTURES.items():
        is_transparent = "alpha" in name or "transparent" in name
        assert sniff(picture).has_transparency is (is_transparent if name.startswith("png") else None)


def with_long_metadata(png):
    """Chunks of text and profiles may stand between the header and `tRNS` (PNG, 5.6)."""
    text = b"Comment\0" + b"tEXt" * 300
    return png[:33] + struct.pack(">I", len(text)) + b"tEXt" + text + bytes(4) + png[33:]


def test_transparency_is_unknown_before_the_end_of_the_header():
    """A "no" would refuse a good mask."""
    opaque, marked = PICTURES["png"], PICTURES["png with a transparent colour"]
    for png, is_transparent in ((opaque, False), (marked, True)):
        long = with_long_metadata(png)
        assert sniff(long).has_transparency is is_transparent
        assert sniff(long[:1000]).has_transparency is None
    assert sniff(with_long_metadata(PICTURES["png with alpha"])[:1000]).has_transparency is True


def test_sniff_is_not_misled_by_the_pixels():
    """Bytes after the header do not matter."""
    png = PICTURES["png"]
    assert sniff(png[:-12] + b"tRNS" + png[-12:]).has_transparency is False


def test_pictures_cover_the_three_layouts_of_webp():
    assert {PICTURES[name][12:16] for name in PICTURES if name.startswith("webp")} == {b"VP8 ", b"VP8L", b"VP8X"}


def test_sniff_of_an_old_gif_knows_it():
    assert sniff(b"GIF87a" + PICTURES["gif"][6:]) == PictureFacts("gif", SIZE)


def test_sniff_of_a_cut_picture_returns_the_true_size_or_none():
    for whole in PICTURES.values():
        facts = sniff(whole)
        for found in filter(None, (sniff(whole[:at]) for at in range(len(whole)))):
            assert found.format == facts.format
            assert found.size in {facts.size, None}
            assert found.has_transparency in {facts.has_transparency, None}


def test_size_that_would_fill_a_memory_is_refused():
    for size in ((65535, 65535), (20000, 10001), (10000, 20001), (0, 5)):
        assert find_size_fault(size) == f"the header claims {size[0]} x {size[1]} pixels"
    for size in ((20000, 10000), (10000, 20000), (3840, 2160), None):
        assert find_size_fault(size) is None


def test_jpeg_size_follows_any_start_of_frame():
    """C4, C8 and CC share the range: tables, an extension and arithmetic coding (ITU T.81, table B.1)."""
    for marker in range(0xC0, 0xD0):
        content = bytes([0xFF, 0xD8, 0xFF, 0xE0, 0, 2, 0xFF, marker, 0, 11, 8, 0, 7, 1, 0, 1, 1, 0x11, 0])
        assert is_jpeg_frame(marker) is (marker not in {0xC4, 0xC8, 0xCC})
        assert sniff(content).size == ((256, 7) if is_jpeg_frame(marker) else None)


def test_webp_size_takes_three_bytes_a_side():
    webp = PICTURES["webp VP8X"]
    for width, height in ((1 << 24, 3), (3, 1 << 24)):
        sides = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
        assert sniff(webp[:24] + sides + webp[30:]).size == (width, height)


def test_lossless_webp_size_takes_fourteen_bits_a_side():
    webp = PICTURES["webp VP8L"]
    largest = webp[:21] + (16383 | 16383 << 14).to_bytes(4, "little") + webp[25:]
    assert sniff(largest).size == (16384, 16384)


@pytest.mark.parametrize(
    "filler",
    [b"\0\0", b"\xff\xe0\x00\x00", b"\xff\xe0\x00\x02", b"\xff\xff"],
    ids=["no marker", "no length", "empty segments", "fill bytes"],
)
def test_jpeg_without_a_frame_is_searched_within_a_bound(filler):
    """Megabytes of empty segments cost no more than a real header: this runs on the event loop."""
    nothing = b"\xff\xd8" + b"\xff\xe0\x00\x02" + filler * (20_000_000 // len(filler)) + b"\xff\xd9"
    started = time.thread_time()
    assert sniff(nothing) == PictureFacts("jpeg")
    assert time.thread_time() - started < 0.2


heads = st.sampled_from(
    [content[:40] for content in PICTURES.values()] + [b"RIFF", b"\xff\xd8\xff", b"\xff\xc0", b"VP8 "]
)


@settings(steady, max_examples=80)
@given(st.lists(heads | st.binary(max_size=20), max_size=4).map(b"".join))
@example(b"RIFF????WEBPVP8 ")
@example(b"RIFF????WEBPVP8L")
@example(b"RIFF????WEBPVP8X")
@example(b"RIFF????WEBP")
@example(b"RIFF????WEBPXXXX" + b"\0" * 30)
def test_sniff_of_anything_never_raises(content):
    facts = sniff(content)
    assert facts is None or facts.format in {"png", "jpeg", "webp", "gif", "avif"}


def test_transparency_of_a_png_of_endless_chunks_is_unknown():
    """A header that never reaches its pixels must not hold the event loop."""
    begin = PICTURES["png"][:33]
    assert sniff(begin + b"\0\0\0\0teXt\0\0\0\0" * 2000).has_transparency is None
