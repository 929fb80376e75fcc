"""MIME bundles for notebooks."""

import base64
import json

import pytest

from lemon_async._display import bundle
from lemon_async._display.bundle import MAX_EMBEDDED_BYTES, Shown, failure_bundle, picture_bundle, pictures_bundle

ATTACK = '"><img src=x onerror=alert(1)>'


def test_what_is_shown_has_a_repr_without_the_bytes():
    """Tracebacks with local variables print it."""
    assert "PICTURE" not in repr(Shown(content=b"PICTURE", label="<Image>"))


@pytest.mark.parametrize("kind", ["png", "jpeg", "gif"])
def test_picture_of_a_common_format_is_shown_as_itself(kind):
    """Every frontend draws it, in a sensible size with its own shape."""
    data, metadata = picture_bundle(Shown(content=b"bytes", format=kind, size=(2048, 1024), label="<Image>"))
    assert base64.b64decode(data[f"image/{kind}"]) == b"bytes"
    assert metadata[f"image/{kind}"].items() >= {"width": 512, "height": 256}.items()
    assert data["text/plain"] == "<Image>"
    assert json.dumps(data)


def test_small_picture_is_not_enlarged():
    """A picture is shown at most as large as it is; one without a size has none."""
    alt = {"alt": "a cat"}
    for size, shape in {(16, 8): {"width": 16, "height": 8}, None: {}, (0, 8): {}}.items():
        shown = Shown(content=b"x", format="png", size=size, prompt="a cat")
        assert picture_bundle(shown)[1] == {"image/png": {**shape, **alt}}


@pytest.mark.parametrize(
    ("words", "alt"),
    [
        ({"prompt": "a cat", "revised_prompt": "a big cat"}, "a cat"),
        ({"revised_prompt": "a big cat"}, "a big cat"),
        ({}, "Picture without a known prompt"),
        ({"prompt": "a" * 9999}, "a" * 300),
        ({"prompt": "a \ud800\u202e<b>"}, "a \ufffd[U+202E]<b>"),
    ],
)
def test_picture_has_alternative_text(words, alt):
    """It is where notebook converters look for it, as plain text that every notebook can hold."""
    assert picture_bundle(Shown(content=b"x", format="png", **words))[1] == {"image/png": {"alt": alt}}


def test_picture_has_its_alternative_text_in_a_converted_notebook():
    """The converter's classic template writes it; its default template does not."""
    nbconvert, nbformat = pytest.importorskip("nbconvert"), pytest.importorskip("nbformat")
    data, metadata = picture_bundle(Shown(content=b"x", format="png", prompt='a "cat"'))
    output = nbformat.v4.new_output("display_data", data=data, metadata=metadata)
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(outputs=[output])])
    html, _ = nbconvert.HTMLExporter(template_name="classic").from_notebook_node(notebook)
    assert "No description" not in html
    assert "alt='a \"cat\"'" in html or 'alt="a &quot;cat&quot;"' in html


@pytest.mark.parametrize("kind", ["webp", "avif"])
def test_picture_of_another_format_stands_in_a_figure(kind):
    """A format that is not an output type of notebooks is embedded in HTML."""
    data, _ = picture_bundle(Shown(content=b"bytes", format=kind, prompt="a cat"))
    assert f'src="data:image/{kind};base64,Ynl0ZXM="' in data["text/html"]
    assert set(data) == {"text/html", "text/plain"}


def test_picture_that_is_a_link_says_that_it_expires():
    """The link is shown, with advice on keeping the picture."""
    html = picture_bundle(Shown(url="https://cdn.test/a.png?x=1&y=2", prompt="a cat"))[0]["text/html"]
    assert 'src="https://cdn.test/a.png?x=1&amp;y=2"' in html
    assert "expires" in html
    assert "await image.read()" in html


@pytest.mark.parametrize("url", [None, "javascript:alert(1)", "data:text/html,x"])
def test_missing_picture_leaves_a_note(url):
    """Without bytes and a usable link there is a note in its place."""
    html = picture_bundle(Shown(url=url))[0]["text/html"]
    assert "<img" not in html
    assert "not read yet" in html


def test_several_missing_pictures_get_advice_for_all():
    """The advice is about the object in the cell, the `Images`."""
    html = pictures_bundle([Shown(), Shown(url="https://cdn.test/a.png")])[0]["text/html"]
    assert "await images.read() fetches them" in html
    assert "await images.read() or images.save(...) keeps the pictures" in html
    assert "image.read()" not in html


def test_failure_is_text():
    """The message of an error is escaped and cut."""
    data, metadata = failure_bundle(ATTACK * 999, label="<Outcome>")
    assert "<img" not in data["text/html"]
    assert "&lt;img" in data["text/html"]
    assert len(data["text/html"]) < 10**5
    assert (data["text/plain"], metadata) == ("<Outcome>", {})


def test_bytes_that_are_not_a_picture_leave_a_note():
    """Bytes that no frontend can draw are not sent."""
    html = picture_bundle(Shown(content=b"<html>"))[0]["text/html"]
    assert "not a known picture format" in html
    assert "<img" not in html


def test_picture_that_is_too_large_leaves_a_note():
    """A notebook does not grow by a hundred megabytes."""
    data, _ = picture_bundle(Shown(content=bytes(MAX_EMBEDDED_BYTES + 1), format="png"))
    assert set(data) == {"text/html", "text/plain"}
    assert "for its size (24.0 MB)" in data["text/html"]


def test_pictures_are_embedded_until_there_is_no_room():
    """The limit holds for the whole bundle; later pictures are linked if possible."""
    half = bytes(MAX_EMBEDDED_BYTES // 2)
    shown = [Shown(content=half, format="png", url="https://cdn.test/x") for _ in range(3)]
    html = pictures_bundle(shown)[0]["text/html"]
    assert html.count("data:image/png") == 2
    assert html.count('src="https://cdn.test/x"') == 1


def test_pictures_beyond_many_are_counted():
    """Thousands of pictures do not fill the notebook."""
    html = pictures_bundle([Shown(content=b"x", format="png")] * 203)[0]["text/html"]
    assert html.count("<figure") == 200
    assert "3 more" in html


def test_caption_has_prompt_and_revision_as_text():
    """Untrusted text is escaped in the caption and in the attribute."""
    shown = Shown(content=b"x", format="webp", prompt=ATTACK, revised_prompt=f"{ATTACK}!")
    html = picture_bundle(shown)[0]["text/html"]
    assert html.count("<img") == 1
    assert html.count("&quot;&gt;&lt;img src=x onerror=alert(1)&gt;") == 3
    assert "Revised: " in html


def test_caption_leaves_out_an_unchanged_prompt():
    """The same text is not repeated, and long text is cut."""
    assert "Revised" not in picture_bundle(Shown(prompt="a", revised_prompt="a"))[0]["text/html"]
    assert len(picture_bundle(Shown(prompt="a" * 10**6))[0]["text/html"]) < 10**4


def test_pictures_have_a_plain_text():
    """A console shows a line for each."""
    shown = [Shown(label="<A>"), Shown(label="<B>")]
    assert pictures_bundle(shown)[0]["text/plain"] == "<A>\n<B>"


def test_bundle_of_nothing_is_empty():
    """Without pictures there are no figures."""
    assert "<figure" not in pictures_bundle([])[0]["text/html"]
    assert bundle.data_address(b"", "png") == "data:image/png;base64,"
