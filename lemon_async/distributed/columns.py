"""Rows out of a batch of Ray Data, and columns into it, in each of its formats: numpy, pandas and pyarrow. Pure.

A batch says what it is by its methods; a library is imported when there is a batch of it.
"""

from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from typing import Any

from lemon_async.errors import ContractError
from lemon_async.types import Problem

__all__ = ["add_columns", "check_free", "names_of", "rows_of"]

_NUMBERS, _LISTS = "cost_usd", "paths"


def names_of(batch: Any) -> list[str]:
    """Return the names of the columns of a batch."""
    if isinstance(batch, Mapping):
        return list(batch)
    return list(getattr(batch, "column_names", None) or batch.columns)


def rows_of(batch: Any, columns: Iterable[str] | None = None) -> list[dict[str, Any]]:
    """Return the rows of a batch as mappings of Python values; a missing value is `None`.

    Args:
        batch: A mapping of names to arrays, a DataFrame, or a table of Arrow.
        columns: The columns to take; `None` for all.

    Raises:
        ContractError: There is no such column.
    """
    names = names_of(batch)
    chosen = names if columns is None else list(columns)
    if missing := [name for name in chosen if name not in names]:
        known = ", ".join(map(str, names))
        problems = (Problem(name, f"is no column of the data set; its columns are {known}") for name in missing)
        raise ContractError(problems=tuple(problems))
    values = [_values(batch[name]) for name in chosen]
    return [dict(zip(chosen, row, strict=True)) for row in zip(*values, strict=True)]


def check_free(batch: Any, names: Iterable[str]) -> None:
    """Check that columns of these names can be added.

    Raises:
        ContractError: A batch has such a column.
    """
    if taken := [name for name in names if name in names_of(batch)]:
        problems = (Problem(name, "is a column of the data set already; rename it, or give prefix=") for name in taken)
        raise ContractError(problems=tuple(problems))


def add_columns(batch: Any, columns: Mapping[str, Sequence[Any]]) -> Any:
    """Return a batch of the same format with these columns at its end; `cost_usd` holds numbers, `paths` lists of text.

    Each has one type, whatever its values: the blocks of a data set must agree.
    """
    if isinstance(batch, Mapping):
        return {**batch, **{name: _array(name, values) for name, values in columns.items()}}
    if not hasattr(batch, "append_column"):
        return batch.assign(**{name: _array(name, values) for name, values in columns.items()})
    for name, values in columns.items():
        batch = batch.append_column(name, _arrow(name, values))
    return batch


def _array(name: str, values: Sequence[Any]) -> Any:
    numpy = import_module("numpy")
    if name.endswith(_NUMBERS):
        return numpy.array(values, dtype=float)
    array = numpy.empty(len(values), dtype=object)
    for index, value in enumerate(values):  # or else lists of one length become a table
        array[index] = value
    return array


def _arrow(name: str, values: Sequence[Any]) -> Any:
    arrow = import_module("pyarrow")
    text = arrow.string()
    kind = arrow.float64() if name.endswith(_NUMBERS) else arrow.list_(text) if name.endswith(_LISTS) else text
    return arrow.array(values, kind)


def _values(column: Any) -> list[Any]:
    values = column.to_pylist() if hasattr(column, "to_pylist") else column.tolist()
    return [None if isinstance(value, float) and value != value else value for value in values]  # noqa: PLR0124 - NaN
