"""Checks of single request fields: each takes a value and returns what is wrong with it, or None."""

import re
from collections.abc import Callable
from typing import Any

Check = Callable[[Any], str | None]

_SIZE = re.compile(r"([1-9]\d{0,4})x([1-9]\d{0,4})")
_RATIO = re.compile(r"([1-9]\d?):([1-9]\d?)")

_WIDEST_RATIO = 4
_SMALLEST_EDGE, _LONGEST_EDGE = 64, 4096

# The flexible WIDTHxHEIGHT contract of gpt-image-2, from the page "Create image".
_GPT_STEP = 16
_GPT_LONGEST_EDGE = 3840
_GPT_WIDEST_RATIO = 3
_GPT_PIXELS = (655_360, 8_294_400)


def parse_size(value: str) -> tuple[int, int] | None:
    """Read `WIDTHxHEIGHT`; None when it is something else."""
    match = _SIZE.fullmatch(value)
    return (int(match[1]), int(match[2])) if match else None


def parse_ratio(value: str) -> tuple[int, int] | None:
    """Read `W:H`; None when it is something else."""
    match = _RATIO.fullmatch(value)
    return (int(match[1]), int(match[2])) if match else None


def one_of(*choices: str) -> Check:
    """Accept exactly these strings."""

    def check(value: Any) -> str | None:
        # `in` on a tuple, not a set: a list or an object must be refused, not crash on hash().
        return None if value in choices else f"must be one of {', '.join(choices)}"

    return check


def integer(low: int, high: int) -> Check:
    """Accept integers from `low` to `high`; `true` is no integer."""

    def check(value: Any) -> str | None:
        is_integer = isinstance(value, int) and not isinstance(value, bool)
        if is_integer and low <= value <= high:
            return None
        return f"must be {low}" if low == high else f"must be an integer from {low} to {high}"

    return check


def boolean(value: Any) -> str | None:
    """Accept true and false."""
    return None if isinstance(value, bool) else "must be a boolean"


def text(value: Any) -> str | None:
    """Accept any string."""
    return None if isinstance(value, str) else "must be a string"


def anything(_value: Any) -> None:
    """Accept everything: the gateway removes such a field before it forwards the request."""


def ratio(value: Any) -> str | None:
    """Accept `W:H` that is not absurdly long."""
    sides = parse_ratio(value) if isinstance(value, str) else None
    if sides is None:
        return "must look like 16:9"
    if max(sides) > _WIDEST_RATIO * min(sides):
        return f"must not be longer than {_WIDEST_RATIO}:1"
    return None


def plain_size(value: Any) -> str | None:
    """Accept `auto` and any `WIDTHxHEIGHT` of usual extent."""
    if value == "auto":
        return None
    sides = parse_size(value) if isinstance(value, str) else None
    if sides is None:
        return "must be auto or WIDTHxHEIGHT"
    if min(sides) < _SMALLEST_EDGE or max(sides) > _LONGEST_EDGE:
        return f"must have edges from {_SMALLEST_EDGE} to {_LONGEST_EDGE} pixels"
    return None


def gpt_image_size(value: Any) -> str | None:
    """Accept what gpt-image-2 accepts; name every bound that is broken."""
    if value == "auto":
        return None
    sides = parse_size(value) if isinstance(value, str) else None
    if sides is None:
        return "must be auto or WIDTHxHEIGHT"
    width, height = sides
    low, high = _GPT_PIXELS
    broken = {
        f"both dimensions must be multiples of {_GPT_STEP}": width % _GPT_STEP or height % _GPT_STEP,
        f"the longest edge must be at most {_GPT_LONGEST_EDGE}px": max(sides) > _GPT_LONGEST_EDGE,
        f"the long/short ratio must be at most {_GPT_WIDEST_RATIO}:1": (max(sides) > _GPT_WIDEST_RATIO * min(sides)),
        f"total pixels must be between {low:,} and {high:,}": not low <= width * height <= high,
    }
    return "; ".join(rule for rule, is_broken in broken.items() if is_broken) or None
