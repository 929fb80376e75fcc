"""Whose request goes next, when several kinds wait for one budget."""

from collections.abc import Collection
from enum import IntEnum

__all__ = ["Priority", "PriorityPolicy"]


class Priority(IntEnum):
    """What a request is for; the lower the number, the sooner its turn.

    Submits first, because a job that has not begun makes nobody's picture; the caller bounds how many are in
    flight. Polls of due tasks next, because pictures wait behind them. The rest can wait.
    """

    SUBMIT = 0
    POLL = 1
    REST = 2


# After how many grants to others a kind that waits goes first. Polls lose little by waiting: whatever a flood of
# submits delays is over when it is asked at last, at the cost of one poll. Behind the rest somebody waits, with
# half a minute's patience by default (`Timeouts.request_s`).
_PASSED_BY = {Priority.SUBMIT: 2, Priority.POLL: 31, Priority.REST: 7}


class PriorityPolicy:
    """Strict priority that starves nobody: who has been passed by too often goes first.

    Polls get at least every 33rd grant while they wait, the rest at least every ninth.
    """

    def __init__(self) -> None:
        self._passed = dict.fromkeys(Priority, 0)

    def next(self, waiting: Collection[Priority]) -> Priority:
        """Return whose turn it is and count it as granted; `waiting` names at least one kind."""
        overdue = [kind for kind in waiting if self._passed[kind] >= _PASSED_BY[kind]]
        turn = max(overdue, key=self._passed.__getitem__) if overdue else min(waiting)
        # A kind that does not wait has not been passed by: its count starts anew.
        self._passed = {kind: self._passed[kind] + 1 if kind in waiting else 0 for kind in Priority}
        self._passed[turn] = 0
        return turn
