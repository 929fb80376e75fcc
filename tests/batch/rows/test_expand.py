"""A template and lists make a matrix of rows."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lemon_async.batch.rows.builder import RowBuilder, columns_of, request_of
from lemon_async.batch.rows.expand import expand
from lemon_async.errors import ContractError


def test_every_combination_is_a_row():
    """The last axis changes fastest."""
    rows = expand("a {colour} {thing}", colour=["red", "blue"], thing=("car", "hat"))
    assert list(rows) == [
        {"prompt": "a red car", "colour": "red", "thing": "car"},
        {"prompt": "a red hat", "colour": "red", "thing": "hat"},
        {"prompt": "a blue car", "colour": "blue", "thing": "car"},
        {"prompt": "a blue hat", "colour": "blue", "thing": "hat"},
    ]
    assert repr(rows) == "<Matrix of 4 rows: 2 colour, 2 thing>"


def test_names_are_parts_of_prompts_fields_or_columns():
    """As rows of a batch they are what a file with these columns would be."""
    rows = expand("a {thing} {{1}}", thing=["car"], model=["flux-pro", "dall-e-3"], async_=[True], shot=range(2))
    builder = RowBuilder("row", None, {}, lambda _: ())
    found = [row for number, item in enumerate(rows, 1) for row in builder.build(number, item)]
    assert [request_of(row).model for row in found] == ["flux-pro", "flux-pro", "dall-e-3", "dall-e-3"]
    assert all(request_of(row).async_ for row in found)
    assert {request_of(row).prompt for row in found} == {"a car {1}"}
    assert [columns_of(row) for row in found] == [{"thing": "car", "shot": shot} for shot in (0, 1)] * 2


@settings(derandomize=True, deadline=None, max_examples=40)
@given(
    st.dictionaries(st.sampled_from(["a", "b", "size"]), st.lists(st.integers(), min_size=1, max_size=4, unique=True))
)
def test_matrices_are_sequences(axes):
    """Their rows are made when they are read, at any position, and as often as wanted."""
    rows = expand("a cat", **axes)
    whole = list(rows)
    assert len(rows) == len(whole)
    assert [rows[at] for at in range(len(rows))] == whole == list(rows)
    assert rows[-1] == whole[-1]
    assert rows[1:3] == whole[1:3]
    with pytest.raises(IndexError):
        rows[len(whole)]


def test_large_matrices_take_no_memory():
    """A billion combinations are counted without being made."""
    rows = expand("{a} {b} {c}", a=range(1000), b=range(1000), c=range(1000))
    assert len(rows) == 10**9
    assert rows[123_456_789]["prompt"] == "123 456 789"


@pytest.mark.parametrize(
    ("template", "axes", "message"),
    [
        ("", {}, "template: must be the text of a prompt, not ''"),
        (["a"], {}, "template: must be the text of a prompt"),
        ("a {color}", {"colour": ["red"]}, "template: has {color}, which has no values; did you mean {colour}?"),
        ("a {x}", {}, "template: has {x}, which has no values; give its values as x=[...]"),
        ("a {", {}, "template: is not a template: "),
        ("a {}", {}, "template: has {}; braces hold a name, as in {colour}"),
        ("a {0}", {}, "template: has {0}; braces hold a name"),
        ("a {x.__class__}", {"x": ["a"]}, "template: has {x.__class__}; braces hold a name"),
        ("a {x:>9}", {"x": ["a"]}, "template: has a format, but values are used as they are"),
        ("a {x!r}", {"x": ["a"]}, "template: has a format, but values are used as they are"),
        ("a {x}", {"x": "red"}, "x: must be a list of values, not 'red'; use x=[...]"),
        ("a", {"n": 2}, "n: must be a list of values, not 2; use n=[...]"),
        ("a", {"extra": {"seed": 1}}, "extra: must be a list of values"),
        ("a", {"n": []}, "n: must not be empty"),
        ("a", {"shot": [1, 2, 1]}, "shot: has 1 twice; to have it made several times, use n= or an axis such as copy="),
        ("a {x}", {"x": [None]}, "x: must be texts or numbers"),
        ("a {style}", {"style": ["x"]}, "style: is a field of requests; use another name in the template"),
        ("a", {"prompt": ["x"]}, "prompt: is what the template makes"),
        ("a", {"modle": ["x"]}, "modle: is not a field; did you mean model=?"),
        ("a", {"asinc": [True]}, "asinc: is not a field; did you mean async_=?"),
    ],
)
def test_mistakes_are_refused(template, axes, message):
    """Before a matrix of mistakes is bought."""
    with pytest.raises(ContractError) as caught:
        expand(template, **axes)
    assert message in str(caught.value)


def test_mistakes_are_refused_together():
    """Each with its name."""
    with pytest.raises(ContractError) as caught:
        expand("a {x} {y}", x=[], n=2)
    assert [problem.field for problem in caught.value.problems] == ["x", "n", "template"]
