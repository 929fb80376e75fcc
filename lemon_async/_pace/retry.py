"""How long to wait before a request that was provably not sold is sent again."""

import attrs

from lemon_async._pace.validators import at_least_zero, positive

__all__ = ["RetryPolicy"]


@attrs.frozen(kw_only=True)
class RetryPolicy:
    """When a request is sent again: a paid one only if never sent, or refused with an invitation to retry.

    What is free and changes nothing, such as `models`, is also asked again after faults of the way.

    Attributes:
        max_elapsed_s: No further attempt is made later than this after the first one has failed, apart from its wait
            in line. A `Retry-After` that does not fit raises at once: waiting for it would be in vain.
        first_backoff_s: Longest wait before the second attempt; it doubles from attempt to attempt.
        max_backoff_s: No backoff is longer.
        max_retry_after_s: A longer `Retry-After` is cut to this.
        resubmit_unknown: Send a request again although it may have been sold (`SubmissionUnknown`). You may
            pay twice; off by default.
    """

    max_elapsed_s: float = attrs.field(default=60.0, validator=at_least_zero)
    first_backoff_s: float = attrs.field(default=0.5, validator=positive)
    max_backoff_s: float = attrs.field(default=20.0, validator=positive)
    max_retry_after_s: float = attrs.field(default=60.0, validator=positive)
    resubmit_unknown: bool = False

    def wait_s(self, *, attempt: int, elapsed_s: float, retry_after_s: float | None, jitter: float) -> float | None:
        """Return the seconds to wait before the next attempt, or `None` when there is no time for one.

        Args:
            attempt: Number of attempts made so far, from 1.
            elapsed_s: Seconds since the first attempt failed.
            retry_after_s: What the service asked for, if it did.
            jitter: A number in [0, 1) that spreads clients who failed together.
        """
        if retry_after_s:  # 0, or a date that has passed, is no invitation to ask without pause
            wait = min(retry_after_s, self.max_retry_after_s) + jitter * self.first_backoff_s
        else:
            ceiling = min(self.first_backoff_s * 2.0 ** min(attempt - 1, 64), self.max_backoff_s)
            wait = ceiling * (1 + jitter) / 2
        return wait if elapsed_s + wait <= self.max_elapsed_s else None
