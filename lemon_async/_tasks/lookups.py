"""What a session does free of charge: models, files, and what it knows of itself."""

from collections.abc import Mapping
from typing import Any

from lemon_async._tasks.dashboard import line, table
from lemon_async._tasks.engine import Engine
from lemon_async._tasks.models import find_models, get_model
from lemon_async._tasks.task import ImageTask
from lemon_async._uploads.stored_files import Files
from lemon_async.errors import SubmissionUnknown
from lemon_async.types import Model, SubmissionCounts

__all__ = ["Lookups"]


class Lookups:
    """The part of `LemonSession` that spends nothing."""

    _engine: Engine
    files: Files

    @property
    def pending(self) -> tuple[ImageTask, ...]:
        """The tasks of this session that are not over, oldest first; once it is closed, those that were not over then.

        The latter have ended with `SessionError` here and go on at the service: another session resumes them.
        """
        return self._engine.poller.pending

    @property
    def unknown_submissions(self) -> tuple[SubmissionUnknown, ...]:
        """The last 1,000 paid requests whose fate is unknown, cancelled ones included."""
        return tuple(self._engine.submissions.unknown)

    @property
    def submission_counts(self) -> SubmissionCounts:
        """What this session has bought so far, in requests: sold, settled, released, unknown."""
        return self._engine.tasks.account.spent(self._engine.submissions.unknown_count)

    @property
    def learned_durations(self) -> Mapping[str, Any]:
        """What the session has learned of how long jobs last; JSON can hold it, and the next session take it."""
        return self._engine.durations.export()

    @property
    def requests_per_minute(self) -> int | None:
        """What the account is taken to allow: as given, or as learned so far; `None` while nothing is known."""
        return self._engine.rate_limiter.budget.requests_per_minute

    async def models(
        self,
        *,
        recommended_for: str | None = None,
        category: str | None = None,
        provider: str | None = None,
        tag: str | None = None,
    ) -> tuple[Model, ...]:
        """Return the models that all filters let through, in the service's order. Spends nothing.

        Repeated after faults of the way, as long as `RetryPolicy.max_elapsed_s` allows. Cancelling stops the asking.

        Args:
            recommended_for: `image` asks for the current shortlist, best first; see `Model.preference`.
            category: Only these, for instance `image`.
            provider: Only its models.
            tag: Only models with it.

        Raises:
            TransportError: No answer came.
            ApiError: The service refused, or its list is too long to be parsed without holding the event loop: more
                than 1 MiB, or 65,536 names and values (500 models with 60 fields each).
        """
        self._check_usable()
        filters = {"recommended_for": recommended_for, "category": category, "provider": provider, "tag": tag}
        return await find_models(self._engine.calls, **filters)

    async def model(self, model: str, /) -> Model:
        """Return all there is to know about a model. Spends nothing; cancelling and errors are those of `models`.

        Raises:
            NotFound: There is none of this id; `did_you_mean` may tell which is meant.
        """
        self._check_usable()
        return await get_model(self._engine.calls, model)

    def _check_usable(self) -> None:
        self._engine.life.check()

    def __repr__(self) -> str:
        if not hasattr(self, "_engine"):
            return "<LemonSession refused>"  # as tracebacks of `__init__` show it
        return line(self._engine)

    def _repr_html_(self) -> str:
        """Return the same for a notebook, with the pace and the purchases."""
        return table(self._engine)
