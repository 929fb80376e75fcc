"""Options of a batch are checked together."""

import pytest

from lemon_async.batch.running.options import BatchOptions
from lemon_async.errors import ContractError

OTHERS = {"validate": lambda request: (), "reporter": lambda look: None, "close_s": 1.0, "save_s": 1.0}


def test_valid_options_are_accepted():
    for options in ({}, {"budget_usd": 0}, {"budget_usd": 0.5, "save": "out/{key}"}, {"attempts": 1, "in_flight": 1}):
        BatchOptions(**options, **OTHERS).check()


def test_all_problems_are_listed():
    wrong = {"in_flight": True, "attempts": 0, "budget_usd": float("nan"), "save": b"x", "resubmits": True}
    with pytest.raises(ContractError) as raised:
        BatchOptions(**wrong, **OTHERS).check()
    assert [problem.field for problem in raised.value.problems] == [*list(wrong)[:-1], "retry"]


def test_given_rows_only_need_rows():
    options = BatchOptions(only_given=True, **OTHERS)
    options.check()
    with pytest.raises(ContractError, match="only_given: needs rows"):
        options.check(has_rows=False)
