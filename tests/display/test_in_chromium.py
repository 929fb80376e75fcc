"""Contact sheets in a browser: pictures are visible, and untrusted text never runs."""

import io
import re

import pytest
from PIL import Image, ImageChops, ImageStat

from lemon_async._display.page import Entry, Tile, render_page
from lemon_async.sheet import contact_sheet

ATTACKS = [
    "<img src=x onerror=\"document.title+='!'\">",
    '"><script>document.title+="!"</script>',
    "</style></title><svg onload=document.title+='!'>",
]
NOTHING = "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"
GROUNDS = {"light": (245, 245, 242), "dark": (18, 19, 22)}


def title_of(dom):
    return re.search(r"<title>(.*?)</title>", dom)[1]


def seen_pictures(photograph, path, **options):
    """Return a screenshot, and the part of it that the pictures take: what differs from a page without them."""
    html = path.read_text()
    blank = path.with_name("blank.html")
    blank.write_text(re.sub(r'src="[^"]*"', f'src="{NOTHING}"', html).replace("img-src", "img-src data:", 1))
    with_pictures, without = photograph(path, **options), photograph(blank, **options)
    return with_pictures, with_pictures.crop(ImageChops.difference(with_pictures, without).getbbox())


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


@pytest.mark.parametrize("scheme", GROUNDS)
async def test_sheet_shows_the_picture_in_light_and_dark_mode(drawn, photograph, scheme):
    """Opened from the disk, the picture is visible, on a background that follows the user's colour scheme."""
    path, content = drawn
    screen, seen = seen_pictures(photograph, path, scheme=scheme)
    assert screen.getpixel((2, 2)) == GROUNDS[scheme]
    assert are_alike(seen, content)


async def test_sheet_shows_a_picture_from_its_folder(connect, monkeypatch, tmp_path, photograph):
    """Without thumbnails the saved file itself is shown, whatever its name."""
    monkeypatch.setattr("lemon_async.sheet.thumbnail", lambda content, edge: None)
    async with connect() as session:
        images = await session.generate("a cat", model="flux-pro")
        await images[0].save(tmp_path / "out" / "100% c#t?.png")
        await contact_sheet(images, tmp_path / "sheet.html")
        _, seen = seen_pictures(photograph, tmp_path / "sheet.html")
        assert are_alike(seen, await images[0].read())


async def test_sheet_shows_many_pictures(connect, tmp_path, photograph):
    """The colours of each are on the screen."""
    async with connect() as session:
        jobs = [await session.generate(prompt, model="dall-e-2", n=2, size="256x256") for prompt in ("a cat", "a dog")]
        await contact_sheet(jobs, tmp_path / "sheet.html")
        contents = [content for images in jobs for content in await images.read()]
    screen = set(photograph(tmp_path / "sheet.html").quantize(256).convert("RGB").reduce(2).get_flattened_data())
    for content in contents:
        with Image.open(io.BytesIO(content)) as image:
            colours = image.convert("RGB").resize((4, 4)).get_flattened_data()
        near = [min(max(map(abs, map(int.__sub__, a, b))) for b in screen) for a in colours]
        assert max(near) <= 32


def attacked():
    entries = [Entry(prompt=a, revised=(f"{a}!",), model=a, tiles=(Tile(source=NOTHING, name=a),)) for a in ATTACKS]
    return render_page(entries, title="Safe")


def test_attacks_are_text_and_run_nothing(browse, tmp_path):
    """Untrusted text is shown as text and changes nothing."""
    (tmp_path / "sheet.html").write_text(attacked())
    dom = browse(tmp_path / "sheet.html", "--dump-dom")
    assert title_of(dom) == "Safe"
    assert "<script" not in dom
    assert dom.count("<img") == len(ATTACKS)
    assert "&lt;img src=x onerror=" in dom
    assert "&lt;script&gt;" in dom


def test_attacks_would_run_elsewhere(browse, tmp_path):
    """The browser of these tests runs scripts, so that the other tests prove something."""
    (tmp_path / "page.html").write_text(f"<title>Safe</title><p>{' '.join(ATTACKS)}</p>")
    assert title_of(browse(tmp_path / "page.html", "--dump-dom")) == f"Safe{'!' * len(ATTACKS)}"


def test_policy_stops_what_escaping_would_miss(browse, tmp_path):
    """Injected markup still runs nothing."""
    html = attacked().replace("</main>", f"{''.join(ATTACKS)}</main>")
    (tmp_path / "sheet.html").write_text(html)
    dom = browse(tmp_path / "sheet.html", "--dump-dom")
    assert "<script" in dom
    assert title_of(dom) == "Safe"


async def test_sheet_in_a_notebook_s_frame_runs_nothing(browse, tmp_path, connect):
    """The frame shows the page and isolates it."""
    async with connect() as session:
        shown = await contact_sheet(await session.generate(ATTACKS[0], model="flux-pro"), title=ATTACKS[1])
    (tmp_path / "notebook.html").write_text(f"<title>Safe</title>{shown._repr_html_()}")
    assert title_of(browse(tmp_path / "notebook.html", "--dump-dom")) == "Safe"
