"""Pictures are downloaded from any host that the service names: without the key, within limits, and whole."""

import asyncio
import gzip
import struct

import pytest

from lemon_async import DownloadError
from lemon_async._http.emitter import Emitter
from lemon_async._images.downloads import PrefixSkipper
from lemon_async.emulator import Body, Cut, Drip, Expire, Garbage, Reset, Status


def tries(emulator):
    return sum(request.route == "cdn" for request in emulator.requests)


# The request


async def test_picture_comes_as_it_is(downloads, link, emulator):
    content = await downloads.fetch(link)
    assert content.startswith(b"\x89PNG")
    assert tries(emulator) == 1


async def test_neither_key_nor_cookies_are_sent(downloads, serve, http_ok, png):
    """Not even cookies that the host itself has set."""
    server = await serve(http_ok(png, "image/png", Set_Cookie="track=1; Path=/"))
    for _ in range(2):
        await downloads.fetch(f"{server.origin}/1.png")
    for head in server.heads:
        names = {line.split(":")[0] for line in head.split("\r\n")[1:] if line}
        assert names == {"Host", "User-Agent", "Accept-Encoding", "Accept"}
        assert "Accept-Encoding: identity" in head


async def test_emulator_sees_no_key_on_its_links(connect, emulator):
    """Fetched through the session that holds the key."""
    async with connect() as session:
        images = await session.generate("a cat", model="flux-pro")
        await images[0].read()
    assert tries(emulator) == 1
    assert emulator.key_leaks == 0


async def test_signed_link_is_sent_unchanged(downloads, serve, http_ok, png):
    """A signature covers the bytes of the address; normalizing them breaks it."""
    server = await serve(http_ok(png, "image/png"))
    await downloads.fetch(f"{server.origin}/a%2Fb+c/%7e.png?sig=a%2Bb%3D&x=1+2&empty=")
    assert server.heads[0].startswith("GET /a%2Fb+c/%7e.png?sig=a%2Bb%3D&x=1+2&empty= HTTP/1.1\r\n")


# What arrives


@pytest.mark.parametrize(
    "action",
    [Status(503), Status(408), Status(429, headers={"Retry-After": "9"}), Cut(100), Reset("response_head"), Garbage()],
    ids=str,
)
async def test_broken_download_is_retried(downloads, link, emulator, action):
    emulator.fault("cdn", action, times=1)
    assert (await downloads.fetch(link)).startswith(b"\x89PNG")
    assert tries(emulator) <= 2


async def test_three_attempts_are_enough(downloads, link, emulator):
    emulator.fault("cdn", Status(503, "html"))
    with pytest.raises(DownloadError, match="HTTP 503 Service Unavailable") as caught:
        await downloads.fetch(link)
    assert caught.value.status == 503
    assert tries(emulator) == 3


@pytest.mark.parametrize(
    ("action", "status"),
    [(Status(403), 403), (Status(404, "empty"), 404), (Expire(), 410), (Status(206), 206)],
    ids=str,
)
async def test_link_that_is_refused_is_not_retried(downloads, link, emulator, action, status):
    emulator.fault("cdn", action)
    with pytest.raises(DownloadError, match=f"HTTP {status}") as caught:
        await downloads.fetch(link)
    assert caught.value.status == status
    assert tries(emulator) == 1


async def test_error_names_the_link_without_its_query(downloads, link, emulator):
    """A signed query gives every reader of the log access to the picture."""
    emulator.fault("cdn", Status(403))
    with pytest.raises(DownloadError) as caught:
        await downloads.fetch(f"{link}?signature=secret")
    assert caught.value.url == link
    assert "secret" not in str(caught.value)


def spoiled(png):
    wide = png[:16] + struct.pack(">II", 65_000, 65_000) + png[24:]
    return {
        "HTML labelled image/png": (b"<html>Sorry</html>", "the bytes are not a known picture"),
        "nothing": (b"", "there are no bytes"),
        "cut before it was sent": (png[:-5], "the picture is cut off"),
        "header of 65,000 x 65,000": (wide, "the header claims 65000 x 65000 pixels"),
    }


