"""Installed fonts are found by the characters that they can draw."""

import sys
from pathlib import Path

import pytest

from lemon_async.emulator.pictures import fonts
from lemon_async.emulator.pictures.fonts import INSTALLED_FONTS, Fonts, has_glyph


def test_font_has_the_characters_with_a_glyph(make_font):
    """Beyond the basic plane, too."""
    path = make_font("a.ttf", "abcéж猫😀")
    assert all(has_glyph(path, character) for character in "abcéж猫😀")
    assert not any(has_glyph(path, character) for character in "dк犬😁\uffff")


def test_pillows_own_font_has_latin_letters():
    assert all(has_glyph(None, character) for character in "azAZ09 .,!")
    assert not any(has_glyph(None, character) for character in "éж猫😀\uffff")


def test_broken_font_has_no_characters(tmp_path, make_font):
    """Files that are truncated or not fonts at all are left alone."""
    raw = make_font("a.ttf", "ab").read_bytes()
    for number, content in enumerate((b"", b"ttcf", b"\xff" * 100, bytes(100), raw[: len(raw) // 2])):
        path = tmp_path / f"broken-{number}.ttf"
        path.write_bytes(content)
        assert not has_glyph(path, "a"), number


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
    assert has_glyph(path, "ж")
