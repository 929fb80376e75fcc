"""What bytes say of themselves, asked with real pictures, whole and cut."""

import io
import struct
import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from lemon_async._formats.pictures import TAIL_BYTES, PictureFacts, find_picture_fault, judge_picture, sniff

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
every_picture = pytest.mark.parametrize("name", PICTURES)
CUTTABLE = [name for name in PICTURES if name.startswith(("png", "jpeg", "webp"))]


@every_picture
def test_sniff_tells_format_and_size(name):
    kind = name.partition(" ")[0]
    size = (1, 1) if "one pixel" in name else SIZE
    facts = sniff(PICTURES[name])
    assert (facts.format, facts.size) == (kind, None if kind == "avif" else size)


@every_picture
def test_sniff_tells_of_a_png_whether_it_can_have_transparent_areas(name):
    """An alpha channel, or a colour that is marked as transparent; of other formats nothing is told."""
    is_transparent = "alpha" in name or "transparent" in name
    assert sniff(PICTURES[name]).has_transparency is (is_transparent if name.startswith("png") else None)


def with_long_metadata(png):
    """Chunks of text and profiles may stand between the header and what tells of transparency (PNG, 5.6)."""
    text = b"Comment\0" + b"tEXt" * 300
    return png[:33] + struct.pack(">I", len(text)) + b"tEXt" + text + bytes(4) + png[33:]


def test_sniff_tells_nothing_of_transparency_before_it_has_seen_the_whole_header():
    """A "no" would refuse a good mask."""
    opaque, marked = PICTURES["png"], PICTURES["png with a transparent colour"]
    for png, is_transparent in ((opaque, False), (marked, True)):
        long = with_long_metadata(png)
        assert sniff(long).has_transparency is is_transparent
        assert sniff(long[:1000]).has_transparency is None
    assert sniff(with_long_metadata(PICTURES["png with alpha"])[:1000]).has_transparency is True


def test_sniff_is_not_misled_by_the_pixels():
    """What stands behind the header says nothing about it."""
    png = PICTURES["png"]
    assert sniff(png[:-12] + b"tRNS" + png[-12:]).has_transparency is False


def test_pictures_cover_the_three_layouts_of_webp():
    assert {PICTURES[name][12:16] for name in PICTURES if name.startswith("webp")} == {b"VP8 ", b"VP8L", b"VP8X"}


def test_sniff_of_an_old_gif_knows_it():
    assert sniff(b"GIF87a" + PICTURES["gif"][6:]) == PictureFacts("gif", SIZE)


@every_picture
def test_whole_picture_has_no_fault(name):
    assert find_picture_fault(PICTURES[name]) is None


@every_picture
def test_picture_with_a_few_bytes_behind_it_has_no_fault(name):
    """Some encoders pad."""
    assert find_picture_fault(PICTURES[name] + b"\0" * 8) is None


@pytest.mark.parametrize("name", CUTTABLE)
def test_picture_cut_at_any_byte_has_a_fault(name):
    whole = PICTURES[name]
    faults = [find_picture_fault(whole[:at]) for at in range(len(whole))]
    assert faults[0] == "there are no bytes"
    assert set(faults[1:]) == {"the bytes are no known picture", "the picture is cut off"}


@every_picture
def test_sniff_of_a_cut_picture_tells_the_true_size_or_none(name):
    whole = PICTURES[name]
    facts = sniff(whole)
    for found in filter(None, (sniff(whole[:at]) for at in range(len(whole)))):
        assert found.format == facts.format
        assert found.size in {facts.size, None}
        assert found.has_transparency in {facts.has_transparency, None}


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"", "there are no bytes"),
        (b"<!DOCTYPE html><title>Just a moment...</title>", "the bytes are no known picture"),
        (b'{"error": {"message": "expired"}}', "the bytes are no known picture"),
        (
            b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>",
            "the bytes are no known picture",
        ),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "the bytes are no known picture"),
        (b"\x1f\x8b\x08", "the bytes are no known picture"),
        (b"RIFF\x00\x00\x00\x00WAVEfmt ", "the bytes are no known picture"),
        (b"\x89PNG\r\n\x1a", "the bytes are no known picture"),
        (b"GIF88a", "the bytes are no known picture"),
        (b"\x89PNG\r\n\x1a\n", "the picture is cut off"),
        (b"\xff\xd8\xff", "the picture is cut off"),
        (b"GIF89a", "the picture is cut off"),
        (b"\xff\xd8\xff\xe0\x00\x02 <html>error</html> \xff\xd9" + b" " * 70, "the picture is cut off"),
    ],
)
def test_bytes_that_are_no_whole_picture_have_a_fault(content, fault):
    assert find_picture_fault(content) == fault


def png_of(width, height):
    png = PICTURES["png"]
    return png[:16] + struct.pack(">II", width, height) + png[24:]


def jpeg_of(width, height, name="jpeg"):
    jpeg = PICTURES[name]
    at = jpeg.index(b"\xff\xc0") + 5
    return jpeg[:at] + struct.pack(">HH", height, width) + jpeg[at + 4 :]


