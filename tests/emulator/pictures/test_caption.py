"""Captions show prompts in any script, or say which characters no installed font has."""

import pytest
from PIL import Image

from lemon_async.emulator.pictures.caption import FallbackFont, lay_out, wrap
from lemon_async.emulator.pictures.fonts import Fonts, plain_face
from lemon_async.emulator.pictures.picture import Picture

NONE = Fonts(())


class Monospace:
    """A font in which every letter is one pixel wide."""

    def getlength(self, text):
        return len(text)


WRAPPED = {
    ("a white cat", 20): ["a white cat"],
    ("a white cat", 7): ["a white", "cat"],
    ("a white cat", 8): ["a white", "cat"],
    ("a white cat", 6): ["a", "white", "cat"],
    ("abcdef", 4): ["abcd", "ef"],
    ("abcdef", 0): ["a", "b", "c", "d", "e", "f"],
    ("a b c d e f g h i j", 1): ["a", "b", "c", "d", "e", "f", "g", "…"],
}
WITHOUT_FONTS = {
    "a white cat": "a white cat",
    "über\n naïve": "uber naive",
    "nul\0 and escape \x1b[m": "nul and escape [m",
    "ein Straßenkater": "ein Stra [1 Latin character: no font installed] enkater",
    "猫": "[1 Han character: no font installed]",
    "белый кот, на окне!": "[14 Cyrillic characters: no font installed] !",
    "قطة": "[3 Arabic characters: no font installed]",
    "a cat 🐱😀 and a dog": "a cat [2 emoji characters: no font installed] and a dog",
    "family 👩\N{ZERO WIDTH JOINER}👧": "family [2 emoji characters: no font installed]",
    "白い猫。a cat": "[4 Han, Hiragana characters: no font installed] a cat",
    "猫 कुत्ता ไก่ ж": "[7 Han, Devanagari, Thai characters: no font installed]",
    "कुत्ता और बिल्ली": "[8 Devanagari characters: no font installed]",
    "好，猫！": "[2 Han characters: no font installed] !",  # noqa: RUF001 - meant
    "カー": "[2 Katakana characters: no font installed]",
    "\u202eevil\u2066": "evil",
    "→": "[1 symbol character: no font installed]",
    "\ue000\U000e1000": "[2 unknown characters: no font installed]",
    "。": "[1 other character: no font installed]",
}


def test_text_is_wrapped_after_words_and_shortened():
    """Long words are cut; text that does not fit ends in an ellipsis."""
    for (text, width), lines in WRAPPED.items():
        assert wrap(text, width, Monospace()) == lines, (text, width)


def test_missing_scripts_are_named_in_latin_letters():
    """Without an installed font, no character becomes an empty box."""
    for prompt, shown in WITHOUT_FONTS.items():
        assert FallbackFont(20, NONE).drawable(prompt) == shown, prompt
        caption = lay_out(Picture(prompt, 320, 200), NONE)
        assert {path for line in caption.lines for path, _ in caption.font.runs(line)} == {None}, prompt


@pytest.fixture
def han(make_font, tmp_path):
    """Return a folder with one font that has a few characters of several scripts."""
    make_font("Han.ttf", "猫白 ж")
    return Fonts((tmp_path,))


def test_characters_are_drawn_in_an_installed_font_that_has_them(han, tmp_path):
    """Runs in Pillow's own font and in others alternate; notes name the rest."""
    font = FallbackFont(20, han)
    text = font.drawable("a 猫 白, b 犬!")
    assert text == "a 猫 白, b [1 Han character: no font installed] !"
    path = tmp_path / "Han.ttf"
    assert list(font.runs("a 猫 白, b")) == [(None, "a "), (path, "猫 白"), (None, ", b")]


def inked(font, text):
    """Draw text in white on black; return its bounding box and its colours."""
    image = Image.new("RGB", (300, 60))
    font.write(image, (10, 40), text)
    return image.getbbox(), {colour for _, colour in image.getcolors(10_000)}


def test_line_is_as_wide_as_it_is_drawn(han):
    """The glyphs of the test font fill their square."""
    font = FallbackFont(20, han)
    assert font.getlength("猫白") == 40
    (left, top, right, bottom), colours = inked(font, "猫白")
    assert (left, top, right, bottom) == (10, 24, 50, 40)
    assert (255, 255, 255) in colours


def test_coloured_bitmaps_of_one_size_are_scaled(make_bitmap_font, tmp_path):
    """Fonts of emoji often have no outlines."""
    make_bitmap_font("Emoji.ttf", "🐱😀")
    font = FallbackFont(20, Fonts((tmp_path,)))
    assert font.drawable("🐱😀") == "🐱😀"
    assert font.getlength("🐱😀") == pytest.approx(40)
    (left, top, right, bottom), colours = inked(font, "🐱😀")
    assert (left, right) == (10, 50)
    assert bottom - top == pytest.approx(20, abs=1)
    assert (255, 0, 0) in colours


