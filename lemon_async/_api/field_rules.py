"""The rules for fields of requests that hold for every model ("Create image", "Edit image")."""

import re
from collections.abc import Callable, Mapping

import attrs

__all__ = ["LABEL", "LINE", "RULES", "Rule"]

_PIXELS = re.compile(r"[1-9][0-9]{0,4}x[1-9][0-9]{0,4}")
_LONGEST_LABEL = 200
_RATIO = re.compile(r"[1-9][0-9]{0,2}:[1-9][0-9]{0,2}")


@attrs.frozen
class Rule:
    """A rule for values; `words` follow "must be" in messages."""

    words: str
    accepts: Callable[[object], bool]


def _one_of(*values: str) -> Rule:
    return Rule(f"one of {', '.join(values)}", lambda value: value in values)


def _whole(low: int, high: int) -> Rule:
    return Rule(f"a whole number from {low} to {high}", lambda value: type(value) is int and low <= value <= high)


_TEXT = Rule("text and not empty", lambda value: isinstance(value, str) and bool(value.strip()))
# Names end up in logs and headers: no CR, LF, NUL or other control character.
LINE: Rule = Rule(
    "one line of text and not empty", lambda value: isinstance(value, str) and value != "" and value.isprintable()
)
# Not sent to the service; goes into resume tokens, reprs and logs.
LABEL: Rule = Rule(
    f"one line of text, not empty, of at most {_LONGEST_LABEL} characters",
    lambda value: LINE.accepts(value) and len(str(value)) <= _LONGEST_LABEL,
)
_FLAG = Rule("True or False", lambda value: isinstance(value, bool))
_SIZE = Rule(
    "'auto' or WIDTHxHEIGHT, like 1024x1024",
    lambda value: isinstance(value, str) and (value == "auto" or _PIXELS.fullmatch(value) is not None),
)
_ASPECT = Rule("WIDTH:HEIGHT, like 16:9", lambda value: isinstance(value, str) and _RATIO.fullmatch(value) is not None)

RULES: Mapping[str, Rule] = {
    "prompt": _TEXT,
    "model": LINE,
    "n": _whole(1, 10),
    "size": _SIZE,
    "aspect_ratio": _ASPECT,
    "resolution": _one_of("1k", "2k", "4k"),
    "quality": LINE,
    "style": LINE,
    "response_format": _one_of("url", "b64_json"),
    "async_": _FLAG,
    "background": LINE,
    "output_format": LINE,
    "output_compression": _whole(0, 100),
    "compression": _whole(0, 100),
    "moderation": LINE,
    "partial_images": _whole(0, 3),
    "user": LINE,
}
