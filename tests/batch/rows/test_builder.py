"""Rows get their requests, keys and digests from their content alone, and every problem names its row."""

import datetime as dt
from decimal import Decimal
from pathlib import Path

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lemon_async import LemonSession
from lemon_async.batch.rows.builder import RowBuilder, columns_of, digest_of, request_of
from lemon_async.batch.rows.files import Fault
from lemon_async.requests import EditRequest, GenerateRequest, VariationRequest
from lemon_async.types import Problem

steady = settings(derandomize=True, deadline=None, max_examples=60)


def accept(request):
    return ()


def built(items, *, key=None, noun="row", validate=accept, header=None, **fields):
    """Return the builder and the rows of some items."""
    builder = RowBuilder(noun, key, fields, validate)
    if header is not None:
        builder.take_header(header)
    return builder, [row for number, item in enumerate(items, 1) for row in builder.build(number, item)]


def made(*items, **options):
    builder, rows = built(items, **options)
    assert not builder.problem_count, builder.problems
    return rows


def problems_of(*items, **options):
    builder, rows = built(items, **options)
    assert builder.problem_count >= 1
    assert builder.row_count == len(rows)
    return [str(problem) for problem in builder.problems]


def test_prompts_requests_and_mappings_make_equal_rows():
    """However a row is given, the same request is the same row."""
    request = GenerateRequest("a cat", model="flux-pro")
    forms = ["a cat", {"prompt": "a cat"}, {"prompt": "a cat", "model": "flux-pro"}, request, GenerateRequest("a cat")]
    assert len({(row.request, row.digest) for form in forms for row in made(form, model="flux-pro")}) == 1


def test_fields_of_a_row_win_over_defaults():
    """In mappings and in requests; a default fills in what is absent or `None`."""
    rows = made(
        {"prompt": "a", "size": "512x512"},
        {"prompt": "a", "size": None},
        GenerateRequest("a", size="256x256"),
        "a",
        size="1024x1024",
        n=2,
    )
    sizes = [request_of(row).size for row in rows]
    assert sizes == ["512x512", "1024x1024", "256x256", "1024x1024"]
    assert {request_of(row).n for row in rows} == {2}


def test_pictures_make_edits():
    """A row with `image` is an edit, also if the picture or the prompt is a default."""
    rows = made({"prompt": "a hat", "image": '["a.png", "b.png"]'}, {"prompt": "a hat"}, image=Path("c.png"))
    rows += made({"image": "d.png"}, prompt="a hat", mask="m.png")
    assert [request_of(row).image for row in rows] == [("a.png", "b.png"), (Path("c.png"),), ("d.png",)]
    assert all(isinstance(request_of(row), EditRequest) for row in rows)
    variation = VariationRequest(image="a.png")
    assert attrs_without_label(request_of(*made(variation))) == variation


def test_subclasses_of_requests_are_rows():
    """A journal keeps what is sent."""

    class Mine(GenerateRequest):
        pass

    assert made(Mine("a cat")) == made("a cat")


def attrs_without_label(request):
    return type(request)(image=request.image)


def test_label_is_the_key_unless_there_is_one():
    """It is not part of what identifies a row."""
    own, other = made({"sku": "a", "prompt": "x"}, {"sku": "b", "prompt": "x", "label": "mine"}, key="sku")
    assert (request_of(own).label, request_of(other).label) == ("a", "mine")
    assert b"label" not in own.request


def test_other_columns_travel_in_their_order():
    """With any values that JSON can hold; absent ones are left out."""
    day = dt.date(2026, 11, 21)
    row = {"sku": "a", "prompt": "x", "folder": "", "b": None, "tags": [1, {"z": 1, "a": 2}], "day": day}
    more = {"price": Decimal("1.20"), "path": Path("a/b.png")}
    (new,) = made(row | more, key="sku")
    expected = {"sku": "a", "folder": "", "tags": [1, {"z": 1, "a": 2}], "day": "2026-11-21", "price": "1.20"}
    assert list(columns_of(new).items()) == list((expected | {"path": "a/b.png"}).items())
    assert made({"prompt": "x"})[0].columns == b""
    assert columns_of(made({"prompt": "x"})[0]) == {}


@steady
@given(
    st.dictionaries(
        st.sampled_from(["sku", "folder", "model", "size", "colour"]), st.text("ab1", min_size=1, max_size=3)
    ),
    st.randoms(use_true_random=False),
)
def test_order_of_columns_changes_nothing(columns, random):
    """Neither key nor digest, with and without a key column."""
    row = {**columns, "prompt": "x", "id": "k"}
    names = list(row)
    random.shuffle(names)
    for key in (None, "id"):
        (one,), (other,) = made(row, key=key), made({name: row[name] for name in names}, key=key)
        assert (one.key, one.request, one.digest) == (other.key, other.request, other.digest)
        assert digest_of(other) == other.digest


