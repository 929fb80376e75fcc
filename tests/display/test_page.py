"""The markup of contact sheets."""

import base64
import hashlib
import re
import sys

import pytest

from lemon_async import ContractError
from lemon_async._display.page import Entry, Fault, Tile, load_template, render_page

ATTACK = '"><img src=x onerror=alert(1)><script>alert(2)</script>'
TILE = Tile(source="data:image/webp;base64,AAAA", facts="4 × 3 PNG")  # noqa: RUF001 - as it is written


def totals(*entries):
    """Return the names and values of the summary."""
    summary = re.search(r'<dl class="sum">(.*?)</dl>', render_page(entries, title="t"), re.DOTALL)[1]
    return dict(re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", summary))


def numbers(*entries):
    return re.findall(r'<p class="no">Job (\d+)</p>', render_page(entries, title="t"))


def test_page_is_a_whole_document():
    """It has a language, a title, landmarks, headings and a skip link."""
    html = render_page([Entry(prompt="a cat", tiles=(TILE,))], title="My <cats>")
    assert html.startswith('<!DOCTYPE html>\n<html lang="en">')
    assert "<title>My &lt;cats&gt;</title>" in html
    assert '<a class="skip" href="#pictures">' in html
    assert all(f"<{tag}" in html for tag in ("header", "main", "footer", "h1", "h2", "article", "figure", "figcaption"))


def test_page_has_a_policy_that_allows_nothing_external():
    """It admits no scripts, nothing from elsewhere, and no other style."""
    policy = re.search(r'Content-Security-Policy" content="(.*?)"', render_page([Entry(tiles=(TILE,))], title="t"))[1]
    assert policy.startswith("default-src 'none'; img-src data:; style-src 'sha256-")
    assert "unsafe" not in policy


def test_page_allows_files_only_if_it_shows_some():
    """Pictures from files need a wider policy."""
    assert "img-src data: 'self' file:;" in render_page([Entry(tiles=(Tile(source="out/a.png"),))], title="t")


def test_page_escapes_untrusted_text():
    """In no position does it make a tag."""
    tile = Tile(source="data:,", note=ATTACK, file="a.png", name=ATTACK, facts=ATTACK)
    entry = Entry(
        prompt=ATTACK,
        revised=(f"{ATTACK}!", ATTACK * 20),
        model=ATTACK,
        facts=((ATTACK, ATTACK),),
        tiles=(tile, Tile(note=ATTACK), Tile(source=ATTACK, file=ATTACK)),
        fault=Fault(kind=ATTACK, reason=ATTACK, resume_token=ATTACK),
    )
    html = render_page([entry], title=ATTACK)
    assert "<script" not in html
    assert html.count("<img") == 2
    assert not re.search(r"<[^>]*\sonerror", re.sub(r"\"[^\"]*\"", "", html))


class SafeText(str):
    """What template engines return: a claim to be HTML that slices, and `str` itself, pass on."""

    __slots__ = ()

    def __html__(self):
        return self

    def __str__(self):
        return self

    def __getitem__(self, place):
        return SafeText(super().__getitem__(place))


def test_page_escapes_text_that_claims_to_be_html():
    """A prompt that an application made with its template engine is none of this page."""
    text = SafeText(ATTACK)
    html = render_page([Entry(prompt=text, model=text, tiles=(Tile(source="data:,"),))], title=text)
    assert "<script" not in html
    assert html.count("<img") == 1


def test_picture_has_the_prompt_as_alternative_text():
    """The text has the number of the picture, and is cut."""
    assert 'alt="a cat"' in render_page([Entry(prompt="a cat", tiles=(TILE,))], title="t")
    assert 'alt="a cat (picture 2 of 2)"' in render_page([Entry(prompt="a cat", tiles=(TILE, TILE))], title="t")
    assert 'alt="a dog"' in render_page([Entry(revised=("a dog",), tiles=(TILE,))], title="t")
    assert 'alt="No prompt is known"' in render_page([Entry(tiles=(TILE,))], title="t")
    assert f'alt="{"a" * 500}"' in render_page([Entry(prompt="a" * 9999, tiles=(TILE,))], title="t")


def test_picture_leads_to_its_file():
    """A click or Enter opens what was saved."""
    assert '<a href="out/a%20b.png"><img' in render_page(
        [Entry(tiles=(Tile(source="data:,", file="out/a%20b.png"),))], title="t"
    )


def test_picture_that_cannot_be_shown_says_why():
    """A reason replaces it."""
    html = render_page([Entry(tiles=(Tile(note="410 Gone"), Tile()))], title="t")
    assert ">410 Gone</div>" in html
    assert ">This picture cannot be shown.</div>" in html


def test_long_words_are_folded():
    """A long prompt is complete, and folded."""
    html = render_page([Entry(prompt="long " * 100, revised=("longer " * 100, "short"))], title="t")
    assert re.search(r"<h2[^>]*>(long )+long&#8230;</h2>", html)
    assert f'<summary>Whole prompt</summary><p dir="auto" lang="">{"long " * 100}</p>' in html
    assert "<summary>Revised prompt</summary>" in html
    assert 'Revised: <bdi lang="">short</bdi>' in html


def test_failure_has_reason_class_and_token():
    """The reason and the resume token are shown; the summary links to the job by its number."""
    fault = Fault(kind="TaskTimeout", reason="is not finished", resume_token="token")
    html = render_page([Entry(), Entry(fault=fault)], title="t")
    assert "<strong>TaskTimeout</strong>" in html
    assert "is not finished" in html
    assert "<code>token</code>" in html
    assert re.findall(r'<li><a href="(.*?)">(.*?)</a></li>', html) == [("#job-2", "1")]
    assert '<li id="job-2">' in html
    assert '<p class="no">Job 1</p>' in html
    assert "<code>" not in render_page([Entry(fault=Fault(kind="E", reason="r"))], title="t")


def test_jobs_have_the_numbers_that_they_are_given():
    """The default counts from 0, as files do; a single job has no number."""
    assert numbers(Entry(number=7), Entry(number=30)) == ["7", "30"]
    assert numbers(Entry(), Entry()) == ["0", "1"]
    assert numbers(Entry(number=7)) == ["7"]
    assert numbers(Entry()) == []


def test_anchors_on_the_page_are_unique():
    """Two jobs with the same number have different anchors."""
    html = render_page([Entry(number=7), Entry(number=7)], title="t")
    assert re.findall(r'<li id="(.*?)"', html) == ["job-1", "job-2"]


@pytest.mark.parametrize(("count", "is_dense"), [(24, False), (25, True)])
def test_many_jobs_make_small_cards(count, is_dense):
    """On a large sheet, the facts are folded."""
    html = render_page([Entry(prompt="long " * 30, model="flux-pro", tiles=(TILE,))] * count, title="t")
    assert ('<ol class="grid dense"' in html) == is_dense
    assert html.count("<summary>Whole prompt</summary>") == count * is_dense
    assert html.count("<summary>Facts</summary>") == count * is_dense
    assert html.count("<dt>Model</dt><dd dir") == count


def test_failures_beyond_many_are_counted():
    """A thousand failures do not make a thousand links."""
    html = render_page([Entry(fault=Fault(kind="E", reason="r"))] * 103, title="t")
    assert html.count('href="#job-') == 100
    assert "and 3 more" in html


def test_page_is_ascii():
    """One letter of another script must not double the memory of all pictures."""
    html = render_page([Entry(prompt="猫 👩\u200d🚀 \ud800", model="é", tiles=(TILE,))], title="ספר")
    assert html.isascii()
    assert "&#29483; &#128105;&#8205;&#128640; &#65533;" in html


def test_summary_counts():
    """Pictures, jobs, failures, models and times, if there are any."""
    assert totals(
        Entry(model="flux-pro", seconds=10, tiles=(TILE, Tile())),
        Entry(model="dall-e-3", seconds=200),
        Entry(model="flux-pro", seconds=120.9, fault=Fault(kind="E", reason="r")),
    ) == {
        "Pictures": "2, 1 of them not shown",
        "Jobs": "3",
        "Failed": "1",
        "Models": "flux-pro, dall-e-3",
        "Median time": "2 min 0 s",
    }


def test_summary_counts_jobs_and_pictures_separately():
    """Both are shown even if their numbers are equal by chance."""
    assert totals(Entry(tiles=(TILE, TILE)), Entry())["Jobs"] == "2"


def test_summary_of_one_picture_is_short():
    """Nothing is counted twice."""
    entry = Entry(model="flux-pro", seconds=10, tiles=(TILE,))
    assert totals(entry) == {"Pictures": "1", "Model": "flux-pro", "Time": "10.0 s"}


def test_summary_lists_some_models():
    """A long list of models is cut."""
    assert totals(*(Entry(model=f"m{n}") for n in range(9)))["Models"] == "m0, m1, m2, m3, m4, m5 and 3 more"


def test_page_of_nothing_says_so():
    """An empty sheet is valid."""
    html = render_page([], title="t")
    assert "nothing to show" in html
    assert "<ol" not in html


def test_unknown_facts_are_left_out():
    """There are no empty rows."""
    for field in ["model", "seconds"]:
        known = {"model": "flux-pro", "seconds": 1.0}
        rows = {"model": "<dt>Model</dt>", "seconds": "<dt>Time</dt>"}
        html = render_page([Entry(**{name: value for name, value in known.items() if name != field})], title="t")
        assert [row in html.split("<main")[1] for row in rows.values()] == [name != field for name in rows]


# The style


STYLE = re.search(r"<style>(.*?)</style>", render_page([], title="t"), re.DOTALL)[1]
SCHEMES = {
    "light": STYLE.split("@media")[0],
    "dark": STYLE.split("prefers-color-scheme:dark")[1].split("}}")[0],
    "print": STYLE.split("@media print")[1].split("}")[0],
}
TEXT_AND_GROUND = [
    ("ink", "page"), ("ink", "card"), ("ink", "bad-mat"), ("soft", "page"), ("soft", "card"), ("soft", "mat"),
    ("link", "card"), ("link", "page"), ("link", "bad-mat"), ("bad", "bad-mat"), ("bad", "page"),
]  # fmt: skip


def luminance(colour):
    """As WCAG 2.2 defines it."""
    digits = colour if len(colour) == 6 else "".join(2 * digit for digit in colour)
    channels = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_colours_have_contrast():
    """Text has the contrast that WCAG's level AA requires, in light, in dark and on paper."""
    for style in SCHEMES.values():
        colours = dict(re.findall(r"--([\w-]+):#(\w+)", style))
        for text, ground in TEXT_AND_GROUND:
            darker, lighter = sorted((luminance(colours[text]), luminance(colours[ground])))
            assert (lighter + 0.05) / (darker + 0.05) >= 4.5, (text, ground)


def test_style_fetches_nothing_and_is_the_only_one_that_the_policy_admits():
    assert not re.search(r"url\(|@import|</", STYLE)
    digest = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}'" in render_page([], title="t")


def test_page_without_jinja_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    load_template.cache_clear()
    with pytest.raises(ContractError, match=r"Jinja2: pip install 'lemon-async\[sheet\]' \(nothing was fetched\)"):
        load_template()
