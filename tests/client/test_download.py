"""Pictures are fetched from whatever host the service names: without the key, within bounds, and whole."""

import asyncio
import gzip
import struct

import pytest

from lemon_async import DownloadError, LemonSession, PollPolicy
from lemon_async.client.download import Downloads
from lemon_async.emulator import Body, Cut, Drip, Expire, Garbage, Redirect, Reset, Status


@pytest.fixture
async def open_downloads():
    """Make downloads that are closed when the test is over."""
    opened = []

    def make(**options):
        settings = {"total_s": 5, "connect_s": 5, "limit": 8, "allow_loopback": True, **options}
        opened.append(Downloads(**settings))
        return opened[-1]

    yield make
    for downloads in opened:
        await downloads.aclose()


@pytest.fixture
def downloads(open_downloads):
    return open_downloads()


@pytest.fixture
async def link(connect):
    """The link of a picture that the emulator has made."""
    async with connect() as session:
        images = await session.generate("a cat", model="flux-pro")
        return images[0].url


def tries(emulator):
    return sum(request.route == "cdn" for request in emulator.requests)


# The request


async def test_picture_comes_as_it_is(downloads, link, emulator):
    content = await downloads.fetch(link)
    assert content.startswith(b"\x89PNG")
    assert tries(emulator) == 1


async def test_neither_key_nor_cookies_are_sent(downloads, serve, http_ok, png):
    """Not even the cookies that the host itself has set."""
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


async def test_signed_link_is_sent_as_it_was_told(downloads, serve, http_ok, png):
    """A signature covers the bytes of the address; tidying them up breaks it."""
    server = await serve(http_ok(png, "image/png"))
    await downloads.fetch(f"{server.origin}/a%2Fb+c/%7e.png?sig=a%2Bb%3D&x=1+2&empty=")
    assert server.heads[0].startswith("GET /a%2Fb+c/%7e.png?sig=a%2Bb%3D&x=1+2&empty= HTTP/1.1\r\n")


@pytest.mark.parametrize(
    ("url", "fault"),
    [
        ("", "it is not a plain https address"),
        ("cat.png", "it is not a plain https address"),
        ("file:///etc/passwd", "it is not a plain https address"),
        ("https://user:pass@cdn.test/1.png", "it is not a plain https address"),
        ("https://cdn.test/1.png\r\nX: 1", "it is not a plain https address"),
        ("http://cdn.test/1.png", "it does not use https"),
        ("ftp://cdn.test/1.png", "it does not use https"),
        ("ftp://127.0.0.1/1.png", "it is not a web address"),
        ("https://10.0.0.1/1.png", "it points into a private network"),
        ("https://169.254.169.254/latest", "it points into a private network"),
    ],
)
async def test_link_that_must_not_be_followed_is_refused_before_a_connection(downloads, url, fault):
    with pytest.raises(DownloadError, match=f"not followed, because {fault}") as caught:
        await downloads.fetch(url)
    assert "pass" not in caught.value.url.replace("passwd", "")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.1", "[::1]"])
async def test_links_to_this_machine_are_refused_when_the_api_is_elsewhere(open_downloads, serve, http_ok, png, host):
    """A result link of the real service never leads into the user's own machine."""
    server = await serve(http_ok(png, "image/png"))
    with pytest.raises(DownloadError, match=r"not followed, because it (does not use https|points into a private)"):
        await open_downloads(allow_loopback=False).fetch(f"http://{host}:{server.port}/1.png")
    with pytest.raises(DownloadError, match="not followed, because it points into a private network"):
        await open_downloads(allow_loopback=False).fetch(f"https://{host}:{server.port}/1.png")
    assert server.heads == []


# Redirects


async def test_redirects_are_followed_and_carry_nothing(downloads, serve, http_ok, png):
    """To another host, with an absolute address, or on the same one with a relative address."""
    there = await serve(http_ok(b"", status="302 Found", Location="/b.png"), http_ok(png, "image/png"))
    here = await serve(http_ok(b"", status="307 Temporary Redirect", Location=f"{there.origin}/a.png"))
    assert await downloads.fetch(f"{here.origin}/1.png?token=secret") == png
    assert [head.split(" HTTP")[0] for head in there.heads] == ["GET /a.png", "GET /b.png"]
    assert not any(word in "".join(there.heads) for word in ("secret", "Referer", "Authorization"))


