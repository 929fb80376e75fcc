"""Checks of single request fields: each takes a value and returns an error message, or None."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from attrs import frozen


@frozen(eq=False)
class Check:
    """A rule about a value, as a function and as a JSON schema for the OpenAPI document.

    The schema accepts every value that `find_error` accepts; the reverse holds as far as JSON Schema can express it.
    """

    find_error: Callable[[Any], str | None]
    schema: Mapping[str, Any]

    def __call__(self, value: Any) -> str | None:
        """Return the error message for a value, or None."""
        return self.find_error(value)


_SIZE = re.compile(r"([1-9][0-9]{0,4})x([1-9][0-9]{0,4})")
_RATIO = re.compile(r"([1-9][0-9]?):([1-9][0-9]?)")

_MAX_RATIO = 4
_MIN_EDGE, _MAX_EDGE = 64, 4096

# The flexible WIDTHxHEIGHT contract of gpt-image-2, from the page "Create image".
_GPT_STEP = 16
_GPT_MAX_EDGE = 3840
_GPT_MAX_RATIO = 3
_GPT_PIXELS = (655_360, 8_294_400)


def parse_size(value: str) -> tuple[int, int] | None:
    """Parse `WIDTHxHEIGHT`; None if it is anything else."""
    match = _SIZE.fullmatch(value)
    return (int(match[1]), int(match[2])) if match else None


def parse_ratio(value: str) -> tuple[int, int] | None:
    """Parse `W:H`; None if it is anything else."""
    match = _RATIO.fullmatch(value)
    return (int(match[1]), int(match[2])) if match else None


def one_of(*choices: str) -> Check:
    """Accept exactly these strings."""

    def find_error(value: Any) -> str | None:
        # `in` on a tuple, not a set: a list or an object must be refused, not crash on hash().
        return None if value in choices else f"must be one of {', '.join(choices)}"

    return Check(find_error, {"type": "string", "enum": list(choices)})


def integer(low: int, high: int) -> Check:
    """Accept integers from `low` to `high`; `true` is not an integer."""

    def find_error(value: Any) -> str | None:
        is_integer = isinstance(value, int) and not isinstance(value, bool)
        return None if is_integer and low <= value <= high else f"must be an integer from {low} to {high}"

    return Check(find_error, {"type": "integer", "minimum": low, "maximum": high})


def _typed(type_: type, name: str) -> Check:
    return Check(lambda value: None if isinstance(value, type_) else f"must be a {name}", {"type": name})


def _size(find_bound_error: Callable[[int, int], str | None], rules: str) -> Check:
    """Accept `auto`, and `WIDTHxHEIGHT` within bounds."""

    def find_error(value: Any) -> str | None:
        if value == "auto":
            return None
        sides = parse_size(value) if isinstance(value, str) else None
        return find_bound_error(*sides) if sides else "must be auto or WIDTHxHEIGHT"

    pattern = f"^(?:auto|{_SIZE.pattern})$"
    return Check(find_error, {"type": "string", "pattern": pattern, "description": rules})


def _find_ratio_error(value: Any) -> str | None:
    sides = parse_ratio(value) if isinstance(value, str) else None
    if sides is None:
        return "must look like 16:9"
    if max(sides) > _MAX_RATIO * min(sides):
        return f"must not be longer than {_MAX_RATIO}:1"
    return None


def _find_plain_bound_error(*sides: int) -> str | None:
    if min(sides) < _MIN_EDGE or max(sides) > _MAX_EDGE:
        return f"must have edges from {_MIN_EDGE} to {_MAX_EDGE} pixels"
    return None


def _find_gpt_bound_error(width: int, height: int) -> str | None:
    """Return every bound that is broken."""
    shorter, longer = sorted((width, height))
    low, high = _GPT_PIXELS
    broken = {
        f"both dimensions must be multiples of {_GPT_STEP}": width % _GPT_STEP or height % _GPT_STEP,
        f"the longest edge must be at most {_GPT_MAX_EDGE}px": longer > _GPT_MAX_EDGE,
        f"the long/short ratio must be at most {_GPT_MAX_RATIO}:1": longer > _GPT_MAX_RATIO * shorter,
        f"total pixels must be between {low:,} and {high:,}": not low <= width * height <= high,
    }
    return "; ".join(rule for rule, is_broken in broken.items() if is_broken) or None


boolean: Check = _typed(bool, "boolean")
text: Check = _typed(str, "string")
# The gateway removes such a field before it forwards the request.
anything: Check = Check(lambda _value: None, {})
ratio: Check = Check(
    _find_ratio_error,
    {"type": "string", "pattern": f"^{_RATIO.pattern}$", "description": f"`W:H`, at most {_MAX_RATIO}:1"},
)
plain_size: Check = _size(
    _find_plain_bound_error, f"`auto` or `WIDTHxHEIGHT` with edges from {_MIN_EDGE} to {_MAX_EDGE} pixels"
)
gpt_image_size: Check = _size(
    _find_gpt_bound_error,
    f"`auto` or `WIDTHxHEIGHT`: multiples of {_GPT_STEP}, longest edge at most {_GPT_MAX_EDGE}, "
    f"at most {_GPT_MAX_RATIO}:1, from {_GPT_PIXELS[0]:,} to {_GPT_PIXELS[1]:,} pixels",
)
