"""The counts and sums of a run, kept in step with its journal by the journal's own rules, without asking it. Pure."""

from collections.abc import Mapping

from lemon_async.batch.records import Change, JournalRow, Spending
from lemon_async.batch.states import State
from lemon_async.batch.store.ledger import Ledger, RowFacts, in_nanos

__all__ = ["Account", "facts_of"]


def facts_of(row: JournalRow) -> RowFacts:
    """Return what changes of a row."""
    return RowFacts(
        number=row.number,
        key=row.key,
        state=row.state,
        attempt=row.attempt,
        task=row.task,
        fingerprint=row.fingerprint,
        price=in_nanos(row.price_usd),
        cost=in_nanos(row.cost_usd),
        sunk=in_nanos(row.sunk_usd) or 0,
        error=row.error,
    )


class Account:
    """Numbers of rows by state, and sums of money.

    Args:
        counts: Those of the journal when the run begins.
        spending: The same.
        cap_usd: What all spending must not exceed; `None` for no limit.
    """

    def __init__(self, counts: Mapping[State, int], spending: Spending, cap_usd: float | None = None) -> None:
        self._ledger = Ledger.of(counts, spending)
        self._cap = in_nanos(cap_usd)
        self._pledged = 0

    def replace(self, counts: Mapping[State, int], spending: Spending) -> None:
        """Take the numbers and sums of the journal, which other runs change, too."""
        self._ledger = Ledger.of(counts, spending)

    @property
    def counts(self) -> Mapping[State, int]:
        """The number of rows in every state."""
        return self._ledger.counts()

    @property
    def spending(self) -> Spending:
        """The sums of money."""
        return self._ledger.spending()

    def fits(self, price_usd: float | None) -> bool:
        """Return whether a row of this price can be bought now, besides those that are pledged."""
        if self._cap is None:
            return True
        return self._ledger.committed + self._pledged + (in_nanos(price_usd) or 0) <= self._cap

    def has_reserved_besides(self, nanos: int) -> bool:
        """Return whether more than an amount is reserved, in billionths of a dollar: it may be released."""
        return (in_nanos(self.spending.reserved) or 0) > nanos

    def pledge(self, price_usd: float | None, sign: int = 1) -> None:
        """Set aside the price of a row that is about to be bought; with a negative sign, return it."""
        self._pledged += sign * (in_nanos(price_usd) or 0)

    def apply(self, row: RowFacts, change: Change) -> None:
        """Make a change that the journal has made."""
        self._ledger.change(row, change, 0.0)
