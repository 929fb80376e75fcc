"""One exchange with the API: whether the request went out, what came back, and what to say when nothing did."""

import asyncio
import time
from collections.abc import Callable
from contextvars import ContextVar
from types import TracebackType
from typing import Any

import aiohttp

from lemon_async.api.response import Response, Unpacker
from lemon_async.client.http import cause_of, read_body, reason_of
from lemon_async.client.key import ApiKey

__all__ = ["Answer", "Exchange", "NoAnswer", "NotingConnector"]

_EVENTS_TYPE = "text/event-stream"


class NoAnswer(Exception):
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


_under_way: ContextVar["Exchange | None"] = ContextVar("lemon_async exchange", default=None)


class Exchange:
    """What is known of a request under way; `with exchange:` turns whatever breaks into a `NoAnswer`.

    Attributes:
        was_sent: Set as soon as it has a connection: from then on bytes may be on their way.
        arrived: The answer, once its head is here.
        sender: The asyncio task that sends it.
        bounds: How long it may take, as aiohttp takes it.
    """

    __slots__ = ("_outer", "arrived", "bounds", "sender", "was_sent")

    def __init__(self, total_s: float, connect_s: float) -> None:
        self.was_sent: bool = False
        self.arrived: aiohttp.ClientResponse | None = None
        self.sender: asyncio.Task[Any] | None = asyncio.current_task()
        self.bounds: aiohttp.ClientTimeout = aiohttp.ClientTimeout(total=total_s, connect=connect_s)

    def __enter__(self) -> None:
        self._outer = _under_way.set(self)

    def __exit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, traceback: TracebackType | None
    ) -> None:
        _under_way.reset(self._outer)
        if isinstance(failure, asyncio.CancelledError):
            failure.__traceback__ = None  # its frames hold what had come of the answer
            failure.__cause__ = NoAnswer("cancelled while waiting for the answer", was_sent=self.was_sent)
        elif isinstance(failure, Exception):  # whatever broke, a request that went out must not look unsent
            no_answer = self._no_answer(failure)
            del failure  # it may quote the server, and the server the key: no local variable of ours, and no context
            try:
                raise no_answer
            finally:
                no_answer.__context__ = None

    @property
    def status(self) -> int | None:
        """HTTP status, once the head of the answer is here."""
        return None if self.arrived is None else self.arrived.status

    def _no_answer(self, failure: Exception) -> NoAnswer:
        bound_s = self.bounds.connect if isinstance(failure, aiohttp.ServerTimeoutError) else self.bounds.total
        no_answer = NoAnswer(reason_of(failure, bound_s or 0.0), was_sent=self.was_sent, status=self.status)
        no_answer.__cause__ = cause_of(failure)
        return no_answer


class NotingConnector(aiohttp.TCPConnector):
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


class Answer:
    """An answer whose head is here; its body is read once, whole or in pieces.

    Attributes:
        headers: Names in lower case; where they or their values quote the key, it is masked.
    """

    def __init__(
        self, arrived: aiohttp.ClientResponse, exchange: Exchange, key: ApiKey, note: Callable[[Response], None]
    ) -> None:
        self.headers: dict[str, str] = key.without({name.lower(): value for name, value in arrived.headers.items()})
        self._arrived = arrived
        self._exchange = exchange
        self._key = key
        self._note = note
        self._unpacker: Unpacker | None = None

    @property
    def is_events(self) -> bool:
        """Whether the answer is a success that comes event by event."""
        return self._arrived.status == 200 and self._arrived.content_type == _EVENTS_TYPE

    async def read(self, max_bytes: int) -> Response:
        """Return the whole answer.

        Raises:
            NoAnswer: It broke off, or is larger than `max_bytes`.
        """
        content = b""
        try:
            with self._exchange:
                content = await read_body(self._arrived, max_bytes)
        finally:  # what its head says counts, even if the rest never comes
            response = Response(self._arrived.status, self.headers, content, time.time(), self.mask)
            self._note(response)
        return response

    def mask(self, text: str) -> str:
        """Return text from the answer, with the key masked if it is quoted there."""
        return self._key.mask(text)

    async def piece(self) -> bytes:
        """Return the next bytes as they come; none at the end.

        Raises:
            NoAnswer: It broke off, or is packed in a way that cannot be undone.
        """
        with self._exchange:
            self._unpacker = self._unpacker or Unpacker(self.headers)
            while packed := _Unshown(await self._arrived.content.readany()):
                if piece := _Unshown(self._unpacker.feed(packed)):
                    return piece
            return b""


class _Unshown(bytes):
    """Bytes of the service, in frames that end up in tracebacks: not shown, because they may quote the key."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<{len(self)} bytes>"
