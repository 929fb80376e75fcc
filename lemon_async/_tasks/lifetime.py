"""Restrict a session to one event loop of one process, and close it within bounds."""

import asyncio
import os
from collections.abc import Sequence
from typing import Protocol

import anyio

from lemon_async.errors import SessionError
from lemon_async.types import ResumableTask

__all__ = ["Lifetime"]


class Part(Protocol):
    """A part of a session that owns connections or asyncio tasks."""

    def close(self) -> None:
        """Start nothing more."""

    async def aclose(self) -> None:
        """Wait until everything has ended."""


class Lifetime:
    """The lifetime of one session, which is bound to the event loop in which it is first used.

    Args:
        parts: The parts to close, in this order.
        close_s: Time limit of closing, in seconds.
    """

    def __init__(self, parts: Sequence[Part], *, close_s: float) -> None:
        self._parts = parts
        self._close_s = close_s
        self._loop: asyncio.AbstractEventLoop | None = None
        self._process = os.getpid()
        self._closing: asyncio.Task[None] | None = None
        self.is_closed: bool = False

    def check(self, task: ResumableTask | None = None, *, closed: str = "the session is closed") -> None:
        """Bind to the running event loop at first use; an error carries `task`.

        Args:
            task: The task that the session is used for.
            closed: The error's message if the session is closed.

        Raises:
            SessionError: The session is closed, or used outside a coroutine, from another loop or after a fork.
        """
        if self.is_closed:
            raise SessionError(message=closed, task=task)
        if os.getpid() != self._process:
            raise SessionError(message="the session was made before a fork; make one in each process")
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            raise SessionError(message="use the session inside a coroutine: it needs a running event loop") from None
        if self._loop is None:
            self._loop = loop
        elif self._loop is not loop:
            raise SessionError(
                message="the session belongs to another event loop; make one in each loop, for instance inside "
                "the function you give to asyncio.run(). In pytest, a fixture and its test must share a loop: give "
                "both the same loop scope, and let only one plugin run in auto mode",
                task=task,
            )

    async def close(self) -> None:
        """Close all parts; may be called again. Cancelling stops the waiting; the closing continues."""
        if self._loop is None:
            self.is_closed = True
        if self._closing is None:
            if self.is_closed:
                return
            self.check()
            self.is_closed = True
            for part in self._parts:
                part.close()
            self._closing = asyncio.get_running_loop().create_task(self._close(), name="lemon_async close")
        # In a cancelled scope of anyio every await is cancelled: without the shield, the loop could end first.
        with anyio.CancelScope(shield=True):
            await asyncio.shield(self._closing)

    async def _close(self) -> None:
        """Wait for all parts concurrently, so that a slow one leaves none open."""
        closings = [asyncio.ensure_future(part.aclose()) for part in self._parts]
        done, late = await asyncio.wait(closings, timeout=self._close_s)
        for closing in late:
            closing.cancel()
        for closing in done:
            closing.result()
