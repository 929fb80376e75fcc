"""Decide which priority is next when several wait for one rate limit."""

from collections.abc import Collection
from enum import IntEnum

__all__ = ["Priority", "PriorityPolicy"]


class Priority(IntEnum):
    """The purpose of a request; lower numbers go first.

    Submits first, because no picture is made before its job has begun; the caller bounds how many are in flight. Then
    polls of due tasks, because a finished picture may wait behind them. Everything else can wait.
    """

    SUBMIT = 0
    POLL = 1
    OTHER = 2


# After how many grants to others a waiting priority goes first. Polls lose little by waiting: a poll that a flood of
# submits delays finds more when it is sent, at the cost of one poll. Other requests have half a minute by default
# (`Timeouts.request_s`).
_MAX_PASSED = {Priority.SUBMIT: 2, Priority.POLL: 31, Priority.OTHER: 7}


class PriorityPolicy:
    """Strict priority without starvation: a priority that was passed over too often goes first.

    While they wait, polls get at least every 33rd grant, other requests at least every ninth.
    """

    def __init__(self) -> None:
        self._passed = dict.fromkeys(Priority, 0)

    def next(self, waiting: Collection[Priority]) -> Priority:
        """Choose one of `waiting`, which is not empty, and count it as granted."""
        overdue = [priority for priority in waiting if self._passed[priority] >= _MAX_PASSED[priority]]
        chosen = max(overdue, key=self._passed.__getitem__) if overdue else min(waiting)
        # A priority that does not wait is not passed over: its count starts again.
        self._passed = {each: self._passed[each] + 1 if each in waiting else 0 for each in Priority}
        self._passed[chosen] = 0
        return chosen
