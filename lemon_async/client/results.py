"""What a session does for its pictures: fetch them, and ask a task for fresh links when those it gave have expired."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import Protocol, TypeVar

from lemon_async.api.errors import DownloadError, ResumableTask
from lemon_async.api.models import ImageData
from lemon_async.api.pictures import PictureFacts
from lemon_async.client.publish import Draft

__all__ = ["ResultLinks", "Results"]

_EXPIRED = frozenset({403, 404, 410})

T = TypeVar("T")


class Results(Protocol):
    """The session, as its pictures see it; every method raises `SessionMisuse` once that is closed."""

    async def fetch(self, url: str) -> bytes:
        """Return the picture behind a link."""

    async def save(self, url: str, draft: Draft) -> PictureFacts:
        """Write the picture behind a link into a file."""

    def stream(self, url: str) -> AsyncGenerator[bytes, None]:
        """Yield the bytes of the picture behind a link."""

    async def ask(self, task: ResumableTask) -> Sequence[ImageData]:
        """Return what a finished task answers now; nothing if it does not."""


class ResultLinks:
    """The links of one answer, as last heard; its pictures share them, so that its task is asked once for all.

    Args:
        results: The session.
        task: Whose they are; without one they cannot be renewed.
        data: The entries of the answer.
    """

    def __init__(self, results: Results, task: ResumableTask | None, data: Sequence[ImageData]) -> None:
        self._results = results
        self._task = task
        self._links = [entry.url for entry in data]
        self._turn = asyncio.Lock()

    def link(self, index: int) -> str | None:
        """Return the link of a picture, as last heard."""
        return self._links[index]

    async def use(self, index: int, act: Callable[[str], Awaitable[T]]) -> T:
        """Do something with a link; if it has expired, once more with the one that the task tells now.

        Raises:
            DownloadError: What the first attempt met, if there is no other link.
        """
        link = self._links[index] or ""
        try:
            return await act(link)
        except DownloadError as failure:
            if failure.status not in _EXPIRED or not await self._is_renewed(index, link):
                raise
        return await act(self._links[index] or "")

    async def _is_renewed(self, index: int, stale: str) -> bool:
        """Ask the task, unless it was asked for another of its pictures; tell whether there is another link."""
        async with self._turn:
            if self._links[index] == stale and self._task is not None and self._task.id is not None:
                data = await self._results.ask(self._task)
                if len(data) == len(self._links):
                    self._links = [entry.url or known for entry, known in zip(data, self._links, strict=True)]
        return self._links[index] != stale
