"""Every request that carries the key goes through here, in one of two ways that never mix.

* `submit` and `stream`: paid POSTs. Each gets a connection of its own (`connections` says why).
* `call`: everything else, free of charge. Anything but a GET has an effect, and gets a connection of its own, too.

Both go to one origin, follow no redirect and pass one rate budget; a total deadline bounds each exchange, so that
a drip of bytes cannot stretch it.
"""

import asyncio
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from typing import Any, Protocol
from urllib.parse import urlsplit

import aiohttp
import attrs
from yarl import URL

from lemon_async._api.rate_headers import read_rate_headers
from lemon_async._api.refusals import api_error
from lemon_async._api.response import MAX_BODY_BYTES, MAX_CALL_BYTES, Response
from lemon_async._api.urls import is_loopback
from lemon_async._http.attempt import ConnectTracker, NoResponse, RequestAttempt, StreamedResponse
from lemon_async._http.client_session import open_session
from lemon_async._http.connections import never_resend
from lemon_async._http.key import ApiKey
from lemon_async._http.rate_limiter import RateLimiter
from lemon_async._pace.priority import Priority
from lemon_async._pace.validators import positive
from lemon_async.errors import TransportError

__all__ = ["Body", "Payload", "Timeouts", "Transport"]

_IDLE_S = 30.0
# The emulator's own header; the service sends nothing like it.
_SPEED_HEADER = "x-emulator-speed"
_TOP_SPEED = 100_000.0


@attrs.frozen(kw_only=True)
class Timeouts:
    """Longest times, in seconds, each for one exchange with the network.

    Attributes:
        connect_s: Name look-up, TCP and TLS.
        submit_s: A whole paid request, the upload of its pictures included. Inline answers can take a minute or
            longer, and giving up early does not unsell anything: the documentation asks for at least 120.
        request_s: A whole poll or other API request.
        download_s: A whole download, of a result with redirects and retries, or of a stored file; once more, bringing
            a saved picture to the disk.
        close_s: Closing the session.
    """

    connect_s: float = attrs.field(default=10.0, validator=positive)
    submit_s: float = attrs.field(default=300.0, validator=positive)
    request_s: float = attrs.field(default=30.0, validator=positive)
    download_s: float = attrs.field(default=180.0, validator=positive)
    close_s: float = attrs.field(default=5.0, validator=positive)


@attrs.frozen
class Body:
    """What aiohttp sends in one attempt."""

    data: Any
    headers: Mapping[str, str]


class Payload(Protocol):
    """A request body that can be opened again for every attempt; `_uploads.payload` has them."""

    @property
    def path(self) -> str:
        """Path of the endpoint it is sent to."""

    @property
    def fingerprint(self) -> str:
        """Digest of the content; equal for equal requests."""

    async def open(self, held: ExitStack) -> Body:
        """Return the body for one attempt; closing `held` releases its files.

        Raises:
            ContractError: A file is gone or has changed; nothing was sent.
            NoResponse: This process cannot open another file; nothing was sent.
        """


