"""Images are read, streamed, saved and displayed, however the service sent them."""

import asyncio
import base64
import errno
import gc
import os
import pickle
import textwrap
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest

from downloads import URL, Cdn, Task, ref_to
from lemon_async import ContractError, DownloadError, SaveError
from lemon_async._images.atomic_file import AtomicFile
from lemon_async._images.image import Image
from lemon_async.emulator import Blackhole, Result
from lemon_async.errors import SessionError
from lemon_async.types import ImageData, Inline


def linked(outcome):
    cdn = Cdn(outcome)
    return Image(ImageData(url=URL, revised_prompt="a nice cat"), cdn.access, ref=ref_to(Task())), cdn


def inline(content, *, fault=None, url=None, cdn=None):
    return Image(
        ImageData(url=url, inline=Inline(content, fault)),
        (cdn or Cdn()).access,
        ref=ref_to(Task()),
    )


# Reading


async def test_link_is_fetched_once_and_kept(png):
    image, cdn = linked(png)
    assert await image.read() == png
    assert await image.read() == png
    assert cdn.asked == [URL]


async def test_two_readers_at_once_cause_one_download(png):
    image, cdn = linked(png)
    assert await asyncio.gather(image.read(), image.read()) == [png, png]
    assert cdn.asked == [URL]


async def test_bytes_of_the_answer_are_read_without_a_download(png):
    image = inline(png)
    assert await image.read() is await image.read()
    assert (await image.read()) == png


async def test_text_that_is_no_base64_is_refused_with_the_task():
    with pytest.raises(
        DownloadError, match=r"fetch the base64 text of the response: it is not base64 \(odd\)"
    ) as caught:
        await inline(None, fault="odd").read()
    assert (caught.value.task.id, caught.value.index) == ("ldtask_1", 0)
    assert str(caught.value).endswith("(picture 1 of the response)")


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"<html>", "the bytes are not a known picture"), (b"\x89PNG\r\n\x1a\n", "cut off")],
)
async def test_bytes_that_are_not_a_whole_picture_are_refused(content, reason):
    """Inline bytes are checked, like those of links."""
    with pytest.raises(DownloadError, match=f"could not fetch the base64 text of the response: .*{reason}") as caught:
        await inline(content).read()
    assert caught.value.resume_token == "lemon1.token"


@pytest.mark.parametrize(("content", "fault"), [(b"<html>", None), (None, "odd")], ids=["no picture", "no base64"])
async def test_damaged_inline_bytes_are_fetched_from_the_link(png, content, fault):
    """A result with both is lost only if both are."""
    cdn = Cdn(png)
    image = inline(content, fault=fault, url=URL, cdn=cdn)
    assert await image.read() == png
    assert cdn.asked == [URL]


async def test_picture_without_link_and_bytes_says_so():
    image = Image(ImageData(revised_prompt="a cat"), Cdn().access)
    with pytest.raises(DownloadError, match="there is neither a picture nor a link"):
        await image.read()


async def test_failed_download_gets_the_task_and_keeps_its_cause():
    """The error is enough to poll for a fresh link."""
    failure = DownloadError(url="https://cdn.test/1.png", reason="HTTP 500", status=500)
    failure.__cause__ = OSError("underneath")
    image, cdn = linked(failure)
    with pytest.raises(DownloadError, match="HTTP 500") as caught:
        await image.read()
    assert (caught.value.status, caught.value.task.id, caught.value.index) == (500, "ldtask_1", 0)
    assert caught.value.__cause__ is failure.__cause__
    cdn.outcome = ValueError("and it can be tried again")
    with pytest.raises(ValueError, match="tried again"):
        await image.read()


def test_image_is_not_pickled():
    with pytest.raises(TypeError, match="belongs to its session"):
        pickle.dumps(linked(b"")[0])


# Links that have expired


