"""Results can be read, saved and looked at, however the service sent them."""

import asyncio
import base64
import textwrap
import threading

import attrs
import pytest

from lemon_async import ContractError, DownloadError
from lemon_async.api.models import Billing, ImageData, TaskSnapshot
from lemon_async.client.image import Image, Images
from lemon_async.client.publish import publish
from lemon_async.emulator import Expire, Reset, Result

URL = "https://cdn.test/1.png?signature=secret"


@attrs.define
class Cdn:
    """Downloads that are written down."""

    outcome: object = b""
    asked: list = attrs.field(factory=list)

    async def fetch(self, url):
        self.asked.append(url)
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


@attrs.define
class Task:
    """What an error keeps of a task."""

    id: str = "ldtask_1"

    def resume_token(self):
        return "lemon1.token"


def linked(outcome):
    cdn = Cdn(outcome)
    return Image(ImageData(url=URL, revised_prompt="a nice cat"), cdn.fetch, Task()), cdn


def inline(text):
    return Image(ImageData(b64_json=text), Cdn().fetch, Task())


# Reading


async def test_link_is_fetched_once_and_kept(png):
    image, cdn = linked(png)
    assert await image.read() == png
    assert await image.read() == png
    assert cdn.asked == [URL]


@pytest.mark.parametrize(
    "spell",
    [
        bytes.decode,
        lambda text: text.decode().rstrip("="),
        lambda text: "\n".join(textwrap.wrap(text.decode(), 20)),
        lambda text: "\r\n".join(textwrap.wrap(text.decode(), 76)) + "\r\n",
        lambda text: f"  {text.decode()}\n",
        lambda text: text.decode() + "==",
    ],
    ids=["plain", "no padding", "short lines", "MIME", "surrounded", "too much padding"],
)
@pytest.mark.parametrize("tail", [b"", b"\0", b"\0\0"], ids=len)
async def test_base64_is_read_however_it_is_spelled(png, spell, tail):
    """Bytes after the end of a PNG are harmless; they make every length of padding come up."""
    image = inline(spell(base64.b64encode(png + tail)))
    assert await image.read() == png + tail


@pytest.mark.parametrize("text", ["not base64!", "äöü", "A", "AAAA-_", "data:image/png;base64,AAAA"])
async def test_text_that_is_no_base64_is_refused_with_the_task(text):
    with pytest.raises(DownloadError, match=r"fetch the base64 text of the answer: it is not base64 \(") as caught:
        await inline(text).read()
    assert caught.value.task.id == "ldtask_1"


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"<html>", "the bytes are no known picture"), (b"\x89PNG\r\n\x1a\n", "cut off")],
)
async def test_bytes_that_are_no_whole_picture_are_refused(content, reason):
    """Links are checked where they are fetched; what comes with the answer is checked here."""
    with pytest.raises(DownloadError, match=f"could not fetch the base64 text of the answer: .*{reason}") as caught:
        await inline(base64.b64encode(content).decode()).read()
    assert caught.value.resume_token == "lemon1.token"


async def test_failed_download_gets_the_task_and_keeps_its_cause():
    """The error is enough to poll for a fresh link."""
    failure = DownloadError(url="https://cdn.test/1.png", reason="HTTP 410 Gone", status=410)
    failure.__cause__ = OSError("underneath")
    image, cdn = linked(failure)
    with pytest.raises(DownloadError, match="HTTP 410 Gone") as caught:
        await image.read()
    assert (caught.value.status, caught.value.task.id) == (410, "ldtask_1")
    assert caught.value.__cause__ is failure.__cause__
    cdn.outcome = ValueError("and it can be tried again")
    with pytest.raises(ValueError, match="tried again"):
        await image.read()


async def test_expired_link_is_an_error_with_its_status_and_the_task(connect, emulator):
    emulator.fault("cdn", Expire())
    async with connect() as session:
        task = await session.submit("a cat", model="flux-pro")
        images = await task
        with pytest.raises(DownloadError, match="HTTP 410") as caught:
            await images[0].read()
    assert caught.value.status == 410
    assert caught.value.task is task
    assert caught.value.resume_token == task.resume_token()


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
async def test_bytes_in_the_answer_need_no_download(connect, emulator, png, entry, model):
    """Inline or in a task, and in each place where gateways have been seen to put them."""
    emulator.fault("submit", Result([entry(base64.b64encode(png).decode())]))
    async with connect() as session:
        images = await session.generate("a cat", model=model)
        assert images[0].url is None
        assert await images[0].read() == png
    assert not any(request.route == "cdn" for request in emulator.requests)


# Looking


def test_linked_picture_is_unknown_until_it_is_here():
    image, cdn = linked(b"")
    assert (image.format, image.size, image.url, image.revised_prompt) == (None, None, URL, "a nice cat")
    assert repr(image) == "<Image not read yet from https://cdn.test/1.png>"
    assert cdn.asked == []


