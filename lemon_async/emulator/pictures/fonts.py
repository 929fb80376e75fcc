"""Find an installed font that has a character, and draw with it.

Pillow's own font has Latin letters only. The installed fonts are opened only when a prompt needs one, so that the
emulator starts fast.
"""

import os
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import cache, cached_property
from itertools import islice
from pathlib import Path
from typing import Any

from attrs import field, frozen
from PIL import Image, ImageDraw, ImageFont

from lemon_async.emulator.pictures.scripts import is_emoji, is_hidden

INK = (255, 255, 255)

_SUFFIXES = {".ttf", ".ttc", ".otf"}
_MAX_FONTS = 1000
# A font of such a style is used only if no other one has the character.
_UNUSUAL = re.compile("bold|italic|oblique|light|thin|black|mono|serif|condensed|math|emoji|emj")
_EMOJI = re.compile("emoji|emj")  # `seguiemj.ttf` is that of Windows
# Bitmap fonts, such as those of colour emoji, exist in few sizes: the further ones are used by Noto, Apple and Android.
_SIZES = (72, 109, 136, 160, 128, 96, 64)
_MIRRORED = str.maketrans("()[]{}<>", ")(][}{><")
_NO_CHARACTER = "\uffff"


@frozen(eq=False)
class Face:
    """A font opened in one size; text in other sizes is scaled."""

    font: ImageFont.FreeTypeFont

    def getlength(self, text: str, size: float, *, is_rtl: bool = False) -> float:
        """Return the width of a text in pixels."""
        text, options = self._shaped(text, is_rtl=is_rtl)
        return self.font.getlength(text, **options) * size / self.font.size

    def write(
        self, image: Image.Image, place: tuple[float, float], text: str, size: float, *, is_rtl: bool = False
    ) -> None:
        """Draw a text; its baseline begins at `place`, at the left end also of text that is read from the right."""
        text, options = self._shaped(text, is_rtl=is_rtl)
        left, top, right, bottom = (round(edge) for edge in self.font.getbbox(text, anchor="ls", **options))
        tile = Image.new("RGBA", (max(1, right - left), max(1, bottom - top)), (*INK, 0))
        ImageDraw.Draw(tile).text((-left, -top), text, INK, self.font, anchor="ls", embedded_color=True, **options)
        scale = size / self.font.size
        tile = tile.resize((max(1, round(tile.width * scale)), max(1, round(tile.height * scale))))
        image.paste(tile, (round(place[0] + left * scale), round(place[1] + top * scale)), tile)

    def _shaped(self, text: str, *, is_rtl: bool) -> tuple[str, dict[str, Any]]:
        """Return what to draw, and how: Raqm, if Pillow has it, knows ligatures and directions."""
        if self.font.layout_engine == ImageFont.Layout.RAQM:
            return text, {"direction": "rtl"} if is_rtl else {}
        visible = "".join(character for character in text if not is_hidden(character))
        return visible[::-1].translate(_MIRRORED) if is_rtl else visible, {}


def plain_face(size: float) -> Face:
    """Return Pillow's own font."""
    font = ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont)  # noqa: S101 - it is whenever a size is given
    return Face(font)


@cache
def open_face(path: Path) -> Face | None:
    """Open a font file; None if Pillow cannot read it."""
    for size in _SIZES:
        with suppress(OSError):
            return Face(ImageFont.truetype(path, size))
    return None


@cache
def _open_unshaped(path: Path) -> Face | None:
    """Open a font that draws single characters as they are, without a circle for marks to stand on."""
    face = open_face(path)
    if face is None or face.font.layout_engine == ImageFont.Layout.BASIC:
        return face
    return Face(ImageFont.truetype(path, face.font.size, layout_engine=ImageFont.Layout.BASIC))


@cache
def has_glyph(path: Path | None, character: str) -> bool:
    """Whether a font, by default Pillow's own, draws the character otherwise than one that no font has."""
    face = plain_face(_SIZES[0]) if path is None else _open_unshaped(path)
    if face is None:
        return False
    tiles = [Image.new("RGBA", (2 * _SIZES[0], 2 * _SIZES[0])) for _ in range(2)]
    for tile, text in zip(tiles, (character, _NO_CHARACTER), strict=True):
        face.write(tile, (0, _SIZES[0]), text, _SIZES[0])
    return tiles[0] != tiles[1]


def has_glyphs(path: Path | None, text: str) -> bool:
    """Whether a font has all characters that are visible; a space is blank, and in every font."""
    return all(character == " " or is_hidden(character) or has_glyph(path, character) for character in text)


@frozen(slots=False)
class Fonts:
    """The fonts in and below some folders."""

    folders: tuple[Path, ...]
    _found: dict[str, Path | None] = field(factory=dict, init=False, eq=False, repr=False)

    @cached_property
    def paths(self) -> tuple[Path, ...]:
        """The font files, plain styles first."""
        return tuple(sorted(islice(_font_files(self.folders), _MAX_FONTS), key=_preference))

    @cached_property
    def emoji_paths(self) -> tuple[Path, ...]:
        """The font files, those of emoji first."""
        return tuple(sorted(self.paths, key=lambda path: not is_emoji_font(path)))

    def find(self, text: str) -> Path | None:
        """Return the first font that has a character, or all that belong together."""
        if text not in self._found:
            paths = self.emoji_paths if is_emoji(text) else self.paths
            self._found[text] = next((path for path in paths if has_glyphs(path, text)), None)
        return self._found[text]


def is_emoji_font(path: Path) -> bool:
    """Return whether a font is for emoji; its letters and digits are not for text."""
    return _EMOJI.search(path.name.lower()) is not None


def _font_files(folders: Iterable[Path]) -> Iterator[Path]:
    for folder in folders:
        for place, _, names in os.walk(folder):
            yield from (Path(place, name) for name in names if Path(name).suffix.lower() in _SUFFIXES)


def _preference(path: Path) -> tuple[int, str, Path]:
    name = path.name.lower()
    return len(_UNUSUAL.findall(name)), name, path


def _system_folders() -> tuple[Path, ...]:
    home = Path("~").expanduser()
    if sys.platform == "win32":
        return Path(os.environ.get("WINDIR", r"C:\Windows"), "Fonts"), home / "AppData/Local/Microsoft/Windows/Fonts"
    if sys.platform == "darwin":
        return Path("/System/Library/Fonts"), Path("/Library/Fonts"), home / "Library/Fonts"
    data = Path(os.environ.get("XDG_DATA_HOME") or home / ".local/share")
    return Path("/usr/share/fonts"), Path("/usr/local/share/fonts"), data / "fonts", home / ".fonts"


INSTALLED_FONTS = Fonts(_system_folders())
