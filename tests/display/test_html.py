"""Untrusted text in pieces of HTML."""

from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lemon_async._display.html import Markup, escaped, facts_table, figure, image, is_web_address

steady = settings(derandomize=True, deadline=None)

ATTACKS = [
    "<img src=x onerror=alert(1)>",
    '"><script>alert(1)</script>',
    "' onmouseover='alert(1)",
    "</td></table><svg onload=alert(1)>",
    "</title></style><!-- ]]> <b>",
    "&lt;script&gt;",
]


class Reader(HTMLParser):
    """Records the tags, attributes and text of a piece of HTML, as a browser reads them."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.tags, self.text = [], ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data


@pytest.mark.parametrize("attack", ATTACKS)
def test_escaped_text_stays_text(attack):
    """Between tags, untrusted text reads as written and makes no tag."""
    seen = Reader(f"<p>{escaped(attack)}</p>")
    assert [tag for tag, _ in seen.tags] == ["p"]
    assert seen.text == attack


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("quote", ["'", '"'])
def test_escaped_text_stays_in_its_attribute(attack, quote):
    """Within quotes of either kind, untrusted text ends neither the value nor the tag."""
    assert Reader(f"<p title={quote}{escaped(attack)}{quote}>").tags == [("p", {"title": attack})]


@steady
@given(st.text())
def test_escaped_text_makes_no_tag_whatever_it_is(text):
    """No text makes a tag, and all of it can be written as UTF-8."""
    piece = escaped(text)
    assert [tag for tag, _ in Reader(f'<p title="{piece}">{piece}</p>').tags] == ["p"]
    assert piece.encode().decode() == piece


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("gnp.\u202eexe", "gnp.[U+202E]exe"),
        ("a\u2066b\u2069", "a[U+2066]b[U+2069]"),
        ("\u200fא", "[U+200F]א"),
        ("a\x00b\x1b[31m", "a␀b␛[31m"),
        ("\x7f\x85", "␡[U+0085]"),
        ("one\r\ntwo\tthree\u2028four", "one\ntwo\tthree\nfour"),
        ("\ud800 \uffff", "\ufffd \ufffd"),
        ("\U000e0041", "[U+E0041]"),
        ("e\u0301 👩\u200d🚀 ספר", "e\u0301 👩\u200d🚀 ספר"),
    ],
)
def test_characters_that_hide_or_reorder_are_visible(text, seen):
    """Characters that reorder text or are invisible are shown by symbol or number; words are unchanged."""
    assert escaped(text) == seen


def test_facts_table_escapes_names_values_and_title():
    """Everything in a table is escaped, except `Markup`."""
    attack = ATTACKS[1]
    seen = Reader(facts_table([(attack, attack), ("n", 3), ("link", Markup("<b>x</b>"))], title=attack))
    assert [tag for tag, _ in seen.tags] == [
        "table",
        "caption",
        "tr",
        "th",
        "td",
        "tr",
        "th",
        "td",
        "tr",
        "th",
        "td",
        "b",
    ]
    assert seen.text == f"{attack}{attack}{attack}n3linkx"


def test_facts_table_names_its_rows():
    """A screen reader can identify the header cells."""
    assert Reader(facts_table([("a", 1)], title="t")).tags[3][1]["scope"] == "row"


ADDRESSES = [
    ("https://a.b/c?d", True),
    ("http://127.0.0.1:1/x", True),
    ("javascript:alert(1)", False),
    ("data:text/html,x", False),
    ("file:///etc/passwd", False),
    ("https:", False),
    ("//a.b", False),
    ("https://[", False),
    ("", False),
]


def test_web_address_is_http_or_https():
    for url, is_web in ADDRESSES:
        assert is_web_address(url) is is_web


def test_image_has_its_size_and_sends_no_referrer():
    """A picture reserves its space, has an alternative text, and sends no referrer."""
    tag, attributes = Reader(image("https://a.b/c", alt=ATTACKS[0], width=3, height=2)).tags[0]
    assert (tag, attributes["alt"], attributes["width"], attributes["height"]) == ("img", ATTACKS[0], "3", "2")
    assert attributes["referrerpolicy"] == "no-referrer"
    assert "width" not in Reader(image("x", alt="")).tags[0][1]


def test_figure_has_a_caption_only_if_there_is_text():
    """An empty caption is left out."""
    assert "figcaption" not in figure(Markup("<i></i>"))
    assert Reader(figure(Markup("<i></i>"), caption=["a", "b"])).text == "ab"
