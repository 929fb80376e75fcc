"""An HTTP answer as plain data, and the way from its bytes to JSON.

Nothing here trusts the sender: content codings are undone within a bound, whatever cannot be read becomes one line
of text that is safe to print, and no text that leaves here quotes the key. No exception that leaves here has frames or
causes that hold the bytes.
"""

import html
import math
import re
import zlib
from collections.abc import Iterator, Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from functools import cached_property
from typing import Any

import attrs

from lemon_async._formats.base64_extraction import MAX_TEXT_BYTES, PIECE_BYTES, Base64Extractor
from lemon_async._formats.json_documents import Unreadable, read_json
from lemon_async._formats.masking import Mask, masked_text
from lemon_async._formats.safe_text import one_line
from lemon_async.types import Inline

__all__ = ["BodyReader", "Response", "Unpacker", "Unreadable", "retry_after_s"]

MAX_BODY_BYTES = 512 * 1024 * 1024
"""Ten 4k pictures as base64 are 330 MB; anything beyond this bound is no answer of this service."""
MAX_CALL_BYTES = 32 * 1024 * 1024
"""Bound of an answer to anything but a paid request: most of those hold links. Pictures may be in it, and are lifted;
what is left and parsed has a bound of its own, `MAX_TEXT_BYTES`, whatever was asked for."""

# Whatever is not closed goes on to the end, as in a browser: no text is searched twice.
_TAGS = re.compile(r"<(script|style)\b.*?(?:</\1\s*>|\Z)|<[^>]*>?", re.DOTALL | re.IGNORECASE)
_TITLE = re.compile(r"<title[^>]*>(.*?)(</title|\Z)", re.DOTALL | re.IGNORECASE)
_LONGEST_SUMMARY = 160
_MEMBER = b"\x1f\x8b\x08"
_MOST_MEMBERS = 100


