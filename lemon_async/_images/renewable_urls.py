"""Fetch images by their result links, and ask their task for fresh links when those have expired."""

import asyncio
import logging
import weakref
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn, Self, TypeVar

from lemon_async._api.job_responses import read_snapshot
from lemon_async._api.urls import poll_path, redact
from lemon_async._http.calls import Calls
from lemon_async._http.log_facts import about_job
from lemon_async._images.downloads import Downloads
from lemon_async.errors import ApiError, DownloadError, TransportError
from lemon_async.types import ImageData, ResumableTask

if TYPE_CHECKING:
    from lemon_async._http.emitter import Emitter

__all__ = ["RenewableUrls", "ResultAccess", "TaskRef"]

logger: logging.Logger = logging.getLogger("lemon_async")
_EXPIRED = frozenset({403, 404, 410})
_RENEWAL_GAP_S = 10.0

T = TypeVar("T")


class TaskRef(weakref.ref[ResumableTask]):
    """A weak reference to the task of some images; the task itself holds the images.

    Args:
        task: The task.
        make_token: Returns its resume token, without the task.
        facts: The arguments of `make_token`.

    Attributes:
        id: The service's id of the task.
        name: The id by which responses name it; `None` when only its address is known.
        label: The caller's label.
        poll_url: Where the service said to poll.
    """

    __slots__ = ("_facts", "_make_token", "id", "label", "name", "poll_url")

    def __new__(cls, task: ResumableTask, *_: object) -> Self:
        return super().__new__(cls, task)

    def __init__(self, task: ResumableTask, make_token: Callable[..., str], facts: tuple[Any, ...] = ()) -> None:
        self.id: str | None = task.id
        self.name: str | None = getattr(task, "_name", task.id)
        self.label: str | None = getattr(task, "label", None)
        self.poll_url: str | None = getattr(task, "poll_url", None)
        self._make_token = make_token
        self._facts = facts

    @property
    def task(self) -> ResumableTask:
        """The task, or this reference once the task is gone."""
        return self() or self

    # A weak reference compares as its object, and has no hash once that is gone.
    def __eq__(self, other: object) -> bool:
        return self is other

    def __ne__(self, other: object) -> bool:
        return self is not other

    def __hash__(self) -> int:
        return object.__hash__(self)

    def resume_token(self) -> str:
        """Return a token that `LemonSession.task` turns into the task."""
        return self._make_token(*self._facts)


class ResultAccess:
    """What the images of one session need to fetch themselves.

    Attributes:
        downloads: Fetches result links.
        check_usable: Raises `SessionError` once the session is closed, or in another event loop.
        emitter: Passes on what happens.
    """

    def __init__(
        self,
        *,
        downloads: Downloads,
        check_usable: Callable[[], None],
        calls: Calls,
        base_url: str,
        emitter: "Emitter | None" = None,
    ) -> None:
        self.downloads: Downloads = downloads
        self.check_usable: Callable[[], None] = check_usable
        self.emitter: Emitter | None = emitter
        self._calls = calls
        self._base_url = base_url

    def __reduce__(self) -> NoReturn:
        raise TypeError("images belong to their session: pickle what `read()` returns, or their `data`")

    async def ask(self, ref: TaskRef) -> Sequence[ImageData]:
        """Return the images of a finished task as the service reports them now; none if it does not."""
        self.check_usable()
        try:
            path, _ = poll_path(self._base_url, ref.id, ref.poll_url)
            snapshot = await self._calls.read(path, partial(read_snapshot, polled_id=ref.name))
        except (ValueError, ApiError, TransportError) as failure:
            extra = about_job(task_id=ref.id)
            logger.warning("could not ask task %s for fresh links: %s", ref.id, failure, extra=extra)
            return ()
        return snapshot.images


class RenewableUrls:
    """The links of one response; its images share them, so that one request renews all.

    Args:
        access: How the session fetches links and asks tasks.
        data: The entries of the response.
        ref: The task to ask for fresh links; `None` if there is none to ask.
    """

    def __init__(self, access: ResultAccess, data: Sequence[ImageData], ref: TaskRef | None) -> None:
        self._access = access
        self._ref = ref
        self._renewable_from = 0.0
        self._links = [entry.url for entry in data]
        self._renewal = asyncio.Lock()

    def link(self, index: int) -> str | None:
        """Return the current link of an image."""
        return self._links[index]

    async def use(self, index: int, act: Callable[[str], Awaitable[T]]) -> T:
        """Call `act` with a link; if that has expired, once more with a fresh one.

        Raises:
            DownloadError: As the first attempt raised it, if there is no fresh link.
            SessionError: The session is closed.
        """
        self._access.check_usable()
        link = self._links[index] or ""
        try:
            return await act(link)
        except DownloadError as failure:
            if failure.status not in _EXPIRED or not await self._is_renewed(index, link):
                raise
        return await act(self._links[index] or "")

    async def _is_renewed(self, index: int, stale: str) -> bool:
        """Return whether there is a new link, asking the task unless another image just has."""
        async with self._renewal:
            now = asyncio.get_running_loop().time()
            if self._ref is not None and self._links[index] == stale and now >= self._renewable_from:
                data = await self._access.ask(self._ref)
                self._links = _renewed(self._links, [entry.url for entry in data])
                self._renewable_from = asyncio.get_running_loop().time() + _RENEWAL_GAP_S
        return self._links[index] != stale


def _renewed(known: Sequence[str | None], fresh: Sequence[str | None]) -> list[str | None]:
    """Return the new links of the same images, matched by path, which renewal usually keeps, or else by position."""
    by_path = {redact(link): link for link in fresh if link}
    by_position = fresh if len(fresh) == len(known) else known
    return [by_path.get(redact(link or "")) or other or link for link, other in zip(known, by_position, strict=True)]
