"""The provenance of a picture goes into the file, and its pixels stay as they are."""

import io
import struct
import xml.etree.ElementTree as ET
import zlib

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from lemon_async._formats.pictures import find_picture_fault
from lemon_async._formats.provenance import Provenance, embed, xmp_packet

steady = settings(derandomize=True, deadline=None)

FACTS = Provenance(prompt="a <white> cat & 'dog' \U0001f408", model="flux-pro", task_id="ldtask_1", key="sku-1")
PACKET = xmp_packet(FACTS)
RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
DC = "{http://purl.org/dc/elements/1.1/}"
IPTC = "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}"
PLUS = "{http://ns.useplus.org/ldf/xmp/1.0/}"
XMP_NAME = b"http://ns.adobe.com/xap/1.0/\0"


def draw(kind, mode="RGB", **options):
    buffer = io.BytesIO()
    picture = Image.effect_noise((19, 11), 80)
    picture = Image.merge("LA", [picture, picture]) if mode == "LA" else picture.convert(mode)
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def draw_animated(kind):
    frames = [Image.new("RGB", (19, 11), colour) for colour in ("red", "green", "blue")]
    buffer = io.BytesIO()
    frames[0].save(buffer, kind, save_all=True, append_images=frames[1:])
    return buffer.getvalue()


def exif():
    tags = Image.Exif()
    tags[0x010E] = "a description"
    return tags


PICTURES = {
    "png": draw("PNG"),
    "png of colours": draw("PNG", "P", transparency=0),
    "png animated": draw_animated("PNG"),
    "jpeg": draw("JPEG"),
    "jpeg with exif": draw("JPEG", exif=exif(), comment=b"a comment"),
    "jpeg with fill bytes": draw("JPEG").replace(b"\xff\xc0", b"\xff\xff\xff\xc0", 1),
    "webp VP8": draw("WEBP"),
    "webp VP8L": draw("WEBP", lossless=True),
    "webp VP8L with alpha": draw("WEBP", "LA", lossless=True),
    "webp VP8X": draw("WEBP", exif=exif()),
    "webp animated": draw_animated("WEBP"),
}


def properties(packet):
    """Return the text of each property of a packet."""
    description = ET.fromstring(packet.decode()).find(f"{RDF}RDF/{RDF}Description")
    return {node.tag: "".join(node.itertext()) for node in description}


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def segment(marker, data):
    return struct.pack(">BBH", 0xFF, marker, 2 + len(data)) + data


def riff(*chunks):
    body = b"WEBP" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def riff_chunk(kind, data):
    return kind + struct.pack("<I", len(data)) + data + bytes(len(data) % 2)


def chunks_of(webp):
    """Return the chunks of a WebP as they stand in it."""
    found, at = [], 12
    while at < len(webp):
        length = int.from_bytes(webp[at + 4 : at + 8], "little")
        found.append(webp[at : at + 8 + length + length % 2])
        at += len(found[-1])
    return found


def test_packet_has_every_fact_in_a_standard_property():
    source = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
    assert properties(PACKET) == {
        f"{IPTC}DigitalSourceType": source,
        f"{DC}description": FACTS.prompt,
        f"{IPTC}AIPromptInformation": FACTS.prompt,
        f"{IPTC}AISystemUsed": "flux-pro",
        f"{DC}identifier": "sku-1",
        f"{PLUS}ImageSupplierImageID": "ldtask_1",
    }


def test_packet_without_facts_says_that_a_model_made_the_picture():
    assert list(properties(xmp_packet(Provenance()))) == [f"{IPTC}DigitalSourceType"]


def test_packet_of_an_edit_says_so():
    source = properties(xmp_packet(Provenance(is_edit=True)))[f"{IPTC}DigitalSourceType"]
    assert source.endswith("/compositeWithTrainedAlgorithmicMedia")


