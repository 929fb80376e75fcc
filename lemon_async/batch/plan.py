"""What a batch would do, before anything is spent."""

from collections.abc import Mapping

import attrs

from lemon_async.batch.journal import Journal
from lemon_async.batch.prices import Prices
from lemon_async.batch.rows.reader import RowReader
from lemon_async.batch.states import State
from lemon_async.types import Problem

__all__ = ["ModelPlan", "Plan", "make_plan"]


@attrs.frozen(kw_only=True)
class ModelPlan:
    """What is to be bought of one model.

    Attributes:
        rows: The number of rows.
        images: The number of images that they ask for.
        price_usd: The price of those rows whose price is known.
        unpriced: The number of rows whose price is not known.
    """

    rows: int = 0
    images: int = 0
    price_usd: float = 0.0
    unpriced: int = 0


@attrs.frozen(kw_only=True)
class Plan:
    """What a batch would do, before anything is spent.

    Attributes:
        rows: The number of rows in the source, each model of a list counted; without those that have problems.
        new: Of those, the number that the journal does not have yet.
        known: Of those, the number that the journal has, by state.
        repeated: The number of rows that were left out, because the same row under the same key came before.
        columns: The columns that are no fields, and travel with the rows.
        models: What would be bought, by model: new rows, and rows of the journal in the state `new`.
        problems: The first problems; each names its row and column. Nothing is bought while there are any.
        problem_count: The number of all problems.
    """

    rows: int = 0
    new: int = 0
    known: Mapping[State, int] = attrs.field(factory=dict[State, int])
    repeated: int = 0
    columns: tuple[str, ...] = ()
    models: Mapping[str, ModelPlan] = attrs.field(factory=dict[str, ModelPlan])
    problems: tuple[Problem, ...] = ()
    problem_count: int = 0

    @property
    def to_buy(self) -> int:
        """The number of rows that would be bought."""
        return sum(model.rows for model in self.models.values())

    @property
    def price_usd(self) -> float:
        """The price of all rows that would be bought and whose price is known."""
        return sum(model.price_usd for model in self.models.values())

    @property
    def unpriced(self) -> int:
        """The number of rows that would be bought and whose price is not known."""
        return sum(model.unpriced for model in self.models.values())


async def make_plan(reader: RowReader | None, journal: Journal | None, prices: Prices) -> Plan:
    """Return what a batch would do; reads the rows and the journal, and writes nothing.

    Args:
        reader: The rows; `None` for those of the journal alone.
        journal: The journal; `None` if there is none yet.
        prices: The prices; what finished rows have cost is learned first.

    Raises:
        ContractError: The source cannot be read as rows, or a function of prices failed.
        JournalError: The journal cannot be read.
    """
    raise NotImplementedError
