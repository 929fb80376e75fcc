"""What happens in a session, as it happens: frozen objects that `LemonSession(on_event=...)` passes to a function.

Functions are called in the event loop's thread, in the order of what happened, and when the session already shows it.
They may call into the session; what that causes follows. Errors are copies without a traceback. No event has the key.

    a job begins    Submitted, or NotSent if it could not even be tried; Resumed if it was sold before
    each attempt    Submitted, then Accepted | Refused | NotSent | OutcomeUnknown; RetryScheduled if there is another
    once accepted   Polled, any number of times
    a job ends      Completed | Failed, once

A task that is resumed is a job of its own, also in the session that has submitted it. Polls, free requests and
downloads that are cancelled have no event.
"""

from collections.abc import Callable, Mapping
from typing import Literal

import attrs

from lemon_async.errors import ApiError, LemonError, SubmissionUnknown, TransportError
from lemon_async.requests import Request
from lemon_async.types import Billing, Record

__all__ = [
    "Accepted",
    "BatchClosed",
    "BatchOpened",
    "Called",
    "Completed",
    "Downloaded",
    "Event",
    "EventHandler",
    "Failed",
    "JobEvent",
    "NotSent",
    "OutcomeUnknown",
    "Polled",
    "RateLimitWaited",
    "RateLimited",
    "Refused",
    "Resumed",
    "RetryScheduled",
    "RowChanged",
    "Saved",
    "Submitted",
]


@attrs.frozen(eq=False, repr=False, kw_only=True)
class Event(Record):
    """Something that happened.

    Attributes:
        at: When, in Unix seconds.
    """

    at: float


@attrs.frozen(eq=False, repr=False, kw_only=True)
class JobEvent(Event):
    """Something that happened to one job, which ends with one `Completed` or `Failed`, whatever came before.

    Attributes:
        job: The number of the job in its session, from 1; all events of a job have the same.
        task_id: The service's id of the task; `None` before the service has accepted it, and if it answered inline.
        model: The model of the request, or else the one that the service reports.
    """

    job: int
    task_id: str | None = None
    model: str | None = None


@attrs.frozen(eq=False, repr=False, kw_only=True)
class Submitted(JobEvent):
    """A paid request is about to be sent.

    Attributes:
        request: The request, with its prompt.
        attempt: The number of the attempt, from 1.
        waited_s: How long it waited for a free place, the rate limit and the journal of a map, in seconds.
    """

    request: Request
    attempt: int = 1
    waited_s: float = 0.0


@attrs.frozen(eq=False, repr=False, kw_only=True)
class Accepted(JobEvent):
    """The service has accepted a paid request: it is sold.

    Attributes:
        status: The status of the job; `completed` if it answered inline.
        attempt: The number of the attempt.
        seconds: How long the request took.
    """

    status: str
    attempt: int = 1
    seconds: float = 0.0


@attrs.frozen(eq=False, repr=False, kw_only=True)
class Refused(JobEvent):
    """The service has refused a paid request: nothing was sold. `RetryScheduled` follows if it is sent again.

    Attributes:
        error: The service's reason.
        attempt: The number of the attempt, from 1.
        seconds: How long the request took.
    """

    error: ApiError
    attempt: int = 1
    seconds: float = 0.0


@attrs.frozen(eq=False, repr=False, kw_only=True)
class NotSent(JobEvent):
    """A paid request could not be sent: nothing was sold. `RetryScheduled` follows if there is another attempt.

    Attributes:
        error: Why.
        attempt: The number of the attempt, from 1.
        seconds: How long the request took; 0 if it had not begun.
    """

    error: TransportError
    attempt: int = 1
    seconds: float = 0.0


@attrs.frozen(eq=False, repr=False, kw_only=True)
class OutcomeUnknown(JobEvent):
    """A paid request was sent, and it is unknown whether it was sold.

    Attributes:
        error: What happened.
        attempt: The number of the attempt, from 1.
        seconds: How long the request took.
    """

    error: SubmissionUnknown
    attempt: int = 1
    seconds: float = 0.0


@attrs.frozen(eq=False, repr=False, kw_only=True)
class Resumed(JobEvent):
    """`LemonSession.task` has begun to poll a task that was sold before."""


@attrs.frozen(eq=False, repr=False, kw_only=True)
class Polled(JobEvent):
    """A poll of a task has ended.

    Attributes:
        status: The status that the service reports; `None` if the poll failed, which ends no job.
        progress: The service's own figure; its scale is not documented.
        seconds: How long the poll took.
        error: Why it failed.
    """

    status: str | None = None
    progress: float | None = None
    seconds: float = 0.0
    error: LemonError | None = None


