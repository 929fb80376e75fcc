"""One exchange with the API: whether the request went out, what came back, and what to say when nothing did."""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from types import TracebackType
from typing import Any

import aiohttp

from lemon_async._api.response import Response
from lemon_async._formats.base64_extraction import PIECE_BYTES
from lemon_async._http.body_reader import BodyReader, Unpacker
from lemon_async._http.client_session import TooLarge, cause_of, reason_of
from lemon_async._http.connections import CheckedConnector, take_buffered
from lemon_async._http.fairness import rounds
from lemon_async._http.key import Secrets

__all__ = ["ConnectTracker", "NoResponse", "RequestAttempt", "StreamedResponse"]

_EVENTS_TYPE = "text/event-stream"
_SMALL_BODY_BYTES = 64 * 1024
_EVENTS_PIECE_BYTES = 4 * 1024  # it may hold hundreds of events


class NoResponse(Exception):
    """An exchange ended without an answer that could be read to its end.

    Attributes:
        was_sent: Whether the request may have reached the service.
        status: HTTP status, when at least the head of an answer came.
        retry_after_s: Seconds after which it is worth another try, if that is known.
    """

    def __init__(
        self, reason: str, *, was_sent: bool, status: int | None = None, retry_after_s: float | None = None
    ) -> None:
        super().__init__(reason)
        self.retry_after_s: float | None = retry_after_s
        self.reason: str = reason
        self.was_sent: bool = was_sent
        self.status: int | None = status


_under_way: ContextVar["RequestAttempt | None"] = ContextVar("lemon_async exchange", default=None)


class RequestAttempt:
    """What is known of a request under way; `with exchange:` turns whatever breaks into a `NoAnswer`.

    Attributes:
        was_sent: Set as soon as it has a connection: from then on bytes may be on their way.
        arrived: The answer, once its head is here.
        sender: The asyncio task that sends it.
        bounds: How long connecting may take. aiohttp's other timers are off: they belong to the parser of a connection,
            which outlives the request.
        ends_at: When it ends at the latest, on the clock of the loop.
    """

    __slots__ = ("_outer", "_total_s", "arrived", "bounds", "ends_at", "sender", "was_sent")

    def __init__(self, total_s: float, connect_s: float) -> None:
        self.was_sent: bool = False
        self.arrived: aiohttp.ClientResponse | None = None
        self.sender: asyncio.Task[Any] | None = asyncio.current_task()
        self.bounds: aiohttp.ClientTimeout = aiohttp.ClientTimeout(total=None, connect=connect_s)
        self._total_s = total_s
        self.ends_at: float = asyncio.get_running_loop().time() + total_s

    def __enter__(self) -> None:
        self._outer = _under_way.set(self)

    def __exit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, traceback: TracebackType | None
    ) -> None:
        _under_way.reset(self._outer)
        if isinstance(failure, asyncio.CancelledError):
            failure.__traceback__ = None  # its frames hold what had come of the answer
            failure.__cause__ = NoResponse("cancelled while waiting for the answer", was_sent=self.was_sent)
        elif isinstance(failure, Exception):  # whatever broke, a request that went out must not look unsent
            no_answer = self._no_answer(failure)
            del failure  # it may quote the server, and the server the key: no local variable of ours, and no context
            try:
                raise no_answer
            finally:
                no_answer.__context__ = None

    def deadline(self) -> asyncio.Timeout:
        """Return the scope for whatever waits for the network."""
        return asyncio.timeout_at(self.ends_at)

    def check_time(self) -> None:
        """Raise `TimeoutError` after the end."""
        if asyncio.get_running_loop().time() > self.ends_at:
            raise TimeoutError

    @property
    def status(self) -> int | None:
        """HTTP status, once the head of the answer is here."""
        return None if self.arrived is None else self.arrived.status

    def _no_answer(self, failure: Exception) -> NoResponse:
        bound_s = self.bounds.connect if isinstance(failure, aiohttp.ServerTimeoutError) else self._total_s
        no_answer = NoResponse(reason_of(failure, bound_s or 0.0), was_sent=self.was_sent, status=self.status)
        no_answer.__cause__ = cause_of(failure)
        return no_answer


