"""`LemonSession`: the object users hold, and the owner of everything that runs for them."""

import asyncio
import logging
import os
from collections.abc import AsyncGenerator, Iterable
from difflib import get_close_matches
from types import TracebackType
from typing import Self, Unpack
from urllib.parse import urlsplit

import anyio
import attrs

from lemon_async.api.contracts import check
from lemon_async.api.errors import (
    ContractError,
    Problem,
    SessionMisuse,
    SubmissionUnknown,
    TransportError,
)
from lemon_async.api.models import GenerateFields, GenerateRequest, TaskSnapshot
from lemon_async.api.refusals import api_error
from lemon_async.api.urls import DEFAULT_ORIGIN, is_loopback, parse_base_url, poll_path, task_path
from lemon_async.api.wire import Alive, read_poll
from lemon_async.client import fanout
from lemon_async.client.download import Downloads
from lemon_async.client.image import Images
from lemon_async.client.key import ApiKey
from lemon_async.client.poller import Poller
from lemon_async.client.submission import Submissions
from lemon_async.client.task import ImageTask
from lemon_async.client.tokens import parse_reference
from lemon_async.client.transport import Timeouts, Transport
from lemon_async.pace.budget import Budget
from lemon_async.pace.retry import RetryPolicy
from lemon_async.pace.schedule import PollPolicy

__all__ = ["BASE_URL_VARIABLE", "LemonSession"]

BASE_URL_VARIABLE = "LEMONDATA_BASE_URL"

logger: logging.Logger = logging.getLogger("lemon_async")


