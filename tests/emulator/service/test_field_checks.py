import pytest
from hypothesis import given
from hypothesis import strategies as st

from lemon_async.emulator.service import field_checks as checks


@pytest.mark.parametrize(
    ("size", "complaint"),
    [
        ("auto", None),
        ("1024x1024", None),
        ("1024x640", None),  # 655,360 pixels: the least
        ("3840x2160", None),  # 8,294,400 pixels: the most
        ("2160x3840", None),
        ("2304x768", None),  # 3:1 exactly
        ("1024x624", "total pixels"),
        ("3856x2160", "longest edge"),
        ("3840x2176", "total pixels"),
        ("2320x768", "ratio"),
        ("1000x1024", "multiples of 16"),
        ("1024x1000", "multiples of 16"),
        ("0x1024", "WIDTHxHEIGHT"),
        ("1024", "WIDTHxHEIGHT"),
        ("1024X1024", "WIDTHxHEIGHT"),
        (1024, "WIDTHxHEIGHT"),
        (None, "WIDTHxHEIGHT"),
        (["auto"], "WIDTHxHEIGHT"),
    ],
)
def test_gpt_image_size_bounds_are_exact(size, complaint):
    found = checks.gpt_image_size(size)
    assert found is None if complaint is None else complaint in found


def test_gpt_image_size_names_every_broken_bound():
    found = checks.gpt_image_size("4001x17")
    assert found.count(";") == 3


@given(st.integers(1, 250), st.integers(1, 250))
def test_gpt_image_size_accepts_exactly_what_the_page_says(a, b):
    width, height = 16 * a, 16 * b
    is_legal = (
        max(width, height) <= 3840
        and max(width, height) <= 3 * min(width, height)
        and 655_360 <= width * height <= 8_294_400
    )
    assert (checks.gpt_image_size(f"{width}x{height}") is None) == is_legal


@pytest.mark.parametrize(
    ("value", "is_fine"),
    [("16:9", True), ("1:1", True), ("4:1", True), ("5:1", False), ("0:1", False), (1, False)],
)
def test_ratio_takes_two_small_numbers_of_similar_extent(value, is_fine):
    assert (checks.ratio(value) is None) == is_fine


@pytest.mark.parametrize(
    ("value", "is_fine"),
    [("auto", True), ("64x4096", True), ("63x64", False), ("64x4097", False), (7, False)],
)
def test_plain_size_is_bounded(value, is_fine):
    assert (checks.plain_size(value) is None) == is_fine


@pytest.mark.parametrize("value", [0, 11, True, "1", 1.0, None, [1]])
def test_integer_refuses_what_is_outside_or_no_integer(value):
    assert checks.integer(1, 10)(value) == "must be an integer from 1 to 10"


def test_one_of_survives_unhashable_values():
    assert checks.one_of("a", "b")(["a"]) == "must be one of a, b"
    assert checks.one_of("a", "b")("b") is None


def test_simple_types_are_told_apart():
    assert checks.boolean(True) is None
    assert checks.boolean(1) == "must be a boolean"
    assert checks.text("") is None
    assert checks.text(1) == "must be a string"
    assert checks.anything(object()) is None
