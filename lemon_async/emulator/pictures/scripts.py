"""Split text into what is drawn together, and put it into the order in which it is read.

Both are simplified from Unicode's rules (UAX 29 and UAX 9) to what short captions need: a cluster is a letter with its
marks or a sequence of emoji, and a line has runs of one direction without further embedding.
"""

import unicodedata
from collections.abc import Iterator, Sequence
from typing import Literal

Direction = Literal["left", "right"]
# A number among letters that are read from the right is read from the left.
Way = Literal["left", "right", "number"]

JOINER = "\N{ZERO WIDTH JOINER}"
_KEPT_FORMATS = {JOINER, "\N{ZERO WIDTH NON-JOINER}"}
_STRONG: dict[str, Direction] = {"L": "left", "R": "right", "AL": "right"}
_NUMBERS = {"EN", "AN"}
_SEPARATORS = {"CS", "ES"}
_EMOJI_STYLE = "\N{VARIATION SELECTOR-16}"
_KEYCAP = "\N{COMBINING ENCLOSING KEYCAP}"


def clusters(text: str) -> list[str]:
    """Return the parts of a text that no line break or change of fonts may divide."""
    parts: list[str] = []
    for character in text:
        if parts and _continues(parts[-1], character):
            parts[-1] += character
        else:
            parts.append(character)
    return parts


def _continues(cluster: str, character: str) -> bool:
    is_symbol = unicodedata.category(character)[0] == "S"
    return (
        unicodedata.category(character)[0] == "M"
        or character in _KEPT_FORMATS
        or _is_tag(character)
        or _is_skin_tone(character)
        or (cluster[-1] == JOINER and is_symbol)
        or (len(cluster) == 1 and _is_flag_half(cluster) and _is_flag_half(character))
    ) and not cluster.isspace()


def is_hidden(character: str) -> bool:
    """Return whether a character only changes others, so that a font may lack it."""
    return character in _KEPT_FORMATS or _is_tag(character) or "\ufe00" <= character <= "\ufe0f"


def is_emoji(cluster: str) -> bool:
    """Return whether a cluster is to be drawn as a coloured picture if possible."""
    return any(
        character >= "\N{MAHJONG TILE EAST WIND}" or character in (_EMOJI_STYLE, _KEYCAP) for character in cluster
    )


def _is_tag(character: str) -> bool:
    return "\U000e0020" <= character <= "\U000e007f"


def _is_skin_tone(character: str) -> bool:
    return "\U0001f3fb" <= character <= "\U0001f3ff"


def _is_flag_half(character: str) -> bool:
    return "\U0001f1e6" <= character <= "\U0001f1ff"


# Directions


def has_rtl(text: str) -> bool:
    """Return whether a part of a text is read from the right."""
    return any(_STRONG.get(unicodedata.bidirectional(character)) == "right" for character in text)


def base_direction(text: str) -> Direction:
    """Return the direction of a paragraph: that of its first letter."""
    kinds = (_STRONG.get(unicodedata.bidirectional(character)) for character in text)
    return next((kind for kind in kinds if kind), "left")


def directions(parts: Sequence[str], base: Direction) -> list[Way]:
    """Return the direction of each cluster: letters have one, and others follow those around them.

    A number follows the letter before it, but its digits are read from the left. What stands between two letters of one
    direction has theirs, and everything else that of the line.
    """
    known = list(_letters_and_numbers(parts, base))
    following: Direction = base
    after: list[Direction] = []
    for way in reversed(known):
        following = _outer(way) or following
        after.append(following)
    result: list[Way] = []
    before: Direction = base
    for way, following in zip(known, reversed(after), strict=True):
        before = _outer(way) or before
        result.append(way or (before if before == following else base))
    return result


def _outer(way: Way | None) -> Direction | None:
    return "right" if way == "number" else way


def _letters_and_numbers(parts: Sequence[str], base: Direction) -> Iterator[Way | None]:
    kinds = [unicodedata.bidirectional(cluster[0]) for cluster in parts]
    last = base
    for index, kind in enumerate(kinds):
        last = _STRONG.get(kind, last)
        around = kinds[index - 1 : index] + kinds[index + 1 : index + 2]
        is_number = kind in _NUMBERS or (kind in _SEPARATORS and len(around) == 2 and _NUMBERS.issuperset(around))
        yield _STRONG.get(kind) or (("number" if last == "right" else last) if is_number else None)
