"""The states of a row of a batch, and what may happen in each.

    transition  from                           to         money
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

__all__ = ["State", "Transition", "after"]


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

    def __repr__(self) -> str:
        return repr(self.value)  # counts by state print as `{'new': 1, 'done': 2}`


class Transition(StrEnum):
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

_TABLE: Mapping[Transition, tuple[frozenset[State], State]] = {
    transition: (frozenset(State(word) for word in before.split()), State(then))
    for transition, (before, then) in {
        Transition.INTEND: ("new", "intent"),
        Transition.WITHDRAW: ("intent", "new"),
        Transition.REFUSE: ("new intent", "refused"),
        Transition.DOUBT: ("intent", "doubtful"),
        Transition.ACCEPT: ("intent doubtful new refused", "sold"),
        Transition.SAVE: ("sold", "done"),
        Transition.FAIL: ("sold", "failed"),
        Transition.LOSE: ("sold", "dead"),
        Transition.REPEAT: ("failed", "new"),
        Transition.GIVE_UP: ("failed", "dead"),
        Transition.RETRY: ("dead refused failed", "new"),
        Transition.NOT_SOLD: ("doubtful", "new"),
        Transition.BUY_AGAIN: ("doubtful", "new"),
    }.items()
}


def after(state: State, transition: Transition) -> State | None:
    """Return the state that follows, or `None` if the transition is impossible in this state."""
    before, then = _TABLE[transition]
    return then if state in before else None
