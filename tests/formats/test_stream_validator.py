"""A picture that is cut anywhere has a fault, one with padding behind it has none, wherever its pieces begin."""

import io
import struct
import time
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from lemon_async._formats.pictures import HEAD_BYTES, StreamValidator, find_picture_fault, sniff

steady = settings(derandomize=True, deadline=None)

CUT = "the picture is cut off"
UNKNOWN = "the bytes are not a known picture"
TOO_LARGE = "the header claims 65535 x 65535 pixels"
SIZE = (64, 48)


def draw(kind, mode="RGB", size=SIZE, **options):
    """Return the bytes of a picture that no encoder can shrink to nothing."""
    buffer = io.BytesIO()
    Image.effect_noise(size, 80).convert(mode).save(buffer, kind, **options)
    return buffer.getvalue()


def with_thumbnail(jpeg, times=1):
    """A photograph may contain a whole small JPEG in its metadata, with an end marker."""
    thumbnail = b"Exif\0\0" + draw("JPEG", size=(16, 16))
    segment = b"\xff\xe1" + struct.pack(">H", 2 + len(thumbnail)) + thumbnail
    return jpeg[:2] + segment * times + jpeg[2:]


def with_lone_markers(jpeg):
    """Markers without a segment, and fill bytes, may stand between segments (ITU T.81, B.1.1.2)."""
    return jpeg[:2] + b"\xff\x01\xff\xff\xff\xd0" + jpeg[2:]


def png_in_chunks(of_bytes):
    """As libpng writes: the pixels in chunks of one size."""
    png = draw("PNG", size=(200, 200))
    length = int.from_bytes(png[33:37], "big")
    pixels = png[41 : 41 + length]
    parts = [pixels[at : at + of_bytes] for at in range(0, length, of_bytes)]
    return png[:33] + b"".join(chunk(b"IDAT", part) for part in parts) + png[-12:]


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


WALKED = {
    "png": draw("PNG"),
    "png of one pixel": draw("PNG", size=(1, 1)),
    "png in small chunks": png_in_chunks(512),
    "jpeg": draw("JPEG"),
    "jpeg progressive": draw("JPEG", progressive=True),
    "jpeg with a thumbnail": with_thumbnail(draw("JPEG")),
    "jpeg with long metadata": with_thumbnail(draw("JPEG"), times=120),
    "jpeg with lone markers": with_lone_markers(draw("JPEG")),
    "webp": draw("WEBP"),
    "webp lossless": draw("WEBP", lossless=True),
}
RECOGNIZED = {"gif": draw("GIF", "L"), "avif": draw("AVIF")}


HEADER = chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, 0))
HUGE_HEADER = chunk(b"IHDR", struct.pack(">IIBBBBB", 65535, 65535, 8, 2, 0, 0, 0))
PIXELS, END = chunk(b"IDAT", b"\0\0\0\1" * 2), chunk(b"IEND", b"")
SIGNATURES_ALONE = {
    "png of nothing": b"\x89PNG\r\n\x1a\n" + END,
    "png without pixels": b"\x89PNG\r\n\x1a\n" + HEADER + END,
    "png without a header": b"\x89PNG\r\n\x1a\n" + PIXELS + END,
    "png with a late header": b"\x89PNG\r\n\x1a\n" + chunk(b"CgBI", b"\0\0\0\1" * 2) + HUGE_HEADER + PIXELS + END,
    "png with a second header": b"\x89PNG\r\n\x1a\n" + HEADER + HUGE_HEADER + PIXELS + END,
    "jpeg without a frame": b"\xff\xd8\xff\xda\x00\x02\xff\xd9",
}


def fault_in_pieces(content, of_bytes):
    validator = StreamValidator()
    for at in range(0, len(content), of_bytes):
        fault = validator.feed(content[at : at + of_bytes])
        if fault is not None:
            return fault
    return validator.end()


