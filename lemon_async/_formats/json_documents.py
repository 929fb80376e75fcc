r"""Parse JSON from an untrusted sender: within bounds, with the key masked, and leniently if need be.

Parsing holds up the event loop, from a thread, too, because it holds the interpreter's lock. So the size of a document
and the number of its values are bounded before it is parsed; 65,536 marks (`,` `:` `[` `{`) are a list of 500 models
with 60 fields each.

A document that the strict parser refuses is parsed leniently, because a paid result must not be lost to half an emoji.
The lenient parser reads:

    bytes that are not UTF-8, a lone surrogate             as U+FFFD
    a byte order mark                                      as nothing
    raw control characters in a string                     as themselves
    an escape that JSON does not have, such as `\x`         as a backslash and the character
    NaN, Infinity, 1e400                                   as null
    an integer of more than 64 bits                        as a float

A document that is cut off, or has data after its end, is unreadable.
"""

import codecs
import json
import math
import re
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import orjson

from lemon_async._formats.base64_json import MAX_TEXT_BYTES

__all__ = [
    "MAX_LENIENT_BYTES",
    "MAX_LENIENT_MARKS",
    "MAX_MARKS",
    "Mask",
    "Unreadable",
    "masked_text",
    "one_line",
    "read_json",
    "safe_repr",
    "safe_str",
]

Mask = Callable[[str], str]
"""Replaces the key in a text, for senders that quote it; this room does not know the key."""

_LONGEST_QUOTE = 80
_LONGEST_REASON = 200
_LONGEST_LINE = 2000
_LONGEST_TEXT = 4096
_ESCAPE = re.compile(r"\\u([0-9A-Fa-f]{4})|\\(/)")


def one_line(value: object, max_chars: int = _LONGEST_LINE) -> str | None:
    """Return text as one printable line for terminals and logs, or `None` if there is none.

    The text is cut first, so that a hundred megabytes of message do not hold up the event loop.
    """
    if not isinstance(value, str):
        return None
    text = value[:max_chars]
    if not text.isprintable():
        text = "".join(c if c.isprintable() else " " for c in text)
    return " ".join(text.split()) or None


def safe_repr(value: object) -> str:
    """Return the `repr` of a value, cut to 80 characters."""
    try:
        # Cut before `repr`, which would take its time with a hundred megabytes.
        text = repr(value[: _LONGEST_QUOTE + 1] if isinstance(value, str | bytes) else value)
    except Exception:  # noqa: BLE001 - a `__repr__` of the caller's
        return f"<{type(value).__name__}>"
    return text if len(text) <= _LONGEST_QUOTE else f"{text[:_LONGEST_QUOTE]}…"


def safe_str(error: Exception) -> str:
    """Return the message of an exception, or the name of its class if it has none."""
    try:
        text = one_line(str(error))
    except Exception:  # noqa: BLE001 - a `__str__` of the caller's
        text = None
    return (text or type(error).__name__)[:_LONGEST_REASON]


def masked_text(content: bytes, mask: Mask) -> str:
    """Return the beginning of bytes that are not JSON, or only half of it, as masked text."""
    text = content[: 2 * _LONGEST_TEXT].decode("utf-8", "replace")
    plain = _ESCAPE.sub(lambda found: found[2] or chr(int(found[1], 16)), text)
    return mask(plain)[:_LONGEST_TEXT]  # not cut before: the mask would miss half a key


MAX_MARKS = 64 * 1024
"""Bound of the commas, colons and opening brackets in a document: there are no more values and names than these."""
MAX_LENIENT_BYTES = 192 * 1024
MAX_LENIENT_MARKS = 8 * 1024
"""The lenient parser takes several times as long."""

_MARKS = (b",", b":", b"[", b"{")
_MAX_REPAIRS = 1000
_LONGEST_INTEGER = 20
_SMALLEST_INTEGER, _LARGEST_INTEGER = -(2**63), 2**64 - 1
# The last of an odd number of backslashes; with the lookbehind second, the search is one for a literal.
_BROKEN_ESCAPE = re.compile(r"\\(?<!\\\\)(?:\\\\)*+(?![\"\\/bfnrt]|u[0-9A-Fa-f]{4})")
_SURROGATE = re.compile("[\ud800-\udfff]")
_STRING = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"')


class Unreadable(ValueError):
    """The body is not what its headers promise; the message describes it."""


def read_json(content: bytes, mask: Mask) -> Any:
    """Return a parsed document without lone surrogates and with the key masked.

    Raises:
        Unreadable: It is too large, or nested too deeply.
        ValueError: It is not JSON.
    """
    _check_bounds(content, MAX_TEXT_BYTES, MAX_MARKS)
    found = _strict(content) or _lenient(content)
    if found is None:
        raise Unreadable("a document that is nested too deeply")
    parsed, text = found
    shown = mask(text)
    return parsed if shown == text else _masked(text, shown, mask)


def _check_bounds(content: bytes, max_bytes: int, max_marks: int) -> None:
    if len(content) > max_bytes:
        raise Unreadable(f"more than {max_bytes:,} bytes of text")
    if sum(map(content.count, _MARKS)) > max_marks:
        raise Unreadable(f"a document of more than {max_marks:,} values and names")


def _strict(content: bytes) -> tuple[Any, str] | None:
    """Return a document and its text without escapes of printable characters; `None` if it is not strict JSON."""
    try:
        parsed = orjson.loads(content)
        plain = orjson.dumps(parsed) if b"\\" in content else content
    except (orjson.JSONDecodeError, orjson.JSONEncodeError):
        return None
    return parsed, plain.decode()


def _lenient(content: bytes) -> tuple[Any, str] | None:
    """Return a document and its text after repairs; `None` if it is nested too deeply.

    Raises:
        ValueError: It is not JSON.
    """
    _check_bounds(content, MAX_LENIENT_BYTES, MAX_LENIENT_MARKS)
    text = content.removeprefix(codecs.BOM_UTF8).decode("utf-8", "replace")  # "utf-8-sig" is a module to load
    text = _BROKEN_ESCAPE.sub(lambda found: found[0] + "\\", text, count=_MAX_REPAIRS)
    with suppress(RecursionError):
        parsed = json.loads(text, strict=False, parse_constant=_nothing, parse_float=_finite, parse_int=_integer)
        try:
            return parsed, orjson.dumps(parsed).decode()
        except orjson.JSONEncodeError:  # a lone surrogate
            return _strict(_SURROGATE.sub("\ufffd", json.dumps(parsed, ensure_ascii=False)).encode())
    return None


def _nothing(_: str) -> None:
    """JSON has no NaN and no infinity."""


def _finite(digits: str) -> float | None:
    number = float(digits)
    return number if math.isfinite(number) else None


def _integer(digits: str) -> int | float | None:
    number = int(digits) if len(digits) <= _LONGEST_INTEGER else None
    return number if number is not None and _SMALLEST_INTEGER <= number <= _LARGEST_INTEGER else _finite(digits)


def _masked(text: str, shown: str, mask: Mask) -> Any:
    """Parse a masked text; a key of digits may be part of a number, which is left as it is."""
    try:
        return orjson.loads(shown)
    except orjson.JSONDecodeError:
        return orjson.loads(_STRING.sub(lambda found: mask(found[0]), text))
