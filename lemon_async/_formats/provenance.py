"""Embed where a picture comes from, as an XMP packet, without touching its pixels.

XMP is what Photoshop, Lightroom, exiftool, digiKam and the IPTC's tools read in all three formats. Only standard
properties are used, so no reader has to know this package:

    fact                property                            standard
    made by a model     Iptc4xmpExt:DigitalSourceType       IPTC NewsCodes: trainedAlgorithmicMedia, or composite…
    prompt              Iptc4xmpExt:AIPromptInformation     IPTC Photo Metadata 2025.1
                        dc:description                      Dublin Core; what most viewers show
    model               Iptc4xmpExt:AISystemUsed            IPTC Photo Metadata 2025.1
    key of the row      dc:identifier                       Dublin Core
    id of the task      plus:ImageSupplierImageID           PLUS: the id that the supplier gave the picture

A packet has no times in it: the same facts make the same bytes, so embedding twice changes nothing. Pictures that must
not be changed, or cannot be, are left to a sidecar file: those that carry C2PA, whose signature covers the file; those
with XMP of others, which merging could damage; other formats, and anything unusual.
"""

import re
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from xml.sax.saxutils import escape

import attrs

from lemon_async._formats.pictures import find_picture_fault, sniff

__all__ = ["Provenance", "embed", "xmp_packet"]

_CODES = "http://cv.iptc.org/newscodes/digitalsourcetype"
_HEAD = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>\n'
    '<x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="lemon_async">'
    '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about=""'
    ' xmlns:dc="http://purl.org/dc/elements/1.1/"'
    ' xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"'
    ' xmlns:plus="http://ns.useplus.org/ldf/xmp/1.0/">\n'
)
_TAIL = '</rdf:Description></rdf:RDF></x:xmpmeta>\n<?xpacket end="w"?>'
_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # XML 1.0, production 2

_PNG_TEXTS = frozenset({b"iTXt", b"tEXt", b"zTXt"})
_PNG_KEYWORD = b"XML:com.adobe.xmp\0"
_PNG_OLD_KEYWORD = b"Raw profile type xmp\0"  # of ImageMagick

_START_OF_SCAN, _FILL = 0xDA, 0xFF
_APP0, _APP1, _APP2, _APP11 = 0xE0, 0xE1, 0xE2, 0xEB
_JPEG_ALONE = frozenset({0x01, *range(0xD0, 0xD8)})  # markers without a segment (ITU T.81, table B.1)
_JPEG_XMP = b"http://ns.adobe.com/xap/1.0/\0"
_JPEG_MAX_PACKET = 0xFFFF - 2 - len(_JPEG_XMP)
# Further pictures whose sizes and places are listed; the rest of XMP that is too long for one segment.
_JPEG_UNUSUAL = ((_APP2, b"MPF\0"), (_APP1, b"http://ns.adobe.com/xmp/extension/\0"), (_APP11, b""))

_WEBP_HAS_XMP, _WEBP_HAS_ALPHA = 0x04, 0x10
_MAX_CHUNKS = 10_000  # an animation has one for each frame


@attrs.frozen(kw_only=True)
class Provenance:
    """Where a picture comes from.

    Attributes:
        prompt: The prompt of the request.
        model: The model.
        task_id: The service's id of the task.
        key: The caller's key of the row.
        is_edit: Whether it was made from other pictures.
    """

    prompt: str | None = None
    model: str | None = None
    task_id: str | None = None
    key: str | None = None
    is_edit: bool = False


def xmp_packet(facts: Provenance) -> bytes:
    """Return an XMP packet in UTF-8, for a picture or a sidecar file.

    Characters that XML cannot hold become U+FFFD.
    """
    kind = "compositeWithTrainedAlgorithmicMedia" if facts.is_edit else "trainedAlgorithmicMedia"
    properties = [_property("Iptc4xmpExt:DigitalSourceType", f"{_CODES}/{kind}")]
    if facts.prompt is not None:
        text = f'<rdf:Alt><rdf:li xml:lang="x-default">{_escaped(facts.prompt)}</rdf:li></rdf:Alt>'
        properties += [f"<dc:description>{text}</dc:description>\n"]
    for name, value in (
        ("Iptc4xmpExt:AIPromptInformation", facts.prompt),
        ("Iptc4xmpExt:AISystemUsed", facts.model),
        ("dc:identifier", facts.key),
        ("plus:ImageSupplierImageID", facts.task_id),
    ):
        if value is not None:
            properties.append(_property(name, value))
    return "".join([_HEAD, *properties, _TAIL]).encode()


def embed(content: bytes, packet: bytes) -> bytes | None:
    """Return a picture with a packet in it, or `None` if the packet belongs in a sidecar file.

    The bytes of the pixels stay as they are. If the picture holds this very packet, it is returned unchanged.

    Args:
        content: A whole PNG, JPEG or WebP of less than 4 GB; anything else gives `None`.
        packet: From `xmp_packet`.
    """
    facts = sniff(content)
    into = _FORMATS.get(facts.format) if facts is not None else None
    if into is None or find_picture_fault(content) is not None:
        return None
    return into(content, packet)