@steady
@given(st.sampled_from(["512x512", "256x256"]), st.sampled_from([None, "1024x1024"]))
def test_defaults_that_a_row_overrides_change_nothing(size, default):
    """A row that has its own size does not become another row when the option is changed."""
    (before,), (after,) = made({"prompt": "x", "size": size}), made({"prompt": "x", "size": size}, size=default)
    assert before == after


def test_keys_without_a_column_are_digest_and_occurrence():
    """Not the position: rows may be added before, and the caller's own columns do not count."""
    first = made("a", "b", "a", {"prompt": "a", "folder": "z"})
    again = made("c", "a", "a", "b")
    assert [row.key for row in first] == [first[0].key, first[1].key, f"{first[0].key}-2", f"{first[0].key}-3"]
    assert {row.key for row in again} >= {first[0].key, first[1].key, f"{first[0].key}-2"}
    assert first[0].key == "85ab865aa3534ef6"  # part of every journal: it must not change
    assert len(first[0].digest) == 32


@pytest.mark.parametrize(
    ("value", "key"), [("a", "a"), (" a b ", "a b"), (7, "7"), (7.0, "7"), ("猫-1", "猫-1"), ("x" * 200, "x" * 200)]
)
def test_keys_are_text(value, key):
    """Stripped, and numbers of JSON as text."""
    assert made({"id": value, "prompt": "x"}, key="id")[0].key == key


@pytest.mark.parametrize("value", ["a\nb", "x" * 201, 7.5, True, ["a"], b"a", "\x00", "\ud800"])
def test_other_keys_are_problems(value):
    """A key names files, and stands in logs."""
    message = problems_of({"id": value, "prompt": "x"}, key="id")[0]
    assert message.startswith("row 1, id: a key must be one line of text of 1 to 200 characters, not ")


@pytest.mark.parametrize("row", [{"prompt": "x"}, {"prompt": "x", "id": None}])
def test_missing_keys_are_problems(row):
    """They are not made up."""
    assert problems_of(row, key="id") == ["row 1, id: the key is missing or empty"]


def test_keys_can_come_from_a_function():
    """It gets the row as it is; its faults are problems of the row."""
    assert made({"a": 1, "b": 2, "prompt": "x"}, key=lambda row: f"{row['a']}-{row['b']}")[0].key == "1-2"
    assert [row.key for row in made("x", "y", key=lambda prompt: prompt)] == ["x", "y"]
    assert problems_of("x", key=lambda row: row["a"])[0].startswith("row 1, key: the function raised TypeError(")
    assert problems_of("x", key=lambda _: None) == ["row 1, key: the key is missing or empty"]


def test_key_columns_need_columns():
    """A prompt has none."""
    assert problems_of("x", key="sku") == ["row 1, sku: is a column, and this row has none; give a function as key="]


def test_equal_rows_under_one_key_are_one_row():
    """Adding a row again is no change."""
    builder, rows = built([{"id": 1, "prompt": "x"}] * 3, key="id")
    assert (len(rows), builder.repeated, builder.problem_count) == (1, 2, 0)


def test_other_content_under_the_same_key_names_both_lines():
    """Whether the request differs or a column."""
    first = {"id": "a", "prompt": "x", "folder": "y"}
    for other in (first | {"prompt": "z"}, first | {"folder": "z"}):
        messages = problems_of(first, other, key="id", noun="line")
        assert messages == ["line 2, key: 'a' is the key of line 1, too, which has other content"]


