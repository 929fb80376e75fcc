"""The tasks of one session: from what the service says to the handles that users hold."""

import logging
from collections.abc import AsyncGenerator, Sequence
from functools import partial

import attrs

from lemon_async._api.error_responses import api_error
from lemon_async._api.job_responses import PollSuccess, read_poll
from lemon_async._api.response import Response
from lemon_async._api.urls import poll_path, task_path
from lemon_async._formats.pictures import PictureFacts
from lemon_async._http.calls import Calls
from lemon_async._images.atomic_file import AtomicFile
from lemon_async._images.downloads import Downloads
from lemon_async._images.renewable_urls import TaskRef
from lemon_async._tasks.lifetime import Lifetime
from lemon_async._tasks.poller import Poller
from lemon_async._tasks.resume_token import TaskReference, parse_reference
from lemon_async._tasks.submission import AcceptedJob
from lemon_async._tasks.submission_counts import Account
from lemon_async._tasks.task import ImageTask
from lemon_async.errors import ApiError, ContractError, SessionError, TransportError
from lemon_async.requests import Request
from lemon_async.types import ImageData, TaskSnapshot

__all__ = ["TaskRegistry"]

logger: logging.Logger = logging.getLogger("lemon_async")
_NOT_CANCELLED = "it was not cancelled: the task goes on and is billed, unless it is over; awaiting it tells"


@attrs.frozen
class TaskRegistry:
    """Makes the handles, one for each task, and does what they ask for."""

    _life: Lifetime
    _base_url: str
    _calls: Calls
    _poller: Poller
    _downloads: Downloads
    account: Account = attrs.field(factory=Account)

    def adopt(self, sale: AcceptedJob, request: Request) -> ImageTask:
        """Return a handle on a job that has just been sold."""
        self.account.sold(sale.snapshot)
        return self._handle(sale.snapshot, sale.path, request=request, began_at=sale.began_at)

    def resume(self, reference: str) -> ImageTask:
        """Return a handle on a task of this account; see `LemonSession.task`.

        Raises:
            ContractError: `reference` is neither an id nor a token.
        """
        found = parse_reference(reference)
        snapshot = TaskSnapshot(
            status="pending",
            task_id=found.task_id,
            is_id_guessed=found.is_id_guessed,
            poll_url=found.poll_url,
            model=found.model,
            created=found.created,
        )
        try:
            path, fault = poll_path(self._base_url, found.task_id, found.poll_url)
        except ValueError as refusal:
            raise ContractError.of("task", f"cannot be polled: {refusal}") from None
        if fault:
            logger.warning("poll_url of the resume token refused (%s); polling the task's id", fault)
        key = path if found.is_id_guessed else found.task_id
        return self._poller.find(key) or self._handle(snapshot, path, reference=found)

    def check_usable(self, task: ImageTask) -> None:
        """Raise `SessionError` unless called on the session's own event loop, before it is closed."""
        self._life.check(task)

    async def cancel(self, task: ImageTask) -> None:
        """Ask the service to cancel a task; see `ImageTask.cancel`."""
        try:
            path = task_path(task.id or "")
        except ValueError:
            raise SessionError(message="a task with such an id cannot be cancelled", task=task) from None
        try:
            snapshot = await self._calls.change("DELETE", path, partial(_read_snapshot, asked=task._name))
        except TransportError as failure:
            raise attrs.evolve(failure, task=task) from failure.__cause__
        except ApiError as refusal:
            raise attrs.evolve(refusal, task=task, hint=refusal.hint or _NOT_CANCELLED) from None
        handles = [task]
        if snapshot.is_done and (newer := self._poller.find(task._key)) not in {None, task}:
            handles.append(newer)  # `task` has ended meanwhile, and was resumed
        for handle in handles:
            handle._update(snapshot)
            if handle.done():
                self._poller.end(handle)

    @property
    def download_s(self) -> float:
        """The longest that a download may take, or a step of the disk."""
        return self._downloads.total_s

    async def fetch(self, url: str) -> bytes:
        """Return the picture behind a result link; see `Image.read`."""
        self._check_open()
        return await self._downloads.fetch(url)

    async def save(self, url: str, draft: AtomicFile) -> PictureFacts:
        """Write the picture behind a result link into a file; see `Image.save`."""
        self._check_open()
        return await self._downloads.save(url, draft)

    def stream(self, url: str) -> AsyncGenerator[bytes, None]:
        """Yield the bytes of the picture behind a result link; see `Image.stream`."""
        self._check_open()
        return self._downloads.stream(url)

    def can_follow(self, url: str) -> bool:
        """Tell whether a result link may be followed; a look at the address alone."""
        return self._downloads.can_follow(url)

    async def ask(self, maker: TaskRef) -> Sequence[ImageData]:
        """Return the pictures of a finished task as the service tells them now; nothing if it does not."""
        self._check_open()
        try:
            path, _ = poll_path(self._base_url, maker.id, maker.poll_url)
            snapshot = await self._calls.read(path, partial(_read_snapshot, asked=maker.name))
        except (ValueError, ApiError, TransportError) as failure:
            logger.warning("task %s was not asked for fresh links: %s", maker.id, failure)
            return ()
        return snapshot.images

    def _check_open(self) -> None:
        if self._life.is_closed:
            message = "the session is closed: read or save pictures before that, or fetch their url yourself in time"
            raise SessionError(message=message)
        self._life.check()

    def _handle(
        self,
        snapshot: TaskSnapshot,
        path: str,
        *,
        request: Request | None = None,
        reference: TaskReference | None = None,
        began_at: float | None = None,
    ) -> ImageTask:
        task = ImageTask(
            self, snapshot, results=self, path=path, request=request, reference=reference, began_at=began_at
        )
        if not task.done():
            task._when_done(self._ended)
            self._poller.add(task, is_fresh=request is not None)
        return task

    def _ended(self, task: ImageTask) -> None:
        self.account.ended(task.snapshot)


def _read_snapshot(response: Response, asked: str | None) -> TaskSnapshot:
    reading = read_poll(response, asked)
    if isinstance(reading, PollSuccess):
        return reading.snapshot
    raise api_error(response)
