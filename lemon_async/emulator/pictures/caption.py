"""Write the prompt on a picture.

Pillow's own font has Latin letters only; accents are dropped. Characters of other scripts are drawn in an installed
font that has them. If there is none, the caption names the missing script.
"""

import re
import string
import unicodedata
from collections.abc import Iterator, Sequence
from itertools import groupby
from operator import itemgetter
from pathlib import Path

from attrs import Factory, field, frozen
from PIL import Image

from lemon_async.emulator.pictures.fonts import INSTALLED_FONTS, Face, Fonts, has_glyph, open_face, plain_face
from lemon_async.emulator.pictures.picture import Picture

_MAX_LINES = 8
# Bounds the time spent on measuring; no line of Pillow's font is longer.
_MAX_LINE_CHARS = 240
_ELLIPSIS = "…"
_LINE_HEIGHT = 1.4
_PUNCTUATION = " " + re.escape(string.punctuation)
_ASCENT = 1.05
_MAX_SCRIPTS = 3


@frozen
class FallbackFont:
    """Measures and draws lines of text in Pillow's own font, and in installed fonts what that one lacks."""

    size: float
    fonts: Fonts = INSTALLED_FONTS
    _plain: Face = field(init=False, default=Factory(lambda self: plain_face(self.size), takes_self=True))

    def drawable(self, prompt: str) -> str:
        """Return the prompt as one line that can be drawn, with notes in place of missing scripts."""
        line = unicodedata.normalize("NFC", " ".join(prompt.split()))
        parts = {character: self._drawable(character) for character in line}
        missing = "".join(character for character, part in parts.items() if part is None)
        line = "".join(part if (part := parts[character]) is not None else character for character in line)
        if missing:
            one = f"[{re.escape(missing)}]"
            # One note for a whole sentence: spaces and ASCII punctuation between missing characters go.
            line = re.sub(f"{one}(?:[{_PUNCTUATION}]*{one})*", lambda found: _note(found[0]), line)
        return " ".join(line.split())

    def getlength(self, text: str) -> float:
        """Return the width of a line in pixels."""
        return sum(self._face(path).getlength(part, self.size) for path, part in self.runs(text))

    def write(self, image: Image.Image, place: tuple[float, float], line: str) -> None:
        """Draw a line; its baseline begins at `place`."""
        left, baseline = place
        for path, part in self.runs(line):
            self._face(path).write(image, (left, baseline), part, self.size)
            left += self._face(path).getlength(part, self.size)

    def runs(self, text: str) -> Iterator[tuple[Path | None, str]]:
        """Split a line into runs of one font each; None is Pillow's own."""
        path, paths = None, []
        for character in text:
            path = self._next_font(path, character)
            paths.append(path)
        for path, run in groupby(zip(paths, text, strict=True), key=itemgetter(0)):
            yield path, "".join(character for _, character in run)

    def _next_font(self, before: Path | None, character: str) -> Path | None:
        """Return the font of a character that follows one in the font `before`, which spaces and marks keep."""
        is_plain = has_glyph(None, character)
        if before is not None and has_glyph(before, character) and not (is_plain and character.isalnum()):
            return before
        return None if is_plain else self.fonts.find(character)

    def _face(self, path: Path | None) -> Face:
        return (path and open_face(path)) or self._plain

    def _drawable(self, character: str) -> str | None:
        """Return the text to draw for a character; None if no font has it."""
        plain = "".join(part for part in unicodedata.normalize("NFKD", character) if not unicodedata.combining(part))
        is_plain = all(has_glyph(None, part) for part in plain)
        category = unicodedata.category(character)
        if category in {"Cc", "Cs"} or (plain and is_plain):
            return plain if is_plain else ""
        if self.fonts.find(character) is not None:
            return character
        return "" if category == "Cf" or category[0] in "MZ" else None


@frozen
class Caption:
    """The wrapped prompt and its place."""

    lines: Sequence[str]
    font: FallbackFont
    margin: int
    top: int

    def write(self, image: Image.Image) -> None:
        """Draw the caption."""
        for number, line in enumerate(self.lines):
            baseline = self.top + self.margin + self.font.size * (_ASCENT + number * _LINE_HEIGHT)
            self.font.write(image, (self.margin, baseline), line)


def lay_out(picture: Picture, fonts: Fonts = INSTALLED_FONTS) -> Caption:
    """Fit the prompt into a few lines at the bottom of the picture."""
    edge = min(picture.width, picture.height)
    font = FallbackFont(max(10.0, edge / 20), fonts)
    margin = max(4, edge // 30)
    lines = wrap(font.drawable(picture.prompt), picture.width - 2 * margin, font)
    height = round(font.size * _LINE_HEIGHT * len(lines)) + 2 * margin
    return Caption(lines, font, margin, max(0, picture.height - height))


def wrap(text: str, width: int, font: FallbackFont) -> list[str]:
    """Break text into a few lines, each at most `width` pixels wide."""
    lines: list[str] = []
    rest = text
    while rest and len(lines) < _MAX_LINES:
        line = _prefix_that_fits(rest, width, font)
        lines.append(line.rstrip())
        rest = rest[len(line) :].lstrip()
    if rest:
        lines[-1] = lines[-1][:-1] + _ELLIPSIS
    return lines


def _prefix_that_fits(text: str, width: int, font: FallbackFont) -> str:
    """Return the longest prefix of `text` that fits, cut after a word if possible."""
    low, high = 1, min(len(text), _MAX_LINE_CHARS)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if font.getlength(text[:middle]) <= width else (low, middle - 1)
    if low == len(text) or text[low] == " ":
        return text[:low]
    space = text.rfind(" ", 0, low)
    return text[: space + 1] if space > 0 else text[:low]


def _note(text: str) -> str:
    """Return the note that replaces characters which no font has, and punctuation between them."""
    missing = [character for character in text if character not in " " + string.punctuation]
    scripts = dict.fromkeys(script for script in map(_script_of, missing) if script)
    names = ", ".join(list(scripts)[:_MAX_SCRIPTS]) or "other"
    return f" [{len(missing)} {names} character{'s' if len(missing) > 1 else ''}: no font installed] "


def _script_of(character: str) -> str:
    """Return the script of a character, the first word of its Unicode name; punctuation has none."""
    kind = unicodedata.category(character)[0]
    if kind in "LN":
        first = unicodedata.name(character, "unknown").split()[0]
        return "Han" if first == "CJK" else first.capitalize()
    if kind == "S":
        return "emoji" if character >= "\N{MAHJONG TILE EAST WIND}" else "symbol"
    return "" if kind == "P" else "unknown"
