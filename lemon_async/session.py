"""`LemonSession`: the object users hold, and the owner of everything that runs for them."""

from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import asynccontextmanager
from functools import partial
from types import TracebackType
from typing import Any, Self, Unpack

from lemon_async._http.key import ApiKey
from lemon_async._http.transport import Timeouts
from lemon_async._images.images import Images
from lemon_async._pace.retry import RetryPolicy
from lemon_async._pace.schedule import PollPolicy
from lemon_async._tasks.completion import as_completed
from lemon_async._tasks.engine import Engine
from lemon_async._tasks.leaving import SESSION_CLOSED, leaving
from lemon_async._tasks.lookups import Lookups
from lemon_async._tasks.map import Outcomes
from lemon_async._tasks.map_input import Items
from lemon_async._tasks.progress import make_display
from lemon_async._tasks.settings import Settings
from lemon_async._tasks.single import finish
from lemon_async._tasks.stream import ImageStream
from lemon_async._tasks.task import ImageTask
from lemon_async._uploads.preparation import build_request, find_problems, glance_at_sources, request_from
from lemon_async._uploads.stored_files import Files
from lemon_async.errors import Problem
from lemon_async.requests import (
    EditFields,
    EditRequest,
    GenerateFields,
    JobFields,
    Request,
    Source,
    VariationFields,
    VariationRequest,
)
from lemon_async.types import ProgressOption

__all__ = ["LemonSession"]


