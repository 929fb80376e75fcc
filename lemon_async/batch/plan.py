"""What a batch would do, before anything is spent."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import attrs

from lemon_async.batch.journal import Journal, pages_of
from lemon_async.batch.prices import PriceOption, Prices, images_of, model_of
from lemon_async.batch.records import JournalRow, NewRow
from lemon_async.batch.rows.builder import digest_of
from lemon_async.batch.rows.fields import shown
from lemon_async.batch.rows.identity import IDENTITY, identity_problem
from lemon_async.batch.rows.key_table import KeyTable
from lemon_async.batch.rows.reader import RowReader, RowsFound, run_in_thread
from lemon_async.batch.rows.request_json import load_request
from lemon_async.batch.states import State
from lemon_async.types import Problem

__all__ = ["ModelPlan", "Plan", "make_plan"]

_MOST_LISTED = 20
_STATES = tuple(State)
_STATE_BITS = 8
_CHECK_BYTES = 6


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


@attrs.frozen(kw_only=True, repr=False)
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

    def as_json(self) -> dict[str, Any]:
        """Return the plan as a JSON object."""
        return {
            "rows": self.rows,
            "new": self.new,
            "known": {state.value: number for state, number in self.known.items()},
            "repeated": self.repeated,
            "columns": list(self.columns),
            "models": {model: attrs.asdict(plan) for model, plan in self.models.items()},
            "to_buy": self.to_buy,
            "price_usd": round(self.price_usd, 6),
            "unpriced": self.unpriced,
            "problems": [attrs.asdict(problem) for problem in self.problems],
            "problem_count": self.problem_count,
        }

    def __repr__(self) -> str:
        return f"<Plan: {self._rows_text()}; to buy: {_price_text(self.to_buy, self)}; {self.problem_count:,} problems>"

    def __str__(self) -> str:
        return "\n".join(f"{title:<12}{text}".rstrip() for title, text in self._lines())

    def _lines(self) -> Iterator[tuple[str, str]]:
        yield "rows", self._rows_text()
        if self.columns:
            yield "columns", f"{', '.join(self.columns)}: no fields of a request, these travel with the rows"
        for model, plan in sorted(self.models.items()):
            yield "", f"{model}: {_price_text(plan.rows, plan)}"
        yield "to buy", _price_text(self.to_buy, self)
        if self.problem_count:
            yield "problems", f"{self.problem_count:,}"
            yield from (("", f"- {problem}") for problem in self.problems)
        if more := self.problem_count - len(self.problems):
            yield "", f"- {more:,} more"

    def _rows_text(self) -> str:
        known = [f"{number:,} {state}" for state, number in self.known.items()]
        repeated = [f"{self.repeated:,} repeated"] if self.repeated else []
        return f"{self.rows:,} ({', '.join([f'{self.new:,} not in the journal', *known, *repeated])})"


def _price_text(rows: int, plan: ModelPlan | Plan) -> str:
    if rows and plan.unpriced == rows:
        return f"{rows:,} rows without a known price"
    unpriced = f", {plan.unpriced:,} without a known price" if plan.unpriced else ""
    return f"{rows:,} rows for ${plan.price_usd:,.2f}{unpriced}"


async def make_plan(reader: RowReader | None, journal: Journal | None, price_usd: PriceOption = None) -> Plan:
    """Return what a batch would do; reads the rows and the journal, and writes nothing to it.

    Args:
        reader: The rows; `None` for those of the journal alone.
        journal: The journal; `None` if there is none yet.
        price_usd: See `PriceOption`.

    Raises:
        ContractError: The source cannot be read as rows, or the function of prices failed.
        JournalError: The journal cannot be read.
    """
    draft = _Draft(Prices(price_usd))
    found = RowsFound(rows=0) if reader is None else await reader.read()
    if journal is not None:
        async for rows in pages_of(journal):
            await run_in_thread(draft.take_known, rows)
        async for rows in pages_of(journal, State.NEW):
            await run_in_thread(draft.price, rows)
        if reader is not None and (problem := identity_problem(await journal.read_note(IDENTITY), reader.identity)):
            draft.note_problem(problem)
    if reader is not None:
        async for chunk in reader.chunks(is_checked=False):
            await run_in_thread(draft.take, chunk)
    return draft.finish(found)


class _Draft:
    """The sums of a plan: the journal's rows come first, then those of the source."""

    def __init__(self, prices: Prices) -> None:
        self._prices = prices
        self._known = KeyTable()
        self._counts: dict[State, int] = {}
        self._models: dict[str, ModelPlan] = {}
        self._conflicts: list[Problem] = []
        self._conflict_count = 0
        self._new = 0

    def take_known(self, rows: Sequence[JournalRow]) -> None:
        """Take rows of the journal, and learn what they have cost."""
        for row in rows:
            self._known.put(row.key, _check(digest_of(row)) << _STATE_BITS | _STATES.index(row.state))
            self._prices.learn_row(row)

    def take(self, rows: Sequence[NewRow]) -> None:
        """Take rows of the source."""
        for row in rows:
            known = self._known.get(row.key)
            if known is None:
                self._new += 1
                self.price([row])
                continue
            state = _STATES[known & (1 << _STATE_BITS) - 1]
            self._counts[state] = self._counts.get(state, 0) + 1
            if known >> _STATE_BITS != _check(row.digest):
                self._note_conflict(row.key, state)

    def _note_conflict(self, key: str, state: State) -> None:
        where = f"is in the journal, where it is {state}, with other content"
        self.note_problem(Problem(f"row {shown(key)}", f"{where}; give it another key, or use another journal"))

    def note_problem(self, problem: Problem) -> None:
        """Note a problem of rows and journal together."""
        self._conflict_count += 1
        if len(self._conflicts) < _MOST_LISTED:
            self._conflicts.append(problem)

    def price(self, rows: Sequence[JournalRow | NewRow]) -> None:
        """Add rows that would be bought."""
        for row in rows:
            request = load_request(row.request)
            model, price = model_of(request), self._prices.price_of(request)
            sums = self._models.get(model, ModelPlan())
            self._models[model] = ModelPlan(
                rows=sums.rows + 1,
                images=sums.images + images_of(request),
                price_usd=sums.price_usd + (price or 0.0),
                unpriced=sums.unpriced + (price is None),
            )

    def finish(self, found: RowsFound) -> Plan:
        """Return the plan."""
        return Plan(
            rows=found.rows,
            new=self._new,
            known={state: self._counts[state] for state in State if state in self._counts},
            repeated=found.repeated,
            columns=found.columns,
            models=self._models,
            problems=(*found.problems, *self._conflicts)[:_MOST_LISTED],
            problem_count=found.problem_count + self._conflict_count,
        )


def _check(digest: bytes) -> int:
    return int.from_bytes(digest[:_CHECK_BYTES])
