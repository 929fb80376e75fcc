"""Every line of an export has the same columns, each of one kind."""

import base64

import orjson
import pytest

from lemon_async.batch.exports.columns import Columns, Kind
from lemon_async.batch.records import JournalRow
from lemon_async.batch.states import State


def row(request=None, columns=None, **facts):
    facts = {"number": 0, "key": "a", "state": State.NEW, **facts}
    request = {"prompt": "a cat", **(request or {})}
    return JournalRow(request=orjson.dumps(request), columns=orjson.dumps(columns) if columns else b"", **facts)


def learned(*rows):
    columns = Columns()
    for each in rows:
        columns.learn(each)
    return columns


FIXED = ("key", "state", "prompt", "model")
TRAILING = (
    "attempt", "changed_at", "task_id", "price_usd", "cost_usd", "sunk_usd", "error", "paths", "sha256",
)  # fmt: skip


def own(columns):
    """Return the kinds of the columns that not every export has."""
    return {name: kind for name, kind in columns.kinds().items() if name not in {*FIXED, *TRAILING}}


def test_table_begins_and_ends_with_the_same_columns():
    names = list(learned(row({"size": "1024x1024"}, {"colour": "red"})).kinds())
    assert names == [*FIXED, "size", "colour", *TRAILING]
    assert list(learned().kinds()) == [*FIXED, *TRAILING]


@pytest.mark.parametrize(
    ("values", "kind", "shown"),
    [
        (["a", "b"], Kind.TEXT, ["a", "b"]),
        ([1, 2], Kind.INTEGER, [1, 2]),
        ([1, 2.5], Kind.FLOAT, [1.0, 2.5]),
        ([2.5, 1, 2], Kind.FLOAT, [2.5, 1.0, 2.0]),
        ([True, False], Kind.BOOL, [True, False]),
        ([True, 1], Kind.TEXT, ["true", "1"]),
        ([1, "a"], Kind.TEXT, ["1", "a"]),
        ([[1, "é"], {"b": None}], Kind.TEXT, ['[1,"é"]', '{"b":null}']),
        ([2**63, 1], Kind.TEXT, [str(2**63), "1"]),
        ([None, None], Kind.TEXT, ["", ""]),
        ([None, 3], Kind.INTEGER, [None, 3]),
        ([3.5, None], Kind.FLOAT, [3.5, None]),
        (["a", None], Kind.TEXT, ["a", ""]),
    ],
)
def test_column_has_one_kind(values, kind, shown):
    """Mixed values and objects are text; missing text is empty, and a missing number is null."""
    rows = [row(columns={"x": value}) for value in values]
    columns = learned(*rows)
    assert own(columns) == {"x": kind}
    assert [columns.of_row(each)["x"] for each in rows] == shown
    assert [columns.of_picture(each)["x"] for each in rows] == shown


def test_row_without_a_column_has_it_empty():
    rows = [row({"n": 2}), row(columns={"colour": "red"})]
    columns = learned(*rows)
    assert [columns.of_row(each)["n"] for each in rows] == [2, None]
    assert [columns.of_row(each)["colour"] for each in rows] == ["", "red"]


@pytest.mark.parametrize("name", ["state", "key", "image", "file_name", "file_names", "my_file_name", "__key__"])
def test_column_whose_name_is_taken_gets_another(name):
    """`datasets` would take some for paths of pictures."""
    first = row(columns={name: "mine", f"{name}_": "other"})
    columns = learned(first)
    values = columns.of_row(first)
    assert values[f"{name}_"] == "mine"
    assert values[f"{name}__"] == "other"


def test_column_and_field_of_the_same_name_are_two():
    first = row({"size": "1x1"}, {"size": "large"})
    values = learned(first).of_row(first)
    assert (values["size"], values["size_"]) == ("1x1", "large")


def test_values_of_a_row():
    """Facts of the journal, in the units that its rows have."""
    first = row(
        {"model": "flux-pro"}, state=State.DONE, attempt=2, changed_at=1.7e9, cost_usd=0.04, error="e", task="t"
    )
    assert learned(first).of_row(first) == {
        "key": "a",
        "state": "done",
        "prompt": "a cat",
        "model": "flux-pro",
        "attempt": 2,
        "changed_at": "2023-11-14T22:13:20+00:00",
        "task_id": "t",
        "price_usd": None,
        "cost_usd": 0.04,
        "sunk_usd": 0.0,
        "error": "e",
    }


def test_values_of_a_picture():
    first = row({"model": "flux-pro"}, {"colour": "red"}, cost_usd=0.04)
    assert learned(first).of_picture(first) == {
        "key": "a",
        "prompt": "a cat",
        "model": "flux-pro",
        "colour": "red",
        "task_id": "",
        "cost_usd": 0.04,
    }


def test_task_id_is_that_of_the_token():
    """A token that no version can read gives none."""
    token = "lemon1." + base64.urlsafe_b64encode(b'{"task_id":"ldtask_1"}').decode()
    for task, shown in ((token, "ldtask_1"), ("lemon1.damaged", ""), (None, "")):
        first = row(task=task)
        assert learned(first).of_row(first)["task_id"] == shown


def test_rows_with_the_first_number_of_a_column_are_early():
    """A reader takes a column whose first values are null for one of nothing; text is never null."""
    rows = [
        row({"n": 1}, number=3),
        row({"n": 2}, {"text": "a", "weight": None}, number=4),
        row({}, {"weight": 2.5, "size": 1}, number=8),
        row({"n": 3}, {"weight": 3.5, "size": "x"}, number=9, cost_usd=0.0),
    ]
    assert learned(*rows).early() == [3, 8, 9]
    assert learned(row(columns={"text": "a"})).early() == []