class LemonSession(Lookups):
    """The LemonData image API as awaitable Python; use it as `async with LemonSession() as lemon`.

    One session serves any number of coroutines of one event loop: it shares connections, the request budget and one
    poller among them. It may be opened, used and closed in different asyncio tasks, as notebook cells are.

    Args:
        api_key: The key; by default the environment variable `LEMONDATA_API_KEY`.
        base_url: Where the API is: requests go to `<base_url>/v1/...`, a trailing slash or `/v1` is ignored. By
            default the environment variable `LEMONDATA_BASE_URL`, or else `https://api.lemondata.cc`. A gateway's may
            have a path. A gateway that repeats requests by itself can pay twice: turn its retries off.
        allow_http: Hosts, as `host` or `host:port`, that may be talked to without encryption, in `base_url` and in
            result links, such as `{"emulator"}`; they may be in a private network. The key, prompts and pictures can
            be read on the way. Loopback is always allowed.
        headers: Extra headers of every request to the API, such as the key of a gateway. They go where the key goes:
            not to result links, and after no redirect. Their values are shown nowhere. Those that the library or HTTP
            depends on are refused.
        polling: How pending tasks are looked after.
        retry: When a request is sent again: a paid one only if it was provably not sold.
        timeouts: Bounds of each exchange with the network.
        requests_per_minute: What the account allows, for submits, polls and all the rest together. It is never
            exceeded, so no request is wasted on a 429; leave room for other programs on the same account. By default
            it is learned from the answers, which costs some dozen 429s if their headers do not tell it.
        max_submits: Number of paid requests under way at once; more wait their turn.
        max_polls: Number of polls under way at once: more of them find out sooner when many jobs end together, and
            take more connections.
        max_downloads: Number of downloads under way at once.
        check_contracts: Check requests against the documented rules before any money is spent.
        learned_durations: The `learned_durations` of an earlier session, so that polling is well timed from the first
            job.

    Raises:
        ContractError: A setting cannot work; nothing was connected.
    """

    def __init__(
        self,
        api_key: str | None = None,
        *,
        base_url: str | None = None,
        allow_http: AbstractSet[str] = frozenset(),
        headers: Mapping[str, str] | None = None,
        polling: PollPolicy = PollPolicy(),
        retry: RetryPolicy = RetryPolicy(),
        timeouts: Timeouts = Timeouts(),
        requests_per_minute: int | None = None,
        max_submits: int = 100,
        max_polls: int = 10,
        max_downloads: int = 8,
        check_contracts: bool = True,
        learned_durations: Mapping[str, Any] | None = None,
    ) -> None:
        key = ApiKey.from_environment(headers=headers) if api_key is None else ApiKey(api_key, headers)
        del api_key, headers  # a traceback that shows local variables must not show them
        settings = Settings(
            base_url=base_url,
            allow_http=allow_http,
            key=key,
            polling=polling,
            retry=retry,
            timeouts=timeouts,
            requests_per_minute=requests_per_minute,
            max_submits=max_submits,
            max_polls=max_polls,
            max_downloads=max_downloads,
            check_contracts=check_contracts,
            learned_durations=learned_durations,
        )
        self._engine = Engine(settings)
        self.base_url: str = self._engine.base_url
        self.files: Files = Files(self._engine.calls, self._check_usable, download_s=timeouts.download_s)

    async def generate(
        self,
        prompt: str | Request,
        /,
        *,
        check_contracts: bool | None = None,
        progress: ProgressOption = False,
        **fields: Unpack[GenerateFields],
    ) -> Images:
        """Return the images for a prompt, however the service delivers them. Spends money, once.

        The same as `await (await session.submit(...))`. Cancelling before the service has accepted is told under
        `submit`; afterwards it stops the waiting only: the job runs on, is billed, and stands in `pending`.

        Args:
            prompt: The description of the image, or a whole request.
            check_contracts: Overrides the session's setting for this request.
            progress: `True` shows the status and the seconds: by tqdm (an extra), in the notebook or on the terminal's
                stderr, and nowhere else. A function is called with a `Progress` at every change, from the event loop:
                it must be quick. One that fails is logged and called no more; the job goes on.
            **fields: See `GenerateFields`.

        Raises:
            ContractError: The request breaks documented rules; nothing was sent.
            TransportError: It could not be sent; nothing was sold.
            ApiError: The service refused it; nothing was sold.
            SubmissionUnknown: It was sent and its fate is unknown; it is not sent again.
            TaskError: It was sold and did not end in images; the error can be resumed from.
        """
        return await self._finish(request_from(prompt, fields), check_contracts, progress)

    async def edit(
        self,
        prompt: str | EditRequest,
        /,
        *,
        image: Source | Sequence[Source] | None = None,
        mask: Source | None = None,
        check_contracts: bool | None = None,
        progress: ProgressOption = False,
        **fields: Unpack[EditFields],
    ) -> Images:
        """Return pictures made from pictures. Spends money, once; cancelling and errors are those of `generate`.

        Uploads are streamed from where they are, and read once before anything is sent: their type and size come from
        their bytes. For a task instead of its images, `submit(prompt, image=...)`.

        Args:
            prompt: The description of the edit, or a whole request.
            image: One `Source` or several, at most 16 (xAI: 3) of 50 MB each: paths, bytes, binary files, async
                iterables of bytes and `Image`s are uploaded; addresses and stored files are told to the service. One
                request holds uploads or addresses, not both.
            mask: A PNG as large as the first image; its fully transparent areas are edited. For uploads only.
            check_contracts: Overrides the session's setting for this request.
            progress: As for `generate`.
            **fields: See `EditFields`; the server's default model is `dall-e-2`.
        """
        request = build_request(EditRequest, {"image": image, "mask": mask, **fields}, prompt)
        return await self._finish(request, check_contracts, progress)

    async def create_variation(
        self,
        image: Source | VariationRequest,
        /,
        *,
        check_contracts: bool | None = None,
        progress: ProgressOption = False,
        **fields: Unpack[VariationFields],
    ) -> Images:
        """Return variations of a picture (dall-e-2). Spends money, once; cancelling and errors as for `generate`.

        Args:
            image: A square PNG of less than 4 MB, as for `edit`, to be uploaded; or a whole request.
            check_contracts: Overrides the session's setting for this request.
            progress: As for `generate`.
            **fields: See `VariationFields`.
        """
        request = build_request(VariationRequest, fields, image)
        return await self._finish(request, check_contracts, progress)

    async def submit(
        self, prompt: str | Request, /, *, check_contracts: bool | None = None, **fields: Unpack[JobFields]
    ) -> ImageTask:
        """Return a task as soon as the service has accepted the job. Spends money, once.

        An inline answer is a task that is over already. Cancelling while the request is on its way leaves open
        whether it was sold: the `CancelledError` then has a `SubmissionUnknown` as its cause, which is also kept
        in `unknown_submissions`.

        Args:
            prompt: The description of the image, or a whole request: `EditRequest` and `VariationRequest`, too.
            check_contracts: Overrides the session's setting for this request.
            **fields: See `GenerateFields`; they take precedence over those of a request. With `image`, and perhaps
                `mask`, it is an edit, as in `edit`.

        Raises:
            ContractError, TransportError, ApiError, SubmissionUnknown: As for `generate`.
        """
        return await self._engine.submit(request_from(prompt, fields), check_contracts)

    @asynccontextmanager
    async def stream(
        self, prompt: str | Request, /, *, check_contracts: bool | None = None, **fields: Unpack[JobFields]
    ) -> AsyncGenerator[ImageStream, None]:
        """Have pictures made and watch them come: `async with session.stream(...) as stream`. Spends money, once.

        `async for picture in stream` yields `PartialImage`s, as many as `partial_images` asks for, and the finished
        `Image`s; then `stream.images` has what `generate` would have returned. For families with `partial_images`
        (gpt-image-2). Cancelling, or leaving the block before the end, stops the stream, not the sale: the
        `SubmissionUnknown` is kept in `unknown_submissions`. The whole exchange ends after `Timeouts.submit_s`, which
        counts the time that you take between two pictures. A service that answers with a task is waited for as usual.

        Raises:
            ContractError, TransportError, ApiError: As for `generate`, on entering.
            SubmissionUnknown: On entering or reading; `partial_images` holds what had arrived.
            TaskFailed: While reading: the service gave up.
        """
        request = request_from(prompt, fields)
        async with self._engine.stream(request, check_contracts) as stream:
            yield stream

    @staticmethod
    def validate(
        prompt: str | Request,
        /,
        *,
        check_contracts: bool = True,
        is_stream: bool = False,
        **fields: Unpack[JobFields],
    ) -> tuple[Problem, ...]:
        """Return the problems of a request without sending it; empty if none is known. Spends nothing.

        Needs no session: `LemonSession.validate(...)` works, too. Reads the beginning and the end of files, and blocks
        meanwhile; sources that can be read only once are examined when they are sent.

        Args:
            prompt: The description of the image, or a whole request.
            check_contracts: Whether the documented rules are checked; otherwise only what makes sending impossible.
            is_stream: Whether the request is meant for `stream`.
            **fields: As for `submit`.

        Raises:
            ContractError: A field that this kind of request does not have.
        """
        request = request_from(prompt, fields)
        return find_problems(request, glance_at_sources(request), is_checked=check_contracts, is_stream=is_stream)

    def task(self, reference: str) -> ImageTask:
        """Return a handle on a task of this account, from its id or a `resume_token()`. Spends nothing.

        Polling starts at once; a task that this session is already waiting for is returned as it is.

        Raises:
            ContractError: `reference` is neither an id nor a token.
        """
        self._check_usable()
        return self._engine.tasks.resume(reference)

    def map(
        self,
        requests: Items,
        /,
        *,
        in_flight: int = 100,
        ordered: bool = False,
        fail_fast: bool = False,
        check_contracts: bool | None = None,
        on_submitted: Callable[[int, ImageTask], object] | None = None,
        progress: ProgressOption = False,
        **fields: Unpack[JobFields],
    ) -> Outcomes:
        """Have many pictures made: `async with session.map(prompts, ...) as outcomes: async for outcome in outcomes`.

        Spends money, once for each request. Each ends in an `Outcome` with its images or its error; one failure never
        ends the rest. Leaving the block, by cancelling or otherwise, submits nothing more, and waits at most
        `Timeouts.close_s` for answers that are on their way; what was sold runs on, is billed, and stands in
        `outcomes.pending`. When an exception leaves the block, a warning and a note on it list what was not read.

        Args:
            requests: Prompts or requests, from any iterable or async iterable; read one by one, as room comes, in one
                asyncio task. A slow synchronous one holds the event loop; a generator is not closed when the block is
                left.
            in_flight: Number of jobs that are out at once. One counts from its submit until its outcome is taken, so
                a slow reader slows the spending down. A job is two requests: 1,000 requests a minute and jobs of 45 s
                are kept busy by 375 of them.
            ordered: Hand outcomes out in the order of the input, not as they end.
            fail_fast: Raise the first error of a job instead of handing it out, and submit nothing more.
            check_contracts: Overrides the session's setting for these requests.
            on_submitted: Called with the place of each request in the input and its task, as soon as the service has
                accepted it, for instance to store its `resume_token()`; from the event loop, so it must be quick. If it
                raises, nothing more is submitted, and the loop over the outcomes raises that error in the end.
            progress: As for `generate`: a bar of all jobs, or a function, until the block is left. `outcomes.progress`
                tells the same at any time.
            **fields: See `GenerateFields`; they hold for every request and take precedence over its own.

        Raises:
            ContractError: `requests`, `in_flight` or `progress` make no sense, or there is no such field; nothing
                was sent.
        """
        self._check_usable()
        return self._engine.fan_outs.open(
            requests,
            fields,
            check_contracts=check_contracts,
            in_flight=in_flight,
            ordered=ordered,
            fail_fast=fail_fast,
            on_submitted=on_submitted,
            display=make_display(progress),
        )

    def as_completed(
        self, tasks: Iterable[ImageTask], *, progress: ProgressOption = False
    ) -> AsyncGenerator[ImageTask, None]:
        """Iterate over tasks in the order in which they end, well or badly; awaiting each then takes no time.

        Leaving the loop or cancelling ends the watching only. Spends nothing.

        Args:
            tasks: The tasks; one that is given twice comes once.
            progress: As for `generate`: a bar of all tasks, or a function, until the loop is left.

        Raises:
            ContractError: Something among `tasks` is none, or `progress` makes no sense.
        """
        self._check_usable()
        return as_completed(tasks, progress=progress)

    async def aclose(self) -> None:
        """Close connections and stop polling, within `Timeouts.close_s`; may be called again, from any task.

        Pending tasks end with `SessionError` and can be resumed by their token; a warning lists their ids, `pending`
        keeps them, and an exception that leaves the `async with` block has a note about them. Paid requests under way
        become `SubmissionUnknown`. Cancelling stops the waiting, the closing goes on. Spends nothing.
        """
        await self._engine.life.end()

    async def __aenter__(self) -> Self:
        self._check_usable()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with leaving(lambda: self.pending, SESSION_CLOSED, error):
            await self.aclose()

    async def _finish(self, request: Request, check_contracts: bool | None, progress: ProgressOption) -> Images:
        return await finish(partial(self._engine.submit, request, check_contracts), progress)
