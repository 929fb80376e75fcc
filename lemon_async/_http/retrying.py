"""Doing something again that went wrong, as long as the policy says so and the session is open."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from itertools import count
from typing import TypeVar

from lemon_async._api.refusals import is_worth_retrying
from lemon_async._http.transport import Transport
from lemon_async._pace.retry import RetryPolicy
from lemon_async.errors import ApiError, LemonError, TransportError

__all__ = ["is_never_done", "retrying"]

logger: logging.Logger = logging.getLogger("lemon_async")
T = TypeVar("T")


async def retrying(
    attempt: Callable[[float | None], Awaitable[T]],
    *,
    may_repeat: Callable[[LemonError], bool],
    policy: RetryPolicy,
    transport: Transport,
    what: str,
) -> T:
    """Return what `attempt` returns, or raise what it raised last.

    Args:
        attempt: Takes its patience with a paused budget, in seconds; `None` at first: as long as the request itself.
        may_repeat: Tells whether an error lets it be done again.
        policy: For how long, and how often.
        transport: Whose end ends the waiting.
        what: What it is, for the log.
    """
    loop = asyncio.get_running_loop()
    failed_at = None
    patience_s = None
    for number in count(1):
        try:
            return await attempt(patience_s)
        except LemonError as error:
            # Not from the beginning: who waits in line behind a thousand others would have no time left.
            failed_at = failed_at or loop.time()
            wait_s = policy.wait_s(
                attempt=number,
                elapsed_s=loop.time() - failed_at,
                retry_after_s=getattr(error, "retry_after", None),
                jitter=random.random(),  # noqa: S311 - spreads load, guards nothing
            )
            if wait_s is None or transport.is_closed or not may_repeat(error):
                raise
            logger.warning("sending %s again in %.1f s, because: %s", what, wait_s, error)
        await transport.pause(wait_s)
        patience_s = max(policy.max_elapsed_s - (loop.time() - failed_at), 0.0)
    raise AssertionError("unreachable")


def is_never_done(error: LemonError) -> bool:
    """Tell whether nothing has come of a request: it was never sent, or refused with an invitation to retry."""
    if isinstance(error, TransportError):
        return not error.was_sent
    return isinstance(error, ApiError) and is_worth_retrying(error)
