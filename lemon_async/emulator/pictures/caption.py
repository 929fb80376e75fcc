"""Write the prompt on a picture.

Pillow's own font has Latin letters without accents only. Other characters are drawn in an installed font that has them;
a word, and an emoji of several characters, in one font. If there is none, accents are dropped, and the caption names
the missing script.
"""

import re
import string
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from operator import itemgetter
from pathlib import Path

from attrs import Factory, field, frozen
from PIL import Image

from lemon_async.emulator.pictures.fonts import (
    INSTALLED_FONTS,
    Face,
    Fonts,
    has_glyph,
    has_glyphs,
    is_emoji_font,
    open_face,
    plain_face,
)
from lemon_async.emulator.pictures.picture import Picture
from lemon_async.emulator.pictures.scripts import Direction, base_direction, clusters, directions, has_rtl, is_hidden

_MAX_LINES = 8
# Bounds the time spent on measuring; no line of Pillow's font is longer.
_MAX_LINE_CHARS = 240
_ELLIPSIS = "…"
_LINE_HEIGHT = 1.4
_PUNCTUATION = set(" " + string.punctuation)
_CONTROLS = {"Cc", "Cf", "Cs"}
_WORDS = re.compile(r" |[^ ]+")
# No line of a script without spaces begins with these.
_NEVER_FIRST = set("、。，．：；！？」』）】〉》〕ー々ぁぃぅぇぉっゃゅょァィゥェォッャュョ")  # noqa: RUF001 - meant
_ASCENT = 1.05
_MAX_SCRIPTS = 3


@frozen
class FallbackFont:
    """Measures and draws lines of text in Pillow's own font, and in installed fonts what that one lacks."""

    size: float
    fonts: Fonts = INSTALLED_FONTS
    _plain: Face = field(init=False, default=Factory(lambda self: plain_face(self.size), takes_self=True))
    _fits: dict[str, str | None] = field(init=False, factory=dict, eq=False, repr=False)
    _words: dict[str, list[tuple[Path | None, str]]] = field(init=False, factory=dict, eq=False, repr=False)

    def drawable(self, prompt: str) -> str:
        """Return the prompt as one line that can be drawn, with notes in place of missing scripts."""
        line = unicodedata.normalize("NFC", " ".join(prompt.split()))
        line = "".join(
            character for character in line if unicodedata.category(character) not in _CONTROLS or is_hidden(character)
        )
        shown: list[str] = []
        missing: list[str] = []
        for cluster in clusters(line):
            if self._fit(cluster) is None or (missing and _is_punctuation(cluster)):
                missing.append(cluster)
                continue
            shown += [*self._notes(missing), self._fit(cluster) or ""]
            missing.clear()
        return " ".join("".join([*shown, *self._notes(missing)]).split())

    def _notes(self, missing: Sequence[str]) -> list[str]:
        """Return the note for missing characters, and the punctuation after them; nothing if there are none."""
        last = next((at for at in range(len(missing), 0, -1) if not _is_punctuation(missing[at - 1])), 0)
        return [_note("".join(missing[:last])), *(self._fit(each) or "" for each in missing[last:])] if last else []

    def getlength(self, text: str) -> float:
        """Return the width of a line in pixels."""
        return sum(
            self._face(path).getlength(part, self.size, is_rtl=is_rtl) for path, part, is_rtl in self.visual_runs(text)
        )

    def write(self, image: Image.Image, place: tuple[float, float], line: str, base: Direction = "left") -> None:
        """Draw a line; its baseline begins at `place`, on the left."""
        left, baseline = place
        for path, part, is_rtl in self.visual_runs(line, base):
            self._face(path).write(image, (left, baseline), part, self.size, is_rtl=is_rtl)
            left += self._face(path).getlength(part, self.size, is_rtl=is_rtl)

    def visual_runs(self, text: str, base: Direction = "left") -> list[tuple[Path | None, str, bool]]:
        """Return the runs of a line from left to right, and whether each is read from the right."""
        parts = self._with_fonts(text)
        if not has_rtl(text):
            return [(path, part, False) for path, part in _joined(parts)]
        ways = directions([cluster for _, cluster in parts], base)
        levels: list[list[tuple[Path | None, str, bool]]] = []
        for is_rtl, level in groupby(zip(ways, parts, strict=True), key=lambda pair: pair[0] != "left"):
            runs = [
                (path, "".join(cluster for _, (_, cluster) in run), way == "right")
                for (way, path), run in groupby(level, key=lambda pair: (pair[0], pair[1][0]))
            ]
            levels.append(runs[::-1] if is_rtl else runs)
        return [run for level in (levels[::-1] if base == "right" else levels) for run in level]

    def runs(self, text: str) -> Iterator[tuple[Path | None, str]]:
        """Split a line into runs of one font each; None is Pillow's own."""
        return _joined(self._with_fonts(text))

    def _with_fonts(self, text: str) -> list[tuple[Path | None, str]]:
        """Return the clusters of a line with the font of each; spaces keep the font before them."""
        found: list[tuple[Path | None, str]] = []
        for word in _WORDS.findall(text):
            for path, cluster in self._word(word):
                before = found[-1][0] if found else None
                found.append((before if path is None and _keeps(before, cluster) else path, cluster))
        return found

    def _word(self, word: str) -> list[tuple[Path | None, str]]:
        """Return the clusters of a word with their fonts: one for all of them, if there is one."""
        if word not in self._words:
            parts = clusters(word)
            paths = [self._font_of(cluster) for cluster in parts]
            others = (path for path in dict.fromkeys(paths) if path is not None and not is_emoji_font(path))
            whole = next((path for path in others if has_glyphs(path, word)), None)
            self._words[word] = [(whole or path, cluster) for path, cluster in zip(paths, parts, strict=True)]
        return self._words[word]

    def _font_of(self, cluster: str) -> Path | None:
        return None if _is_plain(cluster) else self.fonts.find(cluster)

    def _face(self, path: Path | None) -> Face:
        return (path and open_face(path)) or self._plain

    def _fit(self, cluster: str) -> str | None:
        """Return what to draw for a cluster; None if no font has it.

        The first that a font has: all of it; the same without accents, in Pillow's own font; its letter without marks.
        Marks without a letter are left out.
        """
        if cluster not in self._fits:
            self._fits[cluster] = self._find_fit(cluster)
        return self._fits[cluster]

    def _find_fit(self, cluster: str) -> str | None:
        letter = cluster[0]
        if _is_mark(letter):
            return ""
        if _is_plain(cluster) or self.fonts.find(cluster) is not None:
            return cluster
        folded = unicodedata.normalize("NFKD", cluster)
        folded = "".join(part for part in folded if unicodedata.category(part)[0] != "M" and not is_hidden(part))
        if all(has_glyph(None, part) for part in folded):
            return folded
        return letter if self.fonts.find(letter) is not None else None