class LemonSession:
    """The LemonData image API as awaitable Python; use it as `async with LemonSession() as lemon`.

    One session serves any number of coroutines of one event loop: it shares connections, the request budget and one
    poller among them. It may be opened, used and closed in different asyncio tasks, as notebook cells are.

    Args:
        api_key: The key; by default the environment variable `LEMONDATA_API_KEY`.
        base_url: Origin of the API; by default the environment variable `LEMONDATA_BASE_URL`, or else
            `https://api.lemondata.cc`. Plain http only for loopback.
        polling: How pending tasks are looked after.
        retry: When a paid request that was provably not sold is sent again.
        timeouts: Bounds of each exchange with the network.
        max_submits: Number of paid requests under way at once; more wait their turn.
        max_polls: Number of polls under way at once.
        max_downloads: Number of downloads under way at once.
        check_contracts: Check requests against the documented rules before any money is spent.

    Raises:
        ContractError: A setting cannot work; nothing was connected.
    """

    def __init__(
        self,
        api_key: str | None = None,
        *,
        base_url: str | None = None,
        polling: PollPolicy = PollPolicy(),
        retry: RetryPolicy = RetryPolicy(),
        timeouts: Timeouts = Timeouts(),
        max_submits: int = 100,
        max_polls: int = 10,
        max_downloads: int = 8,
        check_contracts: bool = True,
    ) -> None:
        key = ApiKey.from_environment() if api_key is None else ApiKey(api_key)
        del api_key  # a traceback that shows local variables must not show it
        limits = {"max_submits": max_submits, "max_polls": max_polls, "max_downloads": max_downloads}
        policies: dict[str, tuple[object, type[object]]] = {
            "polling": (polling, PollPolicy),
            "retry": (retry, RetryPolicy),
            "timeouts": (timeouts, Timeouts),
        }
        self.base_url: str = _check_settings(base_url, key, limits, policies)
        budget = Budget()
        self._timeouts = timeouts
        self._check_contracts = check_contracts
        self._transport = Transport(self.base_url, key, timeouts=timeouts, budget=budget)
        self._submissions = Submissions(self._transport, retry, limit=max_submits)
        self._poller = Poller(self._transport, polling, budget, limit=max_polls)
        self._downloads = Downloads(
            total_s=timeouts.download_s,
            connect_s=timeouts.connect_s,
            limit=max_downloads,
            allow_loopback=is_loopback(urlsplit(self.base_url).hostname or ""),
        )
        self._loop: asyncio.AbstractEventLoop | None = None
        self._process = os.getpid()
        self._closing: asyncio.Task[None] | None = None
        self._is_closed = False

    async def generate(
        self,
        prompt: str | GenerateRequest,
        /,
        *,
        check_contracts: bool | None = None,
        **fields: Unpack[GenerateFields],
    ) -> Images:
        """Return the images for a prompt, however the service delivers them. Spends money, once.

        The same as `await (await session.submit(...))`. Cancelling before the service has accepted is told under
        `submit`; afterwards it stops the waiting only: the job runs on, is billed, and stands in `pending`.

        Raises:
            ContractError: The request breaks documented rules; nothing was sent.
            TransportError: It could not be sent; nothing was sold.
            ApiError: The service refused it; nothing was sold.
            SubmissionUnknown: It was sent and its fate is unknown; it is not sent again.
            TaskError: It was sold and did not end in images; the error can be resumed from.
        """
        task = await self.submit(prompt, check_contracts=check_contracts, **fields)
        return await task

    async def submit(
        self,
        prompt: str | GenerateRequest,
        /,
        *,
        check_contracts: bool | None = None,
        **fields: Unpack[GenerateFields],
    ) -> ImageTask:
        """Return a task as soon as the service has accepted the job. Spends money, once.

        An inline answer is a task that is over already. Cancelling while the request is on its way leaves open
        whether it was sold: the `CancelledError` then has a `SubmissionUnknown` as its cause, which is also kept
        in `unknown_submissions`.

        Args:
            prompt: The description of the image, or a whole request.
            check_contracts: Overrides the session's setting for this request.
            **fields: See `GenerateFields`; they take precedence over those of a request.

        Raises:
            ContractError, TransportError, ApiError, SubmissionUnknown: As for `generate`.
        """
        self._check_usable()
        request = _request(prompt, fields)
        if self._check_contracts if check_contracts is None else check_contracts:
            problems = check(request)
            if problems:
                raise ContractError(problems=problems)
        snapshot, path = await self._submissions.submit(request)
        return self._adopt(snapshot, path, request)

    def task(self, reference: str) -> ImageTask:
        """Return a handle on a task of this account, from its id or a `resume_token()`. Spends nothing.

        Polling starts at once; a task that this session is already waiting for is returned as it is.

        Raises:
            ContractError: `reference` is neither an id nor a token.
        """
        self._check_usable()
        found = parse_reference(reference)
        snapshot = TaskSnapshot(status="pending", task_id=found.task_id, poll_url=found.poll_url, model=found.model)
        try:
            path, fault = poll_path(self.base_url, found.task_id, found.poll_url)
        except ValueError as refusal:
            raise ContractError(problems=(Problem("task", f"cannot be polled: {refusal}"),)) from None
        if fault:
            logger.warning("poll_url of the resume token refused (%s); polling the task's id", fault)
        return self._adopt(snapshot, path, None)

    def as_completed(self, tasks: Iterable[ImageTask]) -> AsyncGenerator[ImageTask, None]:
        """Iterate over tasks in the order in which they end, well or badly; awaiting each then takes no time.

        Leaving the loop or cancelling ends the watching only. Spends nothing.
        """
        self._check_usable()
        return fanout.as_completed(tasks)

    @property
    def pending(self) -> tuple[ImageTask, ...]:
        """The tasks of this session that are not over, oldest first."""
        return self._poller.pending

    @property
    def unknown_submissions(self) -> tuple[SubmissionUnknown, ...]:
        """The last 1,000 paid requests whose fate is unknown, cancelled ones included."""
        return tuple(self._submissions.unknown)

    async def aclose(self) -> None:
        """Close connections and stop polling, within `Timeouts.close_s`; may be called again, from any task.

        Pending tasks end with `SessionMisuse` and can be resumed by their token; paid requests under way become
        `SubmissionUnknown`. Cancelling stops the waiting, the closing goes on. Spends nothing.
        """
        if self._loop is None:
            self._is_closed = True
        if self._closing is None:
            if self._is_closed:
                return
            self._check_usable()
            self._is_closed = True
            self._transport.close()
            self._downloads.close()
            self._poller.close()
            self._closing = asyncio.get_running_loop().create_task(self._close(), name="lemon_async close")
        # In a cancelled scope of anyio every await is cancelled: without the shield, the loop could end first.
        with anyio.CancelScope(shield=True):
            await asyncio.shield(self._closing)

    async def _close(self) -> None:
        """Wait, within bounds, for what has been told to end; side by side, so that a slow one leaves none open."""
        closings = (self._transport.aclose(), self._downloads.aclose(), self._poller.aclose())
        done, late = await asyncio.wait(map(asyncio.ensure_future, closings), timeout=self._timeouts.close_s)
        for closing in late:
            closing.cancel()
        for closing in done:
            closing.result()

    async def __aenter__(self) -> Self:
        self._check_usable()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def _check_usable(self, task: ImageTask | None = None) -> None:
        """Bind the session to the running event loop at first use; an error carries `task`.

        Raises:
            SessionMisuse: It is closed, or used outside a coroutine, from another loop or after a fork.
        """
        if self._is_closed:
            message = "the session is closed; open a new one (tasks can be resumed by token)"
            raise SessionMisuse(message=message, task=task)
        if os.getpid() != self._process:
            raise SessionMisuse(message="the session was made before a fork; make one in each process")
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            raise SessionMisuse(message="use the session inside a coroutine: it needs a running event loop") from None
        if self._loop is None:
            self._loop = loop
        elif self._loop is not loop:
            raise SessionMisuse(
                message="the session belongs to another event loop; make one in each loop, for instance inside "
                "the function you give to asyncio.run()",
                task=task,
            )

    async def _cancel_task(self, task: ImageTask) -> None:
        """Ask the service to cancel `task`; use `ImageTask.cancel`."""
        try:
            response = await self._transport.call("DELETE", task_path(task.id or ""))
        except TransportError as failure:
            raise attrs.evolve(failure, task=task) from failure.__cause__
        except ValueError:
            raise SessionMisuse(message="a task with such an id cannot be cancelled", task=task) from None
        reading = read_poll(response)
        if not isinstance(reading, Alive):
            raise attrs.evolve(api_error(response), task=task)
        task._update(reading.snapshot)
        if task.done:
            self._poller.end(task)

    async def _download(self, url: str) -> bytes:
        if self._is_closed:
            message = "the session is closed: read or save pictures before that, or fetch their url yourself in time"
            raise SessionMisuse(message=message)
        self._check_usable()
        return await self._downloads.fetch(url)

    def _adopt(self, snapshot: TaskSnapshot, path: str, request: GenerateRequest | None) -> ImageTask:
        known = self._poller.find(snapshot.task_id) if snapshot.task_id else None
        if known is not None:
            return known
        task = ImageTask(self, snapshot, download=self._download, path=path, request=request)
        if not task.done and self._is_closed:
            task._fail(SessionMisuse(message="the session was closed while the task was submitted", task=task))
        elif not task.done:
            self._poller.add(task, is_fresh=request is not None)
        return task

    def __repr__(self) -> str:
        if not hasattr(self, "_is_closed"):
            return "<LemonSession refused>"  # as tracebacks of `__init__` show it
        state = "closed" if self._is_closed else "open"
        return (
            f"<LemonSession {self.base_url} [{state} | {self._submissions.under_way} submits | "
            f"{len(self._poller)} tasks pending, {self._poller.under_way} polls]>"
        )


