"""`LemonSession`: the endpoints of the API as methods; `_tasks.engine` creates and connects its parts."""

from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import AbstractAsyncContextManager
from functools import partial
from os import PathLike
from typing import TYPE_CHECKING, Any, Unpack

from lemon_async._api.models_and_files import read_model, read_models
from lemon_async._http.calls import path_of
from lemon_async._http.key import ApiKey
from lemon_async._http.transport import Timeouts
from lemon_async._images.images import Images
from lemon_async._pace.retry import RetryPolicy
from lemon_async._pace.schedule import PollPolicy
from lemon_async._tasks.base_session import BaseSession
from lemon_async._tasks.engine import Engine
from lemon_async._tasks.map import Outcomes
from lemon_async._tasks.map_input import Items
from lemon_async._tasks.progress import Reporter, make_display
from lemon_async._tasks.settings import Settings
from lemon_async._tasks.stream import ImageStream
from lemon_async._tasks.task import ImageTask
from lemon_async._uploads.preparation import build_request, request_from
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
from lemon_async.types import Model, ProgressOption, StopOn, SubmissionJournal

if TYPE_CHECKING:
    from aiohttp import TraceConfig

    from lemon_async.batch.batch import Batch
    from lemon_async.batch.journal import Journal
    from lemon_async.batch.prices import PriceOption
    from lemon_async.batch.rows.builder import KeyOption
    from lemon_async.batch.rows.reader import RowSource
    from lemon_async.events import EventHandler

__all__ = ["LemonSession"]


