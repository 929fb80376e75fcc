"""Make the rows of a matrix: a template of a prompt, and lists of values that are combined."""

import math
import string
from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from itertools import product
from typing import Any, overload

from lemon_async.batch.rows.fields import field_of, guess_field, shown
from lemon_async.errors import ContractError
from lemon_async.types import Problem

__all__ = ["Matrix", "expand"]


class Matrix(Sequence[Mapping[str, Any]]):
    """The rows of `expand`, made as they are read: a million combinations take no memory."""

    def __init__(self, template: str, axes: Mapping[str, tuple[Any, ...]]) -> None:
        self._template, self._axes = template, axes

    def __len__(self) -> int:
        return math.prod(map(len, self._axes.values()))

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        return map(self._row, product(*self._axes.values()))

    @overload
    def __getitem__(self, index: int) -> Mapping[str, Any]: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Mapping[str, Any]]: ...
    def __getitem__(self, index: int | slice) -> Mapping[str, Any] | Sequence[Mapping[str, Any]]:
        if isinstance(index, slice):
            return [self[at] for at in range(*index.indices(len(self)))]
        at = range(len(self))[index]
        values: list[Any] = []
        for axis in reversed(tuple(self._axes.values())):
            at, place = divmod(at, len(axis))
            values.append(axis[place])
        return self._row(reversed(values))

    def _row(self, values: Iterable[Any]) -> Mapping[str, Any]:
        row = dict(zip(self._axes, values, strict=True))
        return {"prompt": self._template.format_map(row), **row}

    def __repr__(self) -> str:
        return (
            f"<Matrix of {len(self):,} rows: {', '.join(f'{len(axis)} {name}' for name, axis in self._axes.items())}>"
        )


def expand(template: str, /, **axes: Iterable[Any]) -> Matrix:
    """Return a row for every combination of values, the last axis changing fastest.

    ```python
    from lemon_async.batch import expand

    rows = expand("a {colour} {thing}", colour=["red", "blue"], thing=["car", "hat"], size=["512x512"])
    ```

    A name of the template fills the prompt, and is a column of the row, too. Another name is a field of the request, if
    there is such a field, and otherwise a column.

    Args:
        template: The prompt with names in braces; `{{` is a brace.
        **axes: The values of each name, different ones. A field that takes one list takes a list of lists here.

    Raises:
        ContractError: A name of the template has no values, an axis is no list, is empty or has a value twice, a name
            is both in the template and a field, or is nearly that of a field.
    """
    if type(template) is not str or not template.strip():
        raise ContractError.of("template", f"must be the text of a prompt, not {shown(template)}", undone="started")
    names, problems = _names_in(template)
    lists = {name: _values_of(name, values, problems) for name, values in axes.items()}
    for name in names:
        if name not in axes:
            alike = get_close_matches(name, axes, n=1)
            guess = f"; did you mean {{{alike[0]}}}?" if alike else f"; give its values as {name}=[...]"
            problems.append(Problem("template", f"has {{{name}}}, which has no values{guess}"))
    for name in axes:
        problems += _find_name_problems(name, names)
    for name in set(names) & lists.keys():
        if not all(isinstance(value, str | int | float) for value in lists[name]):
            problems.append(Problem(name, "must be texts or numbers, because they become part of the prompt"))
    if problems:
        raise ContractError(problems=tuple(problems), undone="started")
    return Matrix(template, lists)


def _names_in(template: str) -> tuple[list[str], list[Problem]]:
    try:
        pieces = list(string.Formatter().parse(template))
    except ValueError as fault:
        return [], [Problem("template", f"is not a template: {fault}; a brace is written twice, {{{{ or }}}}")]
    names = [name for _, name, _, _ in pieces if name is not None]
    strange = [name for name in names if not name.isidentifier()]
    problems = [Problem("template", f"has {{{name}}}; braces hold a name, as in {{colour}}") for name in strange]
    if any(spec or conversion for _, _, spec, conversion in pieces):
        problems.append(Problem("template", "has a format, but values are used as they are; format them first"))
    return [name for name in dict.fromkeys(names) if name not in strange], problems


def _values_of(name: str, values: Any, problems: list[Problem]) -> tuple[Any, ...]:
    """Return the values of an axis; none, with a problem, if it is no list of different ones."""
    if isinstance(values, str | bytes | Mapping) or not isinstance(values, Iterable):
        problems.append(Problem(name, f"must be a list of values, not {shown(values)}; use {name}=[...]"))
        return ()
    several = tuple(values)
    if not several:
        problems.append(Problem(name, "must not be empty: there would be no rows"))
    if twice := [value for at, value in enumerate(several[:1000]) if value in several[:at]]:
        advice = "to have it made several times, use n= or an axis such as copy=[1, 2]"
        problems.append(Problem(name, f"has {shown(twice[0])} twice; {advice}"))
    return several


def _find_name_problems(name: str, names: Sequence[str]) -> Iterator[Problem]:
    if name == "prompt":
        yield Problem(
            name, "is what the template makes; a whole prompt can be an axis, too: expand('{text}', text=[...])"
        )
    elif name in names and field_of(name):
        yield Problem(name, f"is a field of requests; use another name in the template, such as {{{name}_text}}")
    elif name not in names and field_of(name) is None and (guess := guess_field(name)):
        yield Problem(
            name, f"is not a field; did you mean {field_of(guess)}=? If the column is your own, give it another name"
        )