async def test_damaged_picture_is_fetched_again(downloads, serve, http_ok, png):
    """The check is of the bytes, not of the Content-Type."""
    servers = [
        await serve(http_ok(content, "image/png"), http_ok(png, "image/png")) for content, _ in spoiled(png).values()
    ]
    assert await asyncio.gather(*(downloads.fetch(server.origin) for server in servers)) == [png] * len(servers)


async def test_picture_that_stays_damaged_is_refused(downloads, serve, http_ok, png):
    servers = [await serve(http_ok(content, "image/png")) for content, _ in spoiled(png).values()]
    outcomes = await asyncio.gather(*(downloads.fetch(server.origin) for server in servers), return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {DownloadError}
    assert [outcome.reason for outcome in outcomes] == [reason for _, reason in spoiled(png).values()]


async def test_endless_picture_is_refused_without_a_retry(downloads, serve, png):
    """The limit is far above any picture; another attempt would waste another 128 MB."""

    async def endless(_reader, writer):
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\n\r\n" + png[:33] + b"\xff\xff\xff\xffIDAT")
        while True:
            writer.write(bytes(2**20))
            await writer.drain()

    server = await serve(endless)
    with pytest.raises(DownloadError, match="the response is larger than 134,217,728 bytes"):
        await downloads.fetch(server.origin)
    assert len(server.heads) == 1


async def test_compressed_picture_is_refused_without_a_retry(downloads, link, emulator):
    """A response that expands to half a gigabyte is never decompressed."""
    bomb = gzip.compress(b"\x89PNG\r\n\x1a\n" + bytes(10**6))
    emulator.fault("cdn", Body(bomb, headers={"Content-Encoding": "gzip"}))
    with pytest.raises(DownloadError, match="Content-Encoding that was not requested"):
        await downloads.fetch(link)
    assert tries(emulator) == 1


async def test_coding_that_is_none_is_accepted(downloads, serve, http_ok, png):
    server = await serve(http_ok(png, "image/png", Content_Encoding="Identity"))
    assert await downloads.fetch(server.origin) == png


# Bounds


async def test_download_that_drips_ends_at_the_total_deadline(open_downloads, link, emulator):
    emulator.fault("cdn", Drip(bytes_per_s=100))
    with pytest.raises(DownloadError, match=r"not finished within 0\.05 s") as caught:
        await open_downloads(total_s=0.05).fetch(f"{link}?signature=secret")
    assert caught.value.url == link


async def test_retries_share_the_total_deadline(open_downloads, link, emulator):
    emulator.fault("cdn", Status(503))
    with pytest.raises(DownloadError, match=r"not finished within 0\.05 s"):
        await open_downloads(total_s=0.05, pause_s=1).fetch(link)


async def test_deadline_of_the_caller_is_the_callers(open_downloads, link, emulator):
    """A `TimeoutError` of the surrounding code is not converted."""
    emulator.fault("cdn", Drip(bytes_per_s=100))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.02):
            await open_downloads().fetch(link)


async def test_concurrent_downloads_are_limited(open_downloads, serve, http_ok, png):
    gate, waiting, most = asyncio.Event(), set(), 0

    async def wait(_reader, writer):
        nonlocal most
        waiting.add(writer)
        most = max(most, len(waiting))
        await gate.wait()
        waiting.remove(writer)
        writer.write(http_ok(png, "image/png"))

    server = await serve(wait)
    downloads = open_downloads(limit=2)
    fetching = [asyncio.create_task(downloads.fetch(server.origin)) for _ in range(5)]
    while len(server.heads) < 2:
        await asyncio.sleep(0)
    assert downloads._slots.statistics().tasks_waiting == 3
    gate.set()
    assert await asyncio.gather(*fetching) == [png] * 5
    assert most == 2


# Closing


