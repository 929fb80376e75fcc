"""Expired links are renewed once, by asking their task; images do not keep that task alive."""

from contextlib import suppress

import pytest

from downloads import URL, Cdn, Task, ref_to
from lemon_async import DownloadError
from lemon_async._formats.pictures import sniff
from lemon_async._images.image import Image
from lemon_async._images.renewable_urls import RenewableUrls
from lemon_async.emulator import Expire, Latency, Status
from lemon_async.types import ImageData


@pytest.mark.parametrize("way", ["read", "save", "stream"])
async def test_expired_link_is_renewed_by_asking_the_task_once(connect, emulator, tmp_path, way):
    """The task of an older picture still returns a valid link."""
    async with connect() as session:
        images = await session.generate("a cat", model="flux-pro")
        first = images[0].url
        polls = sum(request.route == "poll" for request in emulator.requests)
        emulator.fault("cdn", Expire(), times=1)
        if way == "save":
            content = (await images[0].save(tmp_path / "cat.png")).read_bytes()
        elif way == "read":
            content = await images[0].read()
        else:
            content = b"".join([piece async for piece in images[0].stream()])
    assert sniff(content).format == images[0].format
    assert images[0].url != first
    assert sum(request.route == "poll" for request in emulator.requests) == polls + 1


async def test_pictures_of_one_task_share_one_renewal(connect, emulator):
    async with connect() as session:
        images = await session.generate("cats", model="flux-pro", n=4)
        polls = sum(request.route == "poll" for request in emulator.requests)
        emulator.fault("cdn", Expire(), times=4)
        emulator.fault("poll", Latency(300))  # until all four have been refused
        contents = await images.read()
    assert len(contents) == 4
    assert sum(request.route == "poll" for request in emulator.requests) == polls + 1


async def test_task_that_has_nothing_new_is_asked_once_for_all_its_pictures(connect, emulator):
    emulator.fault("cdn", Status(404, body="html"))
    async with connect() as session:
        images = await session.generate("cats", model="flux-pro", n=4)
        emulator.fault("poll", Status(404))
        polls = sum(request.route == "poll" for request in emulator.requests)
        with pytest.raises(DownloadError):
            await images.read()
    assert sum(request.route == "poll" for request in emulator.requests) == polls + 1


@pytest.mark.parametrize(
    ("known", "fresh", "renewed"),
    [
        (["/1?a", "/2?a"], ["/2?b", "/1?b"], ["/1?b", "/2?b"]),
        (["/1?a", "/2?a"], ["/3", "/4"], ["/3", "/4"]),
        (["/1?a", "/2?a"], ["/2?b"], ["/1?a", "/2?b"]),
        (["/1?a", "/2?a"], [], ["/1?a", "/2?a"]),
        (["/1?a", None], [None, "/2"], ["/1?a", "/2"]),
    ],
    ids=["in another order", "all new", "fewer", "nothing", "one that had none"],
)
async def test_renewed_links_are_those_of_the_same_pictures(known, fresh, renewed):
    """A gateway may return them in another order."""

    class Access:
        def check_usable(self):
            pass

        async def ask(self, ref):
            return [ImageData(url=path and f"https://cdn.test{path}") for path in fresh]

    async def act(link):
        if link.endswith("?a"):
            raise DownloadError(url=link, reason="HTTP 410", status=410)

    data = [ImageData(url=path and f"https://cdn.test{path}") for path in known]
    links = RenewableUrls(Access(), data, ref_to(Task()))
    with suppress(DownloadError):
        await links.use(0, act)
    assert [links.link(index) for index in range(2)] == [path and f"https://cdn.test{path}" for path in renewed]


async def test_picture_does_not_keep_its_task_alive(png):
    """They do not hold each other: without a garbage collection, a dropped task is gone."""
    task = Task()
    image = Image(ImageData(url=URL), Cdn(DownloadError(url=URL, reason="odd")).access, ref=ref_to(task))
    with pytest.raises(DownloadError) as caught:
        await image.read()
    assert caught.value.task is task
    del task, caught
    with pytest.raises(DownloadError) as caught:
        await image.read()
    assert (caught.value.task.id, caught.value.resume_token) == ("ldtask_1", "lemon1.token")


def test_reference_to_a_task_that_is_gone_is_its_own_object():
    """Callers may collect `error.task` in a set: a weak reference has no hash once its object is gone."""
    task = Task()
    one, other = ref_to(task), ref_to(task)
    assert one != other
    del task
    assert one.task is one
    assert len({one.task, other.task}) == 2


async def test_link_that_stays_expired_is_an_error_with_its_status_and_the_task(connect, emulator):
    """It is renewed once, not repeatedly."""
    emulator.fault("cdn", Expire())
    async with connect() as session:
        task = await session.submit("a cat", model="flux-pro")
        images = await task
        with pytest.raises(DownloadError, match="HTTP 410") as caught:
            await images[0].read()
    assert caught.value.status == 410
    assert caught.value.task is task
    assert caught.value.resume_token == task.resume_token()
    assert sum(request.route == "cdn" for request in emulator.requests) == 2


async def test_task_that_does_not_answer_leaves_the_first_error(connect, emulator, caplog):
    async with connect() as session:
        images = await session.generate("a cat", model="flux-pro")
        emulator.fault("cdn", Expire())
        emulator.fault("poll", Status(404))
        with pytest.raises(DownloadError, match="HTTP 410"):
            await images[0].read()
    assert "could not ask task" in caplog.text


async def test_expired_link_of_an_inline_answer_has_no_task_to_ask(connect, emulator):
    emulator.fault("cdn", Expire())
    async with connect() as session:
        images = await session.generate("a cat", model="dall-e-3")
        with pytest.raises(DownloadError, match="HTTP 410"):
            await images[0].read()
    assert not any(request.route == "poll" for request in emulator.requests)
