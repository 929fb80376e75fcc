"""A journal refuses rows under another kind of key."""

import pytest

from lemon_async.batch.rows.identity import identity_of, identity_problem

SEVERAL = {"model": ["flux-pro", "dall-e-3"]}


def first_column(row):
    return row["id"]


@pytest.mark.parametrize(
    ("key", "fields", "words"),
    [
        (None, {}, "their content"),
        (None, SEVERAL, "their content"),
        ("id", {"model": "flux-pro"}, "the column 'id'"),
        ("id", SEVERAL, "the column 'id', with the model"),
        (first_column, {}, "a function"),
    ],
)
def test_what_identifies_rows_is_said_in_words(key, fields, words):
    assert identity_of(key, fields) == words


@pytest.mark.parametrize(
    ("known", "given", "name"),
    [
        (None, "their content", None),
        ("a function", "the column 'id'", None),
        ("the column 'id', with the model", "a function, with the model", None),
        ("the column 'id'", "their content", "key"),
        ("their content", "a function", "key"),
        ("the column 'id'", "the column 'sku'", "key"),
        ("the column 'id'", "the column 'id', with the model", "model"),
        ("the column 'id', with the model", "a function", "key"),
    ],
)
def test_another_identity_is_a_problem(known, given, name):
    problem = identity_problem(known, given)
    assert (problem and problem.field) == name
