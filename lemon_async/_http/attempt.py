"""Send one request and read its response; record whether it went out, and describe what broke.

Bodies are read as they arrive: the content coding is undone, and pictures are taken out of JSON.
"""

import asyncio
import io
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import Token
from types import TracebackType
from typing import Any, NoReturn

import aiohttp

from lemon_async._api.response import MAX_BODY_BYTES, Response, Unreadable
from lemon_async._formats.base64_json import PIECE_BYTES, Base64Extractor, Extracted
from lemon_async._http.connections import TooLarge, checkpoint, failure_reason, on_connected, safe_cause, take_buffered

__all__ = ["BodyReader", "HiddenText", "NoResponse", "RequestAttempt", "Secrets", "StreamedResponse", "Unpacker"]

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
        raise Unreadable(f"a body in the content coding {coding[:20]!r}, which was not requested")
    return coding not in {"", "identity"}


_EVENT_STREAM = "text/event-stream"
_SMALL_BODY_BYTES = 64 * 1024
_MASK = "***"
_SHORTEST_SECRET = 8  # shorter ones are placeholders in tests, or common words
_EVENTS_PIECE_BYTES = 4 * 1024  # it may hold hundreds of events


class NoResponse(Exception):
    """A request ended without a response that could be read to its end.

    Attributes:
        was_sent: Whether the request may have reached the service.
        status: HTTP status, if the head of a response arrived.
        retry_after_s: Seconds after which another attempt may succeed, if known.
    """

    def __init__(
        self, reason: str, *, was_sent: bool, status: int | None = None, retry_after_s: float | None = None
    ) -> None:
        super().__init__(reason)
        self.retry_after_s: float | None = retry_after_s
        self.reason: str = reason
        self.was_sent: bool = was_sent
        self.status: int | None = status


class RequestAttempt:
    """One request under way; `with attempt:` turns whatever breaks into a `NoResponse`.

    Attributes:
        was_sent: Set as soon as the request has a connection: from then on bytes may have been sent.
        response: Set once the head of the response has arrived.
        sender: The asyncio task that sends the request.
        timeout: Bounds connecting. aiohttp's other timers are off: they belong to the parser of a connection, which
            outlives the request.
        ends_at: When the attempt ends at the latest, on the clock of the loop.
    """

    __slots__ = ("_token", "_total_s", "ends_at", "response", "sender", "timeout", "was_sent")

    def __init__(self, total_s: float, timeout: aiohttp.ClientTimeout) -> None:
        self.was_sent: bool = False
        self.response: aiohttp.ClientResponse | None = None
        self.sender: asyncio.Task[Any] | None = asyncio.current_task()
        self.timeout: aiohttp.ClientTimeout = timeout
        self._total_s = total_s
        self.ends_at: float = asyncio.get_running_loop().time() + total_s

    def __enter__(self) -> None:
        self._token: Token[Callable[[], None] | None] = on_connected.set(self._mark_sent)

    def __exit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, traceback: TracebackType | None
    ) -> None:
        on_connected.reset(self._token)
        if isinstance(failure, asyncio.CancelledError):
            failure.__traceback__ = None  # its frames hold parts of the response
            reason = "cancelled while waiting for the response" if self.was_sent else "cancelled before it was sent"
            failure.__cause__ = NoResponse(reason, was_sent=self.was_sent)
        elif isinstance(failure, Exception):  # whatever broke, a request that went out must not look unsent
            no_response = self._no_response(failure)
            del failure  # it may quote the server, and the server the key: no local variable and no context may hold it
            try:
                raise no_response
            finally:
                no_response.__context__ = None

    def _mark_sent(self) -> None:
        self.was_sent = True

    def deadline(self) -> asyncio.Timeout:
        """Return a timeout scope that ends with the attempt."""
        return asyncio.timeout_at(self.ends_at)

    def check_deadline(self) -> None:
        """Raise `TimeoutError` after the end."""
        if asyncio.get_running_loop().time() > self.ends_at:
            raise TimeoutError

    def _no_response(self, failure: Exception) -> NoResponse:
        timeout_s = self.timeout.connect if isinstance(failure, aiohttp.ServerTimeoutError) else self._total_s
        status = None if self.response is None else self.response.status
        no_response = NoResponse(failure_reason(failure, timeout_s or 0.0), was_sent=self.was_sent, status=status)
        no_response.__cause__ = safe_cause(failure)
        return no_response


class HiddenText(str):
    """Text with a mask for a `repr`, which cannot be pickled; sent as it is."""

    __slots__ = ()

    def __repr__(self) -> str:
        return repr(_MASK)

    def __reduce__(self) -> NoReturn:
        raise TypeError("an API key cannot be pickled; create the session in the process that uses it")


