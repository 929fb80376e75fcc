"""The message of a batch that was paused: why, the sums, how many rows are left, and what to do. Pure."""

from collections.abc import Mapping

from lemon_async.batch.records import Spending
from lemon_async.batch.states import State
from lemon_async.errors import AccessDenied, AuthenticationError, InsufficientBalance

__all__ = ["describe_pause", "describe_spending"]

_ADVICE = {
    InsufficientBalance: "top up the account",
    AuthenticationError: "set the right key",
    AccessDenied: "use a key that may do this",
}


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
