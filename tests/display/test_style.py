"""The colours of contact sheets."""

import re

import pytest

from lemon_async._display.style import SHEET_STYLE

SCHEMES = {
    "day": SHEET_STYLE.split("@media")[0],
    "night": SHEET_STYLE.split("prefers-color-scheme:dark")[1].split("}}")[0],
    "paper": SHEET_STYLE.split("@media print")[1].split("}")[0],
}
PAIRS = [
    ("ink", "page"),
    ("ink", "card"),
    ("soft", "page"),
    ("soft", "card"),
    ("soft", "mat"),
    ("link", "card"),
    ("link", "page"),
    ("link", "bad-mat"),
    ("bad", "bad-mat"),
    ("bad", "page"),
    ("ink", "bad-mat"),
]


def luminance(colour):
    """As WCAG 2.2 defines it."""
    digits = colour if len(colour) == 6 else "".join(2 * digit for digit in colour)
    channels = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize(("text", "ground"), PAIRS)
def test_colours_can_be_told_apart(scheme, text, ground):
    """Text has the contrast that WCAG's level AA asks for, by day, by night and on paper."""
    colours = dict(re.findall(r"--([\w-]+):#(\w+)", SCHEMES[scheme]))
    darker, lighter = sorted((luminance(colours[text]), luminance(colours[ground])))
    assert (lighter + 0.05) / (darker + 0.05) >= 4.5


def test_style_gets_nothing_from_elsewhere():
    """A style sheet could fetch fonts and pictures; this one does not, nor can it end its own tag."""
    assert not re.search(r"url\(|@import|</", SHEET_STYLE)
