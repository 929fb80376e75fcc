"""Requests that cost nothing, repeated where that does no harm."""

from collections.abc import Callable, Mapping
from typing import TypeVar
from urllib.parse import urlencode

from lemon_async._api.response import MAX_CALL_BYTES, Response
from lemon_async._api.urls import one_segment
from lemon_async._http.retrying import retrying
from lemon_async._http.transport import Payload, Transport
from lemon_async._pace.retry import RequestKind, RetryPolicy
from lemon_async.errors import ContractError

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
        what = f"GET {path}"
        return await retrying(attempt, RequestKind.READ, what, policy=self._policy, transport=self._transport)

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

        what = f"{method} {path}"
        return await retrying(attempt, RequestKind.CHANGE, what, policy=self._policy, transport=self._transport)


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
