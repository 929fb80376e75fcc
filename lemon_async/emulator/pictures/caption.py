"""Write the prompt on a picture.

Pillow's own font has Latin letters only; accents are dropped. Characters of other scripts are drawn in an installed
font that has them. Where none is installed, the caption says which script is missing.
"""

import io
import unicodedata
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from itertools import groupby
from pathlib import Path

from attrs import field, frozen
from PIL import Image, ImageDraw, ImageFont

from lemon_async.emulator.pictures.fonts import INSTALLED, Fonts, read_coverage
from lemon_async.emulator.pictures.picture import Picture

_INK = (255, 255, 255)
_MAX_LINES = 8
# Measuring text costs time by the letter, and no line of Pillow's font holds more.
_MAX_LINE_CHARS = 240
_ELLIPSIS = "…"
_LINE_HEIGHT = 1.4
_ASCENT = 1.05
_MOST_SCRIPTS = 3
# Fonts of bitmaps, colour emoji above all, have few sizes: these are those of Noto, Apple and Android.
_BITMAP_SIZES = (109, 136, 160, 128, 96, 64)


@frozen
class _Face:
    """A font, and by how much its bitmaps are scaled."""

    font: ImageFont.FreeTypeFont
    scale: float = 1.0

    def getlength(self, text: str) -> float:
        return self.font.getlength(text) * self.scale

    def write(self, image: Image.Image, place: tuple[float, float], text: str) -> None:
        """Draw text whose baseline begins at `place`."""
        if self.scale == 1.0:
            ImageDraw.Draw(image).text(place, text, _INK, self.font, anchor="ls", embedded_color=True)
            return
        left, top, right, bottom = (round(edge) for edge in self.font.getbbox(text, anchor="ls"))
        tile = Image.new("RGBA", (max(1, right - left), max(1, bottom - top)))
        ImageDraw.Draw(tile).text((-left, -top), text, _INK, self.font, anchor="ls", embedded_color=True)
        tile = tile.resize((max(1, round(tile.width * self.scale)), max(1, round(tile.height * self.scale))))
        image.paste(tile, (round(place[0] + left * self.scale), round(place[1] + top * self.scale)), tile)


@frozen
class Lettering:
    """Measures and draws lines of text, each part in a font that has its characters."""

    size: float
    fonts: Fonts = INSTALLED
    plain: ImageFont.FreeTypeFont = field(init=False)
    _faces: dict[Path, _Face] = field(factory=dict, init=False)

    @plain.default
    def _pillows_own(self) -> ImageFont.FreeTypeFont:
        font = ImageFont.load_default(size=self.size)
        assert isinstance(font, ImageFont.FreeTypeFont)  # noqa: S101 - it is whenever a size is given
        return font

    def legible(self, prompt: str) -> str:
        """The prompt as one line without what cannot be drawn, and with notes in place of missing scripts."""
        line, missing, between = "", "", ""
        for character in unicodedata.normalize("NFC", " ".join(prompt.split())):
            part = self._legible(character)
            if part is None:  # one note for a whole sentence
                missing, between = missing + character, ""
            elif missing and not part.isalnum() and self.is_plain(part):
                between += part
            else:
                line += _note(missing) + between + part
                missing, between = "", ""
        return " ".join((line + _note(missing) + between).split())

    def getlength(self, text: str) -> float:
        """The width of a line in pixels."""
        if self.is_plain(text):
            return self.plain.getlength(text)
        return sum(self._face(path).getlength(part) for path, part in self.runs(text))

    def is_plain(self, text: str) -> bool:
        """Whether Pillow's own font has every character."""
        return _plain_characters().issuperset(text)

    def runs(self, text: str) -> Iterator[tuple[Path | None, str]]:
        """The parts of a line with the font of each; None is Pillow's own."""
        path: Path | None = None
        chosen = []
        for character in text:
            path = self._font_of(character, path)
            chosen.append((path, character))
        for path, choices in groupby(chosen, key=lambda choice: choice[0]):
            run = "".join(character for _, character in choices)
            # A run is drawn in the direction of its script: a space at its end would stand on its left in Arabic.
            letters = run if path is None else run.rstrip(" ")
            yield path, letters
            if len(letters) < len(run):
                yield None, run[len(letters) :]

    def write(self, image: Image.Image, place: tuple[float, float], line: str) -> None:
        """Draw a line whose baseline begins at `place`."""
        left, baseline = place
        for path, part in self.runs(line):
            self._face(path).write(image, (left, baseline), part)
            left += self._face(path).getlength(part)

    def _legible(self, character: str) -> str | None:
        """What is drawn for a character; None if no font has it."""
        plain = "".join(part for part in unicodedata.normalize("NFKD", character) if not unicodedata.combining(part))
        category = unicodedata.category(character)
        if category in {"Cc", "Cs"} or (plain and self.is_plain(plain)):
            return plain if self.is_plain(plain) else ""
        if self.fonts.find(character) is not None:
            return character
        return "" if category == "Cf" or category[0] in "MZ" else None

    def _font_of(self, character: str, before: Path | None) -> Path | None:
        """The font of a character after one in the font `before`: spaces and marks join what they stand in."""
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
            except OSError:  # it lists characters, but Pillow cannot draw them
                self._faces[path] = _Face(self.plain)
        return self._faces[path]