@pytest.mark.parametrize("model", ["flux-pro", "dall-e-3"])
async def test_dropped_result_leaves_memory_immediately(connect, model):
    """It does not wait for the garbage collector: pictures are megabytes."""
    gc.disable()
    try:
        async with connect() as session:
            images = await session.generate("a cat", model=model)
            await images[0].read()
            gone = weakref.ref(images[0].data)
            del images
            await asyncio.sleep(0)
            assert gone() is None
    finally:
        gc.enable()


@pytest.mark.parametrize(
    "entry",
    [
        lambda text: {"b64_json": text},
        lambda text: {"b64_json": f"data:image/png;base64,{text}"},
        lambda text: {"url": f"data:image/png;base64,{text}"},
        lambda text: {"url": "", "b64_json": "\n".join(textwrap.wrap(text, 76))},
    ],
    ids=["base64", "base64 as data URL", "data URL in url", "MIME beside a placeholder"],
)
@pytest.mark.parametrize("model", ["dall-e-3", "flux-pro"])
async def test_inline_bytes_need_no_download(connect, emulator, png, entry, model):
    """Inline or in a task, and in each field where gateways put them."""
    emulator.fault("submit", Result([entry(base64.b64encode(png).decode())]))
    async with connect() as session:
        images = await session.generate("a cat", model=model)
        assert images[0].url is None
        assert await images[0].read() == png
    assert not any(request.route == "cdn" for request in emulator.requests)


# Streaming


@pytest.mark.parametrize("where", ["link", "memory", "file"])
async def test_stream_yields_the_bytes_wherever_they_are(png, tmp_path, where):
    image, cdn = linked(png)
    if where == "memory":
        await image.read()
    if where == "file":
        await image.save(tmp_path / "cat.png")
    asked = len(cdn.asked)
    assert b"".join([piece async for piece in image.stream()]) == png
    assert len(cdn.asked) == asked + (where == "link")


async def test_stream_tells_which_picture_broke():
    image, _ = linked(DownloadError(url=URL, reason="odd"))
    with pytest.raises(DownloadError, match="odd") as caught:
        await anext(image.stream())
    assert (caught.value.task.id, caught.value.index) == ("ldtask_1", 0)


# Looking


def test_linked_picture_is_unknown_until_it_is_here():
    image, cdn = linked(b"")
    assert (image.format, image.size, image.url, image.revised_prompt) == (None, None, URL, "a nice cat")
    assert (image.index, image.prompt, image.path) == (0, None, None)
    assert repr(image) == "<Image not read yet from https://cdn.test/1.png>"
    assert cdn.asked == []


async def test_picture_that_is_here_tells_format_and_size(png):
    image, _ = linked(png)
    await image.read()
    assert (image.format, image.size) == ("png", (2, 3))
    assert repr(image) == "<Image png 2x3 from https://cdn.test/1.png>"


def test_picture_in_the_answer_tells_format_and_size_at_once(png):
    image = inline(png)
    assert (image.format, image.size, image.url, image.revised_prompt) == ("png", (2, 3), None, None)
    assert repr(image) == "<Image png 2x3 from the base64 text of the response>"


@pytest.mark.parametrize(("content", "fault"), [(b"<html>", None), (None, "odd"), (b"", None)])
def test_looking_at_a_damaged_picture_raises_nothing(content, fault):
    image = inline(content, fault=fault)
    assert (image.format, image.size) == (None, None)
    assert "not read yet" in repr(image)


def test_picture_whose_header_has_no_size_is_shown_without():
    image = inline(b"\0\0\0\x1cftypavif")
    assert repr(image) == "<Image avif from the base64 text of the response>"


async def test_notebook_shows_what_is_here_and_fetches_nothing(png, tmp_path):
    image, cdn = linked(png)
    assert "https://cdn.test/1.png" in image._repr_mimebundle_()[0]["text/html"]
    assert cdn.asked == []
    await image.save(tmp_path / "cat.png")
    data, _ = image._repr_mimebundle_()
    assert base64.b64decode(data["image/png"]) == png
    assert data["text/plain"] == f"<Image png 2x3 from {tmp_path / 'cat.png'}>"


