"""The files of the pages: what a strict policy and untrusted text ask of them, read from their source."""

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

STATIC = Path(__file__).parents[2] / "lemon_async/_web/static"
FILES = {path.name: path.read_text() for path in STATIC.iterdir()}
SCRIPTS = {name: text for name, text in FILES.items() if name.endswith(".js")}
PAGES = ("studio.html", "batch.html")


class Elements(HTMLParser):
    """The elements of a page with their attributes."""

    def __init__(self, text):
        super().__init__()
        self.found = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))


@pytest.mark.parametrize("page", PAGES)
def test_pages_need_nothing_that_the_policy_forbids(page):
    """No inline script or style, no handler in an attribute, and nothing from elsewhere."""
    for tag, attrs in Elements(FILES[page]).found:
        assert tag not in {"style", "base", "iframe"}
        assert tag != "script" or attrs["src"].startswith("/_page/static/")
        assert not [name for name in attrs if name == "style" or name.startswith("on")]
    assert "//" not in FILES[page]


def test_every_file_that_is_named_is_in_the_package():
    """Pages, scripts and style sheets load each other by name; a file that no other names is not shipped."""
    named = {name for text in FILES.values() for name in re.findall(r'(?:from "\./|/_page/static/)([\w.]+)"', text)}
    assert named == set(FILES) - set(PAGES)


@pytest.mark.parametrize("page", PAGES)
def test_ids_are_unique_and_those_that_are_referred_to_exist(page):
    """Labels, descriptions, lists of suggestions and links within a page lead to something."""
    elements = Elements(FILES[page]).found
    ids = [attrs["id"] for _, attrs in elements if "id" in attrs]
    assert len(ids) == len(set(ids))
    for _, attrs in elements:
        ends = [attrs.get("aria-labelledby"), attrs.get("list"), attrs.get("for")]
        ends += [attrs["href"][1:]] if attrs.get("href", "").startswith("#") else []
        assert {end for end in ends if end} <= set(ids)


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_write_text_as_text(name):
    """Nothing in a script parses text as markup or as code, and a script stays small."""
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacent|document\.write|\beval\b|new Function|DOMParser", SCRIPTS[name]
    )
    assert len(SCRIPTS[name].splitlines()) <= 250


def test_style_sheet_loads_nothing():
    assert not re.search(r"url\(|@import|@font-face", FILES["page.css"])
