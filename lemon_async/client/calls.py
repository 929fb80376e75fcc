"""Requests that cost nothing, repeated where that does no harm."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from itertools import count
from typing import TypeVar

from lemon_async.api.errors import ApiError, LemonError, TransportError
from lemon_async.api.refusals import is_worth_retrying
from lemon_async.api.response import MAX_CALL_BYTES, Response
from lemon_async.client.answer import NoAnswer
from lemon_async.client.payload import Payload
from lemon_async.client.transport import Transport
from lemon_async.pace.retry import RetryPolicy

__all__ = ["Calls"]

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

    async def read(self, path: str, reader: Callable[[Response], T], *, max_bytes: int = MAX_CALL_BYTES) -> T:
        """Return what `reader` makes of an answer; asking twice does no harm, so faults of the way are repeated.

        Raises:
            TransportError: No answer came, and there is no time left to try.
            ApiError: The service refused it.
        """

        async def attempt() -> T:
            return reader(await self._transport.call("GET", path, max_bytes=max_bytes))

        return await self._with_retries(attempt, _is_passing)

    async def change(
        self, method: str, path: str, reader: Callable[[Response], T], *, payload: Payload | None = None
    ) -> T:
        """Have something done, once; repeated only if it was never sent, or refused with an invitation to retry.

        Raises:
            TransportError: No answer came: it may have been done.
            ApiError: The service refused it.
        """

        async def attempt() -> T:
            return reader(await self._transport.call(method, path, payload=payload))

        return await self._with_retries(attempt, _is_harmless)

    async def _with_retries(self, attempt: Callable[[], Awaitable[T]], may_repeat: Callable[[LemonError], bool]) -> T:
        loop = asyncio.get_running_loop()
        started = loop.time()
        for number in count(1):
            try:
                return await attempt()
            except (TransportError, ApiError) as error:
                wait = self._policy.wait_s(
                    attempt=number,
                    elapsed_s=loop.time() - started,
                    retry_after_s=getattr(error, "retry_after", None),
                    jitter=random.random(),  # noqa: S311 - spreads load, guards nothing
                )
                if wait is None or self._transport.is_closed or not may_repeat(error):
                    raise
            await self._transport.pause(wait)
        raise AssertionError("unreachable")


def _is_passing(error: LemonError) -> bool:
    """Tell whether another attempt may fare better: no answer, an unreadable one, 429 and 5xx."""
    return isinstance(error, TransportError) or (
        isinstance(error, ApiError) and (error.status >= 500 or error.status in {408, 429})
    )


def _is_harmless(error: LemonError) -> bool:
    """Tell whether another attempt cannot be a second deed."""
    if isinstance(error, TransportError):
        return isinstance(error.__cause__, NoAnswer) and not error.__cause__.was_sent
    return isinstance(error, ApiError) and is_worth_retrying(error)