@steady
@given(st.text())
@example('</rdf:li><?xpacket end="w"?>]]>&amp;')
@example("a\r\nb\tc\x00\x0b\ufffe")
@example("\ud800")
def test_packet_holds_any_text(text):
    """Only characters that XML cannot hold are replaced."""
    kept = properties(xmp_packet(Provenance(prompt=text)))[f"{IPTC}AIPromptInformation"]
    assert len(kept) == len(text)
    assert all(found in {want, "\ufffd"} for found, want in zip(kept, text, strict=True))
    if text.isprintable():
        assert kept == text


@pytest.mark.parametrize("name", PICTURES)
def test_embedding_leaves_the_pixels_as_they_are(name):
    """Every frame decodes to the same pixels, and Pillow reads the packet."""
    before = PICTURES[name]
    after = embed(before, PACKET)
    assert find_picture_fault(after) is None
    with Image.open(io.BytesIO(before)) as old, Image.open(io.BytesIO(after)) as new:
        assert new.info.get("exif") == old.info.get("exif")
        for frame in range(getattr(old, "n_frames", 1)):
            old.seek(frame)
            new.seek(frame)
            assert (new.mode, new.size, new.tobytes()) == (old.mode, old.size, old.tobytes())
        found = new.info["xmp"]
    assert (found if isinstance(found, bytes) else found.encode()) == PACKET


@pytest.mark.parametrize("name", PICTURES)
def test_embedding_twice_changes_nothing(name):
    after = embed(PICTURES[name], PACKET)
    assert embed(after, PACKET) is after


@pytest.mark.parametrize("name", PICTURES)
def test_picture_with_another_packet_is_left_alone(name):
    """Whoever wrote it, merging could damage it."""
    after = embed(PICTURES[name], PACKET)
    assert embed(after, xmp_packet(Provenance(prompt="another"))) is None


def test_packet_in_a_png_stands_right_behind_the_header():
    png = PICTURES["png"]
    after = embed(png, PACKET)
    assert after[:33] + after[len(after) - len(png) + 33 :] == png
    assert after[33:][4:22] == b"iTXtXML:com.adobe.xmp"[:18]
    assert Image.open(io.BytesIO(after)).text["XML:com.adobe.xmp"] == PACKET.decode()


def test_packet_in_a_jpeg_stands_behind_jfif_and_exif():
    """Both have to come first."""
    for name, leading in (("jpeg", [0xE0]), ("jpeg with exif", [0xE0, 0xE1])):
        jpeg, end = PICTURES[name], 2
        for marker in leading:
            assert jpeg[end + 1] == marker
            end += 2 + int.from_bytes(jpeg[end + 2 : end + 4])
        assert embed(jpeg, PACKET).index(XMP_NAME) - 4 == end


def test_jpeg_with_a_marker_that_stands_alone_is_walked():
    """Some markers have no segment (ITU T.81, table B.1)."""
    jpeg = PICTURES["jpeg"].replace(b"\xff\xc0", b"\xff\x01\xff\xc0", 1)
    assert embed(jpeg, PACKET).endswith(jpeg[20:])


def test_packet_in_a_jpeg_without_jfif_comes_first():
    jpeg = PICTURES["jpeg"]
    bare = jpeg[:2] + jpeg[4 + int.from_bytes(jpeg[4:6]) :]
    assert embed(bare, PACKET)[2:4] == b"\xff\xe1"


def test_packet_that_is_too_long_for_a_jpeg_is_left_to_a_sidecar():
    """A segment holds 64 KB."""
    for length, fits in ((65_504, True), (65_505, False)):
        packet = PACKET.ljust(length)
        assert (embed(PICTURES["jpeg"], packet) is not None) is fits
        assert embed(PICTURES["png"], packet) is not None
        assert embed(PICTURES["webp VP8"], packet) is not None


def test_simple_webp_becomes_an_extended_one():
    """Its new header has the size, the alpha channel, and the flag of XMP."""
    for name, flags in (("webp VP8", 0x04), ("webp VP8L", 0x04), ("webp VP8L with alpha", 0x14)):
        head, pixels, xmp = chunks_of(embed(PICTURES[name], PACKET))
        assert head == riff_chunk(b"VP8X", bytes([flags, 0, 0, 0, 18, 0, 0, 10, 0, 0]))
        assert [pixels] == chunks_of(PICTURES[name])
        assert xmp == riff_chunk(b"XMP ", PACKET)


