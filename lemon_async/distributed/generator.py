"""`LemonGenerator`: a class for `ray.data.Dataset.map_batches`."""

import asyncio
import contextlib
import weakref
from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from typing import Any

import attrs

from lemon_async._http.transport import Timeouts
from lemon_async._pace.retry import RetryPolicy
from lemon_async._pace.schedule import PollPolicy
from lemon_async.batch.journal import Journal
from lemon_async.batch.opening import open_journal
from lemon_async.batch.prices import PriceOption
from lemon_async.batch.rows.fields import find_column_problems
from lemon_async.distributed.columns import add_columns, check_free, names_of, rows_of
from lemon_async.distributed.given_rows import GivenRows, RowResult
from lemon_async.distributed.loop_thread import LoopThread
from lemon_async.distributed.options import WorkerOptions
from lemon_async.errors import ContractError, JournalError
from lemon_async.session import LemonSession
from lemon_async.types import Problem, StopOn

__all__ = ["LemonGenerator"]

_ADDED = tuple(attrs.fields_dict(RowResult))


class LemonGenerator:
    """Makes pictures of the rows of a Ray data set: a class for `Dataset.map_batches`. Spends money, once for each row.

    ```python
    import os
    import ray
    from lemon_async.distributed import LemonGenerator

    options = {"journal": os.environ["JOURNAL"], "key": "sku", "save": "shared/{key}", "model": "flux-pro"}
    workers = ray.data.ActorPoolStrategy(size=4)
    rows = ray.data.read_csv("rows.csv")
    rows = rows.map_batches(LemonGenerator, fn_constructor_kwargs=options, compute=workers, batch_size=100)
    ```

    The rows come back in their format with these columns added: `status` (the state of the row in the journal: `done`,
    or `refused`, `doubtful` or `dead` for good, or `new` or `sold` if another run continues with it), `paths`, `error`,
    `cost_usd` and `task_id`. What is missing is `None`.

    Ray Data may run a batch again, any number of times, and elsewhere. The journal is the fence: a row that is done is
    reported from there, one that another worker holds is awaited, and one whose request was being sent when its worker
    died is `doubtful`, and not sent again. Errors of rows are columns, as is what stops the buying (`BatchPaused`,
    `JournalError`); then the rows stay `new`, and running the data set again continues.

    The rows of a batch are made concurrently, and Ray gives each worker several batches at a time; all share one
    session. The workers take the key from their environment variable `LEMONDATA_API_KEY`.

    Args:
        journal: The URL of a PostgreSQL database; see `run_batch`.
        key: The column that identifies a row. The same key twice is one row, which is bought once.
        save: Where pictures go, in a folder that all workers share; as for `LemonSession.batch`.
        columns: The columns that make up a row: fields of its request, the key, and what `save` uses; by default all.
            They are kept in the journal as JSON.
        prefix: What the names of the added columns begin with.
        in_flight: Maximum number of rows in flight of each batch.
        attempts: As for `LemonSession.batch`, as are `budget_usd`, `price_usd`, `provenance`, `check_contracts` and
            `stop_on`.
        budget_usd: Limit of all spending of the journal, over all workers.
        price_usd: Prices.
        provenance: Write into the files where they come from.
        check_contracts: Validate requests before spending money.
        stop_on: After which error a batch buys nothing more.
        base_url: As for `LemonSession`, as are all options that follow.
        allow_http: Hosts without `https`.
        polling: How pending tasks are polled.
        retry: When a request is sent again.
        timeouts: Time limits.
        requests_per_minute: The rate limit of the account; with `shared_limit` that of all workers together, and
            otherwise that of each.
        shared_limit: Where the workers share it.
        max_submits: Of each worker, as are `max_polls` and `max_downloads`.
        max_polls: Concurrent polls.
        max_downloads: Concurrent downloads.
        **fields: Fields of every request that has no such column, as for `LemonSession.batch`; one `model` only.

    Raises:
        ContractError: An argument is invalid, or the worker has no key; nothing was sent.
        JournalError: The URL of the journal is invalid.
    """

    def __init__(
        self,
        *,
        journal: str,
        key: str,
        save: str | None = None,
        columns: Iterable[str] | None = None,
        prefix: str = "",
        in_flight: int = 100,
        attempts: int = 3,
        budget_usd: float | None = None,
        price_usd: PriceOption = None,
        provenance: bool = False,
        check_contracts: bool | None = None,
        stop_on: StopOn = "account",
        base_url: str | None = None,
        allow_http: AbstractSet[str] = frozenset(),
        polling: PollPolicy = PollPolicy(),
        retry: RetryPolicy = RetryPolicy(),
        timeouts: Timeouts = Timeouts(),
        requests_per_minute: int | None = None,
        shared_limit: str | None = None,
        max_submits: int = 100,
        max_polls: int = 10,
        max_downloads: int = 8,
        **fields: Any,
    ) -> None:
        session = {
            "base_url": base_url,
            "allow_http": allow_http,
            "polling": polling,
            "retry": retry,
            "timeouts": timeouts,
            "requests_per_minute": requests_per_minute,
            "shared_limit": shared_limit,
            "max_submits": max_submits,
            "max_polls": max_polls,
            "max_downloads": max_downloads,
        }
        batch = {
            "save": save,
            "in_flight": in_flight,
            "attempts": attempts,
            "budget_usd": budget_usd,
            "price_usd": price_usd,
            "provenance": provenance,
            "check_contracts": check_contracts,
            "stop_on": stop_on,
        }
        self._options = WorkerOptions.of(journal, session, batch, fields)
        _check(key, fields.get("model"))
        self._key, self._prefix = key, prefix
        self._columns = None if columns is None else [*dict.fromkeys([*columns, key])]
        self._opened = _Opened(self._options)
        self._thread = LoopThread()
        # Ray drops the object when the worker may end; a worker that is killed leaves its rows to the others.
        weakref.finalize(self, self._thread.close, self._opened.aclose, 8 * timeouts.close_s)

    async def __call__(self, batch: Any) -> Any:
        """Return a batch of rows with what came of them. Spends money, once for each row.

        Cancelling it buys nothing more of this batch; see `Batch.aclose`.

        Raises:
            ContractError: The options do not fit the data set or the journal; nothing of this batch was sent.
            JournalError: The journal cannot be used from the start; nothing was sent.
        """
        rows = self._rows(batch)
        results = await self._thread.run(self._opened.run(rows, self._key))
        return add_columns(batch, {f"{self._prefix}{name}": _column(results, name) for name in _ADDED})

    def _rows(self, batch: Any) -> list[dict[str, Any]]:
        """Return the rows of a batch.

        Raises:
            ContractError: A column is missing, misnamed, or would be overwritten.
        """
        check_free(batch, [f"{self._prefix}{name}" for name in _ADDED])
        rows = rows_of(batch, self._columns)
        names = names_of(batch) if self._columns is None else self._columns
        problems = [*find_column_problems(names)]
        if self._key not in names:
            problems.append(Problem("key", f"{self._key!r} is no column of the data set"))
        if problems:
            raise ContractError(problems=tuple(problems))
        return rows


