"""Work in a thread that nobody leaves in the middle."""

import asyncio
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import anyio

__all__ = ["finish_in_thread"]

P = ParamSpec("P")
T = TypeVar("T")


async def finish_in_thread(work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Return what `work` returns in a thread; cancelling waits for its end, so that nothing it opens is lost."""
    working = asyncio.ensure_future(asyncio.to_thread(work, *args, **kwargs))
    try:
        return await asyncio.shield(working)
    except asyncio.CancelledError:
        # In a cancelled scope of anyio every await is cancelled, again and again.
        with anyio.CancelScope(shield=True):
            await asyncio.wait([working])
        if not working.cancelled():
            working.exception()  # seen, so that nobody reports it as lost
        raise
