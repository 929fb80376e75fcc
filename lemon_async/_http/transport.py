"""Send every request that carries the key, in one of two ways that never mix.

* `submit` and `stream`: paid POSTs, each on a new connection (`connections` says why).
* `call`: everything else, free of charge. Anything but a GET has an effect and gets a new connection, too.

Both go to one origin, follow no redirects and pass one rate limit; a total deadline bounds each attempt, so that a drip
of bytes cannot stretch it.
"""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from itertools import count
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar
from urllib.parse import urlsplit

import aiohttp
import attrs
from yarl import URL

from lemon_async._api.error_responses import api_error, classify
from lemon_async._api.response import MAX_BODY_BYTES, MAX_CALL_BYTES, Response, read_rate_headers
from lemon_async._api.urls import is_loopback
from lemon_async._http.attempt import NoResponse, RequestAttempt, StreamedResponse
from lemon_async._http.connections import never_resend, open_session
from lemon_async._http.key import ApiKey
from lemon_async._http.log_facts import about_job
from lemon_async._http.rate_limiter import RateLimiter
from lemon_async._pace.priority import Priority
from lemon_async._pace.retry import NextStep, RequestKind, RetryPolicy, next_step
from lemon_async._pace.validators import positive
from lemon_async.errors import LemonError, SubmissionUnknown, TransportError
from lemon_async.types import Record

if TYPE_CHECKING:
    from lemon_async._http.emitter import Emitter

__all__ = ["Body", "Payload", "Timeouts", "Transport", "retrying"]

logger: logging.Logger = logging.getLogger("lemon_async")
T = TypeVar("T")
_IDLE_S = 30.0
_CLOSED = "the session is closed"
# The emulator's own header; the service sends nothing like it.
_SPEED_HEADER = "x-emulator-speed"
_TOP_SPEED = 100_000.0


@attrs.frozen(eq=False, repr=False, kw_only=True)
class Timeouts(Record):
    """Timeouts in seconds, each for one operation.

    Attributes:
        connect_s: Name look-up, TCP and TLS.
        submit_s: A whole paid request, the upload of its pictures included. Inline results can take a minute or
            longer, and giving up early does not cancel the job: the documentation asks for at least 120.
        request_s: A whole poll or other API request.
        download_s: A whole download, of a result with redirects and retries, or of a stored file; also the time for
            flushing a saved picture to disk.
        close_s: Closing the session.
    """

    connect_s: float = attrs.field(default=10.0, validator=positive)
    submit_s: float = attrs.field(default=300.0, validator=positive)
    request_s: float = attrs.field(default=30.0, validator=positive)
    download_s: float = attrs.field(default=180.0, validator=positive)
    close_s: float = attrs.field(default=5.0, validator=positive)


class Body(NamedTuple):
    """What aiohttp sends in one attempt."""

    data: Any
    headers: Mapping[str, str]


class Payload(Protocol):
    """A request body that can be opened again for every attempt; `_uploads.preparation` implements it."""

    @property
    def path(self) -> str:
        """Path of the endpoint it is sent to."""

    @property
    def fingerprint(self) -> str:
        """Digest of the content; equal for equal requests."""

    async def find_fingerprint(self) -> str:
        """Return `fingerprint` without blocking the event loop for long."""

    async def open(self, held: ExitStack) -> Body:
        """Return the body for one attempt; closing `held` releases its files.

        Raises:
            ContractError: A file is gone or has changed; nothing was sent.
            NoResponse: This process cannot open another file; nothing was sent.
        """