def gif_of(width, height):
    gif = PICTURES["gif"]
    return gif[:6] + struct.pack("<HH", width, height) + gif[10:]


def webp_of(width, height):
    webp = PICTURES["webp VP8X"]
    sides = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return webp[:24] + sides + webp[30:]


def webp_lossless_of(width, height):
    webp = PICTURES["webp VP8L"]
    return webp[:21] + (width - 1 | (height - 1) << 14).to_bytes(4, "little") + webp[25:]


@pytest.mark.parametrize("make", [png_of, jpeg_of, gif_of, webp_of])
@pytest.mark.parametrize(
    ("width", "height", "fault"),
    [
        (65535, 65535, "the header claims 65535 x 65535 pixels"),
        (20000, 10001, "the header claims 20000 x 10001 pixels"),
        (10000, 20001, "the header claims 10000 x 20001 pixels"),
        (20000, 10000, None),
        (10000, 20000, None),
        (3840, 2160, None),
    ],
)
def test_header_that_would_fill_a_memory_is_refused(make, width, height, fault):
    assert sniff(make(width, height)).size == (width, height)
    assert find_picture_fault(make(width, height)) == fault


@pytest.mark.parametrize("marker", range(0xC0, 0xD0))
def test_jpeg_size_stands_behind_any_start_of_frame(marker):
    """C4, C8 and CC share the range: tables, an extension and arithmetic coding (ITU T.81, table B.1)."""
    content = bytes([0xFF, 0xD8, 0xFF, 0xE0, 0, 2, 0xFF, marker, 0, 11, 8, 0, 7, 1, 0, 1, 1, 0x11, 0])
    assert sniff(content).size == (None if marker in {0xC4, 0xC8, 0xCC} else (256, 7))


def test_webp_size_takes_three_bytes_a_side():
    assert sniff(webp_of(1 << 24, 3)).size == (1 << 24, 3)
    assert sniff(webp_of(3, 1 << 24)).size == (3, 1 << 24)


def test_header_of_the_largest_lossless_webp_is_refused():
    assert find_picture_fault(webp_lossless_of(16384, 16384)) == "the header claims 16384 x 16384 pixels"


def test_header_behind_fill_bytes_is_refused_too():
    bomb = jpeg_of(65535, 65535, "jpeg with fill bytes")
    assert find_picture_fault(bomb) == "the header claims 65535 x 65535 pixels"


@pytest.mark.parametrize(
    "filler",
    [b"\0\0", b"\xff\xe0\x00\x00", b"\xff\xe0\x00\x02", b"\xff\xff"],
    ids=["no marker", "no length", "empty segments", "fill bytes"],
)
def test_jpeg_without_a_frame_is_not_searched_for_ever(filler):
    """Megabytes of nothing cost no more than a real header: this runs on the event loop."""
    nothing = b"\xff\xd8" + b"\xff\xe0\x00\x02" + filler * (20_000_000 // len(filler)) + b"\xff\xd9"
    started = time.process_time()
    assert sniff(nothing) == PictureFacts("jpeg")
    assert time.process_time() - started < 0.05


heads = st.sampled_from(
    [content[:40] for content in PICTURES.values()] + [b"RIFF", b"\xff\xd8\xff", b"\xff\xc0", b"VP8 "]
)


@settings(steady, max_examples=300)
@given(st.lists(heads | st.binary(max_size=20), max_size=4).map(b"".join))
@example(b"RIFF????WEBPVP8 ")
@example(b"RIFF????WEBPVP8L")
@example(b"RIFF????WEBPVP8X")
@example(b"RIFF????WEBP")
@example(b"RIFF????WEBPXXXX" + b"\0" * 30)
def test_sniff_of_anything_never_raises(content):
    facts = sniff(content)
    assert facts is None or facts.format in {"png", "jpeg", "webp", "gif", "avif"}
    fault = find_picture_fault(content)
    assert fault is None or fault.isprintable()
    assert fault is not None or facts is not None


@every_picture
def test_picture_is_judged_by_its_ends_alone(name):
    """A file of fifty megabytes is not read for that."""
    whole = PICTURES[name]
    assert judge_picture(sniff(whole), whole[:600], whole[-TAIL_BYTES:], len(whole)) is None
    if not name.startswith(("gif", "avif")):
        cut = whole[:-20]
        assert judge_picture(sniff(whole), cut[:600], cut[-TAIL_BYTES:], len(cut)) == "the picture is cut off"


@pytest.mark.parametrize(("size_bytes", "fault"), [(0, "there are no bytes"), (5, "the bytes are no known picture")])
def test_what_is_no_picture_is_judged_by_its_size(size_bytes, fault):
    assert judge_picture(None, b"", b"", size_bytes) == fault


def test_transparency_of_a_png_of_endless_chunks_is_not_told():
    """A header that never comes to its pixels must not hold the event loop."""
    begin = PICTURES["png"][:33]
    assert sniff(begin + b"\0\0\0\0teXt\0\0\0\0" * 2000).has_transparency is None