def cuts_of(content):
    """Every place in the first and last bytes, and some between."""
    length = len(content)
    return sorted({*range(min(300, length)), *range(300, length, 97), *range(max(length - 200, 0), length)})


def test_signature_and_end_without_a_picture_between_are_refused():
    """Nor does a header hide behind the one whose size was checked."""
    for name, content in SIGNATURES_ALONE.items():
        for of_bytes in (1, 5, len(content)):
            assert fault_in_pieces(content, of_bytes) == "there is no picture behind the signature", name


def test_long_metadata_is_longer_than_the_head():
    """The size is beyond the head, and is still checked."""
    name = "jpeg with long metadata"
    assert WALKED[name].rindex(b"\xff\xc0") > HEAD_BYTES
    assert sniff(WALKED[name][:HEAD_BYTES]).size is None


def test_whole_picture_has_no_fault():
    """Nor has one with padding: some writers fill whole blocks."""
    for name in (*WALKED, *RECOGNIZED):
        content = {**WALKED, **RECOGNIZED}[name]
        assert find_picture_fault(content) is None
        for of_bytes in (7, 32, 1000):
            assert fault_in_pieces(content, of_bytes) is None
        for padding in (b"\0", b"\0" * 8, b"\0" * 4095, b"\r\n<!-- served by -->"):
            assert find_picture_fault(content + padding) is None
            assert fault_in_pieces(content + padding, 500) is None


def test_cut_picture_has_a_fault():
    for content in WALKED.values():
        faults = {at: find_picture_fault(content[:at]) for at in cuts_of(content)}
        assert faults.pop(0) == "there are no bytes"
        assert set(faults.values()) == {UNKNOWN, CUT}
        for at in list(faults)[::29]:
            assert fault_in_pieces(content[:at], 61) == faults[at]


def test_end_of_other_formats_is_not_checked():
    """The service does not produce these formats: recognizing them is enough."""
    for content in RECOGNIZED.values():
        assert find_picture_fault(content[:-20]) is None


def test_anything_behind_the_end_of_a_png_is_harmless():
    assert find_picture_fault(WALKED["png"] + b"x" * 10_000) is None


def test_thumbnail_is_not_the_end_of_its_photograph():
    photograph = with_thumbnail(draw("JPEG"))
    at = photograph.index(b"\xff\xd9") + 2
    assert find_picture_fault(photograph[:at]) == CUT
    assert fault_in_pieces(photograph[:at], 100) == CUT


@pytest.mark.parametrize("marker", [b"\xff\xd8", b"\xff\xd9", b"\x00\x00"])
def test_jpeg_without_a_segment_where_one_must_be_is_cut_off(marker):
    jpeg = WALKED["jpeg"]
    at = 4 + int.from_bytes(jpeg[4:6], "big")
    assert find_picture_fault(jpeg[:at] + marker + jpeg[at:]) == CUT


@pytest.mark.parametrize("name", ["jpeg", "jpeg with lone markers", "jpeg with long metadata", "png", "gif"])
def test_size_that_would_fill_a_memory_is_refused_wherever_it_stands(name):
    content = {**WALKED, **RECOGNIZED}[name]
    places = {"jpeg": lambda: content.rindex(b"\xff\xc0") + 5, "png": lambda: 18, "gif": lambda: 6}
    at = places[name.partition(" ")[0]]()
    bomb = content[:at] + b"\xff\xff\xff\xff" + content[at + 4 :]
    if name == "png":
        bomb = content[:16] + struct.pack(">II", 65535, 65535) + content[24:]
    assert find_picture_fault(bomb) == TOO_LARGE
    assert fault_in_pieces(bomb, 1000) == TOO_LARGE


def test_picture_with_an_impossible_part_is_cut_off():
    for content in (
        WALKED["png"][:-12] + b"\0\0\0\1IEND\xaeB`\x82",
        WALKED["png"][:-4] + b"1234",
        b"RIFF\0\0\0\0WEBPVP8 " + b"\1" * 40,
        b"\x89PNG\r\n\x1a\n",
        b"\xff\xd8\xff",
        b"\xff\xd8\xff\xe0\x00\x02 <html>error</html> \xff\xd9" + b" " * 70,
    ):
        assert find_picture_fault(content) == CUT
        assert fault_in_pieces(content, 9) == CUT


