"""Every request that carries the key goes through here, in one of two ways that never mix.

* `submit` and `stream`: paid POSTs. Own connections, kept only briefly when idle, because a request on a connection
  that the server has just closed cannot be told from one that was sold. Notes whether the request could have been sent.
* `call`: everything else, free of charge. Anything but a GET goes the way of paid ones, because it has an effect.

Both go to one origin, follow no redirect and pass one rate budget; a total deadline bounds each exchange, so that
a drip of bytes cannot stretch it.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext, suppress
from typing import Any

import aiohttp
import attrs
from yarl import URL

from lemon_async.api.errors import TransportError
from lemon_async.api.refusals import api_error
from lemon_async.api.response import MAX_BODY_BYTES, MAX_CALL_BYTES, Response
from lemon_async.client.exchange import Answer, Exchange, NoAnswer
from lemon_async.client.http import open_session
from lemon_async.client.key import ApiKey
from lemon_async.client.payload import Body, Payload
from lemon_async.pace.budget import Budget
from lemon_async.pace.validators import positive

__all__ = ["Timeouts", "Transport"]

_IDLE_SUBMIT_S = 2.0
_IDLE_CALL_S = 30.0


@attrs.frozen(kw_only=True)
class Timeouts:
    """Longest times, in seconds, each for one exchange with the network.

    Attributes:
        connect_s: Name look-up, TCP and TLS.
        submit_s: A whole paid request, the upload of its pictures included. Inline answers can take a minute or
            longer, and giving up early does not unsell anything: the documentation asks for at least 120.
        call_s: A whole poll or other API request.
        download_s: A whole download, of a result with redirects and retries, or of a stored file.
        close_s: Closing the session.
    """

    connect_s: float = attrs.field(default=10.0, validator=positive)
    submit_s: float = attrs.field(default=300.0, validator=positive)
    call_s: float = attrs.field(default=30.0, validator=positive)
    download_s: float = attrs.field(default=180.0, validator=positive)
    close_s: float = attrs.field(default=5.0, validator=positive)


class Transport:
    """The API side of one session; opens its connections when they are first needed.

    Args:
        origin: Where the key may go, as `scheme://host[:port]`.
        key: The key.
        timeouts: Bounds of each exchange.
        budget: What every request passes.
    """

    def __init__(self, origin: str, key: ApiKey, *, timeouts: Timeouts, budget: Budget) -> None:
        self.origin: str = origin
        self._key = key
        self._timeouts = timeouts
        self._budget = budget
        self._paid: aiohttp.ClientSession | None = None
        self._free: aiohttp.ClientSession | None = None
        self._arrived: set[aiohttp.ClientResponse] = set()
        self._closed = asyncio.Event()

    async def submit(self, payload: Payload, *, patience_s: float | None = None) -> Response:
        """Send a paid request once, and read the answer to its end; see `stream`."""
        async with self.stream(payload, patience_s=patience_s) as answer:
            return await answer.read(MAX_BODY_BYTES)

    @asynccontextmanager
    async def stream(self, payload: Payload, *, patience_s: float | None = None) -> AsyncGenerator[Answer, None]:
        """Send a paid request once, and return the answer as soon as its head is here.

        It waits at most `patience_s` seconds (by default `submit_s`) for a paused budget; the whole exchange ends after
        `submit_s`. Cancelling leaves the fate of a sent request in doubt; the `CancelledError` then has a `NoAnswer`
        with `was_sent` as its cause.

        Raises:
            NoAnswer: With `was_sent` telling whether it may have been sold.
            ContractError: What was to be sent is gone; nothing was.
        """
        await self._wait_for_budget(self._timeouts.submit_s if patience_s is None else patience_s)
        async with (
            payload.open() as body,
            self._exchange("POST", payload.path, self._timeouts.submit_s, body) as answer,
        ):
            yield answer

    async def call(
        self,
        method: str,
        path: str,
        *,
        payload: Payload | None = None,
        timeout_s: float | None = None,
        total_s: float | None = None,
        max_bytes: int = MAX_CALL_BYTES,
    ) -> Response:
        """Send a request that costs nothing.

        All of it, waiting for the budget included, ends after `total_s` (by default `Timeouts.call_s`, or `submit_s`
        with a `payload`), or `timeout_s` if that is less.

        Raises:
            TransportError: When no answer came; `was_sent` tells whether the request may have arrived.
        """
        loop = asyncio.get_running_loop()
        bound = total_s or (self._timeouts.call_s if payload is None else self._timeouts.submit_s)
        bound = bound if timeout_s is None else min(bound, timeout_s)
        end_at = loop.time() + bound
        try:
            await self._wait_for_budget(bound)
            async with nullcontext() if payload is None else payload.open() as body:
                left_s = max(end_at - loop.time(), 0.001)
                async with self._exchange(method, path, left_s, body) as answer:
                    return await answer.read(max_bytes)
        except NoAnswer as failure:
            message = f"{method} {path.partition('?')[0]}: {failure.reason}"
            raise TransportError(message=message, was_sent=failure.was_sent) from failure

    @property
    def is_closed(self) -> bool:
        """Whether every further request ends with `NoAnswer`."""
        return self._closed.is_set()

    async def pause(self, seconds: float) -> None:
        """Sleep, but not beyond the end of the session."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._closed.wait()

    def close(self) -> None:
        """Send nothing from now on, and wake whoever pauses."""
        self._closed.set()

    async def aclose(self) -> None:
        """Close the connections; exchanges under way end with `NoAnswer`."""
        self.close()
        for arrived in tuple(self._arrived):
            arrived.close()  # a session that closes a connection does not wake who reads from it
        await asyncio.gather(*(session.close() for session in (self._paid, self._free) if session is not None))

    async def _wait_for_budget(self, patience_s: float) -> None:
        """Wait until the budget lets a request through."""
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + patience_s
        while wait := self._budget.wait_s(loop.time()):
            if loop.time() + wait > give_up_at:
                raise NoAnswer(f"requests are paused by the rate limit for {wait:.0f} s more", was_sent=False)
            await self.pause(wait)
            if self.is_closed:
                break
        if self.is_closed:
            raise NoAnswer("the session is closed", was_sent=False)

    @asynccontextmanager
    async def _exchange(
        self, method: str, path: str, total_s: float, body: Body | None
    ) -> AsyncGenerator[Answer, None]:
        """Send one request; the answer is read by whoever asked for it."""
        exchange = Exchange(total_s, self._timeouts.connect_s)
        async with AsyncExitStack() as held:
            with exchange:
                arrived = await self._session(is_noted=method != "GET").request(
                    method,
                    URL(self.origin + path, encoded=True),
                    data=body.data if body else None,
                    headers=body.headers if body else None,
                    allow_redirects=False,
                    timeout=exchange.bounds,
                    trace_request_ctx=exchange,
                )
            self._arrived.add(arrived)
            held.callback(self._let_go, arrived)
            exchange.status = arrived.status
            if self.is_closed:  # while the head came: nobody else would wake who reads on
                arrived.close()
                raise NoAnswer("the session is closed", was_sent=exchange.was_sent, status=arrived.status)
            if arrived.status != 429:
                self._budget.answered()
            yield Answer(arrived, exchange, self._key, self._take_note)

    def _let_go(self, arrived: aiohttp.ClientResponse) -> None:
        """End an exchange without waiting: a cancel would meet the wait, and an answer that is here would be lost."""
        self._arrived.discard(arrived)
        if not arrived.closed:
            arrived.close()

    def _take_note(self, response: Response) -> None:
        if response.status == 429:
            self._budget.limited(asyncio.get_running_loop().time(), api_error(response).retry_after)

    def _session(self, *, is_noted: bool) -> aiohttp.ClientSession:
        """Return the session for what may have an effect, whose sending is noted, or the one for all the rest."""
        if is_noted:
            if self._paid is None:
                self._paid = self._open(_IDLE_SUBMIT_S, trace_configs=[_note_sending()])
                self._paid._retry_connection = False  # aiohttp sends a DELETE twice, without a word
            return self._paid
        self._free = self._free or self._open(_IDLE_CALL_S)
        return self._free

    def _open(self, idle_s: float, **options: Any) -> aiohttp.ClientSession:
        headers = {**self._key.headers(), "Accept": "application/json"}
        return open_session(headers, idle_s=idle_s, **options)


def _note_sending() -> aiohttp.TraceConfig:
    """Mark a request as sent from the moment it has a connection: from then on bytes may be on their way."""

    async def mark(_session: aiohttp.ClientSession, context: Any, _params: object) -> None:
        context.trace_request_ctx.was_sent = True

    trace = aiohttp.TraceConfig()
    trace.on_connection_create_end.append(mark)
    trace.on_connection_reuseconn.append(mark)
    return trace
