"""The parts of one session, wired together, and the path of a paid request through them."""

import asyncio
import logging
import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import ExitStack, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

import anyio
import attrs
from yarl import URL

from lemon_async._api.job_responses import read_snapshot
from lemon_async._api.resume_token import parse_reference
from lemon_async._api.urls import is_loopback, poll_path, task_path
from lemon_async._http.attempt import StreamedResponse
from lemon_async._http.calls import Calls
from lemon_async._http.log_facts import about_job
from lemon_async._http.rate_limiter import RateLimiter
from lemon_async._http.transport import Transport
from lemon_async._images.downloads import Downloads
from lemon_async._images.images import Images
from lemon_async._images.links import LinkClient
from lemon_async._images.renewable_urls import ResultAccess
from lemon_async._pace.budget import RequestBudget
from lemon_async._pace.learned_durations import LearnedDurations
from lemon_async._tasks.completion import complete
from lemon_async._tasks.journal_entry import JournalEntry
from lemon_async._tasks.map import Maps
from lemon_async._tasks.poller import Poller
from lemon_async._tasks.settings import Settings
from lemon_async._tasks.stream import ImageStream
from lemon_async._tasks.submission import AcceptedJob, PreparedRequest, Submissions
from lemon_async._tasks.task import ImageTask
from lemon_async._uploads.preparation import prepare
from lemon_async.errors import ApiError, ContractError, SessionError, TransportError
from lemon_async.requests import Request
from lemon_async.types import ProgressOption, ResumableTask, TaskSnapshot

if TYPE_CHECKING:
    from lemon_async._display.dashboard import SessionState
    from lemon_async._http.emitter import Emitter
    from lemon_async._http.job_events import JobEvents
    from lemon_async.events import EventHandler

__all__ = ["Engine", "Lifetime"]

