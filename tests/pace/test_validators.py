"""A bad setting is refused where it is written."""

import math

import attrs
import pytest

from lemon_async._pace.validators import at_least_one, at_least_zero, is_duration, positive
from lemon_async.errors import ContractError


@attrs.frozen
class Settings:
    length_s: float = attrs.field(default=1.0, validator=positive)
    pause_s: float = attrs.field(default=0.0, validator=at_least_zero)
    times: int = attrs.field(default=1, validator=at_least_one)


NO_NUMBERS = [math.nan, math.inf, -math.inf, 10**400, -(10**400), True, False, None, "1", b"1", [1], 1j]


@pytest.mark.parametrize("value", [1, 0.001, 5e-324, 1e308])
def test_positive_accepts_finite_numbers_above_zero(value):
    assert Settings(length_s=value).length_s == value


@pytest.mark.parametrize("value", [0, 0.0, -0.0, -1, *NO_NUMBERS])
def test_positive_refuses_the_rest(value):
    with pytest.raises(ContractError) as caught:
        Settings(length_s=value)
    assert str(caught.value) == f"length_s: must be a finite number above 0, not {value!r} (nothing was sent)"


@pytest.mark.parametrize("value", [0, 0.0, -0.0, 1, 1e308])
def test_at_least_zero_accepts_finite_numbers_from_zero(value):
    assert Settings(pause_s=value).pause_s == value


@pytest.mark.parametrize("value", [-1, -5e-324, *NO_NUMBERS])
def test_at_least_zero_refuses_the_rest(value):
    with pytest.raises(ContractError) as caught:
        Settings(pause_s=value)
    assert str(caught.value) == f"pause_s: must be a finite number and not negative, not {value!r} (nothing was sent)"


@pytest.mark.parametrize(("value", "is_one"), [(0, True), (0.5, True), (1e308, True), (-0.1, False)])
def test_duration_is_a_finite_number_that_is_not_negative(value, is_one):
    assert is_duration(value) is is_one


@pytest.mark.parametrize("value", NO_NUMBERS)
def test_duration_is_a_number(value):
    assert is_duration(value) is False


@pytest.mark.parametrize("value", [1, 2, 10**9])
def test_at_least_one_accepts_whole_numbers_from_one(value):
    assert Settings(times=value).times == value


@pytest.mark.parametrize("value", [0, -1, 1.0, True, math.nan, None, "1"])
def test_at_least_one_refuses_the_rest(value):
    with pytest.raises(ContractError) as caught:
        Settings(times=value)
    assert str(caught.value) == f"times: must be a whole number from 1, not {value!r} (nothing was sent)"
