"""A plan says what a batch would do, and does none of it."""

import attrs
import orjson
import pytest

from lemon_async.batch.plan import ModelPlan, Plan, make_plan
from lemon_async.batch.records import JournalRow, SavedPicture
from lemon_async.batch.rows.reader import RowReader
from lemon_async.batch.states import State
from lemon_async.errors import ContractError
from lemon_async.types import Problem


class ListJournal:
    """A journal that can be read only."""

    def __init__(self, rows=()):
        self._rows = list(rows)
        self.notes = {}

    async def rows(self, *states, after=-1, limit=1000):
        found = [row for row in self._rows if row.number > after and (not states or row.state in states)]
        return found[:limit]

    async def read_note(self, name):
        return self.notes.get(name)


@pytest.fixture
def open_reader():
    """Make readers that accept every request, and are closed at the end."""
    opened = []

    def make(source, **options):
        opened.append(RowReader(source, validate=lambda _: (), **options))
        return opened[-1]

    yield make
    for reader in opened:
        reader.close()


async def journal_of(reader, **changes):
    """Return a journal that holds the rows of a reader, all in one state."""
    rows = [row async for chunk in reader.chunks() for row in chunk]
    kept = [(row.key, row.request, row.columns) for row in rows]
    return ListJournal(
        JournalRow(number=number, key=key, request=request, columns=columns, **{"state": State.DONE, **changes})
        for number, (key, request, columns) in enumerate(kept)
    )


def numbered(*numbers, **more):
    return [{"id": number, "prompt": "x", **more} for number in numbers]


async def test_new_rows_are_priced_by_model(open_reader):
    """Each model of a list is a row of its own."""
    reader = open_reader(numbered(1, 2, n=2), key="id", fields={"model": ["flux-pro", "dall-e-3"]})
    plan = await make_plan(reader, None, {"flux-pro": 0.05})
    assert plan.models == {
        "flux-pro": ModelPlan(rows=2, images=4, price_usd=0.2),
        "dall-e-3": ModelPlan(rows=2, images=4, unpriced=2),
    }
    assert (plan.rows, plan.new, plan.to_buy, plan.price_usd, plan.unpriced) == (4, 4, 4, 0.2, 2)
    assert plan.columns == ("id",)


async def test_rows_of_the_journal_are_not_bought_again(open_reader):
    """Neither finished nor doubtful ones; those in `new` still are, also if the source does not have them."""
    journal = await journal_of(open_reader(numbered(*range(1500)), key="id"))
    journal._rows[7] = attrs.evolve(journal._rows[7], state=State.DOUBTFUL)
    journal._rows[1499] = attrs.evolve(journal._rows[1499], state=State.NEW)
    plan = await make_plan(open_reader(numbered(*range(10), 2000), key="id"), journal, 0.04)
    assert (plan.rows, plan.new, plan.to_buy) == (11, 1, 2)
    assert plan.known == {State.DONE: 9, State.DOUBTFUL: 1}
    assert plan.price_usd == pytest.approx(0.08)
    assert not plan.problem_count


async def test_a_journal_alone_has_a_plan(open_reader):
    """What a batch without rows would go on with."""
    journal = await journal_of(open_reader(numbered(1, 2), key="id"), state=State.NEW)
    plan = await make_plan(None, journal, 0.04)
    assert (plan.rows, plan.new, plan.to_buy, plan.price_usd) == (0, 0, 2, 0.08)


async def test_other_content_under_a_known_key_is_a_problem(open_reader):
    """A request or a column has changed; the order of columns has not."""
    journal = await journal_of(open_reader(numbered(1, 2, 3, a="1", b="2"), key="id"))
    rows = [{"b": "2", "a": "1", "prompt": "x", "id": 1}, *numbered(2, a="9", b="2"), *numbered(3, a="1", b="2", n=2)]
    plan = await make_plan(open_reader(rows, key="id"), journal)
    assert [str(problem) for problem in plan.problems] == [
        "row '2': is in the journal, where it is done, with other content; give it another key, or use another journal",
        "row '3': is in the journal, where it is done, with other content; give it another key, or use another journal",
    ]
    many = await make_plan(open_reader(numbered(1, 2, 3), key="id"), journal)
    assert many.problem_count == 3


