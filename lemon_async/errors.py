"""Every error of the library, split by whose fault it is.

* `LemonError`
    * `ContractError` - the caller's: found before any I/O, lists every problem
    * `SessionError` - the caller's: closed session, wrong event loop, after a fork
    * `TransportError` - nobody answered, and nothing was sold
    * `SubmissionUnknown` - a paid request went out and its fate is unknown
    * `ApiError` - the service said no
        * `BadRequest` `AuthenticationError` `InsufficientBalance` `AccessDenied` `NotFound`
          `Conflict` `PayloadTooLarge` `RateLimited` `ServerError`
    * `TaskError` - the task was sold and did not end in images
        * `TaskFailed` `TaskCancelled` `TaskTimeout` `TaskLost`
    * `DownloadError` `SaveError` `PartialSaveError` - the pictures exist, and fetching or writing some of them failed

Errors hold values and format themselves. All survive `pickle` and `copy`: of a live task, the `resume_token` does.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, Self

import attrs

from lemon_async.requests import Request
from lemon_async.types import ImageData

__all__ = [
    "AccessDenied", "ApiError", "AuthenticationError", "BadRequest", "Conflict", "ContractError", "DownloadError",
    "InsufficientBalance", "LemonError", "NotFound", "PartialSaveError", "PayloadTooLarge", "Problem", "RateLimited",
    "ResumableTask", "SaveError", "ServerError", "SessionError", "SubmissionUnknown", "TaskCancelled", "TaskError",
    "TaskFailed", "TaskLost", "TaskTimeout", "TransportError",
]  # fmt: skip


class ResumableTask(Protocol):
    """What an error needs to know of the task it carries."""

    @property
    def id(self) -> str | None:
        """The service's id of the task; `None` when it answered inline."""

    def resume_token(self) -> str:
        """A string that `LemonSession.task` turns into the task again."""


def _token_of(error: "LemonError") -> str | None:
    task = error.task
    return task.resume_token() if task is not None and task.id is not None else None


def _name_of(error: "LemonError") -> str:
    """How messages call the task: by its id and its label, or, of a resumed one, by the prompt that its token had."""
    task = error.task
    called = getattr(task, "label", None)
    if called is None and getattr(task, "request", None) is None and getattr(task, "prompt", None):
        called = f"{getattr(task, 'prompt', None)!r:.80}"
    return f"task {getattr(task, 'id', None) or '(answered inline)'}{f' ({called})' if called else ''}"


def _restore(cls: type["LemonError"], state: dict[str, Any]) -> "LemonError":
    error = cls.__new__(cls)
    error.__dict__.update(state)
    error.args = (str(error),)
    return error


# No slots, so that users can inherit from two errors; equality is identity, as for any exception. What attrs does
# to exceptions by itself (`auto_exc`) is to put every field into `args`.
@attrs.define(auto_exc=False, eq=False, slots=False, kw_only=True)
class LemonError(Exception):
    """Anything this library raises on purpose.

    Attributes:
        task: The task a post-submit error is about; `None` before a sale and after unpickling.
        resume_token: What `LemonSession.task` takes to pick that task up again.
        request_id: Quote it to the service's support; `None` when there was no answer, or none in it.
        headers: Headers of the answer, names in lower case: all of a refusal's, the `x-*` ones of a task's.
    """

    task: ResumableTask | None = attrs.field(default=None, repr=False)
    resume_token: str | None = attrs.field(init=False, repr=False, default=attrs.Factory(_token_of, takes_self=True))
    _task_name: str = attrs.field(init=False, repr=False, default=attrs.Factory(_name_of, takes_self=True))
    request_id: str | None = attrs.field(default=None, repr=False)
    headers: Mapping[str, str] = attrs.field(factory=dict[str, str], repr=False)

    def __attrs_post_init__(self) -> None:
        # `args` would repeat every field, the live task included, in each default rendering.
        super().__init__(str(self))

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (type(self), {**self.__dict__, "task": None})

    def __copy__(self) -> Self:
        """A twin without traceback, for raising one outcome in many waiters."""
        twin = type(self).__new__(type(self), *self.args)
        twin.__dict__.update(self.__dict__)
        twin.__cause__ = self.__cause__
        return twin


