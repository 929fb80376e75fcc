"""Which characters belong together, and in which order they are read."""

import pytest

from lemon_async.emulator.pictures.scripts import base_direction, clusters, directions, has_rtl, is_emoji, is_hidden

FAMILY = "👨\u200d👩\u200d👧\u200d👦"
CLUSTERS = {
    "": [],
    "abc": ["a", "b", "c"],
    "e\u0301a": ["e\u0301", "a"],
    "z\u0337\u032aa": ["z\u0337\u032a", "a"],
    f"a{FAMILY}b": ["a", FAMILY, "b"],
    "🇩🇪🇯🇵🇫": ["🇩🇪", "🇯🇵", "🇫"],
    "👍🏽👍": ["👍🏽", "👍"],
    "1\ufe0f\u20e32": ["1\ufe0f\u20e3", "2"],
    "🏳\ufe0f\u200d🌈": ["🏳\ufe0f\u200d🌈"],
    "🏴\U000e0067\U000e0062\U000e007f.": ["🏴\U000e0067\U000e0062\U000e007f", "."],
    "कुत्ता": ["कु", "त्", "ता"],
    " \u0301": [" ", "\u0301"],
    "a\u200db": ["a\u200d", "b"],
}


@pytest.mark.parametrize("text", CLUSTERS)
def test_marks_and_emoji_sequences_are_not_divided(text):
    assert clusters(text) == CLUSTERS[text]
    assert "".join(clusters(text)) == text


def test_emoji_are_told_from_text_and_joiners_from_what_is_seen():
    assert [is_emoji(cluster) for cluster in ("😀", FAMILY, "❤\ufe0f", "1\ufe0f\u20e3", "❤", "1", "猫")] == [
        True, True, True, True, False, False, False,
    ]  # fmt: skip
    assert [is_hidden(character) for character in "\u200d\u200c\ufe0fa \u0301"] == [
        True,
        True,
        True,
        False,
        False,
        False,
    ]


def ways(text, base=None):
    letters = {"left": "L", "right": "R", "number": "n"}
    return "".join(letters[way] for way in directions(clusters(text), base or base_direction(text)))


# Hebrew letters, which the terminal would show in another order.
ALEF, BET = "\u05d0", "\u05d1"


def test_letters_have_a_direction_and_others_follow_them():
    assert ways("ab, c!") == "LLLLLL"
    assert ways(f"{ALEF} {BET}!") == "RRRR"
    assert ways(f"a {ALEF} {BET} b") == "LLRRRLL"
    assert ways(f"{ALEF} a b") == "RRLLL"
    assert ways(f"({ALEF})") == "RRR"
    assert ways(f"(a {ALEF})") == "LLLRL"


def test_numbers_are_read_from_the_left():
    """Also with a decimal separator; between letters that are read from the left they are letters."""
    assert ways(f"{ALEF} 1.25, a") == "RRnnnnRRL"
    assert ways("a 12 b") == "LLLLLL"
    assert ways(f"a 1 {ALEF} 2") == "LLLLRRn"
    assert ways("12", "left") == "LL"
    assert ways(f"{ALEF}1.") == "RnR"


def test_the_first_letter_decides_about_a_paragraph():
    assert [base_direction(text) for text in ("", "12 a", f"1 {ALEF} a", "猫", f"a {ALEF}")] == [
        "left", "left", "right", "left", "left",
    ]  # fmt: skip
    assert (has_rtl(f"a{ALEF}"), has_rtl("قطة"), has_rtl("a 12 猫")) == (True, True, False)
