"""Contact sheets of the results of a session."""

import asyncio
import base64
import errno
import io
import re
import sys
from types import SimpleNamespace

import attrs
import pytest
from PIL import Image as Pillow

from lemon_async import ContractError, GenerateRequest, Outcome, SaveError, SubmissionUnknown, TaskTimeout
from lemon_async._api.job_responses import pack
from lemon_async._display.page import load_template
from lemon_async._images.images import Images
from lemon_async.emulator import Blackhole, Fail, Status
from lemon_async.errors import TaskCancelled, TaskFailed, TaskLost
from lemon_async.sheet import contact_sheet
from lemon_async.types import ImageData, Inline, TaskSnapshot

NO_LINKS = SimpleNamespace(downloads=SimpleNamespace(total_s=60.0), emitter=None)
ATTACK = '"><img src=x onerror=alert(1)>'


def images_of(*contents, created=0, **facts):
    """Return inline pictures."""
    entries = tuple(ImageData(inline=Inline(content), revised_prompt=ATTACK) for content in contents)
    return Images(pack(TaskSnapshot(status="completed", images=entries, created=created, **facts)), NO_LINKS)


@pytest.fixture
def hide_pillow(monkeypatch):
    """Hide Pillow from now on."""
    return lambda: monkeypatch.setitem(sys.modules, "PIL", None)


def sources(html):
    return re.findall(r'<img src="([^"]*)"', html)


async def test_sheet_shows_everything_about_a_batch(connect, emulator, tmp_path):
    """Pictures, prompts, models, times, files, and failures with their reasons, in the order they were given."""
    emulator.fault("submit", Fail("no luck today"), prompt="^p2$")
    outcomes = []
    async with connect() as session, session.map([f"p{n}" for n in range(4)], model="flux-pro", ordered=True) as ends:
        async for outcome in ends:
            outcomes.append(outcome)
            if outcome.images is not None:
                await outcome.images.save(tmp_path / "out", "{slug}")
        shown = await contact_sheet(outcomes, tmp_path / "sheet.html", title="Batch")
    html = (tmp_path / "sheet.html").read_text()
    assert html == shown.html
    assert shown.path == tmp_path / "sheet.html"
    assert [source[:23] for source in sources(html)] == ["data:image/webp;base64,"] * 3
    assert re.findall(r'href="(out/[^"]*)"', html) == [f"out/p{n}.png" for n in (0, 1, 3)]
    assert re.findall(r"<h2[^>]*>(.*?)</h2>", html) == ["p0", "p1", "p2", "p3"]
    assert "<strong>TaskFailed</strong>" in html
    assert "no luck today" in html
    assert outcomes[2].error.resume_token not in html  # it is over
    assert "<dt>Model</dt><dd>flux-pro</dd>" in html
    assert "<dt>Median time</dt>" in html
    assert "Transaction" in html


async def test_sheet_on_a_very_deep_path_is_refused_as_any_that_cannot_be_written(png, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SaveError, match="lies in more than 64 folders that do not exist"):
        await contact_sheet(images_of(png), "a/" * 1500 + "sheet.html")
    assert list(tmp_path.iterdir()) == []


async def test_sheet_takes_one_thing_or_a_mix(png):
    """Outcomes, results and single pictures, alone or in any iterable."""
    images = images_of(png, png)
    assert len(sources((await contact_sheet(images)).html)) == 2
    assert len(sources((await contact_sheet(images[0])).html)) == 1
    assert "Job" not in (await contact_sheet(images[0])).html
    assert len(sources((await contact_sheet(Outcome(0, None, images=images))).html)) == 2
    mix = iter([images, images[1], Outcome(0, None, images=images)])
    assert len(sources((await contact_sheet(mix)).html)) == 5
    assert "nothing to show" in (await contact_sheet([])).html


def numbers(shown):
    """Return the numbers and headings of the cards."""
    cards = r'<p class="no">Job (\d+)</p>\s*<h2[^>]*>(.*?)</h2>'
    return [(int(number), words) for number, words in re.findall(cards, shown.html)]


