"""Every request that carries the key goes through here, in one of two ways that never mix.

* `submit`: paid POSTs. Own connections, kept only briefly when idle, because a request on a connection that the
  server has just closed cannot be told from one that was sold. Notes whether the request could have been sent.
* `call`: everything else. Free to be repeated.

Both go to one origin, follow no redirect and pass one rate budget; a total deadline bounds each exchange, so that
a drip of bytes cannot stretch it.
"""

import asyncio
import contextlib
import io
import time
from types import SimpleNamespace
from typing import Any

import aiohttp
import attrs
from yarl import URL

from lemon_async.api.errors import TransportError
from lemon_async.api.refusals import api_error
from lemon_async.api.response import MAX_BODY_BYTES, MAX_CALL_BYTES, Response
from lemon_async.client.exchange import open_session, read_body, reason_of, without_frames
from lemon_async.client.key import ApiKey
from lemon_async.pace.budget import Budget
from lemon_async.pace.validators import positive

__all__ = ["NoAnswer", "Timeouts", "Transport"]

_IDLE_SUBMIT_S = 2.0
_IDLE_CALL_S = 30.0
_LONG_BODY_BYTES = 64 * 1024


@attrs.frozen(kw_only=True)
class Timeouts:
    """Longest times, in seconds, each for one exchange with the network.

    Attributes:
        connect_s: Name look-up, TCP and TLS.
        submit_s: A whole paid request. Inline answers can take a minute or longer, and giving up early does
            not unsell anything: the documentation asks for at least 120.
        call_s: A whole poll or other API request.
        download_s: A whole download, redirects and retries included.
        close_s: Closing the session.
    """

    connect_s: float = attrs.field(default=10.0, validator=positive)
    submit_s: float = attrs.field(default=300.0, validator=positive)
    call_s: float = attrs.field(default=30.0, validator=positive)
    download_s: float = attrs.field(default=180.0, validator=positive)
    close_s: float = attrs.field(default=5.0, validator=positive)


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
        self._closed = asyncio.Event()

    async def submit(self, path: str, body: bytes, *, patience_s: float | None = None) -> Response:
        """Send a paid request once, after at most `patience_s` seconds (by default `submit_s`) of paused budget.

        Cancelling leaves the fate of a sent request in doubt; the `CancelledError` then has a `NoAnswer` with
        `was_sent` as its cause.

        Raises:
            NoAnswer: With `was_sent` telling whether it may have been sold.
        """
        await self._wait_for_budget(self._timeouts.submit_s if patience_s is None else patience_s)
        if self._paid is None:
            self._paid = self._open(_IDLE_SUBMIT_S, trace_configs=[_note_sending()])
        return await self._exchange(self._paid, "POST", path, self._timeouts.submit_s, body=body)

    async def call(self, method: str, path: str, *, timeout_s: float | None = None) -> Response:
        """Send a request that costs nothing and may be repeated.

        All of it, waiting for the budget included, ends after `Timeouts.call_s`, or `timeout_s` if that is less.

        Raises:
            TransportError: When no answer came.
        """
        loop = asyncio.get_running_loop()
        bound = self._timeouts.call_s if timeout_s is None else min(self._timeouts.call_s, timeout_s)
        end_at = loop.time() + bound
        try:
            await self._wait_for_budget(bound)
            if self._free is None:
                self._free = self._open(_IDLE_CALL_S)
            return await self._exchange(self._free, method, path, max(end_at - loop.time(), 0.001))
        except NoAnswer as failure:
            raise TransportError(message=f"{method} {path.partition('?')[0]}: {failure.reason}") from failure

    @property
    def is_closed(self) -> bool:
        """Whether every further request ends with `NoAnswer`."""
        return self._closed.is_set()

    async def pause(self, seconds: float) -> None:
        """Sleep, but not beyond the end of the session."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._closed.wait()

    def close(self) -> None:
        """Send nothing from now on, and wake whoever pauses."""
        self._closed.set()

    async def aclose(self) -> None:
        """Close the connections; exchanges under way end with `NoAnswer`."""
        self.close()
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

    async def _exchange(
        self,
        session: aiohttp.ClientSession,
        method: str,
        path: str,
        total_s: float,
        *,
        body: bytes | None = None,
    ) -> Response:
        """Send one request and read its answer to the end."""
        seen = SimpleNamespace(was_sent=False, status=None)
        try:
            async with session.request(
                method,
                URL(self.origin + path, encoded=True),
                data=_as_payload(body),
                headers={"Content-Type": "application/json"} if body is not None else None,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=total_s, connect=self._timeouts.connect_s),
                trace_request_ctx=seen,
            ) as answer:
                seen.status = answer.status
                # Only a paid request is answered with pictures; everything else is a page of JSON.
                content = await read_body(answer, MAX_CALL_BYTES if body is None else MAX_BODY_BYTES)
                response = self._response(answer, content)
        except asyncio.CancelledError as cancelled:
            cancelled.__cause__ = NoAnswer("cancelled while waiting for the answer", was_sent=seen.was_sent)
            raise
        except Exception as failure:  # noqa: BLE001 - whatever broke, a request that went out must not look unsent
            is_connecting = isinstance(failure, aiohttp.ServerTimeoutError)
            reason = reason_of(failure, self._timeouts.connect_s if is_connecting else total_s)
            raise NoAnswer(reason, was_sent=seen.was_sent, status=seen.status) from without_frames(failure)
        self._take_note(response)
        return response

    def _response(self, answer: aiohttp.ClientResponse, content: bytes) -> Response:
        """Return the answer as data; one that quotes the key, as some refusals do, has it masked."""
        headers = {name.lower(): self._key.mask(value) for name, value in answer.headers.items()}
        if answer.status >= 400:
            content = self._key.mask(content)
        return Response(answer.status, headers, content, time.time())

    def _take_note(self, response: Response) -> None:
        if response.status == 429:
            self._budget.limited(asyncio.get_running_loop().time(), api_error(response).retry_after)
        else:
            self._budget.answered()

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


def _as_payload(body: bytes | None) -> bytes | io.BytesIO | None:
    """Return what aiohttp sends piece by piece where the body is long, instead of warning of it."""
    return io.BytesIO(body) if body is not None and len(body) >= _LONG_BODY_BYTES else body