def _property(name: str, value: str) -> str:
    return f"<{name}>{_escaped(value)}</{name}>\n"


def _escaped(text: str) -> str:
    """Return text for XML, in which a bare carriage return would be read as a line feed."""
    return escape(_NO_XML.sub("\ufffd", text), {"\r": "&#13;"})


def _into_png(content: bytes, packet: bytes) -> bytes | None:
    """Add an uncompressed iTXt chunk after IHDR (XMP specification, part 3, 1.1.5)."""
    body = b"iTXt" + _PNG_KEYWORD + bytes(4) + packet
    ours = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    header_end = 0
    for kind, start, end in _png_chunks(content):
        header_end = header_end or end
        if kind == b"caBX":  # C2PA
            return None
        if kind in _PNG_TEXTS and content.startswith((_PNG_KEYWORD, _PNG_OLD_KEYWORD), start + 8):
            return content if content[start:end] == ours else None
    return content[:header_end] + ours + content[header_end:]


def _png_chunks(content: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield kind, start and end of each chunk of a whole PNG."""
    start, kind = 8, b""
    while kind != b"IEND":
        length, kind = struct.unpack_from(">I4s", content, start)
        yield kind, start, start + 12 + length
        start += 12 + length


def _into_jpeg(content: bytes, packet: bytes) -> bytes | None:
    """Add an APP1 segment behind those of JFIF and Exif, which have to come first."""
    if len(packet) > _JPEG_MAX_PACKET:
        return None
    ours = struct.pack(">BBH", _FILL, _APP1, 2 + len(_JPEG_XMP) + len(packet)) + _JPEG_XMP + packet
    place, is_leading = 2, True
    for marker, start, end in _jpeg_segments(content):
        if any(marker == kind and content.startswith(name, start + 4) for kind, name in _JPEG_UNUSUAL):
            return None
        if marker == _APP1 and content.startswith(_JPEG_XMP, start + 4):
            return content if content[start:end] == ours else None
        is_leading = is_leading and (marker == _APP0 or (marker == _APP1 and content.startswith(b"Exif\0", start + 4)))
        place = end if is_leading else place
    return content[:place] + ours + content[place:]


def _jpeg_segments(content: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield marker, start and end of each segment of a whole JPEG before its pixels."""
    start, marker = 2, 0
    while marker != _START_OF_SCAN:
        marker, length = struct.unpack_from(">xBH", content, start)
        if marker == _FILL or marker in _JPEG_ALONE:  # any number of FF may stand before a marker
            start += 1 if marker == _FILL else 2
            continue
        yield marker, start, start + 2 + length
        start += 2 + length


def _into_webp(content: bytes, packet: bytes) -> bytes | None:
    """Add a chunk at the end, where metadata stands, and announce it in VP8X (RFC 9649, 2.7)."""
    chunks = _webp_chunks(content)
    ours = _webp_chunk(b"XMP ", packet)
    found = [content[start:end] == ours for kind, start, end in chunks if kind == b"XMP "]
    if not chunks or found or any(kind == b"C2PA" for kind, _, _ in chunks):
        return content if found == [True] and chunks[0][0] == b"VP8X" else None
    head = _extended_head(content, chunks)
    if head is None:
        return None
    body = head + content[chunks[0][2] if chunks[0][0] == b"VP8X" else 12 :] + ours
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


def _webp_chunks(content: bytes) -> list[tuple[bytes, int, int]]:
    """Return kind, start and end of each chunk, or nothing if they do not fill the file exactly."""
    chunks: list[tuple[bytes, int, int]] = []
    start = 12
    while start < len(content):
        if start + 8 > len(content) or len(chunks) == _MAX_CHUNKS:
            return []
        kind, length = struct.unpack_from("<4sI", content, start)
        end = start + 8 + length + length % 2
        chunks.append((kind, start, end))
        start = end
    is_whole = start == len(content) == 8 + int.from_bytes(content[4:8], "little")
    return chunks if is_whole else []


def _webp_chunk(kind: bytes, data: bytes) -> bytes:
    return kind + struct.pack("<I", len(data)) + data + bytes(len(data) % 2)


def _extended_head(content: bytes, chunks: list[tuple[bytes, int, int]]) -> bytes | None:
    """Return a chunk VP8X that announces XMP, or `None` if the file is unusual."""
    kind, start, end = chunks[0]
    facts = sniff(content)
    if facts is None or facts.size is None:
        return None
    if kind == b"VP8X":
        if end - start != 18:
            return None
        return content[start:20] + bytes([content[20] | _WEBP_HAS_XMP]) + content[21:end]
    if len(chunks) > 1:
        return None
    has_alpha = kind == b"VP8L" and content[24] & 0x10
    width, height = (side - 1 for side in facts.size)
    sides = width.to_bytes(3, "little") + height.to_bytes(3, "little")
    flags = _WEBP_HAS_XMP | (_WEBP_HAS_ALPHA if has_alpha else 0)
    return _webp_chunk(b"VP8X", bytes([flags, 0, 0, 0]) + sides)


_FORMATS: Mapping[str, Callable[[bytes, bytes], bytes | None]] = {
    "png": _into_png,
    "jpeg": _into_jpeg,
    "webp": _into_webp,
}
