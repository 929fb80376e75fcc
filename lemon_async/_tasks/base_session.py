"""`BaseSession`: what a session does without the network, and how it ends; `LemonSession` adds the endpoints."""

from collections.abc import AsyncGenerator, Iterable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self, Unpack

from lemon_async._tasks.completion import as_completed
from lemon_async._tasks.engine import Engine
from lemon_async._tasks.task import ImageTask
from lemon_async._tasks.unfinished import SESSION_CLOSED, report_unfinished
from lemon_async._uploads.preparation import find_problems, glance_at_sources, request_from
from lemon_async.errors import SubmissionUnknown
from lemon_async.requests import JobFields, Request
from lemon_async.types import Problem, ProgressOption, SubmissionCounts

if TYPE_CHECKING:
    from lemon_async._uploads.stored_files import Files

__all__ = ["BaseSession"]


class BaseSession:
    """The part of `LemonSession` that sends nothing itself."""

    _engine: Engine

    @property
    def pending(self) -> tuple[ImageTask, ...]:
        """The tasks that are not over, oldest first; of a closed session, those that were not over then."""
        return self._engine.poller.pending

    @cached_property
    def files(self) -> "Files":
        """The files that the service stores for the key; what is stored once serves many edits."""
        from lemon_async._uploads.stored_files import Files  # noqa: PLC0415 - most programs store none

        engine = self._engine
        return Files(engine.calls, engine.check_usable, download_s=engine.downloads.total_s)

    @property
    def unknown_submissions(self) -> tuple[SubmissionUnknown, ...]:
        """The last 1,000 paid requests whose outcome is unknown, cancelled ones included."""
        return tuple(self._engine.submissions.unknown)

    @property
    def submission_counts(self) -> SubmissionCounts:
        """The numbers of paid requests so far: accepted (`sold`), settled, released, unknown."""
        return self._engine.submissions.counts

    @property
    def learned_durations(self) -> Mapping[str, Any]:
        """What the session has learned about how long jobs take, as JSON-serialisable data for the next session."""
        return self._engine.durations.export()

    @property
    def requests_per_minute(self) -> int | None:
        """The rate limit, as given or as learned so far; `None` while unknown."""
        return self._engine.rate_limiter.budget.requests_per_minute

    @staticmethod
    def validate(
        prompt: str | Request, *, check_contracts: bool = True, is_stream: bool = False, **fields: Unpack[JobFields]
    ) -> tuple[Problem, ...]:
        """Return the problems of a request without sending it; empty if none is known. Spends nothing.

        Needs no session: `LemonSession.validate(...)`. Reads files, blocking; not sources that can be read only once.

        Args:
            prompt: A description of the image, or a complete request.
            check_contracts: Check the documented rules; otherwise only what makes sending impossible.
            is_stream: Whether the request is meant for `stream`.
            **fields: As for `submit`; unknown ones raise `ContractError`.
        """
        request = request_from(prompt, fields)
        return find_problems(request, glance_at_sources(request), is_checked=check_contracts, is_stream=is_stream)

    def task(self, reference: str) -> ImageTask:
        """Return a handle on a task of this account, and poll it; the same handle while it does. Spends nothing.

        Args:
            reference: An id, or a token from `ImageTask.resume_token`.

        Raises:
            ContractError: `reference` is neither an id nor a token.
        """
        self._engine.check_usable()
        return self._engine.resume(reference)

    def as_completed(
        self, tasks: Iterable[ImageTask], *, progress: ProgressOption = False
    ) -> AsyncGenerator[ImageTask, None]:
        """Yield tasks in the order in which they end, successful or not; awaiting each then takes no time.

        Cancelling, or leaving the loop, ends the watching only. Spends nothing.

        Args:
            tasks: The tasks; duplicates are yielded once.
            progress: As for `generate`: a bar or function for all tasks, until the loop is left.

        Raises:
            ContractError: `tasks` contains anything else, or `progress` is invalid.
        """
        self._engine.check_usable()
        return as_completed(tasks, progress=progress)

    async def aclose(self) -> None:
        """Stop polling and close all connections, within `Timeouts.close_s`; may be called again. Spends nothing.

        Pending tasks end with `SessionError` here, but continue at the service: they stay in `pending`, can be resumed
        by their token, and are listed by a warning and by a note on an exception that leaves the `async with` block.
        Another warning lists the last 1,000 tasks that have ended and whose outcome the program has not read. Paid
        requests in flight become `SubmissionUnknown`. Cancelling stops the waiting; the closing continues.
        """
        await self._engine.lifetime.close()

    async def __aenter__(self) -> Self:
        self._engine.check_usable()
        return self

    async def __aexit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        with report_unfinished(lambda: self.pending, SESSION_CLOSED, error):
            await self.aclose()

    def __repr__(self) -> str:
        if not hasattr(self, "_engine"):
            return "<LemonSession, not initialised>"  # in tracebacks of `__init__`
        from lemon_async._display.dashboard import session_line  # noqa: PLC0415 - most sessions are never shown

        return session_line(self._engine.state())

    def _repr_html_(self) -> str:
        from lemon_async._display.dashboard import session_table  # noqa: PLC0415 - for notebooks

        return session_table(self._engine.state())
