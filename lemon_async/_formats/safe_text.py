"""Quote untrusted text and objects in messages: one short line, even if `__repr__` or `__str__` raises."""

__all__ = ["one_line", "safe_repr", "safe_str"]

_LONGEST_QUOTE = 80
_LONGEST_REASON = 200
_LONGEST_LINE = 2000


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