def test_a_word_is_drawn_in_one_font_with_its_accents(make_font, tmp_path):
    """Without such a font, without them; an accent alone is nothing."""
    path = make_font("Latin.ttf", "überaltz\u0337 ")
    font = FallbackFont(20, Fonts((tmp_path,)))
    text = font.drawable("u\u0308ber alt z\u0337a é \u0337")
    assert text == "über alt z\u0337a e"
    assert list(font.runs(text)) == [(path, "über "), (None, "alt "), (path, "z\u0337a "), (None, "e")]


def test_emoji_sequences_are_drawn_in_one_piece(make_bitmap_font, make_font, tmp_path):
    """In a font of emoji, although another font has some of the characters; joiners and styles need no glyph."""
    make_font("Text.ttf", "👩❤")
    path = make_bitmap_font("Emoji.ttf", "👩👧❤🏽👍🇩🇪1\u20e3")
    font = FallbackFont(20, Fonts((tmp_path,)))
    for emoji in ("👩\u200d👧", "❤\ufe0f", "👍🏽", "🇩🇪", "1\ufe0f\u20e3"):
        assert font.drawable(f"a {emoji} b") == f"a {emoji} b", ascii(emoji)
        assert list(font.runs(f"a {emoji} b")) == [(None, "a "), (path, emoji), (None, " b")], ascii(emoji)
    assert [path.name for path, _ in font.runs("❤")] == ["Text.ttf"]
    assert font.drawable("👩\u200d🚀") == "👩"


def test_lines_are_cut_neither_in_a_sequence_nor_before_a_full_stop():
    assert wrap("e\u0301" * 3, 2, Monospace()) == ["e\u0301"] * 3
    assert wrap("猫猫猫。猫", 3, Monospace()) == ["猫猫", "猫。猫"]


ALEF, BET = "\u05d0", "\u05d1"


def test_text_that_is_read_from_the_right_is_drawn_in_that_order(make_font, tmp_path):
    """Numbers and Latin words in it are read from the left; it ends at the right margin."""
    path = make_font("Hebrew.ttf", f"{ALEF}{BET} ")
    font = FallbackFont(20, Fonts((tmp_path,)))
    line = f"{ALEF}{BET} 12, cat"
    assert font.visual_runs(line, "right") == [
        (None, "cat", False),
        (None, ", ", True),
        (None, "12", False),
        (path, f"{ALEF}{BET} ", True),
    ]
    assert font.visual_runs(f"a {ALEF} b", "left") == [
        (None, "a ", False),
        (path, ALEF, True),
        (path, " ", False),
        (None, "b", False),
    ]
    caption = lay_out(Picture(f"{ALEF}{BET}", 320, 200), Fonts((tmp_path,)))
    image = Image.new("RGB", (320, 200))
    caption.write(image)
    assert image.getbbox()[2] == 320 - caption.margin


def test_joiners_take_no_room_in_pillows_own_font():
    """It knows no sequences."""
    assert plain_face(20).getlength("a\u200db\ufe0f", 20) == plain_face(20).getlength("ab", 20)


def test_brackets_are_mirrored_in_pillows_own_font():
    """It knows no directions."""
    images = [Image.new("RGB", (60, 40)) for _ in range(2)]
    plain_face(20).write(images[0], (0, 30), "(a", 20)
    plain_face(20).write(images[1], (0, 30), "a)", 20, is_rtl=True)
    assert images[0].tobytes() == images[1].tobytes()


def test_font_that_cannot_be_drawn_with_does_not_fail_the_picture(make_font, tmp_path):
    """A broken installed font costs a caption, not a response."""
    path = make_font("Han.ttf", "猫")
    raw = path.read_bytes()
    path.write_bytes(raw.replace(b"glyf", b"none").replace(b"head", b"none"))
    caption = lay_out(Picture("猫", 320, 200), Fonts((tmp_path,)))
    assert caption.lines == ["[1 Han character: no font installed]"]


def test_lines_of_mixed_scripts_lie_within_the_picture(han):
    """Wrapping measures each run in its own font."""
    caption = lay_out(Picture("猫 and ж " * 30, 320, 240), han)
    image = Image.new("RGB", (320, 240))
    caption.write(image)
    left, top, right, bottom = image.getbbox()
    assert len(caption.lines) > 3
    assert (left >= caption.margin, top >= caption.top, right <= 320, bottom <= 240) == (True,) * 4


def test_caption_in_latin_letters_is_drawn_in_pillows_own_font():
    """Pictures of such prompts do not depend on the fonts of the machine."""
    picture = Picture("a white cat on a windowsill", 320, 240)
    drawn, expected = Image.new("RGB", (320, 240)), Image.new("RGB", (320, 240))
    lay_out(picture).write(drawn)
    lay_out(picture, NONE).write(expected)
    assert drawn.tobytes() == expected.tobytes()
    assert drawn.getbbox()