def _request(prompt: str | GenerateRequest, fields: GenerateFields) -> GenerateRequest:
    unknown = [name for name in fields if name not in GenerateFields.__annotations__]
    if unknown:
        raise ContractError(problems=tuple(Problem(name, _advice_on(name)) for name in unknown))
    if isinstance(prompt, GenerateRequest):
        return attrs.evolve(prompt, **fields)
    return GenerateRequest(prompt, **fields)


def _advice_on(name: str) -> str:
    alike = get_close_matches(f"{name}_", GenerateFields.__annotations__, n=1)
    guess = f" (did you mean {alike[0]}=?)" if alike else ""
    return f"is not a field of this version{guess}; pass unknown fields in extra={{...}}"


def _check_settings(
    base_url: str | None, key: ApiKey, limits: dict[str, int], policies: dict[str, tuple[object, type[object]]]
) -> str:
    """Return the origin, or raise every problem of the settings at once."""
    problems = key.problems()
    try:
        origin = parse_base_url(base_url or os.environ.get(BASE_URL_VARIABLE) or DEFAULT_ORIGIN)
    except ValueError as fault:
        problems.append(Problem("base_url", str(fault)))
        origin = ""
    problems += [
        Problem(name, f"must be a whole number from 1, not {value!r}")
        for name, value in limits.items()
        if type(value) is not int or value < 1
    ]
    problems += [
        Problem(name, f"must be a {kind.__name__}, not {value!r}")
        for name, (value, kind) in policies.items()
        if not isinstance(value, kind)
    ]
    if problems:
        raise ContractError(problems=tuple(problems))
    return origin
