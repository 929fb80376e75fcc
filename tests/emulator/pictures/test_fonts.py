"""The characters of installed fonts are read from their tables, whatever the files hold."""

import io
import sys
from pathlib import Path

import pytest

from lemon_async.emulator.pictures import fonts
from lemon_async.emulator.pictures.fonts import INSTALLED_FONTS, Coverage, Fonts, read_coverage


def test_characters_of_a_font_are_read_from_its_table(make_font):
    """Only characters with a glyph count."""
    with make_font("a.ttf", "abcéж猫").open("rb") as file:
        coverage = read_coverage(file)
    assert all(character in coverage for character in "abcéж猫")
    assert not any(character in coverage for character in "dк犬😀\uffff")


def test_characters_beyond_the_basic_plane_are_read(make_font):
    """The largest Unicode subtable is used."""
    with make_font("a.ttf", "a😀😁").open("rb") as file:
        coverage = read_coverage(file)
    assert [character in coverage for character in "a😀😁b😂"] == [True, True, True, False, False]


def test_characters_of_a_collection_are_those_of_its_first_font(make_font):
    """Pillow opens the first font of a collection, too."""
    from fontTools.ttLib import TTCollection, TTFont  # noqa: PLC0415 - `make_font` skips without it

    collection = TTCollection()
    collection.fonts = [TTFont(make_font("a.ttf", "猫")), TTFont(make_font("b.ttf", "犬"))]
    file = io.BytesIO()
    collection.save(file)
    assert ["猫" in read_coverage(file), "犬" in read_coverage(file)] == [True, False]


def test_reading_a_broken_font_never_fails(make_font):
    """Files that are truncated or not fonts at all have few characters or none."""
    for raw in (b"", b"ttcf", b"\xff" * 100, bytes(100)):
        assert "a" not in read_coverage(io.BytesIO(raw))
    raw = make_font("a.ttf", "ab猫😀").read_bytes()
    for end in range(len(raw)):
        assert isinstance(read_coverage(io.BytesIO(raw[:end])), Coverage)


def test_font_of_symbols_has_no_unicode_characters(make_font):
    """Symbol tables do not map Unicode code points."""
    raw = make_font("a.ttf", "a").read_bytes()
    at = raw.index(b"cmap") + 8
    cmap = int.from_bytes(raw[at : at + 4], "big")
    records = raw[cmap + 4 : cmap + 20].replace(b"\0\3\0\1", b"\0\3\0\0").replace(b"\0\0\0\3", b"\0\1\0\0")
    assert "a" not in read_coverage(io.BytesIO(raw[: cmap + 4] + records + raw[cmap + 20 :]))


def test_plain_styles_are_preferred_and_files_of_other_kinds_left_alone(make_font, tmp_path):
    """Bold, italic and emoji fonts are a fallback."""
    (tmp_path / "deep").mkdir()
    for name in ("A-Bold.ttf", "B-LightItalic.otf", "deep/C.TTF", "Emoji.ttf"):
        make_font(name, "a")
    (tmp_path / "D.txt").write_bytes((tmp_path / "Emoji.ttf").read_bytes())
    found = Fonts((tmp_path, tmp_path / "missing"))
    assert [path.name for path in found.paths] == ["C.TTF", "A-Bold.ttf", "Emoji.ttf", "B-LightItalic.otf"]
    assert found.find("a") == tmp_path / "deep/C.TTF"
    assert found.find("ж") is None


def test_font_that_cannot_be_opened_has_no_characters(tmp_path):
    """Dangling links are common in font folders."""
    (tmp_path / "gone.ttf").symlink_to(tmp_path / "nowhere")
    assert Fonts((tmp_path,)).find("a") is None


def test_system_folders_are_absolute(monkeypatch):
    """Fonts are never looked up in the working directory."""
    monkeypatch.setenv("WINDIR", str(Path.home()))
    for platform in ("linux", "darwin", "win32"):
        monkeypatch.setattr(sys, "platform", platform)
        folders = fonts._system_folders()
        assert len(folders) >= 2
        assert all(folder.is_absolute() for folder in folders)


@pytest.mark.skipif(INSTALLED_FONTS.find("ж") is None, reason="no font with Cyrillic letters is installed")
def test_installed_font_has_cyrillic_letters():
    """The fonts of this machine are found."""
    path = INSTALLED_FONTS.find("ж")
    assert path.is_file()
    assert INSTALLED_FONTS.has(path, "ж")
