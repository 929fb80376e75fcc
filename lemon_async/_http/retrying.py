"""Send a request again as long as the retry table and the policy allow it and the session is open."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from itertools import count
from typing import TypeVar

from lemon_async._api.error_responses import classify
from lemon_async._http.transport import Transport
from lemon_async._pace.retry import NextStep, RequestKind, RetryPolicy, next_step
from lemon_async.errors import LemonError, SubmissionUnknown

__all__ = ["retrying"]

logger: logging.Logger = logging.getLogger("lemon_async")
T = TypeVar("T")


async def retrying(
    attempt: Callable[[float | None], Awaitable[T]],
    kind: RequestKind,
    what: str,
    *,
    policy: RetryPolicy,
    transport: Transport,
    is_wanted: Callable[[], bool] = lambda: True,
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
    """
    loop = asyncio.get_running_loop()
    failed_at = None
    patience_s = None
    unknown: SubmissionUnknown | None = None
    for number in count(1):
        try:
            return await attempt(patience_s)
        except LemonError as error:
            # From the first failure on: after waiting in line behind a thousand others there would be no time left.
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
                raise unknown from error  # "nothing was sold" is true of the last attempt only
            logger.warning("sending %s again in %.1f s, because: %s", what, wait_s, error)
        await transport.pause(wait_s)
        patience_s = max(policy.max_elapsed_s - (loop.time() - failed_at), 0.0)
    raise AssertionError("unreachable")