async def test_three_redirects_are_enough(downloads, serve, http_ok, png):
    hop = http_ok(b"", status="302 Found", Location="/next")
    assert await downloads.fetch((await serve(hop, hop, hop, http_ok(png, "image/png"))).origin) == png
    with pytest.raises(DownloadError, match="more than 3 redirects"):
        await downloads.fetch((await serve(hop)).origin)


async def test_redirect_to_nowhere_ends(downloads, serve, http_ok):
    """Without a `Location` there is nothing to follow but the address itself."""
    server = await serve(http_ok(b"", status="302 Found"))
    with pytest.raises(DownloadError, match="more than 3 redirects"):
        await downloads.fetch(server.origin)
    assert len(server.heads) == 4


@pytest.mark.parametrize(
    "location",
    [
        "http://cdn.test/1.png",
        "https://10.0.0.1/1.png",
        "https://[::ffff:10.0.0.1]/1.png",
        "https://2130706433/1.png",
        "https://metadata.internal/1.png",
        "file:///etc/passwd",
        "//user@cdn.test/1.png",
    ],
)
async def test_redirect_to_where_no_link_may_lead_is_refused(downloads, link, emulator, location):
    emulator.fault("cdn", Redirect(location))
    with pytest.raises(DownloadError, match="not followed, because it"):
        await downloads.fetch(link)
    assert tries(emulator) == 1


# What arrives


@pytest.mark.parametrize(
    "action",
    [Status(503), Status(429, headers={"Retry-After": "9"}), Cut(100), Reset("response_head"), Garbage()],
    ids=str,
)
async def test_what_breaks_on_the_way_is_fetched_again(downloads, link, emulator, action):
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
async def test_link_that_is_refused_is_not_asked_for_again(downloads, link, emulator, action, status):
    emulator.fault("cdn", action)
    with pytest.raises(DownloadError, match=f"HTTP {status}") as caught:
        await downloads.fetch(link)
    assert caught.value.status == status
    assert tries(emulator) == 1


async def test_error_names_the_link_without_its_query(downloads, link, emulator):
    """A signed query opens the picture for whoever reads the log."""
    emulator.fault("cdn", Status(403))
    with pytest.raises(DownloadError) as caught:
        await downloads.fetch(f"{link}?signature=secret")
    assert caught.value.url == link
    assert "secret" not in str(caught.value)


def spoiled(png):
    wide = png[:16] + struct.pack(">II", 65_000, 65_000) + png[24:]
    return {
        "HTML labelled image/png": (b"<html>Sorry</html>", "the bytes are no known picture"),
        "nothing": (b"", "there are no bytes"),
        "cut before it was sent": (png[:-5], "the picture is cut off"),
        "header of 65,000 x 65,000": (wide, "the header claims 65000 x 65000 pixels"),
    }


async def test_what_is_no_whole_picture_is_fetched_again(downloads, serve, http_ok, png):
    """The label does not count, the bytes do."""
    servers = [
        await serve(http_ok(content, "image/png"), http_ok(png, "image/png")) for content, _ in spoiled(png).values()
    ]
    assert await asyncio.gather(*(downloads.fetch(server.origin) for server in servers)) == [png] * len(servers)


async def test_what_stays_no_whole_picture_is_refused(downloads, serve, http_ok, png):
    servers = [await serve(http_ok(content, "image/png")) for content, _ in spoiled(png).values()]
    outcomes = await asyncio.gather(*(downloads.fetch(server.origin) for server in servers), return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {DownloadError}
    assert [outcome.reason for outcome in outcomes] == [reason for _, reason in spoiled(png).values()]


async def test_picture_without_end_is_refused_at_once(downloads, serve):
    """The bound is far above any picture of the service; another attempt would only waste another 128 MB."""

    async def endless(_reader, writer):
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\n\r\n")
        while True:
            writer.write(bytes(2**20))
            await writer.drain()

    server = await serve(endless)
    with pytest.raises(DownloadError, match="the answer is larger than 134,217,728 bytes"):
        await downloads.fetch(server.origin)
    assert len(server.heads) == 1


async def test_packed_picture_is_refused_at_once(downloads, link, emulator):
    """Half a megabyte that becomes half a gigabyte is never unpacked."""
    bomb = gzip.compress(b"\x89PNG\r\n\x1a\n" + bytes(10**6))
    emulator.fault("cdn", Body(bomb, headers={"Content-Encoding": "gzip"}))
    with pytest.raises(DownloadError, match="packed in a way that was not asked for"):
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
        await open_downloads(total_s=0.05).fetch(link)


async def test_deadline_of_the_caller_is_the_callers(open_downloads, link, emulator):
    """A `TimeoutError` of the code around is not turned into ours."""
    emulator.fault("cdn", Drip(bytes_per_s=100))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.02):
            await open_downloads().fetch(link)


