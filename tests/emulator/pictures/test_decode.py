"""Source pictures are decoded completely, within limits that are checked before."""

import io
import struct
import zlib

import pytest

from lemon_async.emulator.pictures.blob_store import BlobStore
from lemon_async.emulator.pictures.decode import DECODING, MAX_PIXELS, _check_pixels, _decode, inspect, load
from lemon_async.emulator.pictures.picture import InvalidImage

KINDS = ("PNG", "JPEG", "WEBP")


@pytest.fixture
def decode():
    """How to store a file and decode it."""
    blobs = BlobStore()
    yield lambda raw: inspect(blobs.add(io.BytesIO(raw)))
    blobs.close()


def huge_png(side):
    """Return a PNG whose header claims a large size."""
    header = b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    chunks = (header, b"IDAT" + zlib.compress(bytes(100)), b"IEND")
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) for chunk in chunks
    )


def huge_webp(kind):
    """Return a WebP of this kind whose header claims the largest size."""
    body = {
        b"VP8X": bytes(4) + b"\xff\x3f\x00\xff\x3f\x00",
        b"VP8L": b"\x2f" + (0x3FFF | 0x3FFF << 14).to_bytes(4, "little"),
        b"VP8 ": bytes(3) + b"\x9d\x01\x2a" + struct.pack("<HH", 16383, 16383),
    }[kind]
    return b"RIFF" + struct.pack("<I", 100) + b"WEBP" + kind + struct.pack("<I", len(body)) + body + bytes(100)


def test_three_formats_are_accepted(decode, picture):
    """Every kind of WebP: lossy, lossless, with alpha."""
    for kind in KINDS:
        source = decode(picture((5, 7), kind=kind))
        assert (source.format, source.size, source.has_alpha) == (kind.lower(), (5, 7), False)
    for options in ({"lossless": True}, {"mode": "RGBA"}):
        assert decode(picture((5, 7), kind="WEBP", **options)).size == (5, 7)


def test_other_formats_are_refused(decode, picture):
    """Even those that Pillow can read."""
    for kind in ("GIF", "BMP", "TIFF"):
        with pytest.raises(InvalidImage, match="must be a PNG, JPEG or WebP file"):
            decode(picture(kind=kind))


@pytest.mark.parametrize("kind", KINDS)
def test_truncated_picture_is_refused(decode, picture, kind):
    """Wherever it ends."""
    raw = picture((200, 200), kind=kind, colour=(9, 90, 200))
    for share in (0.1, 0.5, 0.9):
        with pytest.raises(InvalidImage):
            decode(raw[: int(len(raw) * share)])


def test_flipped_byte_of_a_png_is_found(decode, picture):
    """The checksums are verified."""
    raw = bytearray(picture())
    raw[raw.index(b"IDAT") + 8] ^= 0xFF
    with pytest.raises(InvalidImage, match="is not a valid PNG file"):
        decode(bytes(raw))


@pytest.mark.parametrize(
    ("raw", "size", "limit"),
    [
        (huge_png(65_000), "65000x65000", "50,000,000"),
        (huge_png(7_072), "7072x7072", "50,000,000"),
        (huge_webp(b"VP8X"), "16384x16384", "25,000,000"),
        (huge_webp(b"VP8L"), "16384x16384", "25,000,000"),
        (huge_webp(b"VP8 "), "16383x16383", "25,000,000"),
    ],
)
def test_header_of_too_many_pixels_is_refused_without_decoding(decode, raw, size, limit):
    """These files end after the header: a decoder would call them truncated."""
    with pytest.raises(InvalidImage, match=f"has {size} pixels; the limit for (PNG|WEBP) is {limit}"):
        decode(raw)


async def test_small_file_of_too_many_pixels_is_refused_by_the_service(client):
    """In edits and in uploads."""
    raw = huge_png(16_000)
    assert len(raw) < 200
    for answer in (await client.edit("p", raw, model="gpt-image-2"), await client.upload(raw)):
        assert (answer.status, answer.json["validation_errors"][0]["code"]) == (400, "invalid_image")


def test_limit_of_pixels_is_inclusive_and_allows_all_results():
    """Results of 4096 x 4096 pixels can be edited again."""
    for format_, limit in MAX_PIXELS.items():
        _check_pixels(format_, limit, 1)
        _check_pixels(format_, 4096, 4096)
        with pytest.raises(InvalidImage):
            _check_pixels(format_, limit + 1, 1)


class LockChecker(io.BytesIO):
    """A file that can only be read by the thread that may decode."""

    def read(self, *args):
        assert DECODING.locked()
        return super().read(*args)


def test_one_picture_is_decoded_at_a_time(picture):
    """The limit of pixels bounds memory whatever the number of threads."""
    for kind in KINDS:
        assert not DECODING.locked()
        _decode(LockChecker(picture(kind=kind)))
        assert not DECODING.locked()


def test_webp_that_ends_in_its_header_is_refused(decode):
    """Also one of an unknown kind."""
    for kind in (b"VP8X", b"VP8L", b"VP8 ", b"????"):
        with pytest.raises(InvalidImage, match="is not a valid WEBP file: the header is truncated"):
            decode(huge_webp(b"VP8X")[:12] + kind + bytes(4))


@pytest.mark.parametrize(
    ("mode", "options", "loaded"),
    [
        ("RGB", {}, "RGB"),
        ("RGBA", {}, "RGBA"),
        ("L", {}, "RGB"),
        ("LA", {}, "RGBA"),
        ("P", {}, "RGB"),
        ("P", {"transparency": 0}, "RGBA"),
        ("L", {"transparency": 0}, "RGBA"),
        ("1", {}, "RGB"),
        ("CMYK", {"kind": "JPEG"}, "RGB"),
    ],
)
def test_every_pixel_format_is_loaded_with_the_alpha_it_has(decode, picture, mode, options, loaded):
    """Edits work on RGB or RGBA only."""
    source = decode(picture(mode=mode, **options))
    assert (load(source).mode, source.has_alpha) == (loaded, loaded == "RGBA")


def test_sixteen_bits_of_grey_keep_their_brightness(decode, picture):
    """Pillow's own conversion would clip them to white."""
    source = decode(picture(mode="I;16", colour=0x8000))
    assert load(source).getpixel((0, 0)) == (128, 128, 128)
