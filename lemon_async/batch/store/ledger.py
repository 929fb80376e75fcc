"""What a change does to a row and to the sums of money. Pure: a store loads rows, asks `Ledger`, and writes.

Money is counted in whole billionths of a dollar, so that sums which are kept up to date equal sums over all rows.

    bucket     states            amount of a row
    reserved   intent sold       price
    doubtful   doubtful          price
    spent      done dead         cost, else price; a task that failed costs 0
    spent      all               what earlier attempts have cost or may have cost (`sunk`)
    refunded   all               prices of tasks that failed
"""

from collections.abc import Mapping

import attrs

from lemon_async.batch.records import Change, Spending
from lemon_async.batch.states import Event, State, after

__all__ = ["Ledger", "RowFacts", "in_dollars", "in_nanos"]

_NANO = 1_000_000_000
_BUCKETS = {
    State.INTENT: "reserved",
    State.SOLD: "reserved",
    State.DOUBTFUL: "doubtful",
    State.DONE: "spent",
    State.DEAD: "spent",
}
_KEEPS_ERROR = frozenset({Event.REPEAT, Event.GIVE_UP})


def in_nanos(dollars: float | None) -> int | None:
    """Return an amount in billionths of a dollar."""
    return None if dollars is None else round(dollars * _NANO)


def in_dollars(nanos: int | None) -> float | None:
    """Return an amount in dollars."""
    return None if nanos is None else nanos / _NANO


@attrs.define
class RowFacts:
    """What changes of a row; as in `JournalRow`, with money in billionths of a dollar."""

    number: int
    key: str
    state: State
    attempt: int = 0
    changed_at: float = 0.0
    task: str | None = None
    fingerprint: str | None = None
    price: int | None = None
    cost: int | None = None
    sunk: int = 0
    refunded: int = 0
    error: str | None = None

    @property
    def amount(self) -> int | None:
        """What it has cost, as far as that is known."""
        return self.price if self.cost is None else self.cost


@attrs.define
class Ledger:
    """The number of rows in every state, and the sums of money."""

    counts: dict[State, int] = attrs.field(factory=lambda: dict.fromkeys(State, 0))
    spent: int = 0
    reserved: int = 0
    doubtful: int = 0
    refunded: int = 0
    unpriced: int = 0

    def copy(self) -> "Ledger":
        """Return an independent copy, to be thrown away if a transaction fails."""
        return attrs.evolve(self, counts=self.counts.copy())

    def count(self, row: RowFacts, sign: int = 1) -> None:
        """Add a row, or with `sign=-1` take it out."""
        self.counts[row.state] += sign
        self.spent += sign * row.sunk
        self.refunded += sign * row.refunded
        if bucket := _BUCKETS.get(row.state):
            if (amount := row.amount) is None:
                self.unpriced += sign
            else:
                setattr(self, bucket, getattr(self, bucket) + sign * amount)

    def count_many(self, state: State, count: int, *, sunk: int, refunded: int, amount: int, unpriced: int) -> None:
        """Add all rows in one state by their sums."""
        self.counts[state] += count
        self.spent += sunk
        self.refunded += refunded
        if bucket := _BUCKETS.get(state):
            self.unpriced += unpriced
            setattr(self, bucket, getattr(self, bucket) + amount)

    def change(self, row: RowFacts, change: Change, now: float) -> State | None:
        """Change a row and the sums; return the new state, or `None` and change nothing."""
        then = after(row.state, change.event)
        if then is None or (change.cap_usd is not None and self._exceeds(change)):
            return None
        self.count(row, -1)
        _EFFECTS.get(change.event, _none)(row, change)
        row.error = change.error or (row.error if change.event in _KEEPS_ERROR else None)
        row.state = then
        row.changed_at = now
        self.count(row)
        return then

    def _exceeds(self, change: Change) -> bool:
        """Return whether an intent would exceed its cap; without a price, it may."""
        price, cap = in_nanos(change.price_usd), in_nanos(change.cap_usd)
        return price is None or self.spent + self.reserved + self.doubtful + price > (cap or 0)

    def spending(self) -> Spending:
        """Return the sums in dollars."""
        return Spending(
            spent=self.spent / _NANO,
            reserved=self.reserved / _NANO,
            doubtful=self.doubtful / _NANO,
            refunded=self.refunded / _NANO,
            unpriced=self.unpriced,
        )

    def by_state(self) -> Mapping[State, int]:
        """Return the number of rows in every state."""
        return self.counts.copy()


def _none(_row: RowFacts, _change: Change) -> None:
    pass


def _intend(row: RowFacts, change: Change) -> None:
    row.attempt += 1
    row.fingerprint = change.fingerprint
    row.price = in_nanos(change.price_usd)
    row.task = row.cost = None


def _release(row: RowFacts, _change: Change) -> None:
    """An attempt that has sold nothing does not count."""
    row.attempt -= 1


def _accept(row: RowFacts, change: Change) -> None:
    row.attempt = max(row.attempt, 1)  # the truth about an attempt that did not count
    row.task, row.cost = change.task, None
    row.fingerprint = change.fingerprint or row.fingerprint


def _bill(row: RowFacts, change: Change) -> None:
    row.cost = in_nanos(change.cost_usd)


def _refund(row: RowFacts, _change: Change) -> None:
    row.refunded += row.price or 0
    row.cost = 0


def _sink(row: RowFacts, _change: Change) -> None:
    """What this attempt has cost, or may have cost, stays spent."""
    row.sunk += row.amount or 0


def _restart(row: RowFacts, change: Change) -> None:
    if row.state is State.DEAD:
        _sink(row, change)
    row.attempt = 0


_EFFECTS = {
    Event.INTEND: _intend,
    Event.WITHDRAW: _release,
    Event.ACCEPT: _accept,
    Event.SAVE: _bill,
    Event.FAIL: _refund,
    Event.LOSE: _bill,
    Event.RETRY: _restart,
    Event.NOT_SOLD: _release,
    Event.BUY_AGAIN: _sink,
}