def test_extended_webp_keeps_its_flags():
    before, after = chunks_of(PICTURES["webp VP8X"]), chunks_of(embed(PICTURES["webp VP8X"], PACKET))
    assert after[0][8] == before[0][8] | 0x04
    assert after[0][9:] == before[0][9:]
    assert after[1:-1] == before[1:]


PNG, JPEG, VP8, VP8X = (PICTURES[name] for name in ("png", "jpeg", "webp VP8", "webp VP8X"))
UNTOUCHED = {
    "png with C2PA": PNG[:33] + chunk(b"caBX", b"jumb") + PNG[33:],
    "png with XMP at its end": PNG[:-12] + chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0<x/>") + PNG[-12:],
    "png with XMP of ImageMagick": PNG[:33] + chunk(b"zTXt", b"Raw profile type xmp\0\0x") + PNG[33:],
    "jpeg with C2PA": JPEG[:2] + segment(0xEB, b"JP\0\1jumb") + JPEG[2:],
    "jpeg with XMP": JPEG[:2] + segment(0xE1, XMP_NAME + b"<x/>") + JPEG[2:],
    "jpeg with long XMP": JPEG[:2] + segment(0xE1, b"http://ns.adobe.com/xmp/extension/\0<x/>") + JPEG[2:],
    "jpeg of several pictures": JPEG[:2] + segment(0xE2, b"MPF\0") + JPEG[2:],
    "webp with C2PA": riff(*chunks_of(VP8X), riff_chunk(b"C2PA", b"jumb")),
    "webp with XMP": riff(*chunks_of(VP8X), riff_chunk(b"XMP ", b"<x/>")),
    "webp with our XMP, unannounced": riff(*chunks_of(VP8), riff_chunk(b"XMP ", PACKET)),
    "simple webp with more": riff(*chunks_of(VP8), riff_chunk(b"more", b"")),
    "webp with more behind it": VP8 + b"more",
    "webp with half a chunk": riff(*chunks_of(VP8), b"more"),
    "webp with a chunk that is too long": riff(*chunks_of(VP8), b"more\xff\xff\0\0"),
    "webp of empty chunks": riff(*chunks_of(VP8X), riff_chunk(b"none", b"") * 10_001),
    "webp with a long header": riff(riff_chunk(b"VP8X", chunks_of(VP8X)[0][8:] + b"more"), *chunks_of(VP8X)[1:]),
    "webp without a size": riff(riff_chunk(b"ALPH", bytes(20))),
    "webp without a chunk": b"RIFF\x04\0\0\0WEBP",
    "gif": draw("GIF"),
    "avif": draw("AVIF"),
    "cut png": PNG[:-1],
    "cut jpeg": JPEG[:-2],
    "cut webp": VP8[:-1],
    "text": b"no picture",
    "nothing": b"",
}


@pytest.mark.parametrize("name", UNTOUCHED)
def test_picture_that_must_not_be_changed_is_left_to_a_sidecar(name):
    """C2PA signs the file; XMP of others could be damaged; what is unusual could break."""
    assert embed(UNTOUCHED[name], PACKET) is None


seeds = st.sampled_from([*PICTURES.values(), *UNTOUCHED.values()])


@st.composite
def damaged(draw):
    """Return a picture of which some bytes are others, are missing or are there twice."""
    content = draw(seeds)
    for _ in range(draw(st.integers(0, 4))):
        at, until = (draw(st.integers(0, len(content))) for _ in range(2))
        content = content[:at] + draw(st.binary(max_size=12)) + content[until:]
    return content[:20_000]


@settings(steady, max_examples=80)
@given(damaged())
def test_embedding_into_anything_is_reversible_or_refused(content):
    """Nothing escapes, and the result is larger by one packet and its headers, or is no result."""
    after = embed(content, PACKET)
    if after is not None:
        assert len(after) - len(content) < len(PACKET) + 64
        assert PACKET in after
        assert find_picture_fault(after) is None
        assert embed(after, PACKET) is after
