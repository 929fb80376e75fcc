"""The states of a row of a batch, and what may happen in each.

    event       from                           to         money
    INTEND      new                            intent     reserved; committed before the first byte is sent
    WITHDRAW    intent                         new        released: provably not sent, or refused and retryable
    REFUSE      new intent                     refused    released: policy, contract or moderation
    DOUBT       intent                         doubtful   counts as spent: the outcome is unknown, or the owner died
    ACCEPT      intent doubtful new refused    sold       reserved; the truth may come late, so any claim to it is heard
    SAVE        sold                           done       spent
    FAIL        sold                           failed     released or refunded
    LOSE        sold                           dead       spent: the task or unsaved inline bytes are lost
    REPEAT      failed                         new        a further attempt
    GIVE_UP     failed                         dead       released; no attempts are left
    RETRY       dead refused failed            new        the user takes it up again
    NOT_SOLD    doubtful                       new        released: the user has looked
    BUY_AGAIN   doubtful                       new        what was in doubt stays spent

Nothing here reads a clock or a file: a store asks `after` before it writes.
"""

from collections.abc import Mapping
from enum import StrEnum

__all__ = ["Event", "State", "after"]


class State(StrEnum):
    """Where a row is; the values are what journals and the command use."""

    NEW = "new"
    INTENT = "intent"
    SOLD = "sold"
    DONE = "done"
    REFUSED = "refused"
    DOUBTFUL = "doubtful"
    FAILED = "failed"
    DEAD = "dead"

    @property
    def is_open(self) -> bool:
        """Whether a run still has something to do for the row."""
        return self in _OPEN


class Event(StrEnum):
    """What can happen to a row."""

    INTEND = "intend"
    WITHDRAW = "withdraw"
    REFUSE = "refuse"
    DOUBT = "doubt"
    ACCEPT = "accept"
    SAVE = "save"
    FAIL = "fail"
    LOSE = "lose"
    REPEAT = "repeat"
    GIVE_UP = "give up"
    RETRY = "retry"
    NOT_SOLD = "not sold"
    BUY_AGAIN = "buy again"


_OPEN = frozenset({State.NEW, State.INTENT, State.SOLD, State.FAILED})

_TABLE: Mapping[Event, tuple[frozenset[State], State]] = {
    event: (frozenset(State(word) for word in before.split()), State(then))
    for event, (before, then) in {
        Event.INTEND: ("new", "intent"),
        Event.WITHDRAW: ("intent", "new"),
        Event.REFUSE: ("new intent", "refused"),
        Event.DOUBT: ("intent", "doubtful"),
        Event.ACCEPT: ("intent doubtful new refused", "sold"),
        Event.SAVE: ("sold", "done"),
        Event.FAIL: ("sold", "failed"),
        Event.LOSE: ("sold", "dead"),
        Event.REPEAT: ("failed", "new"),
        Event.GIVE_UP: ("failed", "dead"),
        Event.RETRY: ("dead refused failed", "new"),
        Event.NOT_SOLD: ("doubtful", "new"),
        Event.BUY_AGAIN: ("doubtful", "new"),
    }.items()
}


def after(state: State, event: Event) -> State | None:
    """Return the state that follows, or `None` if the event is impossible in this state."""
    before, then = _TABLE[event]
    return then if state in before else None
