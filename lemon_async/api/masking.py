"""Keeping a secret out of what is made of an answer, for a sender that quotes it.

It is looked for in what was parsed, not in the bytes: those may be packed, or spell a letter as an escape. This room
does not know the secret, only a function that masks it.
"""

import re
from collections.abc import Callable
from typing import Any

import orjson

__all__ = ["Mask", "masked", "masked_json", "masked_text"]

Mask = Callable[[str], str]

_LONG_CHARACTERS = 256 * 1024
_MOST_CHARACTERS = 4096
_ESCAPE = re.compile(r"\\u([0-9A-Fa-f]{4})|\\(/)")


def masked_text(content: bytes, mask: Mask) -> str:
    """Return the beginning of what is no JSON, or only half of it, as masked text."""
    text = content[: 2 * _MOST_CHARACTERS].decode("utf-8", "replace")
    plain = _ESCAPE.sub(lambda found: found[2] or chr(int(found[1], 16)), text)
    return mask(plain)[:_MOST_CHARACTERS]  # not cut before: half a key is found by nobody


def masked_json(content: bytes, mask: Mask) -> Any:
    """Return what is in a document of JSON, masked.

    Raises:
        orjson.JSONDecodeError: It is none.
    """
    parsed = orjson.loads(content)
    text = content.replace(b"\\/", b"/")  # as PHP spells every link
    if b"\\" not in text:
        plain = text.decode()
        if mask(plain) == plain:  # nothing is spelled in another way: it does not quote the secret
            return parsed
    return masked(parsed, mask)


def masked(parsed: Any, mask: Mask) -> Any:
    """Return parsed JSON with every text and name masked, large pictures apart; it is changed in place.

    Without recursion: a document may be nested deeper than Python's stack.
    """
    whole = [parsed]
    waiting: list[Any] = [whole]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            entries = {mask(name): _text(value, mask, name) for name, value in node.items()}
            node.clear()
            node.update(entries)
            parts = list(entries.values())
        else:
            node[:] = parts = [_text(value, mask) for value in node]
        waiting += [part for part in parts if isinstance(part, dict | list)]
    return whole[0]


def _text(value: Any, mask: Mask, name: str = "") -> Any:
    if not isinstance(value, str) or _is_large_picture(value, name):
        return value
    return mask(value)


def _is_large_picture(text: str, name: str) -> bool:
    """Tell base64 that takes long to search, and holds no plain text."""
    return len(text) > _LONG_CHARACTERS and (name == "b64_json" or text.startswith("data:"))