@attrs.frozen
class Problem:
    """One thing wrong with a request or a setting, found without sending it."""

    field: str
    message: str

    def __str__(self) -> str:
        return f"{self.field}: {self.message}"


@attrs.define(auto_exc=False, eq=False, slots=False, kw_only=True)
class ContractError(LemonError):
    """The request or setting cannot work; nothing was sent and nothing was sold.

    Attributes:
        problems: Everything that was found, in the order of the fields; `undone` is what was not: sent, or written.
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


@attrs.define(auto_exc=False, eq=False, slots=False, kw_only=True)
class SessionError(LemonError):
    """The session cannot be used like this: closed, another event loop, another process."""

    message: str

    def __str__(self) -> str:
        if self.resume_token is None:
            return self.message
        return f"{self.message}; {self._task_name} can be resumed by its resume_token()"


@attrs.define(auto_exc=False, eq=False, slots=False, kw_only=True)
class TransportError(LemonError):
    """No answer came, and nothing was sold: it is safe to try again.

    Attributes:
        was_sent: Whether an upload or deletion may have arrived and been done; a paid one is `SubmissionUnknown` then.
        retry_after: Seconds after which it is worth another try, if that is known.
    """

    message: str
    was_sent: bool = False
    retry_after: float | None = None

    def __str__(self) -> str:
        return self.message


@attrs.define(auto_exc=False, eq=False, slots=False, kw_only=True)
class SubmissionUnknown(LemonError):
    """A paid request went out and its fate is unknown: it may have been sold.

    The library never sends it again by itself (see `RetryPolicy.resubmit_unknown`); `__cause__` has more.

    Attributes:
        request: The request, ready to be submitted again if you decide so.
        fingerprint: SHA-256 of the request's body, to find the sale in the service's records.
        reason: What was seen instead of an answer, in one line.
        status: HTTP status of the unreadable answer; `None` when there was none.
        partial_images: Previews that a stream had delivered before it broke, as the service sent them.
        images: Finished pictures that it had delivered, of several that were asked for.
    """

    request: Request
    fingerprint: str
    reason: str
    status: int | None = None
    partial_images: tuple[ImageData, ...] = attrs.field(default=(), repr=False)
    images: tuple[ImageData, ...] = attrs.field(default=(), repr=False)

    def __str__(self) -> str:
        return (
            f"the paid request was sent, but its fate is unknown: {self.reason}. It may have been sold and "
            "is not sent again; look for it in your account before you submit it anew "
            f"(fingerprint {self.fingerprint[:12]})"
        )


@attrs.define(auto_exc=False, eq=False, slots=False, kw_only=True)
class ApiError(LemonError):
    """The service answered with an error ("Errors" page of its documentation).

    Attributes:
        status: HTTP status.
        message: The service's own words, or a one-line summary of what stood in their place.
        code: Machine-readable code such as `model_not_found`.
        type: The service's family of errors.
        param: The request field it is about.
        hint: The service's advice.
        did_you_mean: What the service thinks was meant, for instance a model id.
        suggestions: Ids the service suggests instead.
        alternatives: Models the service offers instead, as it described them.
        retryable: Whether the service calls a retry sensible; `None` when it did not say.
        retry_after: Seconds to wait, finite and not negative; `None` when not told.
        balance_usd: What is left on the account.
        estimated_cost_usd: What the request would have cost.
        upstream: What the service told of the provider behind it, as it came.
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
        if self.hint:
            parts.append(self.hint)
        if self.did_you_mean:
            parts.append(f"did you mean {self.did_you_mean!r}?")
        details = [f"{entry.get('field')}: {entry.get('message')}" for entry in self.validation_errors]
        parts += [detail for detail in details if detail not in self.message]
        if self.request_id:
            parts.append(f"request id {self.request_id}")
        return "; ".join(parts)


class BadRequest(ApiError):
    """400: the request is wrong; `param` and `validation_errors` tell where."""


class AuthenticationError(ApiError):
    """401: the key is missing, wrong or expired."""


