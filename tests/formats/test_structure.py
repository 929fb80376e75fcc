"""The end of a picture is found by its parts: cut anywhere it has a fault, with padding behind it none."""

import io
import struct
import zlib

import pytest
from PIL import Image

from lemon_async._formats.pictures import HEAD_BYTES, find_fault_at, find_picture_fault, sniff
from lemon_async._formats.stream_validator import StreamValidator

CUT = "the picture is cut off"
SIZE = (64, 48)


def draw(kind, mode="RGB", size=SIZE, **options):
    buffer = io.BytesIO()
    Image.effect_noise(size, 80).convert(mode).save(buffer, kind, **options)
    return buffer.getvalue()


def with_thumbnail(jpeg, times=1):
    """A photograph carries a whole small JPEG in its metadata, end marker and all."""
    thumbnail = b"Exif\0\0" + draw("JPEG", size=(16, 16))
    segment = b"\xff\xe1" + struct.pack(">H", 2 + len(thumbnail)) + thumbnail
    return jpeg[:2] + segment * times + jpeg[2:]


def with_lone_markers(jpeg):
    """Markers without a segment, and fill bytes, may stand between segments (ITU T.81, B.1.1.2)."""
    return jpeg[:2] + b"\xff\x01\xff\xff\xff\xd0" + jpeg[2:]


def with_pixels_to_the_end(avif):
    """The last box may leave its length open (ISO 14496-12, 4.2)."""
    at = avif.index(b"mdat") - 4
    return avif[:at] + bytes(4) + avif[at + 4 :]


def with_long_lengths(avif):
    at = avif.index(b"mdat") - 4
    length = int.from_bytes(avif[at : at + 4], "big") + 8
    return avif[:at] + b"\0\0\0\1mdat" + length.to_bytes(8, "big") + avif[at + 8 :]


def png_in_chunks(of_bytes):
    """As libpng writes: the pixels in chunks of one size."""
    png = draw("PNG", size=(200, 200))
    length = int.from_bytes(png[33:37], "big")
    pixels = png[41 : 41 + length]
    parts = [pixels[at : at + of_bytes] for at in range(0, length, of_bytes)]
    return png[:33] + b"".join(chunk(b"IDAT", part) for part in parts) + png[-12:]


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


PICTURES = {
    "png": draw("PNG"),
    "png in small chunks": png_in_chunks(512),
    "jpeg": draw("JPEG"),
    "jpeg progressive": draw("JPEG", progressive=True),
    "jpeg with a thumbnail": with_thumbnail(draw("JPEG")),
    "jpeg with long metadata": with_thumbnail(draw("JPEG"), times=120),
    "jpeg with lone markers": with_lone_markers(draw("JPEG")),
    "webp": draw("WEBP"),
    "webp lossless": draw("WEBP", lossless=True),
    "gif": draw("GIF", "L"),
    "avif": draw("AVIF"),
    "avif with long lengths": with_long_lengths(draw("AVIF")),
}
OPEN_ENDED = {"avif with its pixels to the end": with_pixels_to_the_end(draw("AVIF"))}
every_picture = pytest.mark.parametrize("name", PICTURES)


def judged_at(content):
    """Judge what can be read anywhere, and see that nothing is read outside of it."""

    def read_at(offset, length):
        assert 0 <= offset <= len(content)
        assert 0 <= length <= HEAD_BYTES
        return content[offset : offset + length]

    return find_fault_at(read_at, len(content))


def judged_passing(content, of_bytes):
    passing = StreamValidator()
    for at in range(0, len(content), of_bytes):
        fault = passing.see(content[at : at + of_bytes])
        if fault is not None:
            return fault
    return passing.end()


def cuts_of(content):
    """Every place in the first and last bytes, and some between."""
    length = len(content)
    return sorted({*range(min(300, length)), *range(300, length, 97), *range(max(length - 200, 0), length)})


def test_long_metadata_is_longer_than_what_is_read_first():
    """Its size stands behind that, and is judged all the same."""
    name = "jpeg with long metadata"
    assert PICTURES[name].rindex(b"\xff\xc0") > HEAD_BYTES
    assert sniff(PICTURES[name][:HEAD_BYTES]).size is None


@pytest.mark.parametrize("name", [*PICTURES, *OPEN_ENDED])
def test_whole_picture_has_no_fault(name):
    content = {**PICTURES, **OPEN_ENDED}[name]
    assert find_picture_fault(content) is None
    assert judged_at(content) is None
    for of_bytes in (7, 32, 1000, 10**9):
        assert judged_passing(content, of_bytes) is None


@pytest.mark.parametrize("name", [name for name in PICTURES if name != "gif"])  # its end is a single byte
def test_cut_picture_has_a_fault_however_it_is_judged(name):
    content = PICTURES[name]
    for at in cuts_of(content):
        fault = find_picture_fault(content[:at])
        assert fault is not None
        assert fault == judged_at(content[:at])
    for at in cuts_of(content)[::29]:
        assert judged_passing(content[:at], 61) == find_picture_fault(content[:at])


@every_picture
@pytest.mark.parametrize("padding", [b"\0", b"\0" * 8, b"\0" * 4095])
def test_padding_behind_a_picture_is_harmless(name, padding):
    """Some writers fill whole blocks."""
    content = PICTURES[name] + padding
    assert find_picture_fault(content) is None
    assert judged_passing(content, 500) is None


