"""Read response bodies as they arrive: undo the content coding, and take the pictures out of JSON. Pure."""

import io
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

from lemon_async._api.response import MAX_BODY_BYTES, Unreadable
from lemon_async._formats.base64_json import PIECE_BYTES, Base64Extractor, Extracted

__all__ = ["BodyReader", "Unpacker"]

_MEMBER = b"\x1f\x8b\x08"
_MOST_MEMBERS = 100


class Unpacker:
    """Undo the content coding of a body piece by piece.

    A gzip body may have several members (RFC 1952, 2.2); at most 100 are read. Anything after the compressed data is
    ignored.

    Raises:
        Unreadable: The coding is not gzip or deflate.
    """

    def __init__(
        self, headers: Mapping[str, str], max_bytes: int = MAX_BODY_BYTES, *, part_bytes: int = PIECE_BYTES
    ) -> None:
        self._inflater = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32) if _is_deflated(headers) else None
        self._left_bytes = max_bytes
        self._part_bytes = part_bytes
        self._left_members = _MOST_MEMBERS
        self._head: bytes | None = None  # between members: the first bytes of the next one

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """Yield the content of a piece in parts of at most `part_bytes`; there may be none yet.

        Raises:
            Unreadable: The data are damaged, or hold more than `max_bytes`.
        """
        if self._inflater is None:
            yield piece
            return
        part = b""
        while piece or len(part) == self._part_bytes:  # a full part may have left data behind
            if self._head is not None:
                piece = self._head + piece
                if not self._begin_member(piece):
                    return
            part, piece = self._unpack(self._inflater, piece)
            self._left_bytes -= len(part)
            if self._left_bytes < 0:
                raise Unreadable("a compressed body that holds too many bytes")
            if part:
                yield part

    def end(self) -> None:
        """Check that the compressed data were complete.

        Raises:
            Unreadable: They were cut off.
        """
        if self._inflater is not None and self._head is None:
            raise Unreadable("a compressed body that is cut off")

    def _begin_member(self, piece: bytes) -> bool:
        """Start the next member if `piece` begins with one, and return whether it does."""
        if self._left_members and piece.startswith(_MEMBER):
            self._head = None
            self._inflater = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
            return True
        if self._left_members and _MEMBER.startswith(piece):
            self._head = piece
        else:  # a decompressor that has ended copies all that it is fed, again and again
            self._head, self._left_members = b"", 0
        return False

    def _unpack(self, inflater: "zlib._Decompress", piece: bytes) -> tuple[bytes, bytes]:
        """Return the next part, and the rest of the piece."""
        try:
            part = inflater.decompress(piece, self._part_bytes)
        except zlib.error:
            raise Unreadable("a compressed body that is damaged") from None
        if not inflater.eof:
            return part, inflater.unconsumed_tail
        self._head = b""
        self._left_members -= 1
        return part, inflater.unused_data


class BodyReader:
    """Read a response body as it arrives, and take the pictures out of its JSON.

    Args:
        headers: Those of the response, names in lower case.
        max_bytes: Bound of the content of a compressed body.
        is_kept: Whether to leave the content as it is: of a file, or of a short response.
    """

    def __init__(self, headers: Mapping[str, str], max_bytes: int, *, is_kept: bool = False) -> None:
        self._extractor = None if is_kept else Base64Extractor()
        self._content = io.BytesIO()  # joining pieces at the end would hold up the event loop
        self._fault: str | None = None
        self._unpacker: Unpacker | None = None
        if "content-encoding" in headers:
            try:
                self._unpacker = Unpacker(headers, max_bytes)
            except Unreadable as fault:
                self._fault = str(fault)

    def feed(self, piece: bytes) -> Iterator[None]:
        """Take a piece; each step of the iteration does a part of the work."""
        if self._fault is not None:
            return
        take = self._content.write if self._extractor is None else self._extractor.feed
        if self._unpacker is None:
            take(piece)
            return
        try:
            for part in self._unpacker.feed(piece):
                take(part)
                yield
        except Unreadable as fault:
            self._fault = str(fault)

    def end(self) -> dict[str, Any]:
        """Return the fields of the `Response` that describe the body."""
        if self._unpacker is not None and self._fault is None:
            try:
                self._unpacker.end()
            except Unreadable as fault:
                self._fault = str(fault)
        whole = Extracted(self._content.getvalue()) if self._extractor is None else self._extractor.end()
        if self._fault or whole.fault:
            return {"body": b"", "fault": self._fault or whole.fault}
        return {"body": whole.skeleton, "pictures": whole.pictures}


def _is_deflated(headers: Mapping[str, str]) -> bool:
    coding = headers.get("content-encoding", "identity").strip().lower()
    if coding not in {"", "identity", "gzip", "x-gzip", "deflate"}:
        raise Unreadable(f"a body in the content coding {coding[:20]!r}, which was not asked for")
    return coding not in {"", "identity"}