async def test_picture_that_is_here_tells_format_and_size(png):
    image, _ = linked(png)
    await image.read()
    assert (image.format, image.size) == ("png", (2, 3))
    assert repr(image) == "<Image png 2x3 from https://cdn.test/1.png>"


def test_picture_in_the_answer_tells_format_and_size_at_once(png):
    image = inline(base64.b64encode(png).decode())
    assert (image.format, image.size, image.url, image.revised_prompt) == ("png", (2, 3), None, None)
    assert repr(image) == "<Image png 2x3 from the base64 text of the answer>"


@pytest.mark.parametrize("text", ["A", "!", "äöü", "PGh0bWw+"])
def test_looking_at_a_damaged_picture_raises_nothing(text):
    image = inline(text)
    assert (image.format, image.size) == (None, None)
    assert "not read yet" in repr(image)


def test_picture_whose_header_has_no_size_is_shown_without():
    image = inline(base64.b64encode(b"\0\0\0\x1cftypavif").decode())
    assert repr(image) == "<Image avif from the base64 text of the answer>"


# Saving


async def test_saving_returns_the_path_and_keeps_no_bytes(png, tmp_path):
    image, cdn = linked(png)
    assert await image.save(str(tmp_path / "cat.png")) == tmp_path / "cat.png"
    assert (tmp_path / "cat.png").read_bytes() == png
    assert image.format is None
    await image.save(tmp_path / "again.png")
    assert len(cdn.asked) == 2


async def test_picture_that_was_read_is_saved_without_another_download(png, tmp_path):
    image, cdn = linked(png)
    await image.read()
    await image.save(tmp_path / "cat.png")
    assert len(cdn.asked) == 1


async def test_failed_download_leaves_the_old_file(tmp_path):
    (tmp_path / "cat.png").write_bytes(b"old")
    with pytest.raises(DownloadError):
        await inline(base64.b64encode(b"<html>").decode()).save(tmp_path / "cat.png")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"cat.png": b"old"}


async def test_file_that_cannot_be_written_is_an_os_error_and_the_picture_can_still_be_read(png, tmp_path):
    image, _ = linked(png)
    with pytest.raises(FileNotFoundError):
        await image.save(tmp_path / "nowhere" / "cat.png")
    assert await image.read() == png


@pytest.mark.parametrize(
    "path", ["", ".", "..", "/", "a/..", "cat\0.png", "cat\0" + "x" * 10**5], ids=lambda p: repr(p[:9])
)
async def test_path_that_names_no_file_is_refused_before_the_download(png, path):
    image, cdn = linked(png)
    with pytest.raises(ContractError, match="path: must name a file, not ") as caught:
        await image.save(path)
    assert len(str(caught.value)) < 150
    assert cdn.asked == []


async def test_save_that_is_cancelled_while_it_writes_is_finished_first(png, tmp_path, monkeypatch):
    """The file is whole when the cancellation arrives, and nothing goes on behind the caller's back."""
    image, _ = linked(png)
    await image.read()
    begun, gate = threading.Event(), threading.Event()

    def slowly(*args):
        begun.set()
        gate.wait(5)
        publish(*args)

    monkeypatch.setattr("lemon_async.client.image.publish", slowly)
    saving = asyncio.create_task(image.save(tmp_path / "cat.png"))
    while not begun.is_set():
        await asyncio.sleep(0)
    saving.cancel()
    await asyncio.sleep(0)
    assert not saving.done()
    gate.set()
    with pytest.raises(asyncio.CancelledError):
        await saving
    assert (tmp_path / "cat.png").read_bytes() == png


async def test_cancelled_save_leaves_no_file(connect, emulator, tmp_path):
    emulator.fault("cdn", Reset("response_head"))
    async with connect() as session:
        images = await session.generate("a cat", model="flux-pro")
        saving = asyncio.create_task(images[0].save(tmp_path / "cat.png"))
        while not any(request.route == "cdn" for request in emulator.requests):
            await asyncio.sleep(0)
        saving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await saving
    assert list(tmp_path.iterdir()) == []


# Images


def test_images_are_a_sequence_with_what_the_service_said_of_the_job():
    billing = Billing(transaction_id="txn_1", usage={"total_tokens": 7})
    data = tuple(ImageData(url=f"https://cdn.test/{number}.png") for number in range(3))
    snapshot = TaskSnapshot(status="completed", task_id="ldtask_1", images=data, created=5, billing=billing)
    images = Images(snapshot, Cdn().fetch)
    assert (images.created, images.usage, images.billing, images.task_id) == (
        5,
        {"total_tokens": 7},
        billing,
        "ldtask_1",
    )
    assert [image.data for image in images] == list(data)
    assert len(images) == 3
    assert images[-1] is images[2]
    assert images[:2] == (images[0], images[1])
    assert images[1] in images
    assert next(reversed(images)) is images[2]
    assert repr(images) == f"<Images [{images[0]!r}, {images[1]!r}, {images[2]!r}]>"