@attrs.frozen(eq=False, repr=False, kw_only=True)
class Completed(JobEvent):
    """A job has ended with images: it is settled.

    Attributes:
        images: Number of images.
        seconds: Time since its request was sent; `None` if an earlier session sent it.
        billing: The billing facts of the response.
    """

    images: int
    seconds: float | None = None
    billing: Billing = attrs.field(factory=Billing)


@attrs.frozen(eq=False, repr=False, kw_only=True)
class Failed(JobEvent):
    """A job has ended here without images.

    Attributes:
        error: What its waiters raise; the error of the last attempt if its caller has cancelled it.
        money: `released` if the service has ended the job, which costs nothing; `settled` if it completed without a
            usable image; `open` if the job continues at the service, or its state there is not known, as after
            `OutcomeUnknown`; `none` if it was never sold: after `Refused` or `NotSent` without another attempt.
        seconds: Time since its request was last sent; `None` if it never was, or an earlier session sent it.
    """

    error: LemonError
    money: Literal["settled", "released", "open", "none"]
    seconds: float | None = None


@attrs.frozen(eq=False, repr=False, kw_only=True)
class RetryScheduled(Event):
    """A request will be sent again.

    Attributes:
        what: The request, such as `POST /v1/images/generations`.
        attempt: The number of the attempt that failed.
        wait_s: Seconds until the next one.
        error: Why it failed.
        job: The number of the job; `None` if the request is not part of a job.
    """

    what: str
    attempt: int
    wait_s: float
    error: LemonError
    job: int | None = None


@attrs.frozen(eq=False, repr=False, kw_only=True)
class RateLimited(Event):
    """The service has responded 429, which pauses all requests of the session.

    Attributes:
        retry_after_s: For how long, in the service's words; `None` if it does not say.
    """

    retry_after_s: float | None = None


@attrs.frozen(eq=False, repr=False, kw_only=True)
class RateLimitWaited(Event):
    """A request had to wait for the rate limit.

    Attributes:
        kind: What kind of request it was.
        seconds: How long it waited.
    """

    kind: Literal["submit", "poll", "other"]
    seconds: float


@attrs.frozen(eq=False, repr=False, kw_only=True)
class Called(Event):
    """A request that costs nothing has ended; polls are `Polled`.

    Attributes:
        method: The HTTP method.
        path: The path without its query.
        status: The status of the response; `None` if there was none.
        seconds: How long it took.
        error: Why it failed.
    """

    method: str
    path: str
    status: int | None = None
    seconds: float = 0.0
    error: LemonError | None = None


@attrs.frozen(eq=False, repr=False, kw_only=True)
class Downloaded(Event):
    """A download of a result has ended.

    Attributes:
        url: The link without its query.
        size_bytes: Number of bytes; 0 if it failed.
        seconds: How long it took, with its retries.
        error: Why it failed.
        task_id: The task of the image, if it has one.
    """

    url: str
    size_bytes: int = 0
    seconds: float = 0.0
    error: Exception | None = None
    task_id: str | None = None


@attrs.frozen(eq=False, repr=False, kw_only=True)
class Saved(Event):
    """A picture was written to a file.

    Attributes:
        path: The file.
        size_bytes: Its size.
        task_id: The task of the image, if it has one.
    """

    path: str
    size_bytes: int
    task_id: str | None = None


@attrs.frozen(eq=False, repr=False, kw_only=True)
class BatchOpened(Event):
    """A batch has been entered.

    Attributes:
        journal: The name of its journal, without credentials.
        counts: The number of rows by state.
    """

    journal: str
    counts: Mapping[str, int]


@attrs.frozen(eq=False, repr=False, kw_only=True)
class RowChanged(Event):
    """This process has recorded a new state of a row of a batch; other processes record theirs.

    Attributes:
        journal: The name of the journal.
        key: The key of the row.
        before: Its state before, such as `new`.
        after: Its state now.
        error: Why, in one line, if that is an error.
    """

    journal: str
    key: str
    before: str
    after: str
    error: str | None = None


@attrs.frozen(eq=False, repr=False, kw_only=True)
class BatchClosed(Event):
    """A batch has been left.

    Attributes:
        journal: The name of its journal.
        counts: The number of rows by state.
    """

    journal: str
    counts: Mapping[str, int]


EventHandler = Callable[[Event], object]
"""A function that is called with each `Event` and must not block; what it raises is logged, and harms nothing."""
