"""One exchange with the API: whether the request went out, what came back, and what to say when nothing did."""

import asyncio
import time
from collections.abc import Callable
from types import TracebackType

import aiohttp

from lemon_async.api.response import Response
from lemon_async.client.http import read_body, reason_of, without_frames
from lemon_async.client.key import ApiKey

__all__ = ["Answer", "Exchange", "NoAnswer"]

_EVENTS_TYPE = "text/event-stream"
_LONG_CONTENT_BYTES = 256 * 1024


class NoAnswer(Exception):
    """An exchange ended without an answer that could be read to its end.

    Attributes:
        was_sent: Whether the request may have reached the service.
        status: HTTP status, when at least the head of an answer came.
    """

    def __init__(self, reason: str, *, was_sent: bool, status: int | None = None) -> None:
        super().__init__(reason)
        self.reason: str = reason
        self.was_sent: bool = was_sent
        self.status: int | None = status


class Exchange:
    """What is known of a request under way; `with exchange:` turns whatever breaks into a `NoAnswer`.

    Attributes:
        was_sent: Set from outside, once bytes may be on their way.
        status: HTTP status, once the head of the answer is here.
        bounds: How long it may take, as aiohttp takes it.
    """

    __slots__ = ("bounds", "status", "was_sent")

    def __init__(self, total_s: float, connect_s: float) -> None:
        self.was_sent: bool = False
        self.status: int | None = None
        self.bounds: aiohttp.ClientTimeout = aiohttp.ClientTimeout(total=total_s, connect=connect_s)

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if isinstance(failure, asyncio.CancelledError):
            failure.__cause__ = NoAnswer("cancelled while waiting for the answer", was_sent=self.was_sent)
        elif isinstance(failure, Exception):  # whatever broke, a request that went out must not look unsent
            is_connecting = isinstance(failure, aiohttp.ServerTimeoutError)
            bound_s = self.bounds.connect if is_connecting else self.bounds.total
            reason = reason_of(failure, bound_s or 0.0)
            raise NoAnswer(reason, was_sent=self.was_sent, status=self.status) from without_frames(failure)


class Answer:
    """An answer whose head is here; its body is read once, whole or in pieces.

    Attributes:
        headers: Names in lower case; one that quotes the key has it masked.
    """

    def __init__(
        self, arrived: aiohttp.ClientResponse, exchange: Exchange, key: ApiKey, note: Callable[[Response], None]
    ) -> None:
        self.headers: dict[str, str] = {name.lower(): key.mask(value) for name, value in arrived.headers.items()}
        self._arrived = arrived
        self._exchange = exchange
        self._key = key
        self._note = note

    @property
    def is_events(self) -> bool:
        """Whether the answer is a success that comes event by event."""
        return self._arrived.status == 200 and self._arrived.content_type == _EVENTS_TYPE

    async def read(self, max_bytes: int) -> Response:
        """Return the whole answer.

        Raises:
            NoAnswer: It broke off, or is larger than `max_bytes`.
        """
        with self._exchange:
            content = await read_body(self._arrived, max_bytes)
        if self._arrived.status >= 400 or self._is_short_json(content):  # some refusals and failed tasks quote the key
            content = self._key.mask(content)
        response = Response(self._arrived.status, self.headers, content, time.time())
        self._note(response)
        return response

    def mask(self, text: str) -> str:
        """Return text from the answer, with the key masked if it is quoted there."""
        return self._key.mask(text)

    async def piece(self) -> bytes:
        """Return the next bytes as they come; none at the end.

        Raises:
            NoAnswer: It broke off.
        """
        with self._exchange:
            return await self._arrived.content.readany()

    def _is_short_json(self, content: bytes) -> bool:
        """Tell words from pictures: searching megabytes of base64 takes time, and changing a file would spoil it."""
        return len(content) < _LONG_CONTENT_BYTES and self._arrived.content_type == "application/json"
