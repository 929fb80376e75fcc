"""Checks of single request fields: each takes a value and returns what is wrong with it, or None."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from attrs import frozen


@frozen(eq=False)
class Check:
    """One rule about a value: `wrong` judges it, `schema` tells it to readers of the OpenAPI document.

    The schema lets through whatever `wrong` does; the reverse holds as far as JSON Schema can say it.
    """

    wrong: Callable[[Any], str | None]
    schema: Mapping[str, Any]

    def __call__(self, value: Any) -> str | None:
        """What is wrong with the value, or None."""
        return self.wrong(value)


_SIZE = re.compile(r"([1-9][0-9]{0,4})x([1-9][0-9]{0,4})")
_RATIO = re.compile(r"([1-9][0-9]?):([1-9][0-9]?)")

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

    return Check(check, {"type": "string", "enum": list(choices)})


def integer(low: int, high: int) -> Check:
    """Accept integers from `low` to `high`; `true` is no integer."""

    def check(value: Any) -> str | None:
        is_integer = isinstance(value, int) and not isinstance(value, bool)
        if is_integer and low <= value <= high:
            return None
        return f"must be {low}" if low == high else f"must be an integer from {low} to {high}"

    return Check(check, {"type": "integer", "minimum": low, "maximum": high})


def _boolean(value: Any) -> str | None:
    """Accept true and false."""
    return None if isinstance(value, bool) else "must be a boolean"


def _text(value: Any) -> str | None:
    """Accept any string."""
    return None if isinstance(value, str) else "must be a string"


def _anything(_value: Any) -> None:
    """Accept everything: the gateway removes such a field before it forwards the request."""


def _ratio(value: Any) -> str | None:
    """Accept `W:H` that is not absurdly long."""
    sides = parse_ratio(value) if isinstance(value, str) else None
    if sides is None:
        return "must look like 16:9"
    if max(sides) > _WIDEST_RATIO * min(sides):
        return f"must not be longer than {_WIDEST_RATIO}:1"
    return None


def _plain_size(value: Any) -> str | None:
    """Accept `auto` and any `WIDTHxHEIGHT` of usual extent."""
    if value == "auto":
        return None
    sides = parse_size(value) if isinstance(value, str) else None
    if sides is None:
        return "must be auto or WIDTHxHEIGHT"
    if min(sides) < _SMALLEST_EDGE or max(sides) > _LONGEST_EDGE:
        return f"must have edges from {_SMALLEST_EDGE} to {_LONGEST_EDGE} pixels"
    return None


def _gpt_image_size(value: Any) -> str | None:
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


def _pattern(pattern: re.Pattern[str], *, or_auto: bool) -> str:
    """What a reader of the document may hold a string against; JSON Schema does not anchor by itself."""
    return f"^(?:auto|{pattern.pattern})$" if or_auto else f"^{pattern.pattern}$"


def _size(check: Callable[[Any], str | None], rules: str) -> Check:
    schema = {"type": "string", "pattern": _pattern(_SIZE, or_auto=True), "description": rules}
    return Check(check, schema)


boolean: Check = Check(_boolean, {"type": "boolean"})
text: Check = Check(_text, {"type": "string"})
anything: Check = Check(_anything, {})
ratio: Check = Check(
    _ratio,
    {
        "type": "string",
        "pattern": _pattern(_RATIO, or_auto=False),
        "description": f"`W:H`, at most {_WIDEST_RATIO}:1",
    },
)
plain_size: Check = _size(
    _plain_size, f"`auto` or `WIDTHxHEIGHT` with edges from {_SMALLEST_EDGE} to {_LONGEST_EDGE} pixels"
)
gpt_image_size: Check = _size(
    _gpt_image_size,
    f"`auto` or `WIDTHxHEIGHT`: multiples of {_GPT_STEP}, longest edge at most {_GPT_LONGEST_EDGE}, "
    f"at most {_GPT_WIDEST_RATIO}:1, from {_GPT_PIXELS[0]:,} to {_GPT_PIXELS[1]:,} pixels",
)
