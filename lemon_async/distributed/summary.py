"""What a batch on many workers came to."""

import re
from collections import Counter
from collections.abc import Mapping

import attrs

from lemon_async.batch.journal import Journal, pages_of
from lemon_async.batch.records import JournalRow, Spending
from lemon_async.batch.states import State

__all__ = ["BatchSummary", "summarise"]

_FAILED = (State.REFUSED, State.DOUBTFUL, State.DEAD, State.FAILED)
_TYPE = re.compile(r"[A-Z]\w+(?=: )")


@attrs.frozen(kw_only=True)
class BatchSummary:
    """What a batch on many workers came to; all numbers are those of its journal.

    Attributes:
        counts: The number of rows in every state.
        spending: The sums of money.
        failures: The number of rows that were refused, are doubtful or dead, by reason: the name of the error, such as
            `BadRequest`, or what the journal says of them.
        workers: The number of workers.
        restarts: How often a worker died, and was started again.
        seconds: How long it took.
    """

    counts: Mapping[State, int]
    spending: Spending
    failures: Mapping[str, int]
    workers: int
    restarts: int
    seconds: float

    def __str__(self) -> str:
        counts = ", ".join(f"{count:,} {state}" for state, count in self.counts.items() if count)
        restarts = f", {self.restarts} restarts" if self.restarts else ""
        lines = [f"{counts or 'no rows'}; ${self.spending.spent:,.2f} spent ({self.workers} workers{restarts})"]
        lines += [f"{count:,} x {reason}" for reason, count in self.failures.items()]
        return "\n".join(lines)


async def summarise(journal: Journal, *, workers: int, restarts: int, seconds: float) -> BatchSummary:
    """Return what the journal says.

    Raises:
        JournalError: It cannot be read.
    """
    failures: Counter[str] = Counter()
    async for rows in pages_of(journal, *_FAILED):
        failures.update(map(_reason, rows))
    return BatchSummary(
        counts=await journal.counts(),
        spending=await journal.spending(),
        failures=dict(failures.most_common()),
        workers=workers,
        restarts=restarts,
        seconds=seconds,
    )


def _reason(row: JournalRow) -> str:
    """Return the type of a row's error, or its error in full: messages of the service name the row."""
    error = row.error or str(row.state)
    found = _TYPE.match(error)
    return found[0] if found else error
