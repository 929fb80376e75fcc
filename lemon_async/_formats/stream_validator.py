"""Judging a picture while it passes by: nothing of it is kept but its beginning, its end and what is just looked at."""

import attrs

from lemon_async._formats.pictures import HEAD_BYTES, PictureFacts, find_head_fault, sniff
from lemon_async._formats.structure import END, MOST_TAIL_BYTES, WALKS, Walk

__all__ = ["StreamValidator"]

_SIGNATURE_BYTES = 32  # with the size, where that has a fixed place


@attrs.define(eq=False, repr=False)
class StreamValidator:
    """One picture, whose bytes are seen once and in order.

    Attributes:
        size_bytes: How much has passed.
    """

    size_bytes: int = 0
    _head: bytearray = attrs.field(factory=bytearray, init=False)
    _tail: bytearray = attrs.field(factory=bytearray, init=False)
    _rest: bytes = attrs.field(default=b"", init=False)
    _walk: Walk = attrs.field(init=False)
    _wanted: tuple[int, int] | None = attrs.field(init=False)
    _fault: str | None = attrs.field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        self._walk = self._course()
        self._wanted = next(self._walk)

    @property
    def is_picture(self) -> bool:
        """Whether the beginning is that of a picture; before enough has passed it is nothing yet."""
        return self.size_bytes >= _SIGNATURE_BYTES and (self._wanted is not None or self._fault is None)

    @property
    def facts(self) -> PictureFacts | None:
        """What its first 64 KiB tell, as far as they have passed."""
        return sniff(bytes(self._head))

    def see(self, piece: bytes) -> str | None:
        """Take note of the next bytes; return what is wrong with the picture as soon as that is certain."""
        self.size_bytes += len(piece)
        self._head += piece[: HEAD_BYTES - len(self._head)]
        self._tail += piece[-MOST_TAIL_BYTES:]
        if len(self._tail) > 2 * MOST_TAIL_BYTES:
            del self._tail[:-MOST_TAIL_BYTES]
        self._follow(self._rest + piece if self._rest else piece, is_end=False)
        return self._fault

    def end(self) -> str | None:
        """Return what is wrong with the picture, or `None`, now that there is no more of it."""
        self._follow(self._rest, is_end=True)
        return self._fault

    def _course(self) -> Walk:
        head = yield 0, _SIGNATURE_BYTES
        facts = sniff(head)
        fault = find_head_fault(facts, len(head))
        if facts is None or fault is not None:
            return fault
        return (yield from WALKS[facts.format]())

    def _follow(self, data: bytes, *, is_end: bool) -> None:
        """Walk as far as `data` leads, of which the last byte is the last that has passed."""
        start = self.size_bytes - len(data)
        while self._wanted is not None:
            at, length = self._wanted
            if not is_end and (length == END or at + length > self.size_bytes):
                self._rest = b"" if length == END else data[max(at - start, 0) :]
                return
            self._step(self._last(at) if length == END else data[at - start : at - start + length])
        self._rest = b""

    def _last(self, at: int) -> bytes:
        """Return the end of the picture, but nothing before `at`."""
        length = min(max(self.size_bytes - at, 0), MOST_TAIL_BYTES, len(self._tail))
        return bytes(self._tail[len(self._tail) - length :])

    def _step(self, found: bytes) -> None:
        try:
            self._wanted = self._walk.send(found)
        except StopIteration as end:
            self._wanted, self._fault = None, end.value
