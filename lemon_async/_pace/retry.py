"""Decide whether a failed request may be sent again, and how long to wait first.

    kind       what it is                                       sent again after
    SUBMIT     a paid POST                                      NOT_SENT, TRY_LATER; UNKNOWN if the caller opted in
    READ       a GET; repeating it is harmless                  everything but REFUSED
    CHANGE     a free request with an effect                    NOT_SENT, TRY_LATER
    POLL       a GET that must not end its task                 everything but REFUSED; NOT_FOUND must repeat to count
    DOWNLOAD   a GET of a result, from where it broke off       everything but REFUSED

Callers classify what happened (`_api.error_responses.classify`, and `read_poll` for responses to polls), ask
`next_step` and do what it returns. No other module decides about retries.
"""

from collections.abc import Mapping
from enum import Enum, auto

import attrs

from lemon_async._api.error_responses import Failure
from lemon_async._pace.validators import at_least_zero, boolean, positive
from lemon_async.types import Record

__all__ = ["NextStep", "RequestKind", "RetryPolicy", "next_step"]


class RequestKind(Enum):
    """What a request may cause if it is sent twice."""

    SUBMIT = auto()
    READ = auto()
    CHANGE = auto()
    POLL = auto()
    DOWNLOAD = auto()


class NextStep(Enum):
    """What follows a failure."""

    RETRY = auto()
    CONFIRM = auto()  # repeat the request, and accept the answer if it repeats
    RAISE = auto()


_FAILURES = (
    Failure.NOT_SENT, Failure.TRY_LATER, Failure.TRANSIENT, Failure.UNKNOWN, Failure.NOT_FOUND, Failure.REFUSED
)  # fmt: skip
_AGAIN, _CONFIRM, _RAISE = NextStep.RETRY, NextStep.CONFIRM, NextStep.RAISE
_TABLE: Mapping[RequestKind, Mapping[Failure, NextStep]] = {
    kind: dict(zip(_FAILURES, steps, strict=True))
    for kind, steps in {
        #                      NOT_SENT TRY_LATER TRANSIENT UNKNOWN NOT_FOUND REFUSED
        RequestKind.SUBMIT:   (_AGAIN, _AGAIN,   _RAISE,   _RAISE, _RAISE,   _RAISE),
        RequestKind.READ:     (_AGAIN, _AGAIN,   _AGAIN,   _AGAIN, _RAISE,   _RAISE),
        RequestKind.CHANGE:   (_AGAIN, _AGAIN,   _RAISE,   _RAISE, _RAISE,   _RAISE),
        RequestKind.POLL:     (_AGAIN, _AGAIN,   _AGAIN,   _AGAIN, _CONFIRM, _RAISE),
        RequestKind.DOWNLOAD: (_AGAIN, _AGAIN,   _AGAIN,   _AGAIN, _RAISE,   _RAISE),
    }.items()
}  # fmt: skip


def next_step(kind: RequestKind, failure: Failure, *, resubmit_unknown: bool = False) -> NextStep:
    """Return what may follow a failed request; `resubmit_unknown` is `RetryPolicy.resubmit_unknown`."""
    if kind is RequestKind.SUBMIT and failure is Failure.UNKNOWN and resubmit_unknown:
        return NextStep.RETRY
    return _TABLE[kind][failure]


@attrs.frozen(eq=False, repr=False, kw_only=True)
class RetryPolicy(Record):
    """How long to wait before a request is sent again, and for how long to try.

    A paid request is retried only if it was never sent, or refused with a request to try later. Free requests without
    an effect, such as `models`, are also retried after failed responses.

    Attributes:
        max_elapsed_s: No attempt starts later than this after the first failure, not counting its wait for the rate
            limit. A `Retry-After` that does not fit raises immediately.
        first_backoff_s: Longest wait before the second attempt; it doubles from attempt to attempt.
        max_backoff_s: No backoff is longer.
        max_retry_after_s: A longer `Retry-After` is cut to this.
        resubmit_unknown: Send a request again although it may have been accepted (`SubmissionUnknown`). You may
            pay twice; off by default.
    """

    max_elapsed_s: float = attrs.field(default=60.0, validator=at_least_zero)
    first_backoff_s: float = attrs.field(default=0.5, validator=positive)
    max_backoff_s: float = attrs.field(default=20.0, validator=positive)
    max_retry_after_s: float = attrs.field(default=60.0, validator=positive)
    resubmit_unknown: bool = attrs.field(default=False, validator=boolean)

    def wait_s(self, *, attempt: int, elapsed_s: float, retry_after_s: float | None, jitter: float) -> float | None:
        """Return the seconds to wait before the next attempt, or `None` when there is no time for one.

        Args:
            attempt: Number of attempts made so far, from 1.
            elapsed_s: Seconds since the first attempt failed.
            retry_after_s: What the service asked for, if it did.
            jitter: A number in [0, 1) that spreads the retries of clients that failed together.
        """
        if retry_after_s:  # 0, or a date that has passed, does not invite a retry without a pause
            wait = min(retry_after_s, self.max_retry_after_s) + jitter * self.first_backoff_s
        else:
            ceiling = min(self.first_backoff_s * 2.0 ** min(attempt - 1, 64), self.max_backoff_s)
            wait = ceiling * (1 + jitter) / 2
        return wait if elapsed_s + wait <= self.max_elapsed_s else None