def _keeps(path: Path | None, cluster: str) -> bool:
    """Return whether a space or a mark is drawn in the font before it."""
    return path is not None and not is_emoji_font(path) and not cluster.isalnum() and has_glyphs(path, cluster)


def _is_plain(cluster: str) -> bool:
    """Return whether Pillow's own font has a cluster; it cannot place marks."""
    return len(cluster) == 1 and (cluster == " " or has_glyph(None, cluster))


def _joined(parts: Iterable[tuple[Path | None, str]]) -> Iterator[tuple[Path | None, str]]:
    """Join neighbours of one font."""
    for path, run in groupby(parts, key=itemgetter(0)):
        yield path, "".join(cluster for _, cluster in run)


@frozen
class Caption:
    """The wrapped prompt and its place; lines that are read from the right end at the right margin."""

    lines: Sequence[str]
    font: FallbackFont
    margin: int
    top: int
    base: Direction = "left"

    def write(self, image: Image.Image) -> None:
        """Draw the caption."""
        for number, line in enumerate(self.lines):
            baseline = self.top + self.margin + self.font.size * (_ASCENT + number * _LINE_HEIGHT)
            left: float = self.margin
            if self.base == "right":
                left = max(left, image.width - self.margin - self.font.getlength(line))
            self.font.write(image, (left, baseline), line, self.base)


def lay_out(picture: Picture, fonts: Fonts = INSTALLED_FONTS) -> Caption:
    """Fit the prompt into a few lines at the bottom of the picture."""
    edge = min(picture.width, picture.height)
    font = FallbackFont(max(10.0, edge / 20), fonts)
    margin = max(4, edge // 30)
    text = font.drawable(picture.prompt)
    lines = wrap(text, picture.width - 2 * margin, font)
    height = round(font.size * _LINE_HEIGHT * len(lines)) + 2 * margin
    return Caption(lines, font, margin, max(0, picture.height - height), base_direction(text))


def wrap(text: str, width: int, font: FallbackFont) -> list[str]:
    """Break text into a few lines, each at most `width` pixels wide."""
    lines: list[str] = []
    rest = text
    while rest and len(lines) < _MAX_LINES:
        line = _prefix_that_fits(rest, width, font)
        lines.append(line.rstrip())
        rest = rest[len(line) :].lstrip()
    if rest:
        lines[-1] = "".join(clusters(lines[-1])[:-1]) + _ELLIPSIS
    return lines


def _prefix_that_fits(text: str, width: int, font: FallbackFont) -> str:
    """Return the longest prefix of `text` that fits, cut after a word if possible."""
    parts = clusters(text[:_MAX_LINE_CHARS])
    low, high = 1, len(parts)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if font.getlength("".join(parts[:middle])) <= width else (low, middle - 1)
    while 1 < low < len(parts) and parts[low] in _NEVER_FIRST:
        low -= 1
    line = "".join(parts[:low])
    if line == text or text[len(line)] == " ":
        return line
    space = line.rfind(" ")
    return line[: space + 1] if space > 0 else line


def _note(text: str) -> str:
    """Return the note that replaces characters which no font has, and punctuation between them."""
    missing = [character for character in text if not _is_punctuation(character) and not _is_mark(character)]
    scripts = dict.fromkeys(script for script in map(_script_of, missing) if script)
    names = ", ".join(list(scripts)[:_MAX_SCRIPTS]) or "other"
    return f" [{len(missing)} {names} character{'s' if len(missing) > 1 else ''}: no font installed] "


def _is_punctuation(character: str) -> bool:
    """Return whether a character is ASCII punctuation or another form of it, which needs no font of its own."""
    return unicodedata.normalize("NFKC", character) in _PUNCTUATION


def _is_mark(character: str) -> bool:
    return unicodedata.category(character)[0] == "M" or is_hidden(character)


def _script_of(character: str) -> str:
    """Return the script of a character, the first word of its Unicode name; punctuation has none."""
    kind = unicodedata.category(character)[0]
    if kind in "LN":
        first = unicodedata.name(character, "unknown").split()[0]
        return "Han" if first == "CJK" else first.partition("-")[0].capitalize()
    if kind == "S":
        return "emoji" if character >= "\N{MAHJONG TILE EAST WIND}" else "symbol"
    return "" if kind == "P" else "unknown"