class ConnectTracker(CheckedConnector):
    """Connections that are noted in the exchange that asks for them."""

    async def connect(
        self,
        req: aiohttp.ClientRequest,
        traces: list[Any],
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 - aiohttp's signature
    ) -> aiohttp.connector.Connection:
        """Return a connection, new or used."""
        connection = await super().connect(req, traces, timeout)
        exchange = _under_way.get()
        if exchange is not None:
            exchange.was_sent = True
        return connection


class StreamedResponse:
    """An answer whose head is here; its body is read once, whole or in pieces.

    Attributes:
        headers: Names in lower case; where they or their values quote the key, it is masked.
    """

    def __init__(
        self, arrived: aiohttp.ClientResponse, exchange: RequestAttempt, key: Secrets, note: Callable[[Response], None]
    ) -> None:
        self.headers: dict[str, str] = key.without({name.lower(): value for name, value in arrived.headers.items()})
        self._arrived = arrived
        self._exchange = exchange
        self._key = key
        self._note = note
        self._unpacker: Unpacker | None = None
        self._parts: Iterator[bytes] = iter(())

    @property
    def is_events(self) -> bool:
        """Whether the answer is a success that comes event by event."""
        return self._arrived.status == 200 and self._arrived.content_type == _EVENTS_TYPE

    async def read(self, max_bytes: int, *, is_file: bool = False) -> Response:
        """Return the whole answer; pictures are lifted out of it while it comes, unless it is a file as such.

        A JSON document shows by itself that it is complete: it counts, even if the connection broke before the answer
        ended.

        Raises:
            NoAnswer: It broke off, took too long, or is larger than `max_bytes`.
        """
        length = self._arrived.content_length
        is_small = length is not None and length <= _SMALL_BODY_BYTES and "content-encoding" not in self.headers
        body = BodyReader(self.headers, max_bytes, is_kept=is_file or is_small)
        response = self._response()
        try:
            with self._exchange:
                await self._fill(body, max_bytes)
            response = self._response(**body.end())
        except NoResponse:
            cut_off = self._response(**body.end())
            if is_file or not cut_off.is_whole_json:
                raise
            response = cut_off
        finally:  # what its head says counts, even if the rest never comes
            self._note(response)
        return response

    async def _fill(self, body: BodyReader, max_bytes: int) -> None:
        total_bytes = 0
        while packed := await self._packed(PIECE_BYTES):
            total_bytes += len(packed)
            if total_bytes > max_bytes:
                raise TooLarge(f"the answer is larger than {max_bytes:,} bytes")
            if total_bytes > _SMALL_BODY_BYTES:
                await rounds().turn()
            for _ in body.feed(packed):
                await rounds().turn()
        if total_bytes > _SMALL_BODY_BYTES:
            await rounds().turn()  # parsing what is left takes as long as the last piece did

    async def _packed(self, max_bytes: int) -> bytes:
        """Return the next bytes; when the connection breaks or time is up, first those that had arrived before."""
        try:
            self._exchange.check_time()  # `read` returns buffered bytes without waiting: the scope below never ends it
            async with self._exchange.deadline():
                return _Unshown(await self._arrived.content.read(max_bytes))
        except Exception:
            self._arrived.close()  # or a drip would go on
            if rest := _Unshown(take_buffered(self._arrived.content, max_bytes)):
                return rest
            raise

    def _response(self, **body: Any) -> Response:
        fields = {"body": b"", **body}
        return Response(self._arrived.status, self.headers, received_at=time.time(), mask=self.mask, **fields)

    def mask(self, text: str) -> str:
        """Return text from the answer, with the key masked if it is quoted there."""
        return self._key.mask(text)

    async def piece(self) -> bytes:
        """Return the next bytes as they come; none at the end.

        Raises:
            NoAnswer: It broke off, or is packed in a way that cannot be undone.
        """
        with self._exchange:
            self._unpacker = self._unpacker or Unpacker(self.headers, part_bytes=_EVENTS_PIECE_BYTES)
            await rounds().turn()  # not once they are taken: a cancel would meet the wait, and they would be lost
            while not (part := _Unshown(next(self._parts, b""))):
                packed = await self._packed(_EVENTS_PIECE_BYTES)
                if not packed:
                    return b""
                self._parts = self._unpacker.feed(packed)
            return part


class _Unshown(bytes):
    """Bytes of the service, in frames that end up in tracebacks: not shown, because they may quote the key."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<{len(self)} bytes>"
