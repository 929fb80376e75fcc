"""What a change does to a row and to the sums of money. Pure: a store loads rows, asks `Ledger`, and writes.

Money is counted in whole billionths of a dollar, so that sums which are kept up to date equal sums over all rows.

    bucket     states            amount of a row
    reserved   intent sold       price
    doubtful   doubtful          price
    spent      done dead         cost, else price; a task that failed costs 0
    spent      all               what earlier attempts have cost or may have cost (`sunk`)
    refunded   all               prices of tasks that failed
"""

from collections.abc import Callable, Iterable, Mapping

import attrs

from lemon_async.batch.records import Change, Spending
from lemon_async.batch.states import State, Transition, after

__all__ = ["Ledger", "RowFacts", "Total", "in_dollars", "in_nanos"]

_NANO = 1_000_000_000
_RESERVED = (State.INTENT, State.SOLD)
_SPENT = (State.DONE, State.DEAD)
_BOUGHT = (*_RESERVED, *_SPENT, State.DOUBTFUL)
_KEEPS_ERROR = frozenset({Transition.REPEAT, Transition.GIVE_UP})


def in_nanos(dollars: float | None) -> int | None:
    """Return an amount in billionths of a dollar."""
    return None if dollars is None else round(dollars * _NANO)


def in_dollars(nanos: int | None) -> float | None:
    """Return an amount in dollars."""
    return None if nanos is None else nanos / _NANO


@attrs.define
class RowFacts:
    """What changes of a row; as in `JournalRow`, with money in billionths of a dollar, and the run that holds it."""

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
    holder: str | None = None

    @property
    def amount(self) -> int | None:
        """What it has cost, as far as that is known."""
        return self.price if self.cost is None else self.cost


@attrs.define
class Total:
    """The rows in one state: their number, the sum of their amounts, and how many amounts are not known."""

    rows: int = 0
    amount: int = 0
    unpriced: int = 0


@attrs.define
class Ledger:
    """The number of rows in every state, and the sums of money."""

    totals: dict[State, Total] = attrs.field(factory=lambda: {state: Total() for state in State})
    sunk: int = 0
    refunded: int = 0

    @classmethod
    def of(cls, counts: Mapping[State, int], spending: Spending) -> "Ledger":
        """Return a ledger that begins with these numbers and sums."""
        ledger = cls()
        for state, rows in counts.items():
            ledger.totals[state].rows = rows
        ledger.totals[State.DONE].amount = round(spending.spent * _NANO)
        ledger.totals[State.SOLD].amount = round(spending.reserved * _NANO)
        ledger.totals[State.SOLD].unpriced = spending.unpriced
        ledger.totals[State.DOUBTFUL].amount = round(spending.doubtful * _NANO)
        ledger.refunded = round(spending.refunded * _NANO)
        return ledger

    @property
    def committed(self) -> int:
        """What counts against a cap, in billionths of a dollar."""
        return self._sum(_BOUGHT) + self.sunk

    def copy(self) -> "Ledger":
        """Return an independent copy, to be thrown away if a transaction fails."""
        totals = {state: Total(each.rows, each.amount, each.unpriced) for state, each in self.totals.items()}
        return Ledger(totals, self.sunk, self.refunded)

    def change(self, row: RowFacts, change: Change, now: float) -> State | None:
        """Change a row and the sums; return the new state, or `None` and change nothing."""
        then = after(row.state, change.transition)
        if row.holder not in {None, change.run} and change.transition is not Transition.ACCEPT:
            return None
        if then is None or (change.cap_usd is not None and self._exceeds(change.price_usd, change.cap_usd)):
            return None
        self._count(row, -1)
        if effect := _EFFECTS.get(change.transition):
            effect(self, row, change)
        row.error = change.error or (row.error if change.transition in _KEEPS_ERROR else None)
        row.state = then
        # The purchase of a doubtful row is looked for by the time of its intent, not of the next run.
        if change.transition is not Transition.DOUBT:
            row.changed_at = now
        row.holder = change.run or row.holder if then.is_open else None
        self._count(row, 1)
        return then

    def _count(self, row: RowFacts, sign: int) -> None:
        total = self.totals[row.state]
        total.rows += sign
        if (amount := row.amount) is None:
            total.unpriced += sign
        else:
            total.amount += sign * amount

    def _exceeds(self, price: float | None, cap: float) -> bool:
        """Return whether an intent would exceed its cap; without a price, it may."""
        return price is None or self.committed + round(price * _NANO) > round(cap * _NANO)

    def _sum(self, states: Iterable[State]) -> int:
        return sum([self.totals[state].amount for state in states])

    def spending(self) -> Spending:
        """Return the sums in dollars."""
        return Spending(
            spent=(self._sum(_SPENT) + self.sunk) / _NANO,
            reserved=self._sum(_RESERVED) / _NANO,
            doubtful=self.totals[State.DOUBTFUL].amount / _NANO,
            refunded=self.refunded / _NANO,
            unpriced=sum(self.totals[state].unpriced for state in _BOUGHT),
        )

    def counts(self) -> Mapping[State, int]:
        """Return the number of rows in every state."""
        return {state: total.rows for state, total in self.totals.items()}


def _intend(_ledger: Ledger, row: RowFacts, change: Change) -> None:
    row.attempt += 1
    row.fingerprint = change.fingerprint
    row.price = in_nanos(change.price_usd)
    row.task = row.cost = None


def _release(_ledger: Ledger, row: RowFacts, _change: Change) -> None:
    """An attempt that has sold nothing does not count."""
    row.attempt -= 1


def _accept(_ledger: Ledger, row: RowFacts, change: Change) -> None:
    row.attempt = max(row.attempt, 1)  # the truth about an attempt that did not count
    row.task, row.cost = change.task, None
    row.fingerprint = change.fingerprint or row.fingerprint


def _bill(_ledger: Ledger, row: RowFacts, change: Change) -> None:
    row.cost = in_nanos(change.cost_usd)


def _refund(ledger: Ledger, row: RowFacts, _change: Change) -> None:
    ledger.refunded += row.price or 0
    row.refunded += row.price or 0
    row.cost = 0


def _sink(ledger: Ledger, row: RowFacts, _change: Change) -> None:
    """What this attempt has cost, or may have cost, stays spent."""
    ledger.sunk += row.amount or 0
    row.sunk += row.amount or 0


def _restart(ledger: Ledger, row: RowFacts, change: Change) -> None:
    if row.state is State.DEAD:
        _sink(ledger, row, change)
    row.attempt = 0


_EFFECTS: Mapping[Transition, Callable[[Ledger, RowFacts, Change], None]] = {
    Transition.INTEND: _intend,
    Transition.WITHDRAW: _release,
    Transition.ACCEPT: _accept,
    Transition.SAVE: _bill,
    Transition.FAIL: _refund,
    Transition.LOSE: _bill,
    Transition.RETRY: _restart,
    Transition.NOT_SOLD: _release,
    Transition.BUY_AGAIN: _sink,
}
