"""Iterables of rows are read in steps, and what only looks like one is refused."""

import asyncio
import io
import time

import pytest

from lemon_async import EditRequest
from lemon_async.batch.rows.iterables import chunks_of, find_source_fault, is_read_once


async def async_rows(rows):
    for row in rows:
        yield row


class Table:
    """A data frame: iterating it gives the names of its columns."""

    columns = ("prompt", "size")
    shape = (1000, 2)

    def __iter__(self):
        return iter(self.columns)


def spent():
    rows = (row for row in [])
    return list(rows) or rows


@pytest.mark.parametrize("source", ["rows.csv", [], (), iter([]), {"a"}, async_rows([]), (row for row in [])])
def test_paths_and_iterables_are_sources(source):
    """Of any kind."""
    assert find_source_fault(source) is None


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        (b"x", "must be a path or an iterable of rows, not one bytes; use a list"),
        ({"prompt": "x"}, "must be a path or an iterable of rows, not one dict; use a list"),
        (EditRequest("x", image="a.png"), "must be a path or an iterable of rows, not one EditRequest; use a list"),
        (7, "must be a path or an iterable of rows, not int"),
        (
            Table(),
            "is a table; give its rows: to_dict('records') of pandas, to_dicts() of polars, to_pylist() of pyarrow",
        ),
        (io.StringIO("prompt\nx\n"), "is an open file; give its path, or a list of its lines if each is a prompt"),
        (spent(), "is an exhausted generator; make a new one"),
    ],
)
def test_what_would_buy_something_else_is_refused(source, fault):
    """The header of a file and the columns of a table are no prompts."""
    assert find_source_fault(source) == fault


def test_iterators_are_read_once():
    """A list can be read again."""
    assert is_read_once(iter([]))
    assert is_read_once(async_rows([]))
    assert not is_read_once([])


@pytest.mark.parametrize("make", [list, iter, async_rows])
async def test_items_are_numbered(make):
    """From 1, in chunks of at most 1,000."""
    chunks = [chunk async for chunk in chunks_of(make(["x"] * 2500))]
    assert [number for chunk in chunks for number, _ in chunk] == list(range(1, 2501))
    assert max(map(len, chunks)) <= 1000


async def test_slow_iterables_are_read_in_steps():
    """A chunk ends after some milliseconds, so that the event loop can do other work."""

    def slow():
        for _ in range(20):
            time.sleep(0.001)
            yield "x"

    sizes = [len(chunk) async for chunk in chunks_of(slow())]
    assert sum(sizes) == 20
    assert max(sizes) <= 5
    await asyncio.sleep(0)
