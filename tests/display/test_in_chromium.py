"""Contact sheets in a browser: pictures are visible, and untrusted text never runs."""

import io

import pytest
from PIL import Image, ImageChops, ImageStat

from chromium import show_as
from lemon_async._display.page import Entry, Tile, render_page
from lemon_async.sheet import contact_sheet

ATTACKS = [
    "<img src=x onerror=\"document.title+='!'\">",
    '"><script>document.title+="!"</script>',
    "</style></title><svg onload=document.title+='!'>",
]
NOTHING = "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"
GROUNDS = {"light": (245, 245, 242), "dark": (18, 19, 22)}


def are_alike(seen, content):
    """Return whether a part of the screen shows a picture, with almost the same pixels."""
    with Image.open(io.BytesIO(content)) as image:
        expected = image.convert("RGB").resize(seen.size)
    return max(ImageStat.Stat(ImageChops.difference(seen, expected)).mean) < 6


@pytest.fixture
async def drawn(connect, tmp_path):
    """A sheet of one picture, and the bytes of the picture."""
    async with connect() as session:
        images = await session.generate("A white cat on a windowsill", model="flux-pro")
        await images[0].save(tmp_path / "out" / "a white cat.png")
        await contact_sheet(images, tmp_path / "sheet.html")
        return tmp_path / "sheet.html", await images[0].read()


async def test_sheet_shows_the_picture_in_light_and_dark_mode(drawn, visit, photograph):
    """Opened from the disk, the picture is visible, on a background that follows the user's colour scheme."""
    path, content = drawn
    page = (await visit(path)).page
    for scheme, ground in GROUNDS.items():
        await show_as(page, scheme, 1400)
        assert (await photograph(page)).getpixel((2, 2)) == ground
        assert are_alike(await photograph(page.locator("img")), content)


async def test_sheet_shows_a_picture_from_its_folder(connect, monkeypatch, tmp_path, visit, photograph):
    """Without thumbnails the saved file itself is shown, whatever its name."""
    monkeypatch.setattr("lemon_async.sheet.thumbnail", lambda content, edge: None)
    async with connect() as session:
        images = await session.generate("a cat", model="flux-pro")
        await images[0].save(tmp_path / "out" / "100% c#t?.png")
        await contact_sheet(images, tmp_path / "sheet.html")
        content = await images[0].read()
    page = (await visit(tmp_path / "sheet.html")).page
    assert are_alike(await photograph(page.locator("img")), content)


async def test_sheet_shows_many_pictures(connect, tmp_path, visit, photograph):
    """Each is on the screen, in their order."""
    async with connect() as session:
        jobs = [await session.generate(prompt, model="dall-e-2", n=2, size="256x256") for prompt in ("a cat", "a dog")]
        await contact_sheet(jobs, tmp_path / "sheet.html")
        contents = [content for images in jobs for content in await images.read()]
    shown = (await visit(tmp_path / "sheet.html")).page.locator("img")
    assert await shown.count() == len(contents)
    for index, content in enumerate(contents):
        assert are_alike(await photograph(shown.nth(index)), content)


def attacked():
    entries = [Entry(prompt=a, revised=(f"{a}!",), model=a, tiles=(Tile(source=NOTHING, name=a),)) for a in ATTACKS]
    return render_page(entries, title="Safe")


async def test_attacks_are_text_and_run_nothing(visit, tmp_path):
    """Untrusted text is shown as text and changes nothing."""
    (tmp_path / "sheet.html").write_text(attacked())
    page = (await visit(tmp_path / "sheet.html")).page
    dom = await page.content()
    assert await page.title() == "Safe"
    assert "<script" not in dom
    assert dom.count("<img") == len(ATTACKS)
    assert "&lt;img src=x onerror=" in dom
    assert "&lt;script&gt;" in dom


async def test_attacks_would_run_elsewhere(visit, tmp_path):
    """The browser of these tests runs scripts, so that the other tests prove something."""
    (tmp_path / "page.html").write_text(f"<title>Safe</title><p>{' '.join(ATTACKS)}</p>")
    shown = await visit(tmp_path / "page.html")
    assert await shown.page.title() == f"Safe{'!' * len(ATTACKS)}"
    shown.expect_problems()


async def test_policy_stops_what_escaping_would_miss(visit, tmp_path):
    """Injected markup still runs nothing."""
    html = attacked().replace("</main>", f"{''.join(ATTACKS)}</main>")
    (tmp_path / "sheet.html").write_text(html)
    shown = await visit(tmp_path / "sheet.html")
    assert "<script" in await shown.page.content()
    assert await shown.page.title() == "Safe"
    shown.forget("Content Security Policy")
    shown.expect_problems()


async def test_sheet_in_a_notebook_s_frame_runs_nothing(visit, tmp_path, connect):
    """The frame shows the page and isolates it."""
    async with connect() as session:
        shown = await contact_sheet(await session.generate(ATTACKS[0], model="flux-pro"), title=ATTACKS[1])
    (tmp_path / "notebook.html").write_text(f"<title>Safe</title>{shown._repr_html_()}")
    assert await (await visit(tmp_path / "notebook.html")).page.title() == "Safe"