def test_other_bytes_are_no_known_picture():
    for content in (
        b"<!DOCTYPE html><title>Just a moment...</title>",
        b'{"error": {"message": "expired"}}',
        b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"\x1f\x8b\x08",
        b"RIFF\x00\x00\x00\x00WAVEfmt ",
        b"\x89PNG\r\n\x1a",
        b"GIF88a",
    ):
        assert find_picture_fault(content) == UNKNOWN
        assert fault_in_pieces(content, 3) == UNKNOWN


HOSTILE = {
    "png of empty chunks": WALKED["png"][:33] + b"\0\0\0\0teXt\0\0\0\0" * 1_500_000,
    "jpeg of empty segments": b"\xff\xd8" + b"\xff\xe0\x00\x02" * 4_000_000,
    "jpeg of fill bytes": b"\xff\xd8" + b"\xff" * 18_000_000,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_megabytes_of_empty_parts_are_not_walked_to_their_end(name):
    """This may run on the event loop: it takes some thousand steps, however many parts there are."""
    content = HOSTILE[name]
    started = time.thread_time()
    assert find_picture_fault(content) == CUT
    assert time.thread_time() - started < 0.2
    assert StreamValidator().feed(content[:100_000]) == CUT


def test_large_picture_in_small_chunks_is_walked_to_its_end():
    """Thousands of chunks are normal."""
    pixels = chunk(b"IDAT", bytes(8192))
    content = WALKED["png"][:33] + pixels * 3000 + WALKED["png"][-12:]
    assert find_picture_fault(content) is None
    assert fault_in_pieces(content, 100_000) is None
    assert fault_in_pieces(memoryview(content), 100_000) is None


def test_fault_is_reported_as_soon_as_it_is_certain():
    """The rest of an error page, or of a picture with too many pixels, is not awaited."""
    assert StreamValidator().feed(b"<!DOCTYPE html>" + b" " * 20) == UNKNOWN
    png = WALKED["png"]
    assert StreamValidator().feed(png[:16] + struct.pack(">II", 65535, 65535) + png[24:40]) == TOO_LARGE


def test_validator_has_the_facts_of_the_head():
    validator, short = StreamValidator(), StreamValidator(16)
    assert validator.facts is None
    for at in range(0, len(WALKED["png"]), 10):
        validator.feed(WALKED["png"][at : at + 10])
        short.feed(WALKED["png"][at : at + 10])
    assert validator.facts == sniff(WALKED["png"])
    assert short.facts == sniff(WALKED["png"][:16])
    assert validator.size_bytes == len(WALKED["png"])
    assert "PNG" not in repr(validator)


def test_picture_is_recognized_by_its_beginning():
    """As soon as enough bytes have passed."""
    validator = StreamValidator()
    validator.feed(WALKED["png"][:31])
    assert not validator.is_picture
    validator.feed(WALKED["png"][31:])
    assert validator.is_picture
    validator.end()
    assert validator.is_picture
    page = StreamValidator()
    page.feed(b"<!DOCTYPE html>" * 9)
    assert not page.is_picture


heads = st.sampled_from([content[:40] for content in (*WALKED.values(), *RECOGNIZED.values())] + [b"RIFF", b"\xff\xc0"])


@settings(steady, max_examples=80)
@given(st.lists(heads | st.binary(max_size=20), max_size=4).map(b"".join), st.integers(1, 40))
def test_any_bytes_have_one_verdict(content, of_bytes):
    fault = find_picture_fault(content)
    assert fault_in_pieces(content, of_bytes) == fault
    assert fault is None or fault.isprintable()
    assert fault is not None or sniff(content) is not None
