"""Send requests that cost nothing, and send them again where the retry table allows it."""

import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlencode

from lemon_async._api.response import MAX_CALL_BYTES, Response
from lemon_async._api.urls import path_segment
from lemon_async._formats.json_documents import safe_repr
from lemon_async._http.transport import Payload, Transport, retrying
from lemon_async._pace.retry import RequestKind, RetryPolicy
from lemon_async.errors import ContractError, LemonError

if TYPE_CHECKING:
    from lemon_async._http.emitter import Emitter

__all__ = ["Calls", "path_of"]

T = TypeVar("T")


class Calls:
    """The free requests of one session, apart from polls.

    Args:
        transport: Sends them.
        policy: How often, and for how long, a request is retried.
        emitter: Passes on what happens.
    """

    def __init__(self, transport: Transport, policy: RetryPolicy, emitter: "Emitter | None" = None) -> None:
        self._transport = transport
        self._policy = policy
        self._emitter = emitter

    async def read(
        self,
        path: str,
        reader: Callable[[Response], T],
        *,
        query: Mapping[str, str] | None = None,
        total_s: float | None = None,
        max_bytes: int = MAX_CALL_BYTES,
        is_file: bool = False,
    ) -> T:
        """Send a GET and return what `reader` makes of the response; retried after anything but a refusal.

        Args:
            path: Path below the base URL.
            reader: Raises `ApiError` for a refusal.
            query: Query parameters.
            total_s: Bound of one attempt, by default `Timeouts.request_s`.
            max_bytes: Bound of the response.
            is_file: Whether the response is a file, not JSON.

        Raises:
            ContractError: A query parameter cannot be sent.
            TransportError: There was no response, and no time is left for another attempt.
            ApiError: The service refused it.
        """

        async def send() -> Response:
            return await self._transport.call("GET", target, total_s=total_s, max_bytes=max_bytes, is_file=is_file)

        for name, value in (query or {}).items():
            if not _is_utf8(value):
                raise ContractError.of(name, f"must be text without lone surrogates, not {safe_repr(value)}")
        target = f"{path}?{urlencode(query)}" if query else path
        return await self._retrying("GET", path, RequestKind.READ, send, reader)

    async def change(
        self, method: str, path: str, reader: Callable[[Response], T], *, payload: Payload | None = None
    ) -> T:
        """Send a request with an effect, at most once; retried only if it was not executed.

        Raises:
            TransportError: There was no response; `was_sent` is true if it may have been executed.
            ApiError: The service refused it.
        """

        async def send() -> Response:
            return await self._transport.call(method, path, payload=payload)

        return await self._retrying(method, path, RequestKind.CHANGE, send, reader)

    async def _retrying(
        self,
        method: str,
        path: str,
        kind: RequestKind,
        send: Callable[[], Awaitable[Response]],
        reader: Callable[[Response], T],
    ) -> T:
        """Send a request until it succeeds, or must not be repeated."""
        what, emitter = f"{method} {path}", self._emitter

        async def attempt(_: float | None) -> T:  # without a limit to its patience: waiting costs nothing
            if emitter is None:
                return reader(await send())
            began_at, status = time.monotonic(), None
            try:
                response = await send()
                status = response.status
                result = reader(response)
            except LemonError as error:
                emitter.called(method, path, status=status, seconds=time.monotonic() - began_at, error=error)
                raise
            emitter.called(method, path, status=status, seconds=time.monotonic() - began_at)
            return result

        on_retry = None if emitter is None else partial(emitter.retry_scheduled, what)
        return await retrying(attempt, kind, what, policy=self._policy, transport=self._transport, on_retry=on_retry)


def _is_utf8(value: object) -> bool:
    return isinstance(value, str) and value.encode(errors="ignore").decode() == value


def path_of(collection: str, **ids: str) -> str:
    """Return the path of one member of a collection, given its id as a keyword argument.

    Raises:
        ContractError: The id cannot be part of a path.
    """
    ((kind, word),) = ids.items()
    try:
        return f"{collection}/{path_segment(word)}"
    except (ValueError, TypeError) as fault:
        raise ContractError.of(kind, f"cannot be an id: {fault}") from None
