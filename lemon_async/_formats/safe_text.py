"""Words of others within our own: short, on one line, whatever the object does when it is asked for them."""

from lemon_async._api.response import one_line

__all__ = ["safe_repr", "safe_str"]

_LONGEST_QUOTE = 80
_LONGEST_REASON = 200


def safe_repr(value: object) -> str:
    """Return the `repr` of a value, cut if it is long."""
    try:
        if isinstance(value, str | bytes):  # cut first: that of a hundred megabytes would take its time
            text = repr(value[:_LONGEST_QUOTE])
            return text if len(value) <= _LONGEST_QUOTE else f"{text[:_LONGEST_QUOTE]}…"
        text = repr(value)
    except Exception:  # noqa: BLE001 - it is not our code
        return f"<{type(value).__name__}>"
    return text if len(text) <= _LONGEST_QUOTE else f"{text[:_LONGEST_QUOTE]}…"


def safe_str(failure: Exception) -> str:
    """Return what an exception says."""
    try:
        text = one_line(str(failure))
    except Exception:  # noqa: BLE001 - likewise
        text = None
    return (text or type(failure).__name__)[:_LONGEST_REASON]
