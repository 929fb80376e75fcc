import pytest

from lemon_async.emulator.service_errors import MAX_FIELD_ERRORS, MAX_QUOTED_CHARS, FieldError, ServiceError, excerpt


@pytest.mark.parametrize(("count", "last"), [(1, "f0"), (MAX_FIELD_ERRORS, f"f{MAX_FIELD_ERRORS - 1}")])
def test_complaints_are_all_listed_when_they_are_few(count, last):
    rows = ServiceError.of([FieldError(f"f{index}", "is wrong") for index in range(count)]).as_json()[
        "validation_errors"
    ]
    assert (len(rows), rows[-1]["field"]) == (count, last)


def test_list_of_many_complaints_ends_with_the_number_of_those_left_out():
    rows = ServiceError.of([FieldError("f", "is wrong")] * (MAX_FIELD_ERRORS + 7)).as_json()["validation_errors"]
    assert len(rows) == MAX_FIELD_ERRORS + 1
    assert rows[-1] == {"field": "validation_errors", "message": "7 more are not listed", "code": "more_errors"}


@pytest.mark.parametrize("text", ["", "a cat", "x" * MAX_QUOTED_CHARS])
def test_excerpt_of_a_short_text_is_the_text(text):
    assert excerpt(text) == text


def test_excerpt_of_a_long_text_ends_in_an_ellipsis():
    assert excerpt("x" * 10**6) == "x" * (MAX_QUOTED_CHARS - 1) + "…"
    assert excerpt("abcdef", 4) == "abc…"


def test_excerpt_holds_nothing_that_json_cannot():
    assert excerpt("a\udcffb") == "a?b"