@pytest.mark.parametrize("name", ["png", "webp", "jpeg"])
def test_few_bytes_behind_a_picture_are_harmless(name):
    assert find_picture_fault(PICTURES[name] + b"\r\n<!-- served by -->") is None


def test_anything_behind_the_end_of_a_png_is_harmless():
    assert find_picture_fault(PICTURES["png"] + b"x" * 10_000) is None


def test_thumbnail_is_not_the_end_of_its_photograph():
    photograph = with_thumbnail(draw("JPEG"))
    at = photograph.index(b"\xff\xd9") + 2
    assert find_picture_fault(photograph[:at]) == CUT
    assert judged_passing(photograph[:at], 100) == CUT


@pytest.mark.parametrize("marker", [b"\xff\xd8", b"\xff\xd9", b"\x00\x00"])
def test_jpeg_with_no_segment_where_one_has_to_be_is_cut_off(marker):
    jpeg = PICTURES["jpeg"]
    at = 4 + int.from_bytes(jpeg[4:6], "big")
    assert find_picture_fault(jpeg[:at] + marker + jpeg[at:]) == CUT


@pytest.mark.parametrize("name", ["jpeg", "jpeg with long metadata"])
def test_size_that_would_fill_a_memory_is_refused_wherever_it_stands(name):
    jpeg = PICTURES[name]
    at = jpeg.rindex(b"\xff\xc0") + 5
    bomb = jpeg[:at] + b"\xff\xff\xff\xff" + jpeg[at + 4 :]
    assert find_picture_fault(bomb) == "the header claims 65535 x 65535 pixels"
    assert judged_passing(bomb, 1000) == "the header claims 65535 x 65535 pixels"


@pytest.mark.parametrize(
    "content",
    [
        PICTURES["png"][:-12] + b"\0\0\0\1IEND\xaeB`\x82",
        PICTURES["png"][:-4] + b"1234",
        b"RIFF\0\0\0\0WEBPVP8 " + b"\1" * 40,
        b"\0\0\0\x10ftypavif" + bytes(4) + b"\0\0\0\7mdat" + bytes(20),
        b"\0\0\0\x10ftypavif" + bytes(4) + b"\0\0\0\x10mdat" + bytes(8),
        b"\0\0\0\x10ftypavif" + bytes(4) + bytes(20),
    ],
    ids=["end with a length", "end with another sum", "no length", "box too short", "no index", "only the first box"],
)
def test_picture_with_a_part_that_cannot_be_is_cut_off(content):
    assert find_picture_fault(content) == CUT
    assert judged_passing(content, 9) == CUT


HOSTILE = {
    "png of empty chunks": PICTURES["png"][:33] + b"\0\0\0\0teXt\0\0\0\0" * 1_500_000,
    "jpeg of empty segments": b"\xff\xd8" + b"\xff\xe0\x00\x02" * 4_000_000,
    "jpeg of fill bytes": b"\xff\xd8" + b"\xff" * 18_000_000,
    "avif of empty boxes": b"\0\0\0\x10ftypavif" + bytes(4) + b"\0\0\0\x08free" * 2_000_000,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_megabytes_of_empty_parts_are_not_walked_to_their_end(name):
    """This may run on the event loop: it takes some thousand looks, however many parts there are."""
    content, looks = HOSTILE[name], []

    def look(offset, length):
        looks.append(length)
        return content[offset : offset + length]

    assert find_fault_at(look, len(content)) == find_picture_fault(content) == CUT
    assert len(looks) < 5000
    assert sum(looks) < 1_000_000


def test_large_picture_in_small_chunks_is_walked_to_its_end():
    """Thousands of chunks are normal."""
    pixels = chunk(b"IDAT", bytes(8192))
    content = PICTURES["png"][:33] + pixels * 3000 + PICTURES["png"][-12:]
    assert find_picture_fault(content) is None
    assert judged_passing(content, 100_000) is None


def test_what_passes_is_refused_as_soon_as_it_is_certain():
    """An error page of megabytes is not waited for, nor a header of too many pixels."""
    assert StreamValidator().see(b"<!DOCTYPE html>" + b" " * 20) == "the bytes are no known picture"
    png = PICTURES["png"]
    assert StreamValidator().see(png[:16] + struct.pack(">II", 65000, 65000) + png[24:40]) == (
        "the header claims 65000 x 65000 pixels"
    )


def test_what_passes_is_told_by_its_beginning():
    passing = StreamValidator()
    assert passing.facts is None
    for at in range(0, len(PICTURES["png"]), 10):
        passing.see(PICTURES["png"][at : at + 10])
    assert passing.facts == sniff(PICTURES["png"])
    assert passing.size_bytes == len(PICTURES["png"])
    assert "PNG" not in repr(passing)


@pytest.mark.parametrize("content", [b"", b"<html>"])
def test_what_passes_and_is_no_picture_has_a_fault_at_its_end(content):
    assert judged_passing(content, 3) == find_picture_fault(content)


def test_what_passes_is_a_picture_once_its_beginning_is_one():
    """Not before enough has passed to tell, and never if it is something else."""
    passing = StreamValidator()
    passing.see(PICTURES["png"][:31])
    assert not passing.is_picture
    passing.see(PICTURES["png"][31:])
    assert passing.is_picture
    passing.end()
    assert passing.is_picture
    page = StreamValidator()
    page.see(b"<!DOCTYPE html>" * 9)
    assert not page.is_picture
