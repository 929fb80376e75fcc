"""Keep a secret out of what is made of an answer, for a sender that quotes it.

This room does not know the secret, only a function that masks it. `documents` masks what is JSON.
"""

import re
from collections.abc import Callable

__all__ = ["Mask", "masked_text"]

Mask = Callable[[str], str]

_MOST_CHARACTERS = 4096
_ESCAPE = re.compile(r"\\u([0-9A-Fa-f]{4})|\\(/)")


def masked_text(content: bytes, mask: Mask) -> str:
    """Return the beginning of what is no JSON, or only half of it, as masked text."""
    text = content[: 2 * _MOST_CHARACTERS].decode("utf-8", "replace")
    plain = _ESCAPE.sub(lambda found: found[2] or chr(int(found[1], 16)), text)
    return mask(plain)[:_MOST_CHARACTERS]  # not cut before: half a key is found by nobody
