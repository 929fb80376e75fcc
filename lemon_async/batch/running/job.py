"""A row in flight."""

import time
from collections.abc import Mapping
from typing import Any, Self

import attrs

from lemon_async.batch.outcome import BatchOutcome
from lemon_async.batch.records import JournalRow
from lemon_async.batch.rows.builder import columns_of, request_of
from lemon_async.batch.running.account import facts_of
from lemon_async.batch.states import State
from lemon_async.batch.store.ledger import RowFacts
from lemon_async.requests import Request

__all__ = ["Job"]


@attrs.define(eq=False)
class Job:
    """A row in flight.

    Attributes:
        facts: What changes of it.
        request: Its request.
        columns: The other columns.
        price_usd: What to reserve for it, or what was reserved for a row that is sold.
        token: The token of its task, if it was sold in an earlier run.
        is_pledged: Whether its price is set aside.
        is_lost: Whether the journal has refused what happened to it, because another run has the row.
        is_surplus: Whether it was bought although the journal has another task for it.
        taken_ns: When this run took the row, in Unix nanoseconds.
    """

    facts: RowFacts
    request: Request
    columns: Mapping[str, Any]
    price_usd: float | None = None
    token: str | None = None
    is_pledged: bool = False
    is_lost: bool = False
    is_surplus: bool = False
    taken_ns: int = attrs.field(factory=time.time_ns)

    @classmethod
    def of(cls, row: JournalRow) -> Self:
        """Return the job of a row."""
        return cls(facts_of(row), request_of(row), columns_of(row), row.price_usd, row.task)

    @property
    def key(self) -> str:
        """The key of the row."""
        return self.facts.key

    @property
    def state(self) -> State:
        """Its state in the journal."""
        return self.facts.state

    def outcome(self, **facts: Any) -> BatchOutcome:
        """Return its outcome."""
        return BatchOutcome(
            key=self.key,
            status=self.state,
            request=self.request,
            columns=self.columns,
            attempt=self.facts.attempt,
            price_usd=self.price_usd,
            **facts,
        )