@frozen
class Caption:
    """The prompt, wrapped, and where it stands."""

    text: str
    lettering: Lettering
    margin: int
    top: int

    def write(self, image: Image.Image) -> None:
        """Draw the caption."""
        left, top = self.margin, self.top + self.margin
        if self.lettering.is_plain(self.text):
            ImageDraw.Draw(image).multiline_text((left, top), self.text, font=self.lettering.plain, fill=_INK)
            return
        for number, line in enumerate(self.text.split("\n")):
            baseline = top + self.lettering.size * (_ASCENT + number * _LINE_HEIGHT)
            self.lettering.write(image, (left, baseline), line)


def lay_out(picture: Picture, fonts: Fonts = INSTALLED) -> Caption:
    """Fit the prompt into a few lines at the bottom of the picture."""
    edge = min(picture.width, picture.height)
    lettering = Lettering(max(10.0, edge / 20), fonts)
    margin = max(4, edge // 30)
    text = "\n".join(wrap(lettering.legible(picture.prompt), picture.width - 2 * margin, lettering))
    return Caption(text, lettering, margin, max(0, picture.height - _height(text, lettering) - 2 * margin))


def _height(text: str, lettering: Lettering) -> int:
    if lettering.is_plain(text):
        measure = ImageDraw.Draw(Image.new("L", (1, 1)))
        return round(measure.multiline_textbbox((0, 0), text, font=lettering.plain)[3])
    return round(lettering.size * _LINE_HEIGHT * (1 + text.count("\n")))


def wrap(text: str, width: int, font: Lettering) -> list[str]:
    """Break text into at most a few lines, each no wider than `width` pixels."""
    lines: list[str] = []
    rest = text
    while rest and len(lines) < _MAX_LINES:
        line = _head_that_fits(rest, width, font)
        lines.append(line.rstrip())
        rest = rest[len(line) :].lstrip()
    if rest:
        lines[-1] = lines[-1][:-1] + _ELLIPSIS
    return lines


def _head_that_fits(text: str, width: int, font: Lettering) -> str:
    """The longest head of `text` that fits, cut after a word where there is one."""
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
    """What Pillow's own font has, and the ends of lines."""
    coverage = read_coverage(io.BytesIO(Lettering(10).plain.font_bytes))
    return frozenset(chr(point) for first, last in coverage.ranges for point in range(first, last + 1)) | {"\n"}


def _load(path: Path, size: float) -> _Face:
    """Open a font in this size, or the bitmaps that it has in another one.

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


def _note(missing: str) -> str:
    """What stands in place of characters that no font has."""
    if not missing:
        return ""
    scripts = dict.fromkeys(script for script in map(_script_of, missing) if script)
    names = ", ".join(list(scripts)[:_MOST_SCRIPTS]) or "other"
    return f" [{len(missing)} {names} character{'s' if len(missing) > 1 else ''}: no font installed] "


def _script_of(character: str) -> str:
    """The name of a script as Unicode's names of characters begin; punctuation has none."""
    kind = unicodedata.category(character)[0]
    if kind in "LN":
        first = unicodedata.name(character, "unknown").split()[0]
        return "Han" if first == "CJK" else first.capitalize()
    if kind == "S":
        return "emoji" if character >= "\N{MAHJONG TILE EAST WIND}" else "symbol"
    return "" if kind == "P" else "unknown"