async def test_outcomes_are_in_the_order_of_the_input(png):
    """In any order of completion, each has the number of its files."""
    requests = {index: GenerateRequest(model="flux-pro", prompt=f"p{index}") for index in (4, 0, 2)}
    outcomes = [Outcome(index, request, images=images_of(png)) for index, request in requests.items()]
    assert numbers(await contact_sheet(outcomes)) == [(0, "p0"), (2, "p2"), (4, "p4")]


async def test_outcomes_of_several_maps_keep_their_order(png):
    """Ambiguous numbers are not used: the sheet counts by itself."""
    requests = [GenerateRequest(model="flux-pro", prompt=f"p{place}") for place in range(3)]
    outcomes = [Outcome(index, requests[place], images=images_of(png)) for place, index in enumerate((1, 0, 1))]
    assert numbers(await contact_sheet(outcomes)) == [(0, "p0"), (1, "p1"), (2, "p2")]
    assert [number for number, _ in numbers(await contact_sheet([outcomes[0], outcomes[1].images]))] == [0, 1]


async def test_task_that_is_over_has_no_token(connect):
    """A task that is over cannot be resumed; an unfinished one can."""
    async with connect() as session:
        task = await session.submit("a cat", model="midjourney")
        for kind, count in {TaskFailed: 0, TaskCancelled: 0, TaskTimeout: 1, TaskLost: 1}.items():
            html = (await contact_sheet(Outcome(0, task.request, task, error=kind(reason="r", task=task)))).html
            assert html.count(task.resume_token()) == count


async def test_sheet_without_jinja_fetches_nothing(connect, emulator, monkeypatch):
    async with connect() as session:
        images = await session.generate("a cat", model="dall-e-2", size="256x256")
        monkeypatch.setitem(sys.modules, "jinja2", None)
        load_template.cache_clear()
        with pytest.raises(ContractError, match=r"pip install 'lemon-async\[sheet\]'"):
            await contact_sheet(images)
    assert not [request for request in emulator.requests if request.route == "cdn"]


NOT_SHOWABLE = [
    ("a cat", r"outcomes: must be an iterable"),
    (None, r"outcomes: must be an iterable"),
    (3, r"outcomes: must be an iterable"),
    (["a cat"], r"outcomes\[0\]: must be an Outcome, Images or an Image, not 'a cat'"),
    ([object], r"outcomes\[0\]"),
]


async def test_sheet_of_something_else_is_refused(tmp_path):
    """Nothing is fetched or written."""
    for outcomes, expected in NOT_SHOWABLE:
        with pytest.raises(ContractError, match=expected):
            await contact_sheet(outcomes, tmp_path / "s.html")
        assert not list(tmp_path.iterdir())


async def test_sheet_of_an_async_iterable_is_refused_with_advice():
    """It says how to make a list of it."""

    async def outcomes():
        yield 1

    with pytest.raises(ContractError, match=r"\[each async for each in it\]"):
        await contact_sheet(outcomes())


async def test_title_that_is_not_text_is_refused():
    """The error names the option."""
    for title in [None, 3, b"x"]:
        with pytest.raises(ContractError, match="title: must be text"):
            await contact_sheet([], title=title)


async def test_path_that_names_no_file_is_refused(png):
    """Before anything is done."""
    for path in ["a\0b", "", "..", 3, "x" * 300, "\u202elmth.exe"]:
        with pytest.raises(ContractError, match="path: "):
            await contact_sheet(images_of(png), path)


async def test_path_of_a_folder_is_refused(tmp_path):
    """A folder is not a file."""
    with pytest.raises(ContractError, match="not a folder"):
        await contact_sheet([], tmp_path)


async def test_path_that_cannot_be_written_is_a_typed_error(tmp_path):
    """It has the path and the reason."""
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(SaveError) as caught:
        await contact_sheet([], tmp_path / "file" / "s.html")
    assert caught.value.errno in {errno.ENOTDIR, errno.EEXIST}
    assert caught.value.path == str(tmp_path / "file" / "s.html")