def test_notebook_sends_no_browser_where_we_do_not_go():
    image = Image(ImageData(url="http://10.0.0.1/reboot"), Cdn().access)
    assert "10.0.0.1/reboot" not in image._repr_mimebundle_()[0].get("text/html", "")


async def test_notebook_does_not_embed_large_pictures(png, tmp_path):
    """A file that is larger is not even read: that would hold the event loop."""
    image, _ = linked(png)
    await image.save(tmp_path / "cat.png")
    assert image._shown(len(png)).content == png
    assert image._shown(len(png) - 1).content is None


# Saving


async def test_saving_returns_the_path_and_keeps_no_bytes(png, tmp_path):
    image, cdn = linked(png)
    assert await image.save(str(tmp_path / "cat.png")) == tmp_path / "cat.png" == image.path
    assert (tmp_path / "cat.png").read_bytes() == png
    assert (image.format, image.size, image._bytes_in_memory()) == ("png", (2, 3), None)
    await image.save(tmp_path / "again.png")
    assert (tmp_path / "again.png").read_bytes() == png
    assert len(cdn.asked) == 1


async def test_inline_bytes_leave_memory_once_they_are_saved(png, tmp_path, monkeypatch):
    """Memory stays flat when outcomes are kept and images are saved: saved ones are read from the disk."""
    image = inline(png)
    monkeypatch.chdir(tmp_path)
    await image.save("cat.png")
    assert (image.data.inline.content, image._bytes_in_memory()) == (None, None)
    monkeypatch.chdir("/")
    assert await image.read() == png


async def test_bytes_that_were_read_stay_in_memory(png, tmp_path):
    image = inline(png)
    await image.read()
    (await image.save(tmp_path / "cat.png")).unlink()
    assert await image.read() == png


async def test_file_that_was_changed_is_not_taken_for_the_picture(png, tmp_path):
    image = inline(png)
    await image.save(tmp_path / "cat.png")
    (tmp_path / "cat.png").write_bytes(b"another")
    with pytest.raises(DownloadError, match=r"cat\.png: it was saved there, and the file is gone or was changed since"):
        await image.read()


async def test_link_whose_file_was_changed_is_fetched_again(png, tmp_path):
    image, cdn = linked(png)
    (await image.save(tmp_path / "cat.png")).unlink()
    assert await image.read() == png
    assert len(cdn.asked) == 2


async def test_picture_that_was_read_is_saved_without_another_download(png, tmp_path):
    image, cdn = linked(png)
    await image.read()
    await image.save(tmp_path / "cat.png")
    assert len(cdn.asked) == 1


async def test_name_without_a_suffix_gets_that_of_the_bytes(png, picture, tmp_path):
    assert (await linked(png)[0].save(tmp_path / "cat")).name == "cat.png"
    jpeg = picture(mode="RGB", kind="JPEG")
    assert (await inline(jpeg).save(tmp_path / "cat")).name == "cat.jpg"
    assert (await inline(jpeg).save(tmp_path / "cat.jpeg")).name == "cat.jpeg"


async def test_suffix_of_the_users_own_is_kept(png, tmp_path, library_log):
    """If it names another format than that of the bytes, a warning says so."""
    for name in ("cat.webp", "cat.PNG", "cat.download"):
        assert (await linked(png)[0].save(tmp_path / name)).read_bytes() == png
    words = "is PNG, which is what the service sent; without a suffix, the file gets the right one"
    assert [record.getMessage() for record in library_log.records] == [f"{str(tmp_path / 'cat.webp')!r} {words}"]


async def test_number_at_the_end_of_a_name_is_no_suffix(png, tmp_path):
    assert (await linked(png)[0].save(tmp_path / "gpt-image-1.5")).name == "gpt-image-1.5.png"