class InsufficientBalance(ApiError):
    """402: the account cannot pay for this."""


class AccessDenied(ApiError):
    """403: the key is good, and may not do this."""


class NotFound(ApiError):
    """404: no such model, task or file for this key."""


class Conflict(ApiError):
    """409: the thing is not in a state that allows this."""


class PayloadTooLarge(ApiError):
    """413: what was sent is too big."""


class RateLimited(ApiError):
    """429: too many requests a minute; `retry_after` tells how long to wait."""


class ServerError(ApiError):
    """5xx with a readable error: the service or its provider failed."""


@attrs.define(auto_exc=False, eq=False, slots=False, kw_only=True)
class TaskError(LemonError):
    """The task was sold and did not end in images; `task` and `resume_token` say which."""

    task_id: str | None = attrs.field(
        init=False,
        default=attrs.Factory(lambda self: None if self.task is None else self.task.id, takes_self=True),
    )
    reason: str

    def __str__(self) -> str:
        return f"{self._task_name} {self._verdict()}"

    def _verdict(self) -> str:
        return f"failed: {self.reason}"


@attrs.define(auto_exc=False, eq=False, slots=False, kw_only=True)
class TaskFailed(TaskError):
    """The service gave the task up, and releases or refunds what it had reserved ("Create image").

    The exception is a task that completed without a usable image: it may have been billed.

    Attributes:
        code: The service's code for the failure, when it sent one.
    """

    code: str | None = None

    def _verdict(self) -> str:
        return f"failed: {self.reason}" + (f" ({self.code})" if self.code else "")


class TaskCancelled(TaskError):
    """The task was cancelled at the service."""

    def _verdict(self) -> str:
        return f"was cancelled: {self.reason}"


class TaskTimeout(TaskError):
    """Waiting ended, the task did not: it may still finish and be billed."""

    def _verdict(self) -> str:
        return (
            f"is not finished: {self.reason}. It may still finish and be billed; "
            "session.task(error.resume_token) picks it up again"
        )


class TaskLost(TaskError):
    """The service says, again and again, that it does not know the task; whether it was billed is unknown."""

    def _verdict(self) -> str:
        return f"is lost: {self.reason}"


@attrs.define(auto_exc=False, eq=False, slots=False, kw_only=True)
class DownloadError(LemonError):
    """A picture was made and could not be fetched; its link and its task are still good to try again.

    Attributes:
        url: The link, without its query, which can be a credential.
        reason: What went wrong, in one line.
        status: HTTP status of the refusal, when there was one.
        index: Which picture of its answer, from 0.
    """

    url: str
    reason: str
    status: int | None = None
    index: int | None = None

    def __str__(self) -> str:
        return f"could not fetch {self.url}: {self.reason}{_place(self.index)}"


@attrs.define(auto_exc=False, eq=False, slots=False, kw_only=True)
class SaveError(LemonError):
    """A picture could not be written; it can still be read, or saved elsewhere.

    Attributes:
        path: Where it should have gone.
        reason: What the system says, in one line; `errno` is its number for that, such as `errno.ENOSPC`.
        index: Which picture of its answer, from 0.
    """

    path: str
    reason: str
    errno: int | None = None
    index: int | None = None

    def __str__(self) -> str:
        return f"could not save {self.path!r}: {self.reason}{_place(self.index)}"


@attrs.define(auto_exc=False, eq=False, slots=False, kw_only=True)
class PartialSaveError(LemonError):
    """Some pictures of an answer could not be fetched or saved; all others were.

    Attributes:
        saved: Where the others are, by their place in the answer.
        errors: What went wrong with these: `DownloadError` or `SaveError`.
    """

    saved: Mapping[int, Path]
    errors: Mapping[int, LemonError]

    def __str__(self) -> str:
        lines = "".join(f"\n  - {error}" for error in self.errors.values())
        return f"{len(self.errors)} of {len(self.saved) + len(self.errors)} pictures were not saved:{lines}"


def _place(index: int | None) -> str:
    return "" if index is None else f" (picture {index + 1} of its answer)"