class Transport:
    """The API side of one session; opens its connections when they are first needed.

    Args:
        base_url: Where the key may go, as `scheme://host[:port][/path]`; every path is added to it.
        key: The key, and the extra headers.
        timeouts: Bounds of each exchange.
        gate: Where every request waits for its turn.
    """

    def __init__(self, base_url: str, key: ApiKey, *, timeouts: Timeouts, gate: RateLimiter) -> None:
        self.base_url: str = base_url
        # Service seconds per real second, as an emulator on this machine announces it; 1 for all other servers.
        self.server_speed: float = 1.0
        self._may_be_emulator = is_loopback(urlsplit(base_url).hostname or "")
        self._key = key
        self._timeouts = timeouts
        self._gate = gate
        self._fresh: aiohttp.ClientSession | None = None
        self._kept: aiohttp.ClientSession | None = None
        self._exchanges: set[RequestAttempt] = set()
        self._closed = asyncio.Event()

    async def admit(self, patience_s: float | None) -> None:
        """Wait for the turn of a paid request; with a paused limit at most `patience_s`, by default `submit_s`.

        Raises:
            NoAnswer: It has not come.
        """
        if not self._gate.take_nowait():
            await self._gate.turn(Priority.SUBMIT, self._timeouts.submit_s if patience_s is None else patience_s)

    async def submit(self, payload: Payload) -> Response:
        """Send a paid request once, and read the answer to its end; see `stream`."""
        with ExitStack() as held:
            answer = await self.stream(payload, held)
            return await answer.read(MAX_BODY_BYTES)

    async def stream(self, payload: Payload, held: ExitStack) -> StreamedResponse:
        """Send a paid request whose turn has come once, and return the answer as soon as its head is here.

        The whole exchange ends after `submit_s`. Cancelling leaves the fate of a sent request in doubt; the
        `CancelledError` then has a `NoAnswer` with `was_sent` as its cause.

        Args:
            payload: What to send.
            held: Closes what is open, once the answer is done with.

        Raises:
            NoAnswer: With `was_sent` telling whether it may have been sold.
            ContractError: What was to be sent is gone; nothing was.
        """
        body = await payload.open(held)
        return await self._exchange("POST", payload.path, self._timeouts.submit_s, body, held)

    async def call(
        self,
        method: str,
        path: str,
        *,
        kind: Priority | None = Priority.REST,
        payload: Payload | None = None,
        timeout_s: float | None = None,
        total_s: float | None = None,
        max_bytes: int = MAX_CALL_BYTES,
        is_file: bool = False,
    ) -> Response:
        """Send a request that costs nothing.

        All of it, a paused rate limit included, ends after `total_s` (by default `Timeouts.request_s`, or `submit_s`
        with a `payload`), or `timeout_s` if that is less; time in a queue comes on top. `kind=None`: the caller
        already holds a rate-limit slot.

        Raises:
            TransportError: When no answer came; `was_sent` tells whether the request may have arrived.
        """
        loop = asyncio.get_running_loop()
        bound = total_s or (self._timeouts.request_s if payload is None else self._timeouts.submit_s)
        bound = bound if timeout_s is None else min(bound, timeout_s)
        end_at = loop.time() + bound
        try:
            if kind is not None and not self._gate.take_nowait():
                await self._gate.turn(kind, bound)
            with ExitStack() as held:
                body = None if payload is None else await payload.open(held)
                answer = await self._exchange(method, path, max(end_at - loop.time(), 0.001), body, held)
                return await answer.read(max_bytes, is_file=is_file)
        except NoResponse as failure:
            message = f"{method} {path.partition('?')[0]}: {failure.reason}"
            raise TransportError(message=message, was_sent=failure.was_sent) from failure

    @property
    def is_closed(self) -> bool:
        """Whether every further request ends with `NoAnswer`."""
        return self._closed.is_set()

    def is_sending(self, task: asyncio.Task[Any]) -> bool:
        """Tell whether a request of an asyncio task may be on its way."""
        return any(exchange.sender is task and exchange.was_sent for exchange in self._exchanges)

    async def pause(self, seconds: float) -> None:
        """Sleep, but not beyond the end of the session."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._closed.wait()

    def close(self) -> None:
        """Send nothing from now on, and wake whoever waits."""
        self._closed.set()
        self._gate.close()

    async def aclose(self) -> None:
        """Close the connections; exchanges under way end with `NoAnswer`."""
        self.close()
        for exchange in tuple(self._exchanges):
            if exchange.arrived is not None:
                exchange.arrived.close()  # a session that closes a connection does not wake who reads from it
        await asyncio.gather(*(session.close() for session in (self._fresh, self._kept) if session is not None))

    async def _exchange(
        self, method: str, path: str, total_s: float, body: Body | None, held: ExitStack
    ) -> StreamedResponse:
        """Send one request; the answer is read by whoever asked for it, before `held` is closed."""
        if self.is_closed:
            raise NoResponse("the session is closed", was_sent=False)
        exchange = RequestAttempt(total_s, self._timeouts.connect_s)
        self._exchanges.add(exchange)
        held.callback(self._let_go, exchange)
        with exchange:
            async with exchange.deadline():
                exchange.arrived = arrived = await self._session(has_effect=method != "GET").request(
                    method,
                    URL(self.base_url + path, encoded=True),
                    data=body.data if body else None,
                    headers=body.headers if body else None,
                    allow_redirects=False,
                    timeout=exchange.bounds,
                )
        if self.is_closed:  # while the head came: closing the session does not wake a reader
            raise NoResponse("the session is closed", was_sent=exchange.was_sent, status=arrived.status)
        answer = StreamedResponse(arrived, exchange, self._key.quoted_in(arrived.status), self._take_note)
        if self._may_be_emulator:
            self.server_speed = _read_speed(answer.headers) or self.server_speed
        if arrived.status != 429:  # of a stream, the head alone is told
            self._gate.answered(read_rate_headers(answer.headers, received_at=time.time()))
        return answer

    def _let_go(self, exchange: RequestAttempt) -> None:
        """End an exchange without waiting: a cancel would meet the wait, and an answer that is here would be lost."""
        self._exchanges.discard(exchange)
        if exchange.arrived is not None and not exchange.arrived.closed:
            exchange.arrived.close()

    def _take_note(self, response: Response) -> None:
        """Let a 429 slow everything down, even one that has broken off."""
        if response.status == 429:
            reported = read_rate_headers(response.headers, received_at=response.received_at)
            self._gate.limited(api_error(response).retry_after, reported)

    def _session(self, *, has_effect: bool) -> aiohttp.ClientSession:
        """Return the session that never uses a connection twice, or the one for requests without an effect."""
        if has_effect:
            self._fresh = self._fresh or self._open(None)
            return self._fresh
        self._kept = self._kept or self._open(_IDLE_S)
        return self._kept

    def _open(self, idle_s: float | None) -> aiohttp.ClientSession:
        headers = {**self._key.headers(), "Accept": "application/json"}
        session = open_session(headers, idle_s=idle_s, connector=ConnectTracker)
        never_resend(session)
        return session


def _read_speed(headers: Mapping[str, str]) -> float | None:
    """Return the speed that an emulator announces, or `None` if there is none that makes sense."""
    try:
        speed = float(headers.get(_SPEED_HEADER, ""))
    except ValueError:
        return None
    return speed if 1 <= speed <= _TOP_SPEED else None
