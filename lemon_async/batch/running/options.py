"""The options of a batch."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import attrs

from lemon_async.batch.prices import PriceOption
from lemon_async.batch.rows.builder import KeyOption
from lemon_async.errors import ContractError
from lemon_async.requests import Request
from lemon_async.types import Problem, Progress, StopOn

if TYPE_CHECKING:
    from lemon_async.batch.running.batch_events import BatchEvents

__all__ = ["BatchOptions"]

_MAX_USD = 1e9


class Reporter(Protocol):
    """Shows progress."""

    def changed(self) -> None:
        """Show it soon."""

    def close(self) -> None:
        """Show the last state."""


@attrs.frozen(kw_only=True)
class BatchOptions:
    """The options of a batch; see `LemonSession.batch`.

    `validate`, `reporter`, `resubmits`, `close_s`, `save_s` and `emit` come from the session: how it checks requests,
    shows progress, whether it may buy a request twice, how long closing and saving may take, and what passes its events
    on, if anything. `look_s` and `patience_s` are those of `Feed`.
    """

    key: KeyOption = None
    save: str | None = None
    in_flight: int = 100
    attempts: int = 3
    budget_usd: float | None = None
    price_usd: PriceOption = None
    provenance: bool = False
    check_contracts: bool | None = None
    stop_on: StopOn = "account"
    only_given: bool = False
    fields: Mapping[str, Any] = attrs.field(factory=dict[str, Any])
    validate: Callable[[Request], Sequence[Problem]]
    reporter: Callable[[Callable[[], Progress]], Reporter]
    resubmits: bool = False
    close_s: float
    save_s: float
    emit: Callable[..., None] | None = None
    look_s: float = 1.0
    patience_s: float = 1200.0

    def events_of(self, journal: str) -> "BatchEvents | None":
        """Return what emits the events of a batch with this journal; `None` without functions for them."""
        if self.emit is None:
            return None
        from lemon_async.batch.running.batch_events import BatchEvents  # noqa: PLC0415 - most sessions have none

        return BatchEvents(self.emit, journal)

    def check(self, *, has_rows: bool = True) -> None:
        """Check what is not checked elsewhere.

        Args:
            has_rows: Whether rows were given.

        Raises:
            ContractError: With all problems.
        """
        problems = [
            Problem(name, f"must be a whole number from 1, not {value!r:.80}")
            for name in ("in_flight", "attempts")
            if not isinstance(value := getattr(self, name), int) or isinstance(value, bool) or value < 1
        ]
        cap: Any = self.budget_usd
        if cap is not None and (isinstance(cap, bool) or not isinstance(cap, int | float) or not 0 <= cap < _MAX_USD):
            problems.append(Problem("budget_usd", f"must be a number of US dollars from 0, not {cap!r:.80}"))
        save: Any = self.save
        if not isinstance(save, str | None):
            problems.append(Problem("save", f"must be text such as 'out/{{key}}', not {save!r:.80}"))
        if self.only_given and not has_rows:
            problems.append(Problem("only_given", "needs rows; without it, the batch runs all rows of the journal"))
        if self.resubmits:
            words = "resubmit_unknown may buy a row twice, beyond budget_usd; use a session without it for batches"
            problems.append(Problem("retry", words))
        if problems:
            raise ContractError(problems=tuple(problems))
