"""What a session does for its pictures: fetch them, and ask a task for fresh links when those it gave have expired."""

import asyncio
import weakref
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import Protocol, TypeVar

from lemon_async._api.urls import redact
from lemon_async._formats.pictures import PictureFacts
from lemon_async._images.atomic_file import AtomicFile
from lemon_async.errors import DownloadError
from lemon_async.types import ImageData, ResumableTask

__all__ = ["RenewableUrls", "Results", "TaskRef"]

_EXPIRED = frozenset({403, 404, 410})
_QUIET_S = 10.0

T = TypeVar("T")


class Results(Protocol):
    """The session, as its pictures see it; every method raises `SessionError` once that is closed."""

    @property
    def download_s(self) -> float:
        """The longest that a download may take, or a step of the disk."""

    async def fetch(self, url: str) -> bytes:
        """Return the picture behind a link."""

    async def save(self, url: str, draft: AtomicFile) -> PictureFacts:
        """Write the picture behind a link into a file."""

    def stream(self, url: str) -> AsyncGenerator[bytes, None]:
        """Yield the bytes of the picture behind a link."""

    def can_follow(self, url: str) -> bool:
        """Tell whether a link may be followed; a browser is not to be sent where we do not go."""

    async def ask(self, maker: "TaskRef") -> Sequence[ImageData]:
        """Return what a finished task answers now; nothing if it does not."""


class TaskRef:
    """The task that made some pictures, which they do not keep: it holds them.

    Attributes:
        id: The service's id of the task.
        name: What answers call it; `None` when only its address is known.
        label: What the caller calls it.
        poll_url: Where the service said to poll.
    """

    __slots__ = ("_task", "_token", "id", "label", "name", "poll_url")

    def __init__(self, task: ResumableTask) -> None:
        self.id: str | None = task.id
        self.name: str | None = getattr(task, "_name", task.id)
        self.label: str | None = getattr(task, "label", None)
        self.poll_url: str | None = getattr(task, "poll_url", None)
        self._task = weakref.ref(task)
        self._token = task.resume_token()

    @property
    def task(self) -> ResumableTask:
        """The handle on the task, or what is known of it once that is gone."""
        return self._task() or self

    def resume_token(self) -> str:
        """Return a word that `LemonSession.task` turns into the task."""
        return self._token


class RenewableUrls:
    """The links of one answer, as last heard; its pictures share them, so that its task is asked once for all.

    Args:
        results: The session.
        maker: Whose they are; without one they cannot be renewed.
        data: The entries of the answer.
    """

    def __init__(self, results: Results, maker: TaskRef | None, data: Sequence[ImageData]) -> None:
        self._results = results
        self._maker = maker
        self._quiet_until = 0.0
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
        """Ask the task, unless it was just asked for another picture of it; tell whether there is a new link."""
        async with self._turn:
            now = asyncio.get_running_loop().time()
            if self._maker is not None and self._links[index] == stale and now >= self._quiet_until:
                data = await self._results.ask(self._maker)
                self._links = _renewed(self._links, [entry.url for entry in data])
                self._quiet_until = asyncio.get_running_loop().time() + _QUIET_S
        return self._links[index] != stale


def _renewed(known: Sequence[str | None], fresh: Sequence[str | None]) -> list[str | None]:
    """Return the links of the same pictures: by their paths, which renewing mostly keeps, or else by their places."""
    by_path = {redact(link): link for link in fresh if link}
    places = fresh if len(fresh) == len(known) else known
    return [by_path.get(redact(link or "")) or other or link for link, other in zip(known, places, strict=True)]