async def test_silent_connection_is_bounded_by_connect_s(open_downloads, greet):
    """Name look-up, TCP and TLS have a time of their own."""
    port = await greet(b"")
    with pytest.raises(DownloadError, match=r"no answer within 0\.01 s"):
        await open_downloads(connect_s=0.01).fetch(f"https://127.0.0.1:{port}/1.png")


class LoopOfSlowNames(asyncio.SelectorEventLoop):
    """A loop whose name look-ups never come back."""

    async def getaddrinfo(self, *_args, **_options):
        await asyncio.Event().wait()


def test_name_look_up_is_bounded_by_connect_s():
    """A resolver that hangs is a failure to connect, told as such, and another attempt follows."""

    async def fetch():
        downloads = Downloads(total_s=5, connect_s=0.01, limit=1, allow_loopback=False)
        try:
            await downloads.fetch("https://cdn.test/1.png")
        finally:
            await downloads.aclose()

    with (
        asyncio.Runner(loop_factory=LoopOfSlowNames) as runner,
        pytest.raises(DownloadError, match=r"^could not fetch https://cdn.test/1.png: no answer within 0\.01 s$"),
    ):
        runner.run(fetch())


async def test_no_more_downloads_than_allowed_are_under_way(open_downloads, serve, http_ok, png):
    gate = asyncio.Event()

    async def wait(_reader, writer):
        await gate.wait()
        writer.write(http_ok(png, "image/png"))

    server = await serve(wait)
    downloads = open_downloads(limit=2)
    fetching = [asyncio.create_task(downloads.fetch(server.origin)) for _ in range(5)]
    while len(server.heads) < 2:
        await asyncio.sleep(0)
    await asyncio.sleep(0.01)
    assert len(server.heads) == 2
    gate.set()
    assert await asyncio.gather(*fetching) == [png] * 5


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
    """Its head was there: who reads on hears of the close at once."""

    async def drip(reader, writer):
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\nContent-Length: 9\r\n\r\n\x89")
        await reader.read()

    server = await serve(drip)
    fetching = asyncio.create_task(downloads.fetch(f"{server.origin}/1.png"))
    while not downloads._arrived:
        await asyncio.sleep(0)
    async with asyncio.timeout(2):
        await downloads.aclose()
        with pytest.raises(DownloadError, match="Connection closed"):
            await fetching
    assert downloads._arrived == set()


async def test_closing_ends_a_download_between_two_attempts(downloads, serve, http_ok):
    """It ends with `DownloadError` as any other, and nothing is opened again."""
    server = await serve(http_ok(b"", status="503 Service Unavailable"))
    fetching = asyncio.create_task(downloads.fetch(server.origin))
    await server.arrived.wait()
    await asyncio.sleep(0.02)
    await downloads.aclose()
    with pytest.raises(DownloadError):
        await fetching
    assert len(server.heads) == 1


async def test_closed_downloads_open_nothing(downloads, link, emulator):
    await downloads.aclose()
    with pytest.raises(DownloadError, match="the session is closed"):
        await downloads.fetch(link)
    assert tries(emulator) == 0


async def test_download_that_waited_for_its_turn_when_the_session_closed_is_not_begun(open_downloads, serve):
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


async def test_session_of_the_real_service_follows_no_link_to_this_machine(serve, http_ok, png):
    """Whether loopback is allowed follows from where the API is."""
    server = await serve(http_ok(png, "image/png"))
    async with LemonSession("sk-x", base_url="https://api.test", polling=PollPolicy()) as session:
        with pytest.raises(DownloadError, match="not followed"):
            await session._engine.tasks._downloads.fetch(f"{server.origin}/1.png")
    assert server.heads == []


async def test_redirect_that_no_parser_reads_is_refused(downloads, emulator, link):
    """Whatever a `Location` holds, the caller meets a `DownloadError`."""
    emulator.fault("cdn", Redirect("https://x@2H&\u00ff:\u00fe][9.@", 302))
    with pytest.raises(DownloadError):
        await downloads.fetch(link)