@pytest.mark.parametrize("path", ["out", "out/"])
async def test_path_of_a_folder_is_refused_as_a_file_name(png, tmp_path, path):
    """The picture is not saved next to it."""
    (tmp_path / "out").mkdir()
    image, cdn = linked(png)
    with pytest.raises(SaveError, match="is a folder: name a file in it"):
        await image.save(f"{tmp_path}/{path}")
    assert cdn.asked == []
    assert [entry.name for entry in tmp_path.rglob("*")] == ["out"]


async def test_save_is_found_again_after_a_change_of_the_working_folder(png, tmp_path, monkeypatch):
    image = inline(png)
    monkeypatch.chdir(tmp_path)
    assert str(await image.save("cat.png")) == "cat.png"
    monkeypatch.chdir("/")
    assert image.path == tmp_path / "cat.png"


async def test_many_concurrent_saves_hold_few_files_open(png, tmp_path):
    """Saves that wait for a thread have no open file."""
    most = 0
    write = AtomicFile.write

    def counting(draft, *pieces):
        nonlocal most
        write(draft, *pieces)
        most = max(most, sum(path.suffix == ".part" for path in tmp_path.iterdir()))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AtomicFile, "write", counting)
        await asyncio.gather(*(inline(png).save(tmp_path / f"{number}.png") for number in range(300)))
    assert 0 < most <= 64
    assert len(list(tmp_path.iterdir())) == 300


async def test_file_that_has_become_a_pipe_is_not_waited_for(png, tmp_path):
    image = inline(png)
    (await image.save(tmp_path / "cat.png")).unlink()
    os.mkfifo(tmp_path / "cat.png")
    with pytest.raises(DownloadError, match="gone or was changed since"):
        await image.read()


async def test_missing_folders_are_made(png, tmp_path):
    assert (await linked(png)[0].save(tmp_path / "a" / "b" / "cat.png")).read_bytes() == png


@pytest.mark.parametrize("is_absolute", [True, False])
async def test_very_deep_path_is_refused_with_advice(png, tmp_path, monkeypatch, is_absolute):
    """No folder is created, and the picture can still be read."""
    monkeypatch.chdir(tmp_path)
    image = inline(png)
    with pytest.raises(SaveError, match="choose a shorter path") as caught:
        await image.save(("a/" * (3000 if is_absolute else 2000)) + "cat.png")
    assert caught.value.errno == errno.ENAMETOOLONG
    assert list(tmp_path.iterdir()) == []
    assert await image.read() == png


async def test_saving_replaces_unless_told_not_to(png, tmp_path):
    (tmp_path / "cat.png").write_bytes(b"old")
    assert (await inline(png).save(tmp_path / "cat.png", replace=False)).name == "cat-2.png"
    assert (await inline(png).save(tmp_path / "cat", replace=False)).name == "cat-3.png"
    assert (tmp_path / "cat.png").read_bytes() == b"old"
    await inline(png).save(tmp_path / "cat.png")
    assert (tmp_path / "cat.png").read_bytes() == png


async def test_failed_download_leaves_the_old_file(tmp_path):
    (tmp_path / "cat.png").write_bytes(b"old")
    with pytest.raises(DownloadError):
        await linked(DownloadError(url=URL, reason="odd"))[0].save(tmp_path / "cat.png")
    with pytest.raises(DownloadError):
        await inline(b"<html>").save(tmp_path / "cat.png")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"cat.png": b"old"}


async def test_folder_that_cannot_be_made_is_told_and_the_picture_can_still_be_read(png, tmp_path):
    (tmp_path / "file").touch()
    image = inline(png)
    with pytest.raises(SaveError, match=r"could not save '.*file/cat.png': .*\(picture 1 of the response\)") as caught:
        await image.save(tmp_path / "file" / "cat.png")
    assert caught.value.errno in {errno.ENOTDIR, errno.EEXIST}
    assert caught.value.path == str(tmp_path / "file" / "cat.png")
    assert caught.value.resume_token == "lemon1.token"
    assert isinstance(caught.value.__cause__, OSError)
    assert await image.read() == png