async def test_closing_ends_a_download_under_way(downloads, serve):
    async def never(reader, _writer):
        await reader.read()

    server = await serve(never)
    fetching = asyncio.create_task(downloads.fetch(server.origin))
    await server.arrived.wait()
    await downloads.aclose()
    with pytest.raises(DownloadError):
        await fetching
    assert len(server.heads) == 1


async def test_closing_ends_a_download_that_drips(downloads, serve):
    """Its head had arrived: reading on raises immediately."""

    async def drip(reader, writer):
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\nContent-Length: 9\r\n\r\n\x89")
        await reader.read()

    server = await serve(drip)
    fetching = asyncio.create_task(downloads.fetch(f"{server.origin}/1.png"))
    while not downloads.under_way:
        await asyncio.sleep(0)
    async with asyncio.timeout(30):
        await downloads.aclose()
        with pytest.raises(DownloadError, match="Connection closed"):
            await fetching
    assert downloads.under_way == 0


async def test_closing_ends_a_download_between_two_attempts(open_downloads, serve, http_ok):
    """It ends with `DownloadError`, and nothing is opened again."""
    pausing, gate = asyncio.Event(), asyncio.Event()

    async def pause(_seconds):
        pausing.set()
        await gate.wait()

    downloads = open_downloads(pause=pause)
    server = await serve(http_ok(b"", status="503 Service Unavailable"))
    fetching = asyncio.create_task(downloads.fetch(server.origin))
    await pausing.wait()
    await downloads.aclose()
    gate.set()
    with pytest.raises(DownloadError):
        await fetching
    assert len(server.heads) == 1


async def test_closed_downloads_open_nothing(downloads, link, emulator):
    await downloads.aclose()
    with pytest.raises(DownloadError, match="the session is closed"):
        await downloads.fetch(link)
    assert tries(emulator) == 0


async def test_download_that_waited_for_a_slot_when_the_session_closed_is_not_started(open_downloads, serve):
    async def never(reader, _writer):
        await reader.read()

    server = await serve(never)
    downloads = open_downloads(limit=1)
    fetching = [asyncio.create_task(downloads.fetch(server.origin)) for _ in range(3)]
    await server.arrived.wait()
    await downloads.aclose()
    outcomes = await asyncio.gather(*fetching, return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {DownloadError}
    assert len(server.heads) == 1


def test_prefix_that_was_passed_on_is_skipped():
    """For pieces of any size."""
    repeat = PrefixSkipper()
    repeat.restart()
    assert [repeat.skip(piece) for piece in (b"ab", b"cd")] == [b"ab", b"cd"]
    repeat.restart()
    assert repeat.is_short
    assert [repeat.skip(piece) for piece in (b"a", b"bc", b"def", b"g")] == [b"", b"", b"ef", b"g"]
    assert (repeat.is_short, repeat.is_different) == (False, False)


def test_different_prefix_is_detected():
    repeat = PrefixSkipper()
    repeat.skip(b"abcd")
    repeat.restart()
    assert repeat.skip(b"abxdef") == b""
    assert repeat.is_different


# Events


async def test_end_of_each_download_is_an_event(open_downloads, serve, http_ok, png):
    """With the bytes that arrived or the error, and without the query of the link, which is its signature."""
    seen = []
    downloads = open_downloads(emitter=Emitter([seen.append]))
    server = await serve(http_ok(png, "image/png"), http_ok(b"", status="410 Gone"))
    await downloads.fetch(f"{server.origin}/1.png?signature=secret", task_id="ldtask_1")
    with pytest.raises(DownloadError):
        await downloads.fetch(f"{server.origin}/2.png?signature=secret")
    whole, gone = seen
    assert (whole.url, whole.size_bytes, whole.task_id, whole.error) == (
        f"{server.origin}/1.png", len(png), "ldtask_1", None,
    )  # fmt: skip
    assert (gone.size_bytes, gone.task_id, gone.error.status) == (0, None, 410)
    assert "secret" not in repr(seen)
