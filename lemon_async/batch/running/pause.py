"""When a batch pauses, and its message: why, the sums, how many rows are left, and what to do. Pure."""

from collections.abc import Mapping

import attrs

from lemon_async.batch.outcome import is_about_session
from lemon_async.batch.records import Spending
from lemon_async.batch.states import State
from lemon_async.errors import (
    AccessDenied,
    ApiError,
    AuthenticationError,
    InsufficientBalance,
    PartialSaveError,
    SaveError,
    SubmissionUnknown,
    TransportError,
)

__all__ = ["PauseRule", "describe_pause", "describe_spending"]

_MAX_UNSOLD = 20
_MAX_UNSAVED = 3

_ADVICE = {
    InsufficientBalance: "top up the account",
    AuthenticationError: "set the right key",
    AccessDenied: "use a key that may do this",
}


@attrs.define
class PauseRule:
    """Pauses a batch when many rows in a row fail for reasons that may not be their own."""

    _unsold: int = attrs.field(default=0, init=False)
    _unsaved: int = attrs.field(default=0, init=False)

    def observe_sold(self) -> None:
        """Note that a request was accepted."""
        self._unsold = 0

    def observe_saved(self) -> None:
        """Note that the pictures of a row were saved."""
        self._unsaved = 0

    def observe_unsold(self, error: Exception | None) -> str | None:
        """Return why to pause after a request that was not accepted, or `None`."""
        if is_about_session(error):
            return str(error)
        if not isinstance(error, ApiError | TransportError | SubmissionUnknown):
            return None
        self._unsold += 1
        is_many = self._unsold == _MAX_UNSOLD
        return f"{_MAX_UNSOLD} rows in a row were not accepted; the last: {error}" if is_many else None

    def observe_unsaved(self, failure: Exception) -> str | None:
        """Return why to pause after pictures that cannot be written, or `None`: the next ones could not, either."""
        causes = failure.errors.values() if isinstance(failure, PartialSaveError) else [failure]
        cause = next((cause for cause in causes if isinstance(cause, SaveError | OSError)), None)
        if cause is None:
            return None
        self._unsaved += 1
        is_many = self._unsaved == _MAX_UNSAVED
        return f"the pictures of {_MAX_UNSAVED} rows in a row could not be written: {cause}" if is_many else None


def describe_pause(
    reason: str,
    counts: Mapping[State, int],
    spending: Spending,
    *,
    cause: BaseException | None = None,
    cap_usd: float | None = None,
) -> str:
    """Return the message of a `BatchPaused`.

    Args:
        reason: Why the batch was paused, without a full stop.
        counts: The number of rows by state.
        spending: The sums.
        cause: The refusal behind it, if there is one.
        cap_usd: The cap, if there is one.
    """
    left = sum(count for state, count in counts.items() if state.is_open)
    advice = next((words for kind, words in _ADVICE.items() if isinstance(cause, kind)), "resolve this")
    if cause is None and cap_usd is not None:
        advice = "raise budget_usd"
    rows = f"{left:,} row{'s' * (left != 1)} {'are' if left != 1 else 'is'} left"
    if refused := counts.get(State.REFUSED):
        rows += f", and {refused:,} refused, which only `lemon-async batch retry` with their keys makes new again"
    return (
        f"{reason.rstrip('.')}; {rows}. {describe_spending(spending, cap_usd)}. To continue, {advice} and run it again"
    )


def describe_spending(spending: Spending, cap_usd: float | None = None) -> str:
    """Return the sums in one line."""
    words = [f"${getattr(spending, name):.2f} {name}" for name in ("spent", "reserved", "doubtful")]
    cap = "" if cap_usd is None else f", of ${cap_usd:.2f}"
    unpriced = f", {spending.unpriced:,} rows without a known price" * bool(spending.unpriced)
    return f"{', '.join(words)}{cap}{unpriced}"
