"""Write into saved pictures where they come from."""

from pathlib import Path

from lemon_async._formats.provenance import Provenance, embed, xmp_packet
from lemon_async.batch.exports.files import replacing

__all__ = ["Provenance", "add_provenance", "remove_with_sidecar"]

_MAX_BYTES = 256 * 2**20  # far above any picture of the service; larger files are not read into memory


def add_provenance(path: Path, facts: Provenance) -> list[Path]:
    """Embed `facts` in a picture, or write them to a sidecar file, and return the sidecar files.

    A PNG, JPEG or WebP is replaced by one with an XMP packet and the same pixels. Other pictures, and those that must
    not be changed because they are signed (C2PA) or hold XMP already, stay as they are: the packet goes to
    `<name>.xmp`, or to `<name>-2.xmp` and so on if that is another file. The same facts change nothing the second time.

    Blocks: call it in a thread. Costs nothing.

    Raises:
        OSError: The disk failed; the picture is as it was, or has its new content.
    """
    packet = xmp_packet(facts)
    content = path.read_bytes() if path.stat().st_size <= _MAX_BYTES else b""
    embedded = embed(content, packet)
    if embedded is None:
        return [_write_sidecar(path, packet)]
    if embedded is not content:
        with replacing(path) as file:
            file.write(embedded)
    return []


def remove_with_sidecar(path: Path, facts: Provenance | None) -> None:
    """Remove a picture if it is there, and its sidecar file if that has these facts. Blocks."""
    path.unlink(missing_ok=True)
    sidecar = path.with_name(f"{path.name}.xmp")
    if facts is not None and sidecar.is_file() and sidecar.read_bytes() == xmp_packet(facts):
        sidecar.unlink(missing_ok=True)


def _write_sidecar(path: Path, packet: bytes) -> Path:
    """Write a packet beside a picture, and return its path."""
    target, number = path.with_name(f"{path.name}.xmp"), 1
    while target.exists() and target.read_bytes() != packet:
        number += 1
        target = path.with_name(f"{path.name}-{number}.xmp")
    if not target.exists():
        with replacing(target) as file:
            file.write(packet)
    return target
