"""Columns become fields, or travel; what is nearly a field is reported."""

import pytest

from lemon_async.batch.rows.fields import FIELDS, field_of, find_column_problems, guess_field, layout_of, shown
from lemon_async.requests import EditFields, GenerateFields, JobFields


def test_every_field_of_a_job_can_be_a_column():
    """Also those that a later version adds."""
    keywords = {*JobFields.__annotations__, *GenerateFields.__annotations__, *EditFields.__annotations__}
    assert keywords | {"prompt", "model", "n", "size", "response_format", "user", "label", "extra"} == FIELDS


def test_async_has_two_names():
    """The service's name and Python's."""
    assert field_of("async") == field_of("async_") == "async_"
    assert [problem.field for problem in find_column_problems(["prompt", "async", "async_"])] == ["async"]


@pytest.mark.parametrize(
    ("column", "field"),
    [
        ("modle", "model"),
        ("sise", "size"),
        ("promt", "prompt"),
        ("prompts", "prompt"),
        ("Prompt", "prompt"),
        ("PROMPT", "prompt"),
        (" size ", "size"),
        ("quallity", "quality"),
        ("aspectratio", "aspect_ratio"),
        ("aspect ratio", "aspect_ratio"),
        ("backgroud", "background"),
        ("N", "n"),
        ("asinc", "async"),
        ("image_url", "image"),
        ("images", "image"),
    ],
)
def test_misspelt_fields_are_guessed(column, field):
    """The guess is the name that a column can have."""
    assert guess_field(column) == field


@pytest.mark.parametrize(
    "column",
    [
        *("sku", "id", "key", "name", "title", "note", "colour", "color", "thing", "folder", "site", "side", "mode"),
        *("quantity", "price", "image_id", "prompt_en", "user_id", "text", "tag", "tags", "age", "lab", "row", "file"),
        *("number", "path", "category", "caption", "labels", "seed", "weight", "lang"),
    ],
)
def test_ordinary_words_are_the_callers_own(column):
    """They travel with the row."""
    assert guess_field(column) is None
    assert not list(find_column_problems(["prompt", column]))


def test_a_likeness_of_a_field_that_is_there_is_the_callers_own():
    """Nobody misspells a column beside the right one."""
    assert [problem.field for problem in find_column_problems(["prompt", "sise"])] == ["'sise'"]
    assert not list(find_column_problems(["prompt", "sise", "size"]))


def test_names_that_are_not_text_are_problems():
    """A mapping of the caller's may have any keys."""
    assert [str(problem) for problem in find_column_problems([7])] == ["7: is not the name of a column; names are text"]


def converted(column, value):
    problems = []
    fields = layout_of([column]).fields_in({column: value}, problems)
    return fields.get(field_of(column)) if not problems else str(problems[0])


@pytest.mark.parametrize(
    ("column", "value", "expected"),
    [
        ("n", "2", 2),
        ("n", " 2 ", 2),
        ("n", 2, 2),
        ("n", 2.0, 2),
        ("n", 2.5, 2.5),
        ("n", "two", "n: must be a whole number, not 'two'"),
        ("n", "2.0", "n: must be a whole number, not '2.0'"),
        ("n", "9" * 30, f"n: must be a whole number, not '{'9' * 30}'"),
        ("async", "TRUE", True),
        ("async", "no", False),
        ("async_", "1", True),
        ("async", False, False),
        ("async", "maybe", "async: must be true or false, not 'maybe'"),
        ("async", 7, "async: must be true or false, not 7"),
        ("size", " 512x512 ", "512x512"),
        ("prompt", " a cat\n", " a cat\n"),
        ("user", 17, "17"),
        ("user", True, True),
        ("extra", '{"seed": 7}', {"seed": 7}),
        ("extra", {"seed": 7}, {"seed": 7}),
        ("extra", "[7]", """extra: must be a JSON object such as {"seed": 7}, not [7]"""),
        ("image", "cat.png", "cat.png"),
        ("image", '["a.png", "https://a.example/b.png"]', ["a.png", "https://a.example/b.png"]),
        ("image", ["a.png"], ["a.png"]),
        ("mask", " m.png ", "m.png"),
        ("size", None, None),
    ],
)
def test_values_are_converted_by_field(column, value, expected):
    """Text of a CSV becomes what the field takes; values of JSON are kept."""
    assert converted(column, value) == expected


def test_structured_cells_must_be_json():
    """Text of `extra`, and text of `image` that begins with a bracket."""
    assert converted("extra", "seed=7").startswith("extra: must be a JSON object: ")
    assert converted("image", "[a.png]").startswith("image: must be a path, an address, or a JSON list")


def test_quotes_are_short():
    """A cell of a hundred megabytes is not repeated in a message."""
    assert len(shown("x" * 10**7)) <= 90
    assert len(shown(list(range(10**5)))) <= 90
