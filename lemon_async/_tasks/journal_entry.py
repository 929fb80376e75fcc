"""Record a paid request in the journal of a map's caller: before it is sent, and what came of that."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from lemon_async._http.transport import Payload
from lemon_async.errors import ApiError, ContractError, SubmissionUnknown, TransportError
from lemon_async.types import ResumableTask, SubmissionJournal

__all__ = ["HookFailed", "HookRefused", "JournalEntry"]

T = TypeVar("T")


class HookFailed(Exception):
    """A method of a caller's journal has raised; no `LemonError`, because it must not be retried.

    Attributes:
        failure: What it raised.
    """

    def __init__(self, failure: Exception) -> None:
        super().__init__(failure)
        self.failure: Exception = failure


class HookRefused(Exception):
    """The caller's journal does not want a request sent; no `LemonError`, because it must not be retried."""


class JournalEntry:
    """The entry of one paid request in the caller's journal; it is open while the request may be sold.

    An attempt whose outcome is unknown leaves it open for good: later attempts, which `RetryPolicy.resubmit_unknown`
    asks for, neither open it again nor withdraw it.

    Args:
        journal: The caller's hooks.
        index: The position of the request in the input.
        writing: Holds the asyncio task while it must not be cancelled, because it records what has happened.
    """

    __slots__ = ("_index", "_is_open", "_is_unknown", "_journal", "_writing")

    def __init__(self, journal: SubmissionJournal, index: int, writing: set[asyncio.Task[Any] | None]) -> None:
        self._journal = journal
        self._index = index
        self._writing = writing
        self._is_open = self._is_unknown = False

    async def intend(self, payload: Payload) -> None:
        """Open the entry; a cancelled hook may have done so."""
        if not self._is_open:
            fingerprint = await payload.find_fingerprint()
            self._is_open = True
            try:
                is_wanted = await self._journal.intend(self._index, fingerprint)
            except Exception as failure:
                raise HookFailed(failure) from failure
            if not is_wanted:
                raise HookRefused

    def recorded(self, attempt: Callable[[float | None], Awaitable[T]]) -> Callable[[float | None], Awaitable[T]]:
        """Return a function that makes an attempt, and withdraws the entry if that has provably sold nothing."""

        async def run(max_wait_s: float | None) -> T:
            try:
                return await attempt(max_wait_s)
            except BaseException as error:
                await self._settle(error)
                raise

        return run

    async def _settle(self, error: BaseException) -> None:
        self._is_unknown |= isinstance(error, SubmissionUnknown) or isinstance(error.__cause__, SubmissionUnknown)
        if not self._is_open or self._is_unknown:
            return
        if isinstance(error, asyncio.CancelledError):
            error = TransportError(message="not sent, nothing was sold: cancelled before it was sent")
        if isinstance(error, TransportError | ApiError | ContractError):
            await self._write(self._journal.withdraw(self._index, error))
            self._is_open = False

    async def accept(self, task: ResumableTask) -> None:
        """Record the task of the accepted request."""
        await self._write(self._journal.accept(self._index, task))

    async def _write(self, writing: Awaitable[None]) -> None:
        this = asyncio.current_task()
        self._writing.add(this)
        try:
            await writing
        except Exception as failure:
            raise HookFailed(failure) from failure
        finally:
            self._writing.discard(this)
