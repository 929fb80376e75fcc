"""Requests that cost nothing, repeated where that does no harm."""

from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar
from urllib.parse import urlencode

from lemon_async._api.response import MAX_CALL_BYTES, Response
from lemon_async._api.urls import one_segment
from lemon_async._http.retrying import is_never_done, retrying
from lemon_async._http.transport import Payload, Transport
from lemon_async._pace.retry import RetryPolicy
from lemon_async.errors import ApiError, ContractError, LemonError, TransportError

__all__ = ["Calls", "path_of"]

T = TypeVar("T")


class Calls:
    """The free requests of one session, apart from polls.

    Args:
        transport: What sends them.
        policy: When one is sent again.
    """

    def __init__(self, transport: Transport, policy: RetryPolicy) -> None:
        self._transport = transport
        self._policy = policy

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
        """Return what `reader` makes of an answer; asking twice does no harm, so faults of the way are repeated.

        Args:
            path: Where to ask.
            reader: Raises `ApiError` for a refusal.
            query: What comes after the question mark.
            total_s: Bound of one attempt, by default `Timeouts.request_s`.
            max_bytes: Bound of the answer.
            is_file: Whether it is a file, not JSON.

        Raises:
            TransportError: No answer came, and there is no time left to try.
            ApiError: The service refused it.
        """

        async def attempt(patience_s: float | None) -> T:  # noqa: ARG001 - it costs nothing to wait
            response = await self._transport.call("GET", address, total_s=total_s, max_bytes=max_bytes, is_file=is_file)
            return reader(response)

        address = f"{path}?{urlencode(query)}" if query else path
        return await self._retrying(attempt, _is_passing, f"GET {path}")

    async def change(
        self, method: str, path: str, reader: Callable[[Response], T], *, payload: Payload | None = None
    ) -> T:
        """Have something done, once; repeated only if it was never sent, or refused with an invitation to retry.

        Raises:
            TransportError: No answer came; `was_sent` tells whether it may have been done.
            ApiError: The service refused it.
        """

        async def attempt(patience_s: float | None) -> T:  # noqa: ARG001 - likewise
            return reader(await self._transport.call(method, path, payload=payload))

        return await self._retrying(attempt, is_never_done, f"{method} {path}")

    async def _retrying(
        self,
        attempt: Callable[[float | None], Awaitable[T]],
        may_repeat: Callable[[LemonError], bool],
        what: str,
    ) -> T:
        return await retrying(attempt, may_repeat=may_repeat, policy=self._policy, transport=self._transport, what=what)


def path_of(collection: str, **ids: str) -> str:
    """Return the path of one thing among others, called by its id.

    Raises:
        ContractError: It cannot be an id.
    """
    ((kind, word),) = ids.items()
    try:
        return f"{collection}/{one_segment(word)}"
    except (ValueError, TypeError) as fault:
        raise ContractError.of(kind, f"cannot be an id: {fault}") from None


def _is_passing(error: LemonError) -> bool:
    """Tell whether another attempt may fare better: no answer, an unreadable one, 429 and 5xx."""
    return isinstance(error, TransportError) or (
        isinstance(error, ApiError) and (error.status >= 500 or error.status in {408, 429})
    )
