"""Checks of single fields accept exactly what the page "Create image" documents."""

from hypothesis import given
from hypothesis import strategies as st

from lemon_async.emulator.service import field_checks as checks

GPT_SIZES = {
    "auto": None,
    "1024x1024": None,
    "1024x640": None,  # 655,360 pixels: the least
    "3840x2160": None,  # 8,294,400 pixels: the most
    "2160x3840": None,
    "2304x768": None,  # 3:1 exactly
    "1024x624": "total pixels",
    "3856x2160": "longest edge",
    "3840x2176": "total pixels",
    "2320x768": "ratio",
    "1000x1024": "multiples of 16",
    "1024x1000": "multiples of 16",
    "0x1024": "WIDTHxHEIGHT",
    "1024": "WIDTHxHEIGHT",
    "1024X1024": "WIDTHxHEIGHT",
    1024: "WIDTHxHEIGHT",
    None: "WIDTHxHEIGHT",
    ("auto",): "WIDTHxHEIGHT",
}


def test_gpt_image_size_bounds_are_exact():
    """The message names the bound."""
    for size, expected in GPT_SIZES.items():
        error = checks.gpt_image_size(size)
        assert error is None if expected is None else expected in error, size


def test_gpt_image_size_error_names_every_broken_bound():
    """There are four."""
    assert checks.gpt_image_size("4001x17").count(";") == 3


@given(st.integers(1, 250), st.integers(1, 250))
def test_gpt_image_size_accepts_exactly_the_documented_sizes(a, b):
    """Multiples of 16 cover every other bound."""
    width, height = 16 * a, 16 * b
    is_legal = (
        max(width, height) <= 3840
        and max(width, height) <= 3 * min(width, height)
        and 655_360 <= width * height <= 8_294_400
    )
    assert (checks.gpt_image_size(f"{width}x{height}") is None) == is_legal


def test_ratios_and_plain_sizes_are_bounded():
    """Bounds are inclusive; values of other types are refused."""
    for value, is_valid in {"16:9": True, "1:1": True, "4:1": True, "5:1": False, "0:1": False, 1: False}.items():
        assert (checks.ratio(value) is None) == is_valid, value
    for value, is_valid in {"auto": True, "64x4096": True, "63x64": False, "64x4097": False, 7: False}.items():
        assert (checks.plain_size(value) is None) == is_valid, value


def test_integer_refuses_other_numbers_and_types():
    """`true` is an `int` of Python and not one of JSON."""
    check = checks.integer(1, 10)
    assert [check(value) for value in (1, 10)] == [None, None]
    for value in (0, 11, True, "1", 1.0, None, [1]):
        assert check(value) == "must be an integer from 1 to 10", value


def test_choices_types_and_anything():
    """Unhashable values are refused, not crashed on."""
    assert checks.one_of("a", "b")(["a"]) == "must be one of a, b"
    assert checks.one_of("a", "b")("b") is None
    assert [checks.boolean(value) for value in (True, 1)] == [None, "must be a boolean"]
    assert [checks.text(value) for value in ("", 1)] == [None, "must be a string"]
    assert checks.anything(object()) is None
