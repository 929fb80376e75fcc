"""A bad setting is refused where it is written."""

import functools
import math

import attrs
import pytest

from lemon_async._pace.validators import (
    at_least_one,
    at_least_zero,
    boolean,
    find_callback_fault,
    is_duration,
    positive,
)
from lemon_async.errors import ContractError


@attrs.frozen
class Settings:
    length_s: float = attrs.field(default=1.0, validator=positive)
    pause_s: float = attrs.field(default=0.0, validator=at_least_zero)
    times: int = attrs.field(default=1, validator=at_least_one)
    is_on: bool = attrs.field(default=False, validator=boolean)


NO_NUMBERS = [math.nan, math.inf, -math.inf, 10**400, -(10**400), True, False, None, "1", b"1", [1], 1j]


def test_positive_accepts_finite_numbers_above_zero():
    for value in [1, 0.001, 5e-324, 1e308]:
        assert Settings(length_s=value).length_s == value


def test_positive_refuses_the_rest():
    for value in [0, 0.0, -0.0, -1, *NO_NUMBERS]:
        with pytest.raises(ContractError) as caught:
            Settings(length_s=value)
        assert str(caught.value) == f"length_s: must be a finite number above 0, not {value!r} (nothing was sent)"


def test_at_least_zero_accepts_finite_numbers_from_zero():
    for value in [0, 0.0, -0.0, 1, 1e308]:
        assert Settings(pause_s=value).pause_s == value


def test_at_least_zero_refuses_the_rest():
    for value in [-1, -5e-324, *NO_NUMBERS]:
        with pytest.raises(ContractError) as caught:
            Settings(pause_s=value)
        assert (
            str(caught.value) == f"pause_s: must be a finite number and not negative, not {value!r} (nothing was sent)"
        )


def test_duration_is_a_finite_number_that_is_not_negative():
    for value, is_one in [(0, True), (0.5, True), (1e308, True), (-0.1, False)]:
        assert is_duration(value) is is_one


def test_duration_is_a_number():
    for value in NO_NUMBERS:
        assert is_duration(value) is False


def test_at_least_one_accepts_whole_numbers_from_one():
    for value in [1, 2, 10**9]:
        assert Settings(times=value).times == value


def test_at_least_one_refuses_the_rest():
    for value in [0, -1, 1.0, True, math.nan, None, "1"]:
        with pytest.raises(ContractError) as caught:
            Settings(times=value)
        assert str(caught.value) == f"times: must be a whole number from 1, not {value!r} (nothing was sent)"


def test_boolean_accepts_true_and_false():
    for value in [True, False]:
        assert Settings(is_on=value).is_on is value


def test_boolean_refuses_the_rest():
    for value in [0, 1, None, "false", "", []]:
        with pytest.raises(ContractError) as caught:
            Settings(is_on=value)
        assert str(caught.value) == f"is_on: must be True or False, not {value!r} (nothing was sent)"


class Callback:
    def __call__(self):
        raise NotImplementedError


class AsyncCallback:
    async def __call__(self):
        raise NotImplementedError


async def later():
    raise NotImplementedError


async def several():
    yield


def test_functions_can_be_called_back():
    for function in [print, [].append, lambda: None, Callback(), Callback, functools.partial(print)]:
        assert find_callback_fault(function) is None


def test_everything_else_cannot():
    for value in [None, 5, "print", []]:
        assert find_callback_fault(value) == f"must be a function, not {value!r}"
    for function in [later, several, functools.partial(later), AsyncCallback(), AsyncCallback().__call__]:
        assert find_callback_fault(function).startswith("must be a plain function")