def test_several_models_are_an_axis():
    """Every row is made with every model, and its key says which."""
    items = [{"id": 1, "prompt": "x"}, {"id": 2, "prompt": "y"}]
    rows = made(*items, key="id", model=["flux-pro", "dall-e-3"])
    assert [row.key for row in rows] == ["1:flux-pro", "1:dall-e-3", "2:flux-pro", "2:dall-e-3"]
    assert [request_of(row).model for row in rows] == ["flux-pro", "dall-e-3"] * 2
    assert len({row.key for row in made("x", model=["flux-pro", "dall-e-3"])}) == 2
    assert problems_of({"id": "x" * 199, "prompt": "x"}, key="id", model=["flux-pro"]) == [
        "row 1, key: must have at most 200 characters, with the model"
    ]
    assert problems_of({"model": "m", "prompt": "x"}, model=["flux-pro"]) == [
        "row 1, model: is given by the row, and by model=[...] as well; remove one of them"
    ]


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (7, "row: must be a prompt, a request or a mapping, not 7"),
        (Fault("is not JSON"), "row: is not JSON"),
        ({}, "prompt: is missing or empty"),
        ({"prompt": None}, "prompt: is missing or empty"),
        ({"prompt": "x", "n": "many"}, "n: must be a whole number, not 'many'"),
        ({"prompt": "x", "modle": "flux-pro"}, "'modle': is not a field; did you mean 'model'?"),
        ({"promt": "x"}, "'promt': is not a field; did you mean 'prompt'?"),
        ({"prompt": "x", 7: 1}, "7: is not the name of a column; names are text"),
        ({"prompt": "x", "blob": b"PNG"}, "blob: cannot be kept as JSON: "),
        ({"prompt": "x", "image": b"PNG"}, "image[0]: is bytes; a journal keeps references only"),
        ({"prompt": "x", "image": "a.png", "style": "vivid"}, "style: is not a field of EditRequest"),
        (EditRequest("x", image=[]), "style: is not a field of EditRequest"),
    ],
)
def test_problems_name_their_row(item, message):
    """And the column."""
    options = {"style": "vivid"} if isinstance(item, EditRequest) else {}
    assert problems_of(item, **options)[0].startswith(f"row 1, {message}")


def test_all_problems_of_a_row_are_found_together():
    """Of its key, its values and its contract; once each, whatever the number of models."""
    row = {"id": None, "prompt": " ", "n": "x", "size": "big", "async": "perhaps"}
    messages = problems_of(row, key="id", model=["flux-pro", "dall-e-3"], validate=LemonSession.validate)
    assert [message.partition(":")[0] for message in messages] == [
        "row 1, n", "row 1, async", "row 1, id", "row 1, prompt", "row 1, size",
    ]  # fmt: skip


def test_problems_are_counted_and_the_first_are_kept():
    """A million faulty rows do not fill the memory, nor the screen."""
    builder, rows = built([{"prompt": "x", "n": "?"}] * 100)
    assert (len(builder.problems), builder.problem_count, rows) == (20, 100, [])


def test_missing_price_of_a_model_is_listed_once():
    """It would hide the other problems."""
    items = [{"prompt": "x", "model": f"m{number % 2}"} for number in range(50)]
    items.append({"prompt": "x", "model": "m0", "n": "?"})
    builder, _ = built(items, validate=lambda request: [Problem("price_usd", f"{request.model} has none")])
    assert [problem.field for problem in builder.problems] == ["row 1, price_usd", "row 2, price_usd", "row 51, n"]
    assert builder.problem_count == 52


def test_misspelt_columns_are_reported_once():
    """Not for each of a million rows."""
    assert len(problems_of(*[{"prompt": "x", "modle": str(number)} for number in range(100)])) == 1


def test_rows_may_all_have_other_columns():
    """What is remembered of columns stays small; they are found again."""
    rows = [{"prompt": "x", f"c{number}": 1} for number in range(5000)]
    builder, found = built([*rows, rows[0]])
    assert len(found) == 5001
    assert len(builder.columns) == 5000
    assert len(builder._layouts) <= 4097
    assert columns_of(found[-1]) == {"c0": 1}


def test_a_header_is_checked_as_a_whole():
    """A missing column is one problem, not one for each row."""
    assert problems_of(header=["id", "text"], key="sku") == [
        "prompt: there is no such column; the columns are 'id', 'text'",
        "sku: there is no such column; the columns are 'id', 'text'",
    ]
    assert "did you mean 'prompt'" in problems_of(header=["promt"])[0]
    builder, _ = built([{"prompt": "x", "b": "1"}, {"prompt": "x", "a": "1"}], header=["prompt", "a", "n", "b"])
    assert list(builder.columns) == ["a", "b"]
    builder = RowBuilder("line", None, {"prompt": "x"}, accept)
    assert builder.take_header(["image"])


def test_validation_is_that_of_the_session():
    """Each problem of the contract is one of the row."""
    validate = LemonSession.validate
    assert problems_of({"prompt": "x", "size": "1x1"}, model="dall-e-3", validate=validate) == [
        "row 1, size: DALL-E 3 takes 1024x1024, 1792x1024, 1024x1792, not '1x1'"
    ]
    assert problems_of("x", validate=lambda request: [Problem("prompt", request.prompt)]) == ["row 1, prompt: x"]


def test_rows_are_json():
    """A journal can be read without this library."""
    (row,) = made({"prompt": "x", "n": "2", "sku": "a"}, key="sku")
    assert orjson.loads(row.request) == {"operation": "generate", "prompt": "x", "n": 2}
    assert orjson.loads(row.columns) == {"sku": "a"}