class LemonSession(BaseSession):
    """A client of the LemonData image API; use it as `async with LemonSession() as lemon`.

    One session serves any number of coroutines of one event loop, which share its connections, its rate limit and one
    poller. It may be opened, used and closed in different asyncio tasks, as in notebook cells.

    Args:
        api_key: The key; by default the environment variable `LEMONDATA_API_KEY`.
        base_url: The URL of the API; requests go to `<base_url>/v1/...`, a trailing slash or `/v1` is ignored. By
            default the environment variable `LEMONDATA_BASE_URL`, or else `https://api.lemondata.cc`. It may have a
            path, as gateways do. A gateway that retries requests by itself can pay twice: turn its retries off.
        allow_http: Hosts (`host` or `host:port`) that `base_url` and result links may name without `https`, and in a
            private network. The key, prompts and images can be read in transit. Loopback is always allowed.
        headers: Extra headers of every API request, such as the key of a gateway; never sent elsewhere, and never
            shown. Those that HTTP or the library sets itself are rejected.
        polling: How pending tasks are polled.
        retry: When a request is sent again; a paid one only if it was provably not accepted.
        timeouts: Time limits of requests and downloads.
        requests_per_minute: The account's rate limit for submits, polls and all else, less what other programs need;
            never exceeded. By default it is learned, at the cost of some dozen 429s if no headers report it; polls
            are rarer until then (`PollPolicy`).
        shared_limit: The URL of a store (`redis://`, `rediss://`, `valkey://` or `postgresql://`, extras `redis` and
            `postgres`) through which all processes with this account and URL share `requests_per_minute`. If it cannot
            be reached at first, requests end with `TransportError`; later, submits wait, and polls go on slowly.
        max_submits: Maximum number of concurrent paid requests; more are queued.
        max_polls: Maximum number of concurrent polls. More bring results sooner when many jobs end together.
        max_downloads: Maximum number of concurrent downloads.
        check_contracts: Validate requests against the documented rules before spending money.
        learned_durations: The `learned_durations` of an earlier session: polling is then well timed from the start.
        on_event: One or more functions, called with each event of `lemon_async.events`. They must not block.
        trace_configs: For every connection, as of `aiohttp.ClientSession`. Their code sees the key in request headers.

    Raises:
        ContractError: A setting is invalid; nothing was connected.
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
        shared_limit: str | None = None,
        max_submits: int = 100,
        max_polls: int = 10,
        max_downloads: int = 8,
        check_contracts: bool = True,
        learned_durations: Mapping[str, Any] | None = None,
        on_event: "EventHandler | Sequence[EventHandler] | None" = None,
        trace_configs: "Sequence[TraceConfig]" = (),
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
            shared_limit=shared_limit,
            max_submits=max_submits,
            max_polls=max_polls,
            max_downloads=max_downloads,
            check_contracts=check_contracts,
            learned_durations=learned_durations,
            on_event=on_event,
            trace_configs=trace_configs,
        )
        del shared_limit  # as above: it may have a password
        self._engine = Engine(settings)
        self.base_url: str = self._engine.base_url

    async def generate(
        self,
        prompt: str | Request,
        *,
        check_contracts: bool | None = None,
        progress: ProgressOption = False,
        **fields: Unpack[GenerateFields],
    ) -> Images:
        """Return the images for a prompt, whether the service answers inline or with a task. Spends money, once.

        Cancelling while the request is in flight is described under `submit`. Once the service has accepted the job,
        cancelling stops the waiting only: the job continues, is billed, and stays in `pending`.

        Args:
            prompt: A description of the image, or a complete request.
            check_contracts: Overrides the session's setting for this request.
            progress: `True` shows status and seconds with tqdm (an extra), in a notebook or on a terminal's stderr. A
                function is called with a `Progress` at every change, and must not block; if it raises, that is logged.
            **fields: See `GenerateFields`.

        Raises:
            ContractError: The request violates documented rules; nothing was sent.
            TransportError: It could not be sent; nothing was sold.
            ApiError: The service refused it; nothing was sold.
            SubmissionUnknown: It was sent, but the outcome is unknown; it is not sent again.
            TaskError: It was accepted and did not end in images. Resume it with the error's `resume_token`.
        """
        return await (await self._engine.begin(request_from(prompt, fields), check_contracts, progress))

    async def edit(
        self,
        prompt: str | EditRequest,
        *,
        image: Source | Sequence[Source] | None = None,
        mask: Source | None = None,
        check_contracts: bool | None = None,
        progress: ProgressOption = False,
        **fields: Unpack[EditFields],
    ) -> Images:
        """Return images made from images. Spends money, once; cancelling and errors as for `generate`.

        Args:
            prompt: A description of the edit, or a complete request.
            image: One `Source` or several, at most 16 (xAI: 3) of 50 MB each. Paths, bytes, binary files, async
                iterables of bytes and `Image`s are uploaded; the service fetches URLs and stored files itself. One
                request cannot mix uploads with the latter.
            mask: A PNG of the first image's size; fully transparent areas are edited. For uploads only.
            check_contracts: Overrides the session's setting for this request.
            progress: As for `generate`.
            **fields: See `EditFields`; the server's default model is `dall-e-2`.
        """
        request = build_request(EditRequest, {"image": image, "mask": mask, **fields}, prompt)
        return await (await self._engine.begin(request, check_contracts, progress))

    async def create_variation(
        self,
        image: Source | VariationRequest,
        *,
        check_contracts: bool | None = None,
        progress: ProgressOption = False,
        **fields: Unpack[VariationFields],
    ) -> Images:
        """Return variations of an image (dall-e-2). Spends money, once; cancelling and errors as for `generate`.

        Args:
            image: A square PNG of less than 4 MB to upload, in any form that `edit` uploads; or a complete request.
            check_contracts: Overrides the session's setting for this request.
            progress: As for `generate`.
            **fields: See `VariationFields`.
        """
        request = build_request(VariationRequest, fields, image)
        return await (await self._engine.begin(request, check_contracts, progress))

    async def submit(
        self, prompt: str | Request, *, check_contracts: bool | None = None, **fields: Unpack[JobFields]
    ) -> ImageTask:
        """Return a task as soon as the service has accepted the job. Spends money, once; errors as for `generate`.

        If the service answers inline, the task is done. Cancelling while the request is in flight leaves open whether
        it was accepted: the `CancelledError` has a `SubmissionUnknown` as its cause, kept in `unknown_submissions`.

        Args:
            prompt: A description of the image, or a complete request, of any kind.
            check_contracts: Overrides the session's setting for this request.
            **fields: See `GenerateFields`; they override those of a request. With `image`, and possibly `mask`, the
                job is an edit, as in `edit`.
        """
        return await self._engine.submit(request_from(prompt, fields), check_contracts)

    def stream(
        self, prompt: str | Request, *, check_contracts: bool | None = None, **fields: Unpack[JobFields]
    ) -> AbstractAsyncContextManager[ImageStream]:
        """Stream images while they are made: `async with session.stream(...) as stream`. Spends money, once.

        `async for image in stream` yields `PartialImage`s, as many as `partial_images` requests, and the finished
        `Image`s; then `stream.images` holds what `generate` would have returned. For families with `partial_images`
        (gpt-image-2). If the service answers with a task, the stream waits for that.

        Cancelling, or leaving the block early, ends the stream but not the job, which may be billed: the
        `SubmissionUnknown` is kept in `unknown_submissions`. All of it takes at most `Timeouts.submit_s`.

        Raises:
            ContractError, TransportError, ApiError: As for `generate`, on entering.
            SubmissionUnknown: On entering or reading; `partial_images` holds what had arrived.
            TaskFailed: While reading: the job failed.
        """
        return self._engine.stream(request_from(prompt, fields), check_contracts)

    def map(
        self,
        requests: Items,
        /,
        *,
        in_flight: int = 100,
        ordered: bool = False,
        fail_fast: bool = False,
        stop_on: StopOn = "account",
        key: Callable[[Any], Any] | None = None,
        journal: SubmissionJournal | None = None,
        check_contracts: bool | None = None,
        on_submitted: Callable[[int, ImageTask], object] | None = None,
        progress: ProgressOption = False,
        **fields: Unpack[JobFields],
    ) -> Outcomes:
        """Submit many requests: `async with session.map(prompts, ...) as outcomes: async for outcome in outcomes`.

        Spends money, once for each request. Each ends in an `Outcome` with its images or its error; only what `stop_on`
        matches affects others. Leaving the block, by cancelling or otherwise, submits nothing more, and waits at most
        `Timeouts.close_s` for responses that are due; accepted jobs continue, are billed, and stay in
        `outcomes.pending`. A warning lists those whose outcome was not read; so does a note on an exception.

        Args:
            requests: Prompts, requests or `(key, prompt or request)` pairs, from any iterable or async iterable; read
                item by item, as capacity becomes free, in one asyncio task. A slow synchronous one blocks the event
                loop. Generators are not closed.
            in_flight: Maximum number of jobs from submit until you take the outcome, so that a slow reader slows the
                spending down. With jobs of 45 s, 375 of them use 1,000 requests a minute.
            ordered: Yield outcomes in the order of the input, not of completion.
            fail_fast: Raise the first error of a job instead of yielding it, and submit nothing more.
            stop_on: After which error nothing more is submitted: jobs in flight end and are yielded, and then the loop
                raises that error, with a note of how many requests were not submitted. `"account"`: after three
                refusals in a row of the key, the balance or the permissions (401, 402, 403), or of the model if none
                was accepted yet; a map then begins with three requests for up to half a second. Otherwise the first
                error of these types, or for which this function returns true; `None`: never.
            key: Returns the `Outcome.key` of an item that is not a pair. Keys are not compared.
            journal: Its hooks record each request durably before it is sent, and what came of that.
            check_contracts: Overrides the session's setting for these requests.
            on_submitted: Called with the input index and the task of each accepted request; must not block. If it
                raises, nothing more is submitted, and the loop over the outcomes raises that error at the end.
            progress: As for `generate`, for all jobs together. `outcomes.progress` gives the current counts.
            **fields: See `GenerateFields`; they override those of each request.

        Raises:
            ContractError: An argument is invalid, or there is no such field; nothing was sent.
        """
        self._engine.check_usable()
        return self._engine.maps.open(
            requests,
            fields,
            check_contracts=check_contracts,
            in_flight=in_flight,
            ordered=ordered,
            fail_fast=fail_fast,
            stop_on=stop_on,
            key=key,
            journal=journal,
            on_submitted=on_submitted,
            display=make_display(progress),
        )

    def batch(
        self,
        journal: "str | PathLike[str] | Journal",
        rows: "RowSource | None" = None,
        /,
        *,
        key: "KeyOption" = None,
        save: str | None = None,
        in_flight: int = 100,
        attempts: int = 3,
        budget_usd: float | None = None,
        price_usd: "PriceOption" = None,
        provenance: bool = False,
        check_contracts: bool | None = None,
        stop_on: StopOn = "account",
        only_given: bool = False,
        progress: ProgressOption = False,
        **fields: Any,
    ) -> "Batch":
        """Buy rows at most once, and save their pictures, even if the process is killed and the batch run again.

        `async with session.batch("run.db", "rows.csv", key="sku", save="out/{key}") as batch: async for outcome in
        batch`. Spends money, once for each row, and only while outcomes are read. All rows are read, checked and added
        to the journal before anything is sent. Run it again to continue: finished rows are left alone, sold ones are
        resumed, and those whose request was being sent when the process ended are `doubtful` and never sent again by
        themselves. Leaving or cancelling the block buys nothing more (`Batch.aclose`). The journal never holds the key.

        Args:
            journal: The path of an SQLite file on a local disk, which is created, or `postgresql://user@host/database`,
                whose rows any number of processes share, or an open journal.
            rows: A `.csv`, `.jsonl` or `.parquet` file, or an (async) iterable, which must end, of prompts, requests or
                mappings; by default those of the journal. Columns that are fields of a request are used, the others
                travel with the row to its outcome and to `save`.
            key: The column, or a function of the row, that identifies a row; by default its request does.
            save: Where pictures go: a path with the fields `{key}`, columns, and those of `Images.save`; by default
                that of the journal, or `{key}`. Files are never overwritten.
            in_flight: Maximum number of rows from their submit until you take the outcome.
            attempts: How often a row whose task fails is bought at most; failed tasks are released or refunded.
            budget_usd: Limit of all spending of the journal, doubtful rows included; it is never exceeded.
            price_usd: The price of an image, for all models or each, or a function that returns that of a request; by
                default what rows of this journal have cost.
            provenance: Write prompt, model and task id into the files, or beside them.
            check_contracts: Overrides the session's setting for these rows.
            stop_on: As for `map`; such an error pauses the batch.
            only_given: Run the rows that are given, and leave all others of the journal alone.
            progress: As for `generate`.
            **fields: Fields of requests without such a column (`GenerateFields`). `model` may be a list: each row is
                then made with each of them, under the key `<key>:<model>`.

        Raises:
            ContractError: An argument is invalid; rows are checked on entering.
            JournalError: The URL of the journal is invalid.
        """
        from lemon_async.batch.batch import Batch  # noqa: PLC0415 - most programs need none
        from lemon_async.batch.running.options import BatchOptions  # noqa: PLC0415 - likewise

        self.map((), in_flight=in_flight, stop_on=stop_on)  # checks them
        options = BatchOptions(
            key=key,
            save=save,
            in_flight=in_flight,
            attempts=attempts,
            budget_usd=budget_usd,
            price_usd=price_usd,
            provenance=provenance,
            check_contracts=check_contracts,
            stop_on=stop_on,
            only_given=only_given,
            fields=fields,
            validate=partial(self.validate, check_contracts=self._engine.is_checked(check_contracts)),
            reporter=partial(Reporter, make_display(progress)),
            **self._engine.batch_options(),
        )
        return Batch(self, journal, rows, options)

    async def models(
        self,
        *,
        recommended_for: str | None = None,
        category: str | None = None,
        provider: str | None = None,
        tag: str | None = None,
    ) -> tuple[Model, ...]:
        """Return the models that match all filters, in the service's order. Spends nothing.

        `recommended_for="image"` is the current shortlist, best first, see `Model.preference`; a category is for
        instance `image`. Retried after network faults and 5xx within `RetryPolicy.max_elapsed_s`. Cancelling stops it.

        Raises:
            TransportError: No response came.
            ApiError: The service refused, or its list exceeds 1 MiB or 65,536 names and values.
        """
        self._engine.check_usable()
        filters = {"recommended_for": recommended_for, "category": category, "provider": provider, "tag": tag}
        query = {name: value for name, value in filters.items() if value is not None}
        return await self._engine.calls.read("/v1/models", read_models, query=query)

    async def model(self, model: str, /) -> Model:
        """Return one model, or raise `NotFound`; otherwise as `models`. Spends nothing; cancelling ends the request."""
        self._engine.check_usable()
        return await self._engine.calls.read(path_of("/v1/models", model=model), read_model)
