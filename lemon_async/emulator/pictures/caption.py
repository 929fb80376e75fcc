"""Write the prompt on a picture.

Pillow's own font has Latin letters only; accents are dropped. Characters of other scripts are drawn in an installed
font that has them. If there is none, the caption names the missing script.
"""

import io
import re
import string
import unicodedata
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from itertools import groupby
from pathlib import Path

from attrs import field, frozen
from PIL import Image, ImageDraw, ImageFont

from lemon_async.emulator.pictures.fonts import INSTALLED_FONTS, Fonts, read_coverage
from lemon_async.emulator.pictures.picture import Picture

_INK = (255, 255, 255)
_MAX_LINES = 8
# Bounds the time spent on measuring; no line of Pillow's font is longer.
_MAX_LINE_CHARS = 240
_ELLIPSIS = "…"
_LINE_HEIGHT = 1.4
_PUNCTUATION = " " + re.escape(string.punctuation)
_ASCENT = 1.05
_MAX_SCRIPTS = 3
# Bitmap fonts, such as those of colour emoji, exist in few sizes: these are used by Noto, Apple and Android.
_BITMAP_SIZES = (109, 136, 160, 128, 96, 64)


@frozen
class _Face:
    """A font, and the factor by which its bitmaps are scaled."""

    font: ImageFont.FreeTypeFont
    scale: float = 1.0

    def getlength(self, text: str) -> float:
        return self.font.getlength(text) * self.scale

    def write(self, image: Image.Image, place: tuple[float, float], text: str) -> None:
        """Draw text; its baseline begins at `place`."""
        if self.scale == 1.0:
            ImageDraw.Draw(image).text(place, text, _INK, self.font, anchor="ls", embedded_color=True)
            return
        left, top, right, bottom = (round(edge) for edge in self.font.getbbox(text, anchor="ls"))
        tile = Image.new("RGBA", (max(1, right - left), max(1, bottom - top)))
        ImageDraw.Draw(tile).text((-left, -top), text, _INK, self.font, anchor="ls", embedded_color=True)
        tile = tile.resize((max(1, round(tile.width * self.scale)), max(1, round(tile.height * self.scale))))
        image.paste(tile, (round(place[0] + left * self.scale), round(place[1] + top * self.scale)), tile)


@frozen
class FallbackFont:
    """Measures and draws lines of text in Pillow's own font, and in installed fonts what that one lacks."""

    size: float
    fonts: Fonts = INSTALLED_FONTS
    plain: ImageFont.FreeTypeFont = field(init=False)
    _faces: dict[Path, _Face] = field(factory=dict, init=False)

    @plain.default
    def _load_plain(self) -> ImageFont.FreeTypeFont:
        font = ImageFont.load_default(size=self.size)
        assert isinstance(font, ImageFont.FreeTypeFont)  # noqa: S101 - it is whenever a size is given
        return font

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
        if self.is_plain(text):
            return self.plain.getlength(text)
        return sum(self._face(path).getlength(part) for path, part in self.runs(text))

    def is_plain(self, text: str) -> bool:
        """Whether Pillow's own font has every character."""
        return _plain_characters().issuperset(text)

    def runs(self, text: str) -> Iterator[tuple[Path | None, str]]:
        """Split a line into runs of one font each; None is Pillow's own."""
        path: Path | None = None
        chosen = []
        for character in text:
            path = self._font_of(character, path)
            chosen.append((path, character))
        for path, choices in groupby(chosen, key=lambda choice: choice[0]):
            run = "".join(character for _, character in choices)
            # A run is drawn in the direction of its script: the space at the end of an Arabic run would be on its left.
            letters = run if path is None else run.rstrip(" ")
            yield path, letters
            if len(letters) < len(run):
                yield None, run[len(letters) :]

    def write(self, image: Image.Image, place: tuple[float, float], line: str) -> None:
        """Draw a line; its baseline begins at `place`."""
        left, baseline = place
        for path, part in self.runs(line):
            self._face(path).write(image, (left, baseline), part)
            left += self._face(path).getlength(part)

    def _drawable(self, character: str) -> str | None:
        """Return the text to draw for a character; None if no font has it."""
        plain = "".join(part for part in unicodedata.normalize("NFKD", character) if not unicodedata.combining(part))
        category = unicodedata.category(character)
        if category in {"Cc", "Cs"} or (plain and self.is_plain(plain)):
            return plain if self.is_plain(plain) else ""
        if self.fonts.find(character) is not None:
            return character
        return "" if category == "Cf" or category[0] in "MZ" else None

    def _font_of(self, character: str, before: Path | None) -> Path | None:
        """Return the font of a character that follows one in the font `before`, which spaces and marks keep."""
        if before is not None and not character.isalnum() and self.fonts.has(before, character):
            return before
        if self.is_plain(character):
            return None
        if before is not None and self.fonts.has(before, character):
            return before
        return self.fonts.find(character)

    def _face(self, path: Path | None) -> _Face:
        if path is None:
            return _Face(self.plain)
        if path not in self._faces:
            try:
                self._faces[path] = _load(path, self.size)
            except OSError:  # Pillow cannot read the font, although it lists characters
                self._faces[path] = _Face(self.plain)
        return self._faces[path]


@frozen
class Caption:
    """The wrapped prompt and its place."""

    text: str
    font: FallbackFont
    margin: int
    top: int

    def write(self, image: Image.Image) -> None:
        """Draw the caption."""
        left, top = self.margin, self.top + self.margin
        if self.font.is_plain(self.text):
            ImageDraw.Draw(image).multiline_text((left, top), self.text, font=self.font.plain, fill=_INK)
            return
        for number, line in enumerate(self.text.split("\n")):
            baseline = top + self.font.size * (_ASCENT + number * _LINE_HEIGHT)
            self.font.write(image, (left, baseline), line)


def lay_out(picture: Picture, fonts: Fonts = INSTALLED_FONTS) -> Caption:
    """Fit the prompt into a few lines at the bottom of the picture."""
    edge = min(picture.width, picture.height)
    font = FallbackFont(max(10.0, edge / 20), fonts)
    margin = max(4, edge // 30)
    text = "\n".join(wrap(font.drawable(picture.prompt), picture.width - 2 * margin, font))
    return Caption(text, font, margin, max(0, picture.height - _height(text, font) - 2 * margin))


def _height(text: str, font: FallbackFont) -> int:
    if font.is_plain(text):
        measure = ImageDraw.Draw(Image.new("L", (1, 1)))
        return round(measure.multiline_textbbox((0, 0), text, font=font.plain)[3])
    return round(font.size * _LINE_HEIGHT * (1 + text.count("\n")))


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


@cache
def _plain_characters() -> frozenset[str]:
    """Return the characters of Pillow's own font, and the line break."""
    coverage = read_coverage(io.BytesIO(FallbackFont(10).plain.font_bytes))
    return frozenset(chr(point) for first, last in coverage.ranges for point in range(first, last + 1)) | {"\n"}


def _load(path: Path, size: float) -> _Face:
    """Open a font in this size, or its bitmaps in another one.

    Raises:
        OSError: Pillow cannot read the font.
    """
    try:
        return _Face(ImageFont.truetype(path, size))
    except OSError:
        for bitmaps in _BITMAP_SIZES:
            with suppress(OSError):
                return _Face(ImageFont.truetype(path, bitmaps), size / bitmaps)
        raise


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