@attrs.frozen
class Response:
    """An answer whose body has arrived.

    Attributes:
        headers: Names in lower case, masked already.
        body: The bytes as they came, content coding included, and a quoted key too; of what an `Intake` has read, the
            skeleton, without content coding.
        received_at: Unix seconds, the reference for `Retry-After` dates.
        mask: What takes the key out of every text that is made of the body.
        lifted: The pictures that were in the body, by the text that stands for each.
        fault: Why the body could not be read, if that is known.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes = attrs.field(repr=False)
    received_at: float = 0.0
    mask: Mask = attrs.field(default=str, repr=False, eq=False)
    lifted: Mapping[str, Inline] = attrs.field(factory=dict[str, Inline], repr=False, eq=False)
    fault: str | None = attrs.field(default=None, repr=False)
    is_unpacked: bool = attrs.field(default=False, repr=False)

    @property
    def is_success(self) -> bool:
        """Whether the status is 2xx."""
        return 200 <= self.status < 300

    @property
    def is_whole_json(self) -> bool:
        """Whether the body is a JSON document that shows by itself that it is complete: an object or a list."""
        parsed, fault = self._reading
        return fault is None and isinstance(parsed, dict | list)

    def json(self) -> Any:
        """Return the parsed body, masked; the work is done once.

        Raises:
            Unreadable: When there is no JSON in it.
        """
        parsed, fault = self._reading
        if fault is not None:
            raise Unreadable(fault)
        return parsed

    def summary(self) -> str:
        """Return one printable line that tells what the body is, without markup."""
        try:
            return _summary(self._content, self.mask)
        except Unreadable as fault:
            return str(fault)

    @cached_property
    def _reading(self) -> tuple[Any, str | None]:
        """What is in the body, and why it cannot be told."""
        try:
            return read_json(self._content, self.mask), None
        except Unreadable as fault:
            return None, str(fault)
        except ValueError:
            return None, _summary(self._content, self.mask)

    @cached_property
    def _content(self) -> bytes:
        if self.fault is not None:
            raise Unreadable(self.fault)
        if self.is_unpacked:
            return self.body
        unpacker = Unpacker(self.headers, MAX_TEXT_BYTES)
        content = b"".join(unpacker.feed(self.body))
        unpacker.end()
        return content


class Unpacker:
    """Undoes the content coding of an answer that comes in pieces.

    A body in gzip may have several members (RFC 1952, 2.2); at most 100 are read. Whatever else follows the end of the
    compressed data is ignored, padding as well as junk.

    Raises:
        Unreadable: It is none that can be undone.
    """

    def __init__(
        self, headers: Mapping[str, str], max_bytes: int = MAX_BODY_BYTES, *, part_bytes: int = PIECE_BYTES
    ) -> None:
        self._inflater = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32) if _is_deflated(headers) else None
        self._left_bytes = max_bytes
        self._part_bytes = part_bytes
        self._left_members = _MOST_MEMBERS
        self._head: bytes | None = None  # between members: what has come of the next one

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """Yield what a piece holds, perhaps nothing yet, in parts that are not large.

        Raises:
            Unreadable: It is damaged, or holds far too much.
        """
        if self._inflater is None:
            yield piece
            return
        part = b""
        while piece or len(part) == self._part_bytes:  # a full part may have left some behind
            if self._head is not None:
                piece = self._head + piece
                if not self._begin_member(piece):
                    return
            part, piece = self._unpack(self._inflater, piece)
            self._left_bytes -= len(part)
            if self._left_bytes < 0:
                raise Unreadable("a compressed body that is far too large")
            if part:
                yield part

    def end(self) -> None:
        """Notice a body that was cut, as most readers do not.

        Raises:
            Unreadable: It was.
        """
        if self._inflater is not None and self._head is None:
            raise Unreadable("a compressed body that is cut off")

    def _begin_member(self, piece: bytes) -> bool:
        """Begin another member if one follows, and return whether it does, as far as can be said."""
        if self._left_members and piece.startswith(_MEMBER):
            self._head = None
            self._inflater = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
            return True
        if self._left_members and _MEMBER.startswith(piece):
            self._head = piece
        else:  # nothing more is kept, or fed to a decompressor: one that has ended copies all of it, again and again
            self._head, self._left_members = b"", 0
        return False

    def _unpack(self, inflater: "zlib._Decompress", piece: bytes) -> tuple[bytes, bytes]:
        """Return the next part, and what is left of the piece."""
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
    """Reads the body of an answer while it comes, and lifts the pictures out of it.

    Args:
        headers: Those of the answer, names in lower case.
    """

    def __init__(self, headers: Mapping[str, str]) -> None:
        self._lifter = Base64Extractor()
        self._fault: str | None = None
        self._unpacker: Unpacker | None = None
        if "content-encoding" in headers:
            try:
                self._unpacker = Unpacker(headers)
            except Unreadable as fault:
                self._fault = str(fault)

    def feed(self, piece: bytes) -> Iterator[None]:
        """Take a piece; each step of the iteration does a part of the work."""
        if self._fault is not None:
            return
        if self._unpacker is None:
            self._lifter.feed(piece)
            return
        try:
            for part in self._unpacker.feed(piece):
                self._lifter.feed(part)
                yield
        except Unreadable as fault:
            self._fault = str(fault)

    def end(self) -> dict[str, Any]:
        """Return the fields of a `Response` that tell of the body."""
        if self._unpacker is not None and self._fault is None:
            try:
                self._unpacker.end()
            except Unreadable as fault:
                self._fault = str(fault)
        whole = self._lifter.end()
        if self._fault or whole.fault:
            return {"body": b"", "fault": self._fault or whole.fault}
        return {"body": whole.skeleton, "lifted": whole.pictures, "is_unpacked": self._unpacker is not None}


def _is_deflated(headers: Mapping[str, str]) -> bool:
    coding = headers.get("content-encoding", "identity").strip().lower()
    if coding not in {"", "identity", "gzip", "x-gzip", "deflate"}:
        raise Unreadable(f"a body in the content coding {coding[:20]!r}, which was not asked for")
    return coding not in {"", "identity"}


def _summary(content: bytes, mask: Mask) -> str:
    text = masked_text(content, mask)
    if not text.strip() and not content.strip():
        return "an empty body"
    title = _TITLE.search(text)
    is_html = title is not None or re.match(r"\s*<(!doctype|html|head|body|!--)", text, re.IGNORECASE)
    bare = mask(html.unescape(_TAGS.sub(" ", title[1] if title else text)))  # again: "&#115;k-" is "sk-" by now
    words = one_line(re.sub(r"[<>]", " ", bare)) or ""  # "&lt;script&gt;" is a tag again by now
    if len(words) > _LONGEST_SUMMARY:
        words = words[:_LONGEST_SUMMARY] + "…"
    kind = "an HTML page" if is_html else "the text"
    return f"{kind} {words!r}" if words else kind


def retry_after_s(value: object, *, received_at: float) -> float | None:
    """Return the seconds that a `Retry-After` value asks for, or `None` when it makes no sense.

    Accepts a number of seconds or an HTTP date; what comes out is finite and not negative. Bounding it is the
    caller's business.
    """
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        seconds = float(max(min(value, 10**9), 0))
    elif isinstance(value, str):
        seconds = _seconds_of(value.strip(), received_at)
    else:
        return None
    return max(seconds, 0.0) if math.isfinite(seconds) else None


def _seconds_of(text: str, received_at: float) -> float:
    try:
        return float(text)
    except ValueError:
        pass
    try:
        date = parsedate_to_datetime(text)
        # Without a zone it is UTC too (RFC 9110, 5.6.7), not the local time that Python takes it for.
        return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() - received_at
    except (ValueError, OverflowError):
        return math.nan
