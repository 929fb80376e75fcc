"""`BatchOutcome`: how a row of a batch ended in this run, and which transition that is for its journal.

the job ended with                                  before it was sold      after
pictures that are saved                             -                       SAVE
SubmissionUnknown                                   DOUBT                   -
TaskFailed, TaskCancelled                           -                       FAIL
TaskFailed: completed without a usable image        -                       LOSE
TaskLost                                            -                       LOSE
pictures that came inline and cannot be saved       -                       LOSE: they are nowhere else
pictures that cannot be saved yet, TaskTimeout      -                       none: the next run resumes the task
TransportError, 401, 402, 403, 429, 5xx             none: stays new         none
an unknown model, before anything was accepted      none: stays new         -
ContractError, any other refusal                    REFUSE                  none
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from lemon_async._images.images import Images
from lemon_async._tasks.task import ImageTask
from lemon_async.batch.states import State, Transition
from lemon_async.errors import ApiError, ContractError, SubmissionUnknown, TaskCancelled, TaskFailed, TaskLost
from lemon_async.requests import Request

__all__ = ["BatchOutcome", "is_about_session", "transition_of"]

_MAX_ERROR_CHARS = 90
_TEMPORARY = frozenset({401, 402, 403, 408, 429})
_MODEL_CODES = frozenset({"model_not_found", "model_not_allowed"})
_SETTINGS = frozenset({"shared_limit", "requests_per_minute"})  # checked when a request needs the store


@attrs.frozen(eq=False, kw_only=True)
class BatchOutcome:
    """How a row of a batch ended in this run.

    Attributes:
        key: The key of the row.
        status: Its state in the journal: `done`, or `refused`, `doubtful` or `dead` for good; `new` or `sold` if the
            next run continues with it.
        paths: Its files.
        request: The request.
        columns: The columns that are no fields of the request.
        attempt: Number of paid requests so far.
        price_usd: What was reserved for it; `None` if its price is not known.
        cost_usd: What the service reported; `None` if it did not.
        task: The task; `None` if the request was not accepted.
        images: The images; `None` if there are none.
        error: Why it is not done; `None` if it is.
    """

    key: str
    status: State
    paths: tuple[Path, ...] = ()
    request: Request
    columns: Mapping[str, Any] = attrs.field(factory=dict[str, Any])
    attempt: int = 0
    price_usd: float | None = None
    cost_usd: float | None = None
    task: ImageTask | None = None
    images: Images | None = None
    error: Exception | None = None

    def __repr__(self) -> str:
        error = "" if self.error is None else f" {type(self.error).__name__}: {self.error}"[:_MAX_ERROR_CHARS]
        files = "".join(f" {path}" for path in self.paths[:1])
        return f"<BatchOutcome {self.key} {self.status}{files}{error}>"


def transition_of(error: Exception | None, task: ImageTask | None, *, has_sold: bool) -> Transition | None:
    """Return the transition for the journal when a job has ended, or `None` if its row stays where it is.

    Args:
        error: The error of the job, or of saving its pictures; `None` if they are saved.
        task: The task; `None` if the request was not accepted.
        has_sold: Whether the service has accepted any request of this run.
    """
    if task is None:
        return _transition_before_sale(error, has_sold=has_sold)
    if error is None:
        return Transition.SAVE
    is_over = isinstance(error, TaskFailed | TaskCancelled)
    if is_over and task.status != "completed":
        return Transition.FAIL
    return Transition.LOSE if is_over or isinstance(error, TaskLost) or task.id is None else None


def is_about_session(error: Exception | None) -> bool:
    """Return whether an error is about a setting of the session, and not about the row."""
    return isinstance(error, ContractError) and any(problem.field in _SETTINGS for problem in error.problems)


def _transition_before_sale(error: Exception | None, *, has_sold: bool) -> Transition | None:
    if isinstance(error, SubmissionUnknown):
        return Transition.DOUBT
    if isinstance(error, ContractError):
        return None if is_about_session(error) else Transition.REFUSE
    if not isinstance(error, ApiError):
        return None
    if error.code in _MODEL_CODES:
        return Transition.REFUSE if has_sold else None
    return None if error.status in _TEMPORARY or error.status >= 500 else Transition.REFUSE