class Transport:
    """The API side of one session; opens its connections when they are first needed.

    Args:
        base_url: Where the key may go, as `scheme://host[:port][/path]`; every path is appended to it.
        key: The key, and the extra headers.
        timeouts: Bounds of each request.
        rate_limiter: What every request passes before it is sent.
        emitter: Passes on what happens.
        trace_configs: Those of the caller.
    """

    def __init__(
        self,
        base_url: str,
        key: ApiKey,
        *,
        timeouts: Timeouts,
        rate_limiter: RateLimiter,
        emitter: "Emitter | None" = None,
        trace_configs: Sequence[aiohttp.TraceConfig] = (),
    ) -> None:
        self.base_url: str = base_url
        # Service seconds per real second, as an emulator on this machine announces it; 1 for all other servers.
        self.server_speed: float = 1.0
        self._may_be_emulator = is_loopback(urlsplit(base_url).hostname or "")
        self._headers = {**key.headers(), "Accept": "application/json"}
        self._in_success, self._in_refusal = key.in_success, key.in_refusal
        self._timeouts = timeouts
        self._connect_timeout = aiohttp.ClientTimeout(total=None, connect=timeouts.connect_s)
        self._rate_limiter = rate_limiter
        self._emitter = emitter
        self._trace_configs = list(trace_configs)
        self._single_use: aiohttp.ClientSession | None = None
        self._keep_alive: aiohttp.ClientSession | None = None
        self._attempts: set[RequestAttempt] = set()
        self._closed = asyncio.Event()

    async def acquire(self, patience_s: float | None) -> None:
        """Wait for a rate-limit slot for a paid request, in a pause at most `patience_s`, by default `submit_s`.

        Raises:
            NoResponse: There was none in time.
        """
        if not self._rate_limiter.acquire_nowait():
            await self._wait(Priority.SUBMIT, self._timeouts.submit_s if patience_s is None else patience_s)

    async def _wait(self, priority: Priority, patience_s: float) -> None:
        """Wait for a rate-limit slot; see `RateLimiter.acquire`."""
        began_at = time.monotonic()
        await self._rate_limiter.acquire(priority, patience_s)
        if self._emitter is not None:
            self._emitter.waited("submit" if priority is Priority.SUBMIT else "other", time.monotonic() - began_at)

    async def submit(self, payload: Payload) -> Response:
        """Send a paid request once and return the whole response; see `stream`."""
        with ExitStack() as held:
            response = await self.stream(payload, held)
            return await response.read(MAX_BODY_BYTES)

    async def stream(self, payload: Payload, held: ExitStack) -> StreamedResponse:
        """Send a paid request once, and return the response as soon as its head has arrived.

        The caller holds a rate-limit slot (see `acquire`). Sending and reading end after `submit_s`. Cancelling leaves
        the outcome of a sent request unknown: the `CancelledError` then has a `NoResponse` with `was_sent` as cause.

        Args:
            payload: What to send.
            held: Closing it releases the connection.

        Raises:
            NoResponse: `was_sent` is true if the job may have been accepted.
            ContractError: What was to be sent is gone; nothing was sent.
        """
        body = await payload.open(held)
        return await self._send("POST", payload.path, self._timeouts.submit_s, body, held)

    async def call(
        self,
        method: str,
        path: str,
        *,
        priority: Priority | None = Priority.OTHER,
        payload: Payload | None = None,
        timeout_s: float | None = None,
        total_s: float | None = None,
        max_bytes: int = MAX_CALL_BYTES,
        is_file: bool = False,
    ) -> Response:
        """Send a request that costs nothing.

        All of it, a pause of the rate limit included, ends after `total_s` (by default `Timeouts.request_s`, or
        `submit_s` with a `payload`), or `timeout_s` if that is less; time in the rate limiter's queue is extra.
        `priority=None`: the caller already holds a rate-limit slot.

        Raises:
            TransportError: There was no response; `was_sent` is true if the request may have arrived.
        """
        loop = asyncio.get_running_loop()
        bound_s = total_s or (self._timeouts.request_s if payload is None else self._timeouts.submit_s)
        bound_s = bound_s if timeout_s is None else min(bound_s, timeout_s)
        ends_at = loop.time() + bound_s
        try:
            if priority is not None and not self._rate_limiter.acquire_nowait():
                await self._wait(priority, bound_s)
            with ExitStack() as held:
                body = None if payload is None else await payload.open(held)
                response = await self._send(method, path, max(ends_at - loop.time(), 0.001), body, held)
                return await response.read(max_bytes, is_file=is_file)
        except NoResponse as failure:
            message = f"{method} {path.partition('?')[0]}: {failure.reason}"
            raise TransportError(message=message, was_sent=failure.was_sent) from failure

    @property
    def is_closed(self) -> bool:
        """Whether every further request ends with `NoResponse`."""
        return self._closed.is_set()

    def is_sending(self, task: asyncio.Task[Any]) -> bool:
        """Return whether a request of an asyncio task may be on its way."""
        return any(attempt.sender is task and attempt.was_sent for attempt in self._attempts)

    async def pause(self, seconds: float) -> None:
        """Sleep, but not beyond the end of the session."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._closed.wait()

    def close(self) -> None:
        """Send nothing from now on, and wake whatever waits."""
        self._closed.set()
        self._rate_limiter.close()

    async def aclose(self) -> None:
        """Close the connections; requests under way end with `NoResponse`."""
        self.close()
        for attempt in tuple(self._attempts):
            if attempt.response is not None:
                attempt.response.close()  # closing aiohttp's session does not wake readers of its connections
        await asyncio.gather(*(session.close() for session in (self._single_use, self._keep_alive) if session))

    async def _send(
        self, method: str, path: str, total_s: float, body: Body | None, held: ExitStack
    ) -> StreamedResponse:
        """Send one request; the caller reads the response before it closes `held`."""
        if self.is_closed:
            raise NoResponse(_CLOSED, was_sent=False)
        attempt = RequestAttempt(total_s, self._connect_timeout)
        self._attempts.add(attempt)
        held.callback(self._release, attempt)
        with attempt:
            async with attempt.deadline():
                attempt.response = response = await self._session(has_effect=method != "GET").request(
                    method,
                    URL(self.base_url + path, encoded=True),
                    data=body.data if body else None,
                    headers=body.headers if body else None,
                    allow_redirects=False,
                    timeout=attempt.timeout,
                )
        if self.is_closed:  # it was closed while the head arrived, which does not wake a reader
            raise NoResponse(_CLOSED, was_sent=attempt.was_sent, status=response.status)
        secrets = self._in_success if 200 <= response.status < 300 else self._in_refusal
        streamed = StreamedResponse(response, attempt, secrets, self._observe_429)
        if self._may_be_emulator:
            self.server_speed = _read_speed(streamed.headers) or self.server_speed
        if response.status != 429:
            self._rate_limiter.observe(read_rate_headers(streamed.headers, received_at=time.time()))
        return streamed

    def _release(self, attempt: RequestAttempt) -> None:
        """End an attempt without waiting: cancelling a wait here would lose a response that has arrived."""
        self._attempts.discard(attempt)
        if attempt.response is not None and not attempt.response.closed:
            attempt.response.close()

    def _observe_429(self, response: Response) -> None:
        """Let a 429 slow everything down, even one that broke off; its body may say for how long."""
        if response.status == 429:
            report = read_rate_headers(response.headers, received_at=response.received_at)
            retry_after_s = api_error(response).retry_after
            self._rate_limiter.observe_429(retry_after_s, report)
            if self._emitter is not None:
                self._emitter.rate_limited(retry_after_s)

    def _session(self, *, has_effect: bool) -> aiohttp.ClientSession:
        """Return the session that never uses a connection twice, or the one for requests without an effect."""
        if has_effect:
            self._single_use = self._single_use or self._open(None)
            return self._single_use
        self._keep_alive = self._keep_alive or self._open(_IDLE_S)
        return self._keep_alive

    def _open(self, idle_s: float | None) -> aiohttp.ClientSession:
        session = open_session(self._headers, idle_s=idle_s, trace_configs=self._trace_configs)
        never_resend(session)
        return session


def _read_speed(headers: Mapping[str, str]) -> float | None:
    """Return the speed that an emulator announces, or `None` if there is no plausible one."""
    if _SPEED_HEADER not in headers:
        return None
    try:
        speed = float(headers[_SPEED_HEADER])
    except ValueError:
        return None
    return speed if 1 <= speed <= _TOP_SPEED else None


async def retrying(
    attempt: Callable[[float | None], Awaitable[T]],
    kind: RequestKind,
    what: str,
    *,
    policy: RetryPolicy,
    transport: Transport,
    is_wanted: Callable[[], bool] = lambda: True,
    on_retry: Callable[[int, float, LemonError], None] | None = None,
    model: str | None = None,
) -> T:
    """Return the result of the first attempt that succeeds, or raise the error of the last one.

    Once the outcome of an attempt is unknown, a later error does not hide it: that `SubmissionUnknown` is raised.

    Args:
        attempt: Called with the seconds it may wait for a paused rate limit; `None`: as long as the request itself.
        kind: Row of the retry table.
        what: Names the request in the log.
        policy: How often, and for how long.
        transport: Closing it ends the waiting.
        is_wanted: Whether the caller still wants another attempt.
        on_retry: Called before each further attempt, with the number of the one that failed, the seconds until the
            next, and the error.
        model: The model of a paid request.
    """
    loop = asyncio.get_running_loop()
    failed_at = None
    patience_s = None
    unknown: SubmissionUnknown | None = None
    for number in count(1):
        try:
            return await attempt(patience_s)
        except LemonError as error:
            # From the first failure on: behind a thousand queued requests there would be no time left.
            failed_at = failed_at or loop.time()
            wait_s = policy.wait_s(
                attempt=number,
                elapsed_s=loop.time() - failed_at,
                retry_after_s=getattr(error, "retry_after", None),
                jitter=random.random(),  # noqa: S311 - spreads load, guards nothing
            )
            step = next_step(kind, classify(error), resubmit_unknown=policy.resubmit_unknown)
            unknown = error if isinstance(error, SubmissionUnknown) else unknown
            if wait_s is None or transport.is_closed or step is NextStep.RAISE or not is_wanted():
                if unknown is None or unknown is error:
                    raise
                raise unknown from error  # the last attempt proves nothing about earlier ones
            level = logging.WARNING if error is unknown else logging.INFO  # it may be bought twice
            extra = about_job(model=model, attempt=number)
            logger.log(level, "trying %s again in %.1f s, because: %s", what, wait_s, error, extra=extra)
            if on_retry is not None:
                on_retry(number, wait_s, error)
        await transport.pause(wait_s)
        patience_s = max(policy.max_elapsed_s - (loop.time() - failed_at), 0.0)
    raise AssertionError("unreachable")
