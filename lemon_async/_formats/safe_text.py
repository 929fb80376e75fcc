"""Quote untrusted text and objects in messages: one short line, even if `__repr__` raises, without the key."""

import re
from collections.abc import Callable

__all__ = ["Mask", "masked_text", "one_line", "safe_repr", "safe_str"]

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
    return " ".join("".join(c if c.isprintable() else " " for c in value[:max_chars]).split()) or None


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
