"""Rows come out of each format of Ray Data, and columns go into it."""

import pytest

from lemon_async import ContractError
from lemon_async.distributed.columns import add_columns, check_free, names_of, rows_of

ADDED = {"status": ["done", "new"], "paths": [["a"], []], "error": [None, None], "cost_usd": [0.04, None]}
ROWS = [{"sku": 1, "prompt": "a cat", "weight": 0.5}, {"sku": 2, "prompt": "a dog", "weight": None}]


def as_numpy():
    numpy = pytest.importorskip("numpy")
    nothing = float("nan")
    return {
        "sku": numpy.array([1, 2]),
        "prompt": numpy.array(["a cat", "a dog"], dtype=object),
        "weight": numpy.array([0.5, nothing]),
    }


def as_pandas():
    return pytest.importorskip("pandas").DataFrame(as_numpy())


def as_arrow():
    return pytest.importorskip("pyarrow").Table.from_pylist(ROWS)


@pytest.mark.parametrize("make", [as_numpy, as_pandas, as_arrow])
def test_rows_and_columns_of_each_format(make):
    """Values are those of Python, missing ones `None`, and the format stays what it was."""
    batch = make()
    assert names_of(batch) == ["sku", "prompt", "weight"]
    assert rows_of(batch) == ROWS
    assert all(type(row["sku"]) is int for row in rows_of(batch))
    assert rows_of(batch, ["prompt"]) == [{"prompt": "a cat"}, {"prompt": "a dog"}]
    more = add_columns(batch, ADDED)
    assert type(more) is type(batch)
    assert names_of(more) == ["sku", "prompt", "weight", *ADDED]
    assert [(row["status"], [*row["paths"]], row["error"], row["cost_usd"]) for row in rows_of(more)] == [
        ("done", ["a"], None, 0.04),
        ("new", [], None, None),
    ]
    assert names_of(batch) == ["sku", "prompt", "weight"]


def test_arrow_columns_have_one_type_whatever_their_values():
    """Blocks of a data set with and without errors must have one schema."""
    nothing = {"status": [None] * 2, "paths": [[], []], "error": [None] * 2, "cost_usd": [None] * 2}
    assert add_columns(as_arrow(), nothing).schema == add_columns(as_arrow(), ADDED).schema


def test_columns_that_are_missing_or_taken_are_named():
    """Nothing is overwritten."""
    batch = {"sku": [1], "error": ["x"]}
    with pytest.raises(ContractError, match="prompt: is no column of the data set; its columns are sku, error"):
        rows_of(batch, ["sku", "prompt"])
    with pytest.raises(ContractError, match=r"error: is a column of the data set already.*prefix="):
        check_free(batch, ["status", "error"])
    check_free(batch, ["status"])