@pytest.mark.parametrize("kind", ["folder", "link", "dangling link", "pipe"])
async def test_name_of_anything_but_a_file_is_refused(png, tmp_path, kind):
    """Links are not followed, and only regular files are replaced."""
    target, other = tmp_path / "cat.png", tmp_path / "other"
    other.write_bytes(b"old")
    make = {
        "folder": target.mkdir,
        "link": lambda: target.symlink_to(other),
        "dangling link": lambda: target.symlink_to(tmp_path / "nowhere"),
        "pipe": lambda: os.mkfifo(target),
    }
    make[kind]()
    image = inline(png)
    with pytest.raises(SaveError, match=r"cat\.png"):
        await image.save(target)
    assert {path.name for path in tmp_path.iterdir()} == {"cat.png", "other"}
    assert other.read_bytes() == b"old"
    assert await image.read() == png


@pytest.mark.parametrize(
    "path", ["", ".", "..", "/", "a/..", "cat\0.png", "cat\0" + "x" * 10**5], ids=lambda p: repr(p[:9])
)
async def test_path_that_names_no_file_is_refused_before_the_download(png, path):
    image, cdn = linked(png)
    with pytest.raises(ContractError, match=r"path: must .*, for picture 1 ") as caught:
        await image.save(path)
    assert len(str(caught.value)) < 200
    assert cdn.asked == []


async def test_save_that_is_cancelled_while_it_writes_is_finished_first(png, tmp_path, monkeypatch):
    """The file is complete when `CancelledError` is raised, and no work continues in the background."""
    monkeypatch.setattr("lemon_async._images.threads._MAX_WAIT_S", 60)  # a busy disk may take longer than 5 s
    image = inline(png)
    begun, gate = threading.Event(), threading.Event()
    write = AtomicFile.write

    def slowly(draft, *pieces):
        begun.set()
        gate.wait(60)
        write(draft, *pieces)

    monkeypatch.setattr(AtomicFile, "write", slowly)
    saving = asyncio.create_task(image.save(tmp_path / "cat.png"))
    while not begun.is_set():
        await asyncio.sleep(0)
    saving.cancel()
    await asyncio.sleep(0)
    assert not saving.done()
    gate.set()
    with pytest.raises(asyncio.CancelledError):
        await saving
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [png]
    assert await image.read() == png


async def test_cancelled_save_leaves_no_file(connect, emulator, tmp_path):
    emulator.fault("cdn", Blackhole())
    async with connect() as session:
        images = await session.generate("a cat", model="flux-pro")
        saving = asyncio.create_task(images[0].save(tmp_path / "cat.png"))
        while not any(request.route == "cdn" for request in emulator.requests):
            await asyncio.sleep(0)
        saving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await saving
    assert list(tmp_path.iterdir()) == []


async def test_second_cancel_leaves_no_file_either(tmp_path):
    """Cleaning up has its own thread, however busy the pool is."""
    go_on = threading.Event()

    class Slow(Cdn):
        async def save(self, url, file, *, task_id=None):
            file.write(b"half a picture")
            await asyncio.Event().wait()

    saving = asyncio.create_task(Image(ImageData(url=URL), Slow().access).save(tmp_path / "cat.png"))
    while not list(tmp_path.iterdir()):
        await asyncio.sleep(0)
    with ThreadPoolExecutor(1) as only_thread:
        only_thread.submit(go_on.wait, 60)
        asyncio.get_running_loop().set_default_executor(only_thread)
        for _ in range(2):
            saving.cancel()
            await asyncio.sleep(0)
        with pytest.raises(asyncio.CancelledError):
            await saving
        async with asyncio.timeout(30):
            while list(tmp_path.iterdir()):
                await asyncio.sleep(0.001)
        go_on.set()
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor())


async def test_picture_of_a_closed_session_is_not_fetched(connect, tmp_path):
    async with connect() as session:
        images = await session.generate("a cat", model="flux-pro")
    with pytest.raises(SessionError, match="read or save pictures before that"):
        await images[0].save(tmp_path / "cat.png")
    assert list(tmp_path.iterdir()) == []
