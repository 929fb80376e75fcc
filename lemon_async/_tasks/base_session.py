"""`BaseSession`: what a session shows of its state, and how it ends; `LemonSession` adds the endpoints."""

from collections.abc import Mapping
from typing import Any, Self

from lemon_async._display.dashboard import session_line, session_table
from lemon_async._tasks.engine import Engine
from lemon_async._tasks.task import ImageTask
from lemon_async._tasks.unfinished import SESSION_CLOSED, report_unfinished
from lemon_async.errors import SubmissionUnknown
from lemon_async.types import SubmissionCounts

__all__ = ["BaseSession"]


class BaseSession:
    """The part of `LemonSession` that is not about endpoints."""

    _engine: Engine

    @property
    def pending(self) -> tuple[ImageTask, ...]:
        """The tasks that are not over, oldest first; of a closed session, those that were not over then."""
        return self._engine.poller.pending

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

    async def aclose(self) -> None:
        """Stop polling and close all connections, within `Timeouts.close_s`; may be called again. Spends nothing.

        Pending tasks end with `SessionError` here, but continue at the service: they stay in `pending`, can be resumed
        by their token, and are listed by a warning and by a note on an exception that leaves the `async with` block.
        Paid requests in flight become `SubmissionUnknown`. Cancelling stops the waiting; the closing continues.
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
        return session_line(self._engine.state())

    def _repr_html_(self) -> str:
        return session_table(self._engine.state())