async def test_rows_under_another_kind_of_key_are_a_problem(open_reader):
    """They would look new, and all of them would be bought again."""
    journal = await journal_of(open_reader(numbered(1, 2), key="id"))
    journal.notes["identity"] = "the column 'id'"
    plan = await make_plan(open_reader(numbered(1, 2)), journal)
    assert plan.problem_count == 1
    assert "by the column 'id', and these are by their content" in str(plan.problems[0])


async def test_problems_of_rows_are_listed(open_reader):
    """The first 20, and the number of all; the other rows are counted."""
    rows = [{"prompt": "x", "n": "?"} for _ in range(30)] + [{"prompt": "x"}] * 2
    plan = await make_plan(open_reader(rows), ListJournal(), 1)
    assert (plan.rows, plan.new, plan.problem_count, len(plan.problems), plan.price_usd) == (2, 2, 30, 20, 2)


async def test_what_rows_have_cost_is_learned(open_reader):
    """From the journal, if no price is given."""
    pictures = (SavedPicture("a.png", 1, ""),)
    journal = await journal_of(open_reader(numbered(1), key="id"), cost_usd=0.03, pictures=pictures)
    plan = await make_plan(open_reader(numbered(1, 2, 3), key="id"), journal)
    assert plan.models == {"dall-e-3": ModelPlan(rows=2, images=2, price_usd=0.06)}


async def test_prices_that_are_none_are_refused(open_reader):
    """A plan does not guess."""
    with pytest.raises(ContractError, match="price_usd"):
        await make_plan(open_reader(["x"]), None, lambda _: -1)


PLAN = Plan(
    rows=3000,
    new=2900,
    known={State.DONE: 90, State.DOUBTFUL: 10},
    repeated=5,
    columns=("sku", "folder"),
    models={
        "flux-pro": ModelPlan(rows=1500, images=1500, price_usd=60),
        "dall-e-3": ModelPlan(rows=1400, images=2800, unpriced=1400),
    },
    problems=(Problem("line 3, size", "must be big"),),
    problem_count=2,
)


def test_plans_are_shown():
    """In one line, and as a table."""
    price = "2,900 rows for $60.00, 1,400 without a known price"
    rows = "3,000 (2,900 not in the journal, 90 done, 10 doubtful, 5 repeated)"
    assert repr(PLAN) == f"<Plan: {rows}; to buy: {price}; 2 problems>"
    assert str(PLAN).splitlines() == [
        f"rows        {rows}",
        "columns     sku, folder: no fields of a request, these travel with the rows",
        "            dall-e-3: 1,400 rows without a known price",
        "            flux-pro: 1,500 rows for $60.00",
        f"to buy      {price}",
        "problems    2",
        "            - line 3, size: must be big",
        "            - 1 more",
    ]
    assert str(Plan()).splitlines() == ["rows        0 (0 not in the journal)", "to buy      0 rows for $0.00"]


def test_plans_are_json():
    """With every sum."""
    found = orjson.loads(orjson.dumps(PLAN.as_json()))
    assert found["known"] == {"done": 90, "doubtful": 10}
    assert found["models"]["dall-e-3"] == {"rows": 1400, "images": 2800, "price_usd": 0.0, "unpriced": 1400}
    assert found["problems"] == [{"field": "line 3, size", "message": "must be big"}]
    assert (found["to_buy"], found["price_usd"], found["unpriced"], found["problem_count"]) == (2900, 60.0, 1400, 2)
    assert {*found} == {field.name for field in attrs.fields(Plan)} | {"to_buy", "price_usd", "unpriced"}
