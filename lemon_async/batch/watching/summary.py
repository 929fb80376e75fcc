"""How a batch stands, in one object."""

import asyncio
from collections.abc import Mapping
from typing import Any

import attrs

from lemon_async.batch.journal import Journal
from lemon_async.batch.records import Spending
from lemon_async.batch.states import State

__all__ = ["BUDGET_NOTE", "JournalSummary", "note_budget", "read_budget", "sum_up"]

BUDGET_NOTE = "budget_usd"


@attrs.frozen(kw_only=True)
class JournalSummary:
    """How a batch stands.

    Attributes:
        counts: The number of rows in every state.
        spending: The sums of money over all runs.
        budget_usd: The cap of the last run; `None` if it has none.
        runs: Number of runs that hold rows now.
        owner: `pid`, `host` and `started` (Unix seconds) of the process that has the file open; `None` if there is
            none, or if the journal is in a database.
        has_rows: Whether `BatchView.rows` works now.
    """

    counts: Mapping[State, int]
    spending: Spending
    budget_usd: float | None = None
    runs: int = 0
    owner: Mapping[str, Any] | None = None
    has_rows: bool = True

    @classmethod
    def of_json(cls, answer: Mapping[str, Any], **facts: Any) -> "JournalSummary":
        """Return the summary of an object as `as_json` returns it, or of a status file."""
        return cls(
            counts={state: int(answer["counts"].get(state.value, 0)) for state in State},
            spending=Spending(**{field.name: answer["spending"][field.name] for field in attrs.fields(Spending)}),
            **facts,
        )

    def as_json(self) -> Mapping[str, Any]:
        """Return it as a JSON object."""
        counts = {state.value: self.counts.get(state, 0) for state in State}
        return {**attrs.asdict(self, recurse=False), "counts": counts, "spending": self.spending.as_json()}


async def sum_up(journal: Journal) -> JournalSummary:
    """Return how the batch of an open journal stands.

    Raises:
        JournalError: It cannot be read.
    """
    counts, spending, runs, budget = await asyncio.gather(
        journal.counts(), journal.spending(), journal.runs(), journal.read_note(BUDGET_NOTE)
    )
    return JournalSummary(counts=counts, spending=spending, runs=runs, budget_usd=read_budget(budget))


async def note_budget(journal: Journal, budget_usd: float | None) -> None:
    """Leave a note of the cap of a run, for those who watch it.

    Raises:
        JournalError: It cannot be written.
    """
    note = "" if budget_usd is None else str(budget_usd)
    if note != (await journal.read_note(BUDGET_NOTE) or ""):
        await journal.write_note(BUDGET_NOTE, note)


def read_budget(note: str | None) -> float | None:
    """Return the cap of which a run has left a note."""
    try:
        return float(note or "")
    except ValueError:
        return None
