import io
import struct
import zlib

import pytest

from lemon_async.emulator.pictures.blob_store import BlobStore
from lemon_async.emulator.pictures.decode import DECODING, MAX_PIXELS, _check_pixels, _decode, inspect, load
from lemon_async.emulator.pictures.picture import InvalidImage


@pytest.fixture
def admit():
    blobs = BlobStore()
    yield lambda raw: inspect(blobs.add(io.BytesIO(raw)))
    blobs.close()


def huge_png(side):
    header = b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    chunks = (header, b"IDAT" + zlib.compress(bytes(100)), b"IEND")
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) for chunk in chunks
    )


def huge_webp(kind):
    body = {
        b"VP8X": bytes(4) + b"\xff\x3f\x00\xff\x3f\x00",
        b"VP8L": b"\x2f" + (0x3FFF | 0x3FFF << 14).to_bytes(4, "little"),
        b"VP8 ": bytes(3) + b"\x9d\x01\x2a" + struct.pack("<HH", 16383, 16383),
    }[kind]
    return b"RIFF" + struct.pack("<I", 100) + b"WEBP" + kind + struct.pack("<I", len(body)) + body + bytes(100)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_three_formats_are_pictures(admit, picture, kind):
    source = admit(picture((5, 7), kind=kind))
    assert (source.format, source.size, source.has_alpha) == (kind.lower(), (5, 7), False)


@pytest.mark.parametrize("options", [{}, {"lossless": True}, {"mode": "RGBA"}])
def test_each_kind_of_webp_is_a_picture(admit, picture, options):
    assert admit(picture((5, 7), kind="WEBP", **options)).size == (5, 7)


@pytest.mark.parametrize("kind", ["GIF", "BMP", "TIFF"])
def test_other_formats_are_not(admit, picture, kind):
    with pytest.raises(InvalidImage, match="must be a PNG, JPEG or WebP picture"):
        admit(picture(kind=kind))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_picture_that_is_cut_off_is_refused(admit, picture, kind, share):
    raw = picture((200, 200), kind=kind, colour=(9, 90, 200))
    with pytest.raises(InvalidImage):
        admit(raw[: int(len(raw) * share)])


def test_flipped_byte_of_a_png_is_found(admit, picture):
    raw = bytearray(picture())
    raw[raw.index(b"IDAT") + 8] ^= 0xFF
    with pytest.raises(InvalidImage, match="is no PNG that can be decoded"):
        admit(bytes(raw))


@pytest.mark.parametrize(
    ("raw", "size", "most"),
    [
        (huge_png(65_000), "65000x65000", "50,000,000"),
        (huge_png(7_072), "7072x7072", "50,000,000"),
        (huge_webp(b"VP8X"), "16384x16384", "25,000,000"),
        (huge_webp(b"VP8L"), "16384x16384", "25,000,000"),
        (huge_webp(b"VP8 "), "16383x16383", "25,000,000"),
    ],
)
def test_header_of_too_many_pixels_is_refused_without_decoding(admit, raw, size, most):
    """There is nothing to decode behind these headers: a decoder would say that they are cut off."""
    with pytest.raises(InvalidImage, match=f"has {size} pixels; {most} is the most"):
        admit(raw)


async def test_small_file_of_too_many_pixels_is_refused_by_the_service(client):
    raw = huge_png(16_000)
    assert len(raw) < 200
    for answer in (await client.edit("p", raw, model="gpt-image-2"), await client.upload(raw)):
        assert (answer.status, answer.json["validation_errors"][0]["code"]) == (400, "invalid_image")


@pytest.mark.parametrize(("format_", "most"), MAX_PIXELS.items())
def test_bound_of_pixels_is_inclusive(format_, most):
    _check_pixels(format_, most, 1)
    with pytest.raises(InvalidImage):
        _check_pixels(format_, most + 1, 1)


@pytest.mark.parametrize("format_", MAX_PIXELS)
def test_pictures_that_the_service_makes_are_within_the_bounds(format_):
    _check_pixels(format_, 4096, 4096)


class Watched(io.BytesIO):
    """A file that is read while a picture is decoded, and never while another one is."""

    def read(self, *args):
        assert DECODING.locked()
        return super().read(*args)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_one_picture_is_decoded_at_a_time(picture, kind):
    """The bound of pixels is one of memory, whatever the number of threads."""
    assert not DECODING.locked()
    _decode(Watched(picture(kind=kind)))
    assert not DECODING.locked()


@pytest.mark.parametrize("kind", [b"VP8X", b"VP8L", b"VP8 ", b"????"])
def test_stump_of_a_webp_is_refused(admit, kind):
    with pytest.raises(InvalidImage):
        admit(huge_webp(b"VP8X")[:12] + kind + bytes(4))


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
    ],
)
def test_every_kind_of_png_is_loaded_with_the_alpha_it_has(admit, picture, mode, options, loaded):
    source = admit(picture(mode=mode, **options))
    assert (load(source).mode, source.has_alpha) == (loaded, loaded == "RGBA")


def test_sixteen_bits_of_grey_keep_their_brightness(admit, picture):
    source = admit(picture(mode="I;16", colour=0x8000))
    assert load(source).getpixel((0, 0)) == (128, 128, 128)


def test_cmyk_jpeg_is_loaded(admit, picture):
    assert load(admit(picture(mode="CMYK", kind="JPEG"))).mode == "RGB"