def _check(key: object, model: object) -> None:
    problems = []
    if not isinstance(key, str) or not key:
        problems.append(Problem("key", f"must be the name of a column, not {key!r:.80}"))
    if model is not None and not isinstance(model, str):
        problems.append(Problem("model", f"must be one model, not {model!r:.80}: each row comes back once"))
    if problems:
        raise ContractError(problems=tuple(problems), undone="started")


def _column(results: Iterable[RowResult], name: str) -> list[Any]:
    return [getattr(result, name) for result in results]


class _Opened:
    """The session and the journal of a worker, opened when they are first needed, in the loop that uses them.

    A journal that has failed is opened again for the next batch; if that is impossible, its rows say so.

    Raises:
        ContractError: An option is invalid, or there is no key.
    """

    def __init__(self, options: WorkerOptions) -> None:
        self._options = options
        self._session = LemonSession(**options.session)
        self._journal: Journal | None = None
        self._was_open = False
        self._journals = contextlib.AsyncExitStack()
        self._lock = asyncio.Lock()

    async def run(self, rows: list[dict[str, Any]], key: str) -> list[RowResult]:
        """Run rows to their end."""
        journal = None
        try:
            async with self._lock:
                journal = self._journal or await self._open()
            given = GivenRows(self._session, journal, rows, key, self._options.batch)
            await given.run()
        except JournalError as failure:
            self._forget(journal)
            if not self._was_open:
                raise
            return [RowResult(status=None, error=f"JournalError: {failure}") for _ in rows]
        if isinstance(given.failure, JournalError):
            self._forget(journal)
        self._was_open = True
        return given.results()

    async def _open(self) -> Journal:
        opened = open_journal(self._options.journal, base_url=self._session.base_url, create=True)
        self._journal = await self._journals.enter_async_context(opened)
        return self._journal

    def _forget(self, journal: Journal | None) -> None:
        """Open the journal again for the next batch, unless that has been done since."""
        if self._journal is journal:
            self._journal = None

    async def aclose(self) -> None:
        """Close both."""
        try:
            await self._journals.aclose()
        finally:
            await self._session.aclose()
