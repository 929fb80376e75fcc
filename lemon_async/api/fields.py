"""The rules that a field of a request obeys whatever the model ("Create image", "Edit image").

A rule takes a value and returns what it must be, or `None` when it is.
"""

import re
from collections.abc import Callable, Mapping

__all__ = ["RULES", "Rule"]

Rule = Callable[[object], str | None]

_PIXELS = re.compile(r"[1-9][0-9]{0,4}x[1-9][0-9]{0,4}")
_RATIO = re.compile(r"[1-9][0-9]{0,2}:[1-9][0-9]{0,2}")


def _one_of(*values: str) -> Rule:
    advice = f"must be one of {', '.join(values)}"
    return lambda value: None if value in values else advice


def _whole(low: int, high: int) -> Rule:
    advice = f"must be a whole number from {low} to {high}"
    return lambda value: None if type(value) is int and low <= value <= high else advice


def _text(value: object) -> str | None:
    if not isinstance(value, str) or not value.strip():
        return "must be text and not empty"
    return None


def _token(value: object) -> str | None:
    """Names end up in logs and headers of others: no CR, LF, NUL or other control character."""
    if not isinstance(value, str) or not value or not value.isprintable():
        return "must be one line of text and not empty"
    return None


def _flag(value: object) -> str | None:
    return None if isinstance(value, bool) else "must be True or False"


def _size(value: object) -> str | None:
    if isinstance(value, str) and (value == "auto" or _PIXELS.fullmatch(value)):
        return None
    return "must be 'auto' or WIDTHxHEIGHT, like 1024x1024"


def _ratio(value: object) -> str | None:
    if isinstance(value, str) and _RATIO.fullmatch(value):
        return None
    return "must be WIDTH:HEIGHT, like 16:9"


RULES: Mapping[str, Rule] = {
    "prompt": _text,
    "model": _token,
    "n": _whole(1, 10),
    "size": _size,
    "aspect_ratio": _ratio,
    "resolution": _one_of("1k", "2k", "4k"),
    "quality": _token,
    "style": _token,
    "response_format": _one_of("url", "b64_json"),
    "async_": _flag,
    "background": _token,
    "output_format": _token,
    "output_compression": _whole(0, 100),
    "compression": _whole(0, 100),
    "input_fidelity": _token,
    "moderation": _token,
    "partial_images": _whole(0, 3),
    "user": _token,
}