async def test_sheet_makes_missing_folders_and_replaces_its_file(tmp_path):
    """The second sheet replaces the first."""
    for title in ("First", "Second"):
        await contact_sheet([], tmp_path / "a" / "b" / "s.html", title=title)
    assert "Second" in (tmp_path / "a" / "b" / "s.html").read_text()
    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == ["s.html"]


async def test_picture_that_cannot_be_fetched_leaves_its_reason(connect, emulator, tmp_path):
    """The rest of the sheet is there."""
    async with connect() as session:
        images = await session.generate("a cat", model="dall-e-2", n=2, size="256x256")
        emulator.fault("cdn", Status(404), nth=1)
        emulator.fault("cdn", Status(404), nth=2)
        html = (await contact_sheet(images, tmp_path / "s.html")).html
    assert "This picture could not be fetched: " in html
    assert "2, 2 of them not shown" in html
    assert (tmp_path / "s.html").exists()


async def test_picture_that_is_damaged_leaves_its_reason(png):
    """A damaged picture has no thumbnail; the next one has."""
    html = (await contact_sheet(images_of(b"<html>", png))).html
    assert "This picture could not be fetched: the bytes are not a known picture" in html
    assert len(sources(html)) == 1


async def test_bomb_leaves_its_reason(picture, monkeypatch):
    """A decompression bomb is not decoded."""
    monkeypatch.setattr(Pillow, "MAX_IMAGE_PIXELS", 100)
    html = (await contact_sheet(images_of(picture((16, 16))))).html
    assert "No thumbnail: 16 x 16 pixels are too many" in html


async def test_pictures_are_not_kept(connect):
    """Pictures that were fetched for the sheet are not held."""
    async with connect() as session:
        images = await session.generate("a cat", model="dall-e-2", size="256x256")
        await contact_sheet(images)
        assert images[0]._bytes_in_memory() is None


async def test_sheet_shows_no_link(connect):
    """Links expire, and give access to the picture."""
    async with connect() as session:
        images = await session.generate("a cat", model="dall-e-2", size="256x256")
        assert images[0].url not in (await contact_sheet(images)).html


async def test_thumbnails_are_small(picture):
    """A large picture is embedded as a small one."""
    html = (await contact_sheet(images_of(picture((2000, 1000))))).html
    assert "2000 &#215; 1000 PNG" in html
    assert len(html) < 20_000


async def test_sheet_of_a_thousand_holds_a_few_at_a_time(picture):
    """At most four pictures are in memory."""
    content, held, most = picture((64, 64)), 0, 0
    images = images_of(*[content] * 100)

    class Counted(type(images[0])):
        async def _bytes(self):
            nonlocal held, most
            held += 1
            most = max(most, held)
            await asyncio.sleep(0)
            held -= 1
            return content

    counted = [Counted(image.data, None, index=image.index) for image in images]
    assert len(sources((await contact_sheet(counted)).html)) == 100
    assert most <= 4


async def test_saved_picture_is_shown_from_its_file_without_pillow(png, tmp_path, hide_pillow):
    """The sheet refers to it by a relative path, whatever its name."""
    hide_pillow()
    images = images_of(png)
    await images[0].save(tmp_path / "ou t" / "a#b%.png")
    html = (await contact_sheet(images, tmp_path / "sheets" / "s.html")).html
    assert sources(html) == ["../ou%20t/a%23b%25.png"]


async def test_other_pictures_are_embedded_whole_without_pillow(picture, hide_pillow):
    """Up to the size limit."""
    content = picture(pad_to=1000)
    hide_pillow()
    html = (await contact_sheet(images_of(content))).html
    assert sources(html)[0].startswith("data:image/png;base64,")


async def test_pictures_over_the_limit_leave_a_note_without_pillow(picture, hide_pillow):
    """Beyond 24 MB there is a note."""
    large = picture(pad_to=9 * 2**20)
    hide_pillow()
    html = (await contact_sheet(images_of(large, large, large))).html
    assert len(sources(html)) == 2
    assert "thumbnails need Pillow" in html