logger: logging.Logger = logging.getLogger("lemon_async")
_CLOSED_FOR_IMAGES = "the session is closed: read or save pictures before that, or fetch their url yourself in time"
_NOT_CANCELLED = "it was not cancelled: the task continues and is billed, unless it is over; await it for its outcome"
_CLOSED = "the session is closed; open a new one"


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
        report: Called when it is closed.
    """

    def __init__(self, parts: Sequence[Part], *, close_s: float, report: Callable[[], None]) -> None:
        self._parts = parts
        self._report = report
        self.close_s: float = close_s
        self._loop: asyncio.AbstractEventLoop | None = None
        self._process = os.getpid()
        self._closing: asyncio.Task[None] | None = None
        self.is_closed: bool = False

    def check(self, task: ResumableTask | None = None, *, closed: str = _CLOSED) -> None:
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
        try:
            done, late = await asyncio.wait(closings, timeout=self.close_s)
        finally:
            self._report()  # not before: those who await a task that has just ended read it meanwhile
        for closing in late:
            closing.cancel()
        for closing in done:
            closing.result()


class Engine:
    """The parts of one session, and the tasks that they share.

    Raises:
        ContractError: A setting is invalid; nothing was connected.
    """

    def __init__(self, settings: Settings) -> None:
        self.base_url: str
        self.durations: LearnedDurations
        self.base_url, http_hosts, self.durations = settings.checked()
        timeouts = settings.timeouts
        host = urlsplit(self.base_url).hostname or ""
        self.emitter: Emitter | None
        self.emitter, self._events_of = _events(settings.handlers())
        self.rate_limiter: RateLimiter = _rate_limiter(settings, self.base_url)
        self.transport: Transport = Transport(
            self.base_url,
            settings.key,
            timeouts=timeouts,
            rate_limiter=self.rate_limiter,
            emitter=self.emitter,
            trace_configs=settings.trace_configs,
        )
        self.calls: Calls = Calls(self.transport, settings.retry, self.emitter)
        self.submissions: Submissions = Submissions(self.transport, settings.retry, limit=settings.max_submits)
        self.poller: Poller = Poller(
            self.transport,
            settings.polling,
            self.rate_limiter,
            durations=self.durations,
            limit=settings.max_polls,
            count_ended=self.submissions.count_ended,
            emitter=self.emitter,
        )
        links = LinkClient(
            connect_s=timeouts.connect_s,
            allow_loopback=is_loopback(host),
            own_host=host,
            http_hosts=http_hosts,
            mask=settings.key.in_success.mask,
            trace_configs=settings.trace_configs,
        )
        self.downloads: Downloads = Downloads(
            links, total_s=timeouts.download_s, limit=settings.max_downloads, emitter=self.emitter
        )
        self.maps: Maps = Maps(
            submit=self.submit,
            is_sending=self.transport.is_sending,
            has_sold=lambda: self.submissions.counts.sold > 0,
            workers=settings.max_submits,
            close_s=timeouts.close_s,
        )
        # The poller first: its tasks end before the readers of maps, which then still get those outcomes.
        parts = (self.poller, self.maps, self.transport, self.downloads, self.rate_limiter)
        self.lifetime: Lifetime = Lifetime(parts, close_s=timeouts.close_s, report=self.poller.unread.log)
        self.check_usable = self.lifetime.check
        self.access: ResultAccess = ResultAccess(
            downloads=self.downloads,
            check_usable=partial(self.check_usable, closed=_CLOSED_FOR_IMAGES),
            calls=self.calls,
            base_url=self.base_url,
            emitter=self.emitter,
        )
        self._is_limit_given = settings.requests_per_minute is not None
        self._check_contracts = settings.check_contracts

    def state(self) -> "SessionState":
        """Return what there is to show of the session."""
        from lemon_async._display.dashboard import SessionState  # noqa: PLC0415 - most sessions are never shown

        return SessionState(
            base_url=self.base_url,
            is_closed=self.lifetime.is_closed,
            tasks=[(task.status, task.id, task.label) for task in self.poller.pending],
            submits=self.submissions.under_way,
            polls=self.poller.under_way,
            downloads=self.downloads.under_way,
            counts=self.submissions.counts,
            requests_per_minute=self.rate_limiter.budget.requests_per_minute,
            is_limit_given=self._is_limit_given,
            shared_limit=self.rate_limiter.name,
        )

    async def begin(self, request: Request, is_checked: bool | None, progress: ProgressOption) -> Awaitable[Images]:
        """Submit a request, if its progress is not shown, and return what waits for its images."""
        if progress is False:  # the caller awaits it, so that one frame less waits
            return await self.submit(request, is_checked)
        return complete(partial(self.submit, request, is_checked), progress)

    async def submit(
        self,
        request: Request,
        check_contracts: bool | None,
        *,
        is_wanted: Callable[[], bool] = lambda: True,
        queue: asyncio.Lock | None = None,
        entry: JournalEntry | None = None,
    ) -> ImageTask:
        """Submit a request; see `LemonSession.submit` and, for the keyword arguments, `Submissions.submit`."""
        self.check_usable()
        with ExitStack() as held:
            payload = await prepare(request, held, is_checked=self.is_checked(check_contracts))
            prepared = PreparedRequest(request, payload, self._events_of(request, payload.path))
            accepted = await self.submissions.submit(prepared, is_wanted=is_wanted, queue=queue, entry=entry)
        return self._track(accepted, prepared)

    @asynccontextmanager
    async def stream(self, request: Request, check_contracts: bool | None) -> AsyncGenerator[ImageStream, None]:
        """Submit a request, and return its images as they arrive; see `LemonSession.stream`."""
        self.check_usable()
        with ExitStack() as held:
            payload = await prepare(request, held, is_checked=self.is_checked(check_contracts), is_stream=True)
            prepared = PreparedRequest(request, payload, self._events_of(request, payload.path))
            async with self.submissions.stream(prepared) as response:
                source = response if isinstance(response, StreamedResponse) else self._track(response, prepared)
                stream = ImageStream(prepared, source, self.submissions, self.access)
                try:
                    yield stream
                finally:
                    await stream._leave()

    def resume(self, token: str) -> ImageTask:
        """Return a handle on a task of this account; see `LemonSession.task`.

        Raises:
            ContractError: `token` is neither an id nor a resume token.
        """
        reference = parse_reference(token)
        try:
            path, fault = poll_path(self.base_url, reference.task_id, reference.poll_url)
        except ValueError as refusal:
            raise ContractError.of("task", f"cannot be polled: {refusal}") from None
        if fault:
            extra = about_job(task_id=reference.task_id, model=reference.model)
            logger.warning("poll_url of the resume token refused (%s); polling the task's id", fault, extra=extra)
        key = path if reference.is_id_guessed else reference.task_id
        task = self.poller.find(key)
        if task is None:
            snapshot = TaskSnapshot(
                status="pending",
                task_id=reference.task_id,
                is_id_guessed=reference.is_id_guessed,
                poll_url=reference.poll_url,
                model=reference.model,
                created=reference.created,
            )
            task = ImageTask(self, snapshot, path=path, label=reference.label, prompt=reference.prompt)
            self.poller.unread.supersede(key)
            self.poller.add(task, is_fresh=False)
            if self.emitter is not None:
                self.emitter.resumed(task)
        return task

    async def request_cancel(self, task: ImageTask) -> None:
        """Ask the service to cancel a task; see `ImageTask.request_cancel`."""
        try:
            path = task_path(task.id or "")
        except ValueError:
            raise SessionError(message="a task with such an id cannot be cancelled", task=task) from None
        try:
            snapshot = await self.calls.change("DELETE", path, partial(read_snapshot, polled_id=task._name))
        except TransportError as failure:
            raise attrs.evolve(failure, task=task) from failure.__cause__
        except ApiError as refusal:
            raise attrs.evolve(refusal, task=task, hint=refusal.hint or _NOT_CANCELLED) from None
        handles = [task]
        if snapshot.is_done and (newer := self.poller.find(task._key)) not in {None, task}:
            handles.append(newer)  # `task` has ended since, and was resumed
        for handle in handles:
            handle._update(snapshot)
            if handle.done():
                self.poller.end(handle)

    def _track(self, accepted: AcceptedJob, prepared: PreparedRequest) -> ImageTask:
        """Return a handle on a job that was just accepted, and poll it until it ends."""
        snapshot, request = accepted.snapshot, prepared.request
        task = ImageTask(self, snapshot, path=accepted.path, request=request, began_at=accepted.began_at)
        self.submissions.count_accepted(snapshot)
        if task.done():
            self.poller.unread.add(task)
        else:
            self.poller.add(task, is_fresh=True)
        if prepared.events is not None:
            prepared.events.accepted(task)
        return task

    def batch_options(self) -> dict[str, Any]:
        """Return the options of a batch that come from its session."""
        return {
            "resubmits": self.submissions.resubmits,
            "close_s": self.lifetime.close_s,
            "save_s": self.downloads.total_s,
            "emit": None if self.emitter is None else self.emitter.emit,
        }

    def is_checked(self, check_contracts: bool | None) -> bool:
        """Return whether requests are checked, given the option of a call."""
        return self._check_contracts if check_contracts is None else check_contracts


def _no_events(_request: Request, _path: str) -> None:
    """Return what emits the events of a job in a session without functions for them."""


def _events(handlers: Sequence["EventHandler"]) -> "tuple[Emitter | None, Callable[[Request, str], JobEvents | None]]":
    """Return what passes events to the program's functions, if there are any, and what makes those of a new job."""
    if not handlers:
        return None, _no_events
    from lemon_async._http.emitter import Emitter  # noqa: PLC0415 - most sessions have no handlers
    from lemon_async._http.job_events import JobEvents  # noqa: PLC0415 - likewise

    emitter = Emitter(handlers)
    return emitter, lambda request, path: None if emitter.is_idle() else JobEvents(emitter, request, path)


def _rate_limiter(settings: Settings, base_url: str) -> RateLimiter:
    """Return the session's own rate limiter, or its part of a shared one."""
    rpm = settings.requests_per_minute
    if rpm is None or settings.shared_limit is None:
        return RateLimiter(RequestBudget(rpm))
    from lemon_async._http.shared_limit.client import SharedRateLimiter  # noqa: PLC0415 - most sessions share nothing
    from lemon_async._http.shared_limit.opening import open_store  # noqa: PLC0415 - likewise
    from lemon_async._pace.leases import HORIZON_S, leased_interval_s  # noqa: PLC0415 - likewise

    opened = partial(
        open_store,
        settings.shared_limit,
        account=settings.key.account(str(URL(base_url).origin())),
        rpm=rpm,
        interval_s=leased_interval_s(rpm),
        horizon_s=HORIZON_S,
    )
    return SharedRateLimiter(rpm, lambda on_pause: opened(on_pause=on_pause))
