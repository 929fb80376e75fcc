"""Find an installed font that has a character.

Pillow's own font has Latin letters only. Of the installed fonts, only the tables that list their characters are read,
and only when a prompt needs one, so that the emulator starts fast.
"""

import os
import struct
import sys
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from attrs import field, frozen

_SUFFIXES = {".ttf", ".ttc", ".otf"}
_MAX_FONTS = 5000
# A font of such a style is used only if no other one has the character.
_UNUSUAL_STYLES = ("bold", "italic", "oblique", "light", "thin", "black", "mono", "serif", "condensed", "math", "emoji")
_UNICODE_TABLES = {(0, 3), (0, 4), (0, 6), (3, 1), (3, 10)}  # platform and encoding


@frozen
class Coverage:
    """The characters of a font, as sorted ranges of code points."""

    ranges: tuple[tuple[int, int], ...] = ()

    def __contains__(self, character: str) -> bool:
        """Whether the font has a glyph for the character."""
        found = bisect_right(self.ranges, (ord(character), sys.maxunicode)) - 1
        return found >= 0 and ord(character) <= self.ranges[found][1]


def read_coverage(file: BinaryIO) -> Coverage:
    """Read the characters of a TrueType or OpenType font, or of the first one in a collection; none if invalid."""
    try:
        start = _unpack(file, 12, ">I")[0] if _read(file, 0, 4) == b"ttcf" else 0
        tables = struct.iter_unpack(">4s4xI4x", _read(file, start + 12, 16 * _unpack(file, start + 4, ">H")[0]))
        cmap = next((offset for tag, offset in tables if tag == b"cmap"), None)
        return Coverage() if cmap is None else Coverage(tuple(sorted(_ranges(file, cmap))))
    except (OSError, struct.error):
        return Coverage()


def _ranges(file: BinaryIO, cmap: int) -> list[tuple[int, int]]:
    """Return the ranges of the largest Unicode subtable; https://learn.microsoft.com/typography/opentype/spec/cmap."""
    found: dict[int, int] = {}
    for platform, encoding, offset in struct.iter_unpack(
        ">HHI", _read(file, cmap + 4, 8 * _unpack(file, cmap + 2, ">H")[0])
    ):
        if (platform, encoding) in _UNICODE_TABLES:
            found[_unpack(file, cmap + offset, ">H")[0]] = cmap + offset
    if 12 in found:
        (count,) = _unpack(file, found[12] + 12, ">I")
        return list(struct.iter_unpack(">II4x", _read(file, found[12] + 16, 12 * count)))
    if 4 in found:
        (size,) = _unpack(file, found[4] + 6, ">H")
        ends, starts = (_unpack(file, found[4] + at, f">{size // 2}H") for at in (14, 16 + size))
        return list(zip(starts[:-1], ends[:-1], strict=True))  # the last range marks the end
    return []


def _read(file: BinaryIO, at: int, size: int) -> bytes:
    file.seek(at)
    return file.read(size)


def _unpack(file: BinaryIO, at: int, form: str) -> tuple[int, ...]:
    return struct.unpack(form, _read(file, at, struct.calcsize(form)))


@frozen(slots=False)
class Fonts:
    """The fonts in and below some folders."""

    folders: tuple[Path, ...]
    _coverages: dict[Path, Coverage] = field(factory=dict, init=False, eq=False, repr=False)
    _found: dict[str, Path | None] = field(factory=dict, init=False, eq=False, repr=False)

    @cached_property
    def paths(self) -> tuple[Path, ...]:
        """The font files, plain styles first."""
        return tuple(sorted(islice(_font_files(self.folders), _MAX_FONTS), key=_preference))

    def find(self, character: str) -> Path | None:
        """Return the first font that has the character."""
        if character not in self._found:
            self._found[character] = next((path for path in self.paths if self.has(path, character)), None)
        return self._found[character]

    def has(self, path: Path, character: str) -> bool:
        """Whether a font has the character."""
        if path not in self._coverages:
            self._coverages[path] = Coverage()
            with suppress(OSError), path.open("rb") as file:
                self._coverages[path] = read_coverage(file)
        return character in self._coverages[path]


def _font_files(folders: Iterable[Path]) -> Iterator[Path]:
    for folder in folders:
        for place, _, names in os.walk(folder):
            yield from (Path(place, name) for name in names if Path(name).suffix.lower() in _SUFFIXES)


def _preference(path: Path) -> tuple[int, str, Path]:
    name = path.name.lower()
    return sum(style in name for style in _UNUSUAL_STYLES), name, path


def _system_folders() -> tuple[Path, ...]:
    home = Path("~").expanduser()
    if sys.platform == "win32":
        return Path(os.environ.get("WINDIR", r"C:\Windows"), "Fonts"), home / "AppData/Local/Microsoft/Windows/Fonts"
    if sys.platform == "darwin":
        return Path("/System/Library/Fonts"), Path("/Library/Fonts"), home / "Library/Fonts"
    data = Path(os.environ.get("XDG_DATA_HOME") or home / ".local/share")
    return Path("/usr/share/fonts"), Path("/usr/local/share/fonts"), data / "fonts", home / ".fonts"


INSTALLED_FONTS = Fonts(_system_folders())