async def test_untrusted_text_is_escaped(png):
    """A revised prompt is escaped."""
    html = (await contact_sheet(images_of(png), title=ATTACK)).html
    assert html.count("<img") == 1
    assert html.count("&quot;&gt;&lt;img src=x onerror=alert(1)&gt;") >= 3


async def test_job_that_is_not_described_by_text_is_shown(png):
    """An unchecked request may have a number as its prompt, and an iterable of prompts may raise anything."""

    class Mute(Exception):
        def __str__(self):
            raise NotImplementedError

    outcomes = [Outcome(0, GenerateRequest(7), images=images_of(png)), Outcome(1, None, error=Mute())]
    html = (await contact_sheet(outcomes)).html
    assert re.findall(r"<h2[^>]*>(.*?)</h2>", html)[0] == "7"
    assert "<strong>Mute</strong>" in html


async def test_invalid_time_is_shown_as_received(png):
    """A number out of range does not raise."""
    for created in [0, 10**18, -(10**18)]:
        made = str(created) if created else "1970-01-01 00:00 UTC"
        assert f'<dt>Made</dt><dd dir="auto">{made}</dd>' in (await contact_sheet(images_of(png, created=created))).html


async def test_failures_of_all_kinds_are_shown(connect, emulator):
    """Every error is shown with its class and message."""
    async with connect() as session:
        task = await session.submit("a cat", model="midjourney")
        errors = [
            TaskTimeout(reason="too slow", task=task),
            SubmissionUnknown(request=task.request, fingerprint="f" * 64, reason="reset"),
            ValueError("odd <b>"),
            TaskFailed(reason="x" * 10**5),
        ]
        outcomes = [Outcome(n, task.request, task if n == 2 else None, error=error) for n, error in enumerate(errors)]
        html = (await contact_sheet(outcomes)).html
    assert re.findall(r"<strong>(\w+)</strong>", html) == [type(error).__name__ for error in errors]
    assert html.count(task.resume_token()) == 2
    assert "odd &lt;b&gt;" in html
    assert len(html) < 30_000


async def test_cancelling_leaves_no_file(connect, emulator, tmp_path):
    """Nothing is written before everything is drawn, and no task is left."""
    emulator.fault("cdn", Blackhole())
    async with connect() as session:
        images = await session.generate("a cat", model="dall-e-2", n=2, size="256x256")
        making = asyncio.ensure_future(contact_sheet(images, tmp_path / "s.html"))
        while not any(request.route == "cdn" for request in emulator.requests):
            await asyncio.sleep(0.001)
        making.cancel()
        with pytest.raises(asyncio.CancelledError):
            await making
    assert not list(tmp_path.iterdir())
    assert not [task for task in asyncio.all_tasks() if task.get_name() == "lemon_async sheet"]


async def test_sheet_is_shown_in_a_frame(png):
    """The styles of the notebook and the sheet do not mix, and nothing runs."""
    shown = await contact_sheet(images_of(png))
    html = shown._repr_html_()
    assert html.startswith("<iframe ")
    assert " sandbox " in html
    assert "<!DOCTYPE" not in html
    assert "box-sizing:border-box;display:block" in html  # or the border makes the cell scroll
    assert "html" not in repr(shown)


async def test_sheet_that_is_too_large_for_a_notebook_says_so(tmp_path):
    """The notebook stays small; the file is there."""
    shown = attrs.evolve(await contact_sheet([], tmp_path / "s.html"), html="x" * (49 * 2**20))
    assert "s.html" in shown._repr_html_()
    assert len(shown._repr_html_()) < 1000


async def test_thumbnails_are_pictures(picture):
    """A thumbnail can be opened, and looks like the original."""
    html = (await contact_sheet(images_of(picture((800, 400), "RGB", colour=(250, 10, 10))))).html
    small = Pillow.open(io.BytesIO(base64.b64decode(sources(html)[0].partition(",")[2])))
    assert small.size == (384, 192)
    assert small.convert("RGB").getpixel((100, 100))[0] > 240
