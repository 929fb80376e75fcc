"""The exceptions of the library, split by whose fault they are.

* `LemonError`
    * `ContractError` - the caller's: found before any I/O, lists every problem
    * `SessionError` - the caller's: closed session, wrong event loop, after a fork
    * `TransportError` - no response came, and nothing was sold
    * `SubmissionUnknown` - a paid request was sent and its outcome is unknown
    * `ApiError` - the service refused
        * `BadRequest` `AuthenticationError` `InsufficientBalance` `AccessDenied` `NotFound`
          `Conflict` `PayloadTooLarge` `RateLimited` `ServerError`
    * `TaskError` - the task was accepted and did not end in images
        * `TaskFailed` `TaskCancelled` `TaskTimeout` `TaskLost`
    * `DownloadError` `SaveError` `PartialSaveError` - the pictures exist, but some could not be fetched or saved
    * `JournalError` `BatchPaused` - a batch sends nothing more, and can be continued

Errors store values that `__str__` formats, and survive `pickle` and `copy`: its `resume_token` replaces a live task.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import attrs

from lemon_async.requests import Request
from lemon_async.types import ImageData, Problem, ResumableTask, record_repr

__all__ = [
    "AccessDenied",
    "ApiError",
    "AuthenticationError",
    "BadRequest",
    "BatchPaused",
    "Conflict",
    "ContractError",
    "DownloadError",
    "InsufficientBalance",
    "JournalError",
    "LemonError",
    "NotFound",
    "PartialSaveError",
    "PayloadTooLarge",
    "RateLimited",
    "SaveError",
    "ServerError",
    "SessionError",
    "SubmissionUnknown",
    "TaskCancelled",
    "TaskError",
    "TaskFailed",
    "TaskLost",
    "TaskTimeout",
    "TransportError",
]


def _name_of(error: "LemonError") -> str:
    """Name the task of an error by its id and label; a resumed one without a label by the prompt in its token."""
    task = error.task
    name = getattr(task, "label", None)
    if name is None and getattr(task, "request", None) is None and getattr(task, "prompt", None):
        name = f"{getattr(task, 'prompt', None)!r:.80}"
    return f"task {getattr(task, 'id', None) or '(answered inline)'}{f' ({name})' if name else ''}"


# Without slots users can inherit from two errors. `auto_exc` would make attrs put every field into `args`.
@attrs.define(auto_exc=False, eq=False, repr=False, slots=False, kw_only=True)
class LemonError(Exception):
    """Base of all exceptions that this library raises on purpose.

    Attributes:
        task: The task that the error is about; `None` before the job is accepted and after unpickling.
        resume_token: A string that `LemonSession.task` accepts to resume that task.
        request_id: The id to quote to the service's support; `None` if no response had one.
        headers: Headers of the response, names in lower case: all of a refusal's, the `x-*` ones of a task's.
    """

    task: ResumableTask | None = attrs.field(default=None, repr=False)
    resume_token: str | None = attrs.field(init=False, repr=False)
    _task_name: str = attrs.field(init=False, repr=False)
    request_id: str | None = attrs.field(default=None, repr=False)
    headers: Mapping[str, str] = attrs.field(factory=dict[str, str], repr=False)

    def __attrs_post_init__(self) -> None:
        self._task_name = _name_of(self)
        super().__init__(str(self))  # sets `args`

    @resume_token.default
    def _find_token(self) -> str | None:
        return self.task.resume_token() if self.task is not None and self.task.id is not None else None

    __repr__ = record_repr

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self).__new__, (type(self), *self.args), {**self.__dict__, "task": None}

    def __copy__(self) -> Self:
        """Return a twin without a traceback, for raising one outcome in many waiters."""
        twin = type(self).__new__(type(self), *self.args)
        twin.__dict__.update(self.__dict__)
        twin.__cause__ = self.__cause__
        return twin


@attrs.define(auto_exc=False, eq=False, repr=False, slots=False, kw_only=True)
class ContractError(LemonError):
    """The request or setting is invalid; nothing was sent and nothing was sold.

    Attributes:
        problems: Every problem, in the order of the fields.
        undone: What was not done because of them: `sent`, `written` or `started`.
    """

    problems: tuple[Problem, ...]
    undone: str = "sent"

    @classmethod
    def of(cls, field: str, advice: str, *, undone: str = "sent") -> Self:
        """Return the error for one problem."""
        return cls(problems=(Problem(field, advice),), undone=undone)

    def __str__(self) -> str:
        if len(self.problems) == 1:
            return f"{self.problems[0]} (nothing was {self.undone})"
        lines = "".join(f"\n  - {problem}" for problem in self.problems)
        return f"{len(self.problems)} problems, nothing was {self.undone}:{lines}"


@attrs.define(auto_exc=False, eq=False, repr=False, slots=False, kw_only=True)
class _MessageError(LemonError):
    """Base of errors that are described by one sentence."""

    message: str

    def __str__(self) -> str:
        return self.message


class SessionError(_MessageError):
    """The session was closed, or is used in another event loop or process."""

    def __str__(self) -> str:
        if self.resume_token is None:
            return self.message
        return f"{self.message}; {self._task_name} can be resumed by its resume_token()"


@attrs.define(auto_exc=False, eq=False, repr=False, slots=False, kw_only=True)
class TransportError(_MessageError):
    """No response came, and nothing was sold: it is safe to try again.

    Attributes:
        was_sent: Whether an upload or deletion may have been carried out; a paid request is `SubmissionUnknown` then.
        retry_after: Seconds to wait before another try, if known.
    """

    was_sent: bool = False
    retry_after: float | None = None


class JournalError(_MessageError):
    """The journal of a batch cannot be read or written: nothing more is sent, and what was sold is on disk.

    `owner` is the last known status of the process that has it open, a JSON object; `None` if it is not in use.
    """

    owner: Mapping[str, Any] | None = None


class BatchPaused(_MessageError):
    """A batch was ended by its budget, an empty balance or refusals of every row; run it again to continue."""


@attrs.define(auto_exc=False, eq=False, repr=False, slots=False, kw_only=True)
class SubmissionUnknown(LemonError):
    """A paid request was sent and its outcome is unknown: it may have been accepted and billed.

    The library does not send it again unless `RetryPolicy.resubmit_unknown` is set; `__cause__` has more.

    Attributes:
        request: The request, to submit again if you decide so.
        fingerprint: SHA-256 of the request's body, to identify the request in the service's records.
        reason: What came instead of a readable response, in one line.
        status: HTTP status of the unreadable response; `None` if there was none.
        partial_images: Previews that a stream delivered before it broke.
        images: Finished pictures that a stream delivered before it broke.
    """

    request: Request
    fingerprint: str
    reason: str
    status: int | None = None
    partial_images: tuple[ImageData, ...] = attrs.field(default=(), repr=False)
    images: tuple[ImageData, ...] = attrs.field(default=(), repr=False)

    def __str__(self) -> str:
        return (
            f"the paid request was sent, but its outcome is unknown: {self.reason}. It may have been billed "
            "and is not sent again; look for it in your account before you submit it again "
            f"(fingerprint {self.fingerprint[:12]})"
        )


@attrs.define(auto_exc=False, eq=False, repr=False, slots=False, kw_only=True)
class ApiError(LemonError):
    """The service answered with an error ("Errors" page of its documentation).

    Attributes:
        status: HTTP status.
        message: The service's message, or one line that describes what came instead.
        code: Machine-readable code such as `model_not_found`.
        type: The service's category of errors.
        param: The request field at fault.
        hint: The service's advice.
        did_you_mean: The service's guess, for instance a model id.
        suggestions: Ids that the service suggests.
        alternatives: Models that the service offers instead, as received.
        retryable: Whether the service recommends a retry; `None` if it did not say.
        retry_after: Seconds to wait, finite and not negative; `None` if the service did not say.
        balance_usd: The balance of the account.
        estimated_cost_usd: The estimated cost of the request.
        upstream: The service's description of the provider's error, as received.
        validation_errors: One mapping per refused field, with `field`, `message` and `code`.
    """

    status: int
    message: str
    code: str | None = None
    type: str | None = None
    param: str | None = None
    hint: str | None = None
    did_you_mean: str | None = None
    suggestions: tuple[str, ...] = ()
    alternatives: tuple[Mapping[str, Any], ...] = ()
    retryable: bool | None = None
    retry_after: float | None = None
    balance_usd: float | None = None
    estimated_cost_usd: float | None = None
    upstream: Any = None
    validation_errors: tuple[Mapping[str, Any], ...] = ()

    def __str__(self) -> str:
        label = f"HTTP {self.status} {self.code}" if self.code else f"HTTP {self.status}"
        parts = [f"{label}: {self.message}"]
        parts += [self.hint] if self.hint else []
        parts += [f"did you mean {self.did_you_mean!r}?"] if self.did_you_mean else []
        details = [f"{entry.get('field')}: {entry.get('message')}" for entry in self.validation_errors]
        parts += [detail for detail in details if detail not in self.message]
        parts += [f"request id {self.request_id}"] if self.request_id else []
        return "; ".join([*(part.removesuffix(".") for part in parts[:-1]), parts[-1]])


class BadRequest(ApiError):
    """400: the request is invalid; see `param` and `validation_errors`."""


class AuthenticationError(ApiError):
    """401: the key is missing, wrong or expired."""


class InsufficientBalance(ApiError):
    """402: the balance of the account is too low."""


class AccessDenied(ApiError):
    """403: the key is valid but not permitted to do this."""


class NotFound(ApiError):
    """404: no such model, task or file for this key."""


class Conflict(ApiError):
    """409: the task or file is not in a state that allows this."""


class PayloadTooLarge(ApiError):
    """413: the request is too large."""


class RateLimited(ApiError):
    """429: too many requests per minute; see `retry_after`."""


class ServerError(ApiError):
    """5xx with a readable error: the service or its provider failed."""


@attrs.define(auto_exc=False, eq=False, repr=False, slots=False, kw_only=True)
class TaskError(LemonError):
    """The task was accepted and did not end in images."""

    _verdict: ClassVar[str] = "failed"
    task_id: str | None = attrs.field(init=False)
    reason: str

    @task_id.default
    def _find_id(self) -> str | None:
        return None if self.task is None else self.task.id

    def __str__(self) -> str:
        return f"{self._task_name} {self._verdict}: {self.reason}"


@attrs.define(auto_exc=False, eq=False, repr=False, slots=False, kw_only=True)
class TaskFailed(TaskError):
    """The task failed; the service releases or refunds the reserved amount ("Create image").

    A task that completed without a usable image fails, too, and may have been billed.

    Attributes:
        code: The service's code for the failure, if it sent one.
    """

    code: str | None = None

    def __str__(self) -> str:
        return super().__str__() + (f" ({self.code})" if self.code else "")


class TaskCancelled(TaskError):
    """The task was cancelled at the service."""

    _verdict = "was cancelled"


class TaskTimeout(TaskError):
    """Waiting ended before the task did: it may still finish and be billed."""

    _verdict = "is not finished"

    def __str__(self) -> str:
        return f"{super().__str__()}. It may still finish and be billed; session.task(error.resume_token) resumes it"


class TaskLost(TaskError):
    """The service reported several times that it does not know the task, which may have been billed."""

    _verdict = "is lost"


@attrs.define(auto_exc=False, eq=False, repr=False, slots=False, kw_only=True)
class DownloadError(LemonError):
    """A picture could not be fetched; it was billed, and can be fetched again with its link or its task.

    Attributes:
        url: The link without its query, which may be a credential.
        reason: What went wrong, in one line.
        status: HTTP status of the refusal, if there was one.
        index: The position of the picture in its response, from 0.
    """

    url: str
    reason: str
    status: int | None = None
    index: int | None = None

    def __str__(self) -> str:
        return f"could not fetch {self.url}: {self.reason}{_place(self.index)}"


@attrs.define(auto_exc=False, eq=False, repr=False, slots=False, kw_only=True)
class SaveError(LemonError):
    """A picture could not be written; it can still be read, or saved elsewhere.

    Attributes:
        path: The destination.
        reason: The system's message, in one line.
        errno: The system's error number, such as `errno.ENOSPC`.
        index: The position of the picture in its response, from 0.
    """

    path: str
    reason: str
    errno: int | None = None
    index: int | None = None

    def __str__(self) -> str:
        return f"could not save {self.path!r}: {self.reason}{_place(self.index)}"


@attrs.define(auto_exc=False, eq=False, repr=False, slots=False, kw_only=True)
class PartialSaveError(LemonError):
    """Some pictures of a response could not be fetched or saved; all others were saved.

    Attributes:
        saved: The paths of those that were saved, by their position in the response.
        errors: The `DownloadError` or `SaveError` of each of the others.
    """

    saved: Mapping[int, Path]
    errors: Mapping[int, LemonError]

    def __str__(self) -> str:
        lines = "".join(f"\n  - {error}" for error in self.errors.values())
        return f"{len(self.errors)} of {len(self.saved) + len(self.errors)} pictures were not saved:{lines}"


def _place(index: int | None) -> str:
    return "" if index is None else f" (picture {index + 1} of the response)"