class Secrets:
    """Texts that are masked wherever a response quotes them."""

    __slots__ = ("_lower", "_secrets")

    def __init__(self, secrets: Iterable[str]) -> None:
        found = {HiddenText(secret) for secret in secrets if len(secret) >= _SHORTEST_SECRET}
        self._secrets: tuple[HiddenText, ...] = tuple(sorted(found, key=len, reverse=True))
        self._lower: tuple[HiddenText, ...] = tuple(HiddenText(secret.lower()) for secret in self._secrets)

    def mask(self, text: str) -> str:
        """Return text from a server with every secret in it masked."""
        for secret in self._secrets:
            text = text.replace(secret, _MASK)
        return text

    def mask_headers(self, headers: dict[str, str]) -> dict[str, str]:
        """Return headers, names in lower case, with the secrets in names and values masked."""
        text = " ".join([*headers, *headers.values()]).lower()
        for lower in self._lower:
            if lower in text:
                headers = {name.replace(lower, _MASK): self.mask(value) for name, value in headers.items()}
        return headers

    def __repr__(self) -> str:
        return f"Secrets({_MASK!r})"


class StreamedResponse:
    """A response whose head has arrived; its body is read once, whole or in pieces.

    Attributes:
        headers: Names in lower case; names and values that quote the key are masked.
    """

    def __init__(
        self,
        response: aiohttp.ClientResponse,
        attempt: RequestAttempt,
        secrets: Secrets,
        on_read: Callable[[Response], None],
    ) -> None:
        self.headers: dict[str, str] = secrets.mask_headers(
            {name.lower(): value for name, value in response.headers.items()}
        )
        self._response = response
        self._attempt = attempt
        self._secrets = secrets
        self._on_read = on_read
        self._unpacker: Unpacker | None = None
        self._parts: Iterator[bytes] = iter(())

    @property
    def is_event_stream(self) -> bool:
        """Whether the response is a success that arrives as server-sent events."""
        return self._response.status == 200 and self._response.content_type == _EVENT_STREAM

    async def read(self, max_bytes: int, *, is_file: bool = False) -> Response:
        """Return the whole response; base64 pictures are extracted while it arrives, unless it is a file.

        A JSON document shows by itself that it is complete: it counts even if the connection broke before the response
        ended.

        Raises:
            NoResponse: It broke off, took too long, or is larger than `max_bytes`.
        """
        length = self._response.content_length
        is_small = length is not None and length <= _SMALL_BODY_BYTES and "content-encoding" not in self.headers
        body = BodyReader(self.headers, max_bytes, is_kept=is_file or is_small)
        result: Response | None = None
        try:
            with self._attempt:
                await self._fill(body, max_bytes)
            result = self._result(**body.end())
        except NoResponse:
            cut_off = self._result(**body.end())
            if is_file or not cut_off.is_whole_json:
                raise
            result = cut_off
        finally:  # the head counts even if the rest never arrives
            self._on_read(self._result() if result is None else result)
        return result

    async def _fill(self, body: BodyReader, max_bytes: int) -> None:
        total_bytes = 0
        while packed := await self._packed(PIECE_BYTES):
            total_bytes += len(packed)
            if total_bytes > max_bytes:
                raise TooLarge(f"the response is larger than {max_bytes:,} bytes")
            if total_bytes > _SMALL_BODY_BYTES:
                await checkpoint()
            for _ in body.feed(packed):
                await checkpoint()
        if total_bytes > _SMALL_BODY_BYTES:
            await checkpoint()  # parsing what is left takes as long as the last piece did

    async def _packed(self, max_bytes: int) -> bytes:
        """Return the next bytes; when the connection breaks or time is up, first those that had arrived before."""
        try:
            self._attempt.check_deadline()  # `read` returns buffered bytes without waiting: no scope would end it
            content = self._response.content
            if content.is_eof():  # all of it has arrived: nothing waits, and a scope costs more than the read
                return _HiddenBytes(b"" if content.at_eof() else await content.read(max_bytes))
            async with self._attempt.deadline():
                return _HiddenBytes(await content.read(max_bytes))
        except Exception:
            self._response.close()  # or a drip would continue
            if rest := _HiddenBytes(take_buffered(self._response.content, max_bytes)):
                return rest
            raise

    def _result(self, **body: Any) -> Response:
        fields = {"body": b"", **body}
        return Response(self._response.status, self.headers, received_at=time.time(), mask=self.mask, **fields)

    def mask(self, text: str) -> str:
        """Return text from the response with the key masked."""
        return self._secrets.mask(text)

    async def read_piece(self) -> bytes:
        """Return the next bytes as they arrive; `b""` at the end.

        Raises:
            NoResponse: It broke off, or has a content coding that cannot be decoded.
        """
        with self._attempt:
            self._unpacker = self._unpacker or Unpacker(self.headers, part_bytes=_EVENTS_PIECE_BYTES)
            await checkpoint()  # before any bytes are taken: cancelling this wait would lose them
            while not (part := _HiddenBytes(next(self._parts, b""))):
                packed = await self._packed(_EVENTS_PIECE_BYTES)
                if not packed:
                    return b""
                self._parts = self._unpacker.feed(packed)
            return part


class _HiddenBytes(bytes):
    """Bytes from a server that tracebacks with local variables do not show, because they may quote the key."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<{len(self)} bytes>"
