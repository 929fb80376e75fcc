"""Links are followed to public addresses only, and a download that broke off requests what is missing."""

import asyncio

import pytest

from lemon_async import DownloadError, LemonSession, PollPolicy
from lemon_async._images.downloads import Downloads
from lemon_async._images.links import MAX_BYTES, FetchFailed, LinkClient, ResumableDownload
from lemon_async.emulator import Redirect


def tries(emulator):
    return sum(request.route == "cdn" for request in emulator.requests)


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
    """A result link of the real service never leads to the user's machine."""
    server = await serve(http_ok(png, "image/png"))
    with pytest.raises(DownloadError, match=r"not followed, because it (does not use https|points into a private)"):
        await open_downloads(allow_loopback=False).fetch(f"http://{host}:{server.port}/1.png")
    with pytest.raises(DownloadError, match="not followed, because it points into a private network"):
        await open_downloads(allow_loopback=False).fetch(f"https://{host}:{server.port}/1.png")
    assert server.heads == []


# Redirects


async def test_redirects_are_followed_and_carry_nothing(downloads, serve, http_ok, png):
    """To another host with an absolute URL, or to the same host with a relative one."""
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


async def test_redirect_without_a_location_ends(downloads, serve, http_ok):
    """Without a `Location`, the redirect leads to the same address."""
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
async def test_redirect_to_a_forbidden_address_is_refused(downloads, link, emulator, location):
    emulator.fault("cdn", Redirect(location))
    with pytest.raises(DownloadError, match="not followed, because it"):
        await downloads.fetch(link)
    assert tries(emulator) == 1


async def test_session_of_the_real_service_follows_no_link_to_this_machine(serve, http_ok, png):
    """Loopback is allowed only if the API is on loopback."""
    server = await serve(http_ok(png, "image/png"))
    async with LemonSession("sk-x", base_url="https://api.test", polling=PollPolicy()) as session:
        with pytest.raises(DownloadError, match="not followed"):
            await session._engine.downloads.fetch(f"{server.origin}/1.png")
    assert server.heads == []


async def test_malformed_redirect_is_refused(downloads, emulator, link):
    """Any bad `Location` raises `DownloadError`."""
    emulator.fault("cdn", Redirect("https://x@2H&\u00ff:\u00fe][9.@", 302))
    with pytest.raises(DownloadError):
        await downloads.fetch(link)


# Names


async def test_silent_connection_is_bounded_by_connect_s(open_downloads, greet):
    """Name look-up, TCP and TLS have a separate timeout."""
    port = await greet(b"")
    with pytest.raises(DownloadError, match=r"no response within 0\.01 s"):
        await open_downloads(connect_s=0.01).fetch(f"https://127.0.0.1:{port}/1.png")


class LoopOfSlowNames(asyncio.SelectorEventLoop):
    """An event loop whose name look-ups never return."""

    async def getaddrinfo(self, *_args, **_options):
        await asyncio.Event().wait()


def test_name_look_up_is_bounded_by_connect_s():
    """A resolver that hangs is a failure to connect, and another attempt follows."""

    async def fetch():
        downloads = Downloads(LinkClient(connect_s=0.01, allow_loopback=False), total_s=60, limit=1)
        try:
            await downloads.fetch("https://cdn.test/1.png")
        finally:
            await downloads.aclose()

    with (
        asyncio.Runner(loop_factory=LoopOfSlowNames) as runner,
        pytest.raises(DownloadError, match=r"^could not fetch https://cdn.test/1.png: no response within 0\.01 s$"),
    ):
        runner.run(fetch())


# The next request of a download, given its bytes and headers so far

TAGGED = {"ETag": '"v1"'}


def arrived(piece, headers, length=None):
    download = ResumableDownload()
    assert not download.start(headers, length)
    assert download.feed(piece) is None
    return download


WITH_RANGES = [
    (TAGGED, None, '"v1"'),
    ({"ETag": 'W/"v1"', "Last-Modified": "a date"}, None, "a date"),
]


def test_rest_is_requested(png):
    for headers, length, condition in WITH_RANGES:
        wanted = {"Range": "bytes=20-"} | ({"If-Range": condition} if condition else {})
        assert arrived(png[:20], headers, length).range_headers() == wanted


WITHOUT_RANGES = [
    ({}, 99),
    ({"Accept-Ranges": "bytes"}, None),
    ({"Accept-Ranges": "bytes"}, 99),
    ({"ETag": 'W/"v1"'}, 99),
    ({"ETag": '"v1"', "Accept-Ranges": "none"}, 99),
]


def test_all_is_requested_if_the_rest_could_be_of_another_picture(png):
    for headers, length in WITHOUT_RANGES:
        download = arrived(png[:20], headers, length)
        assert (download.kept_bytes, download.range_headers()) == (0, {})


def test_all_is_requested_at_first():
    assert ResumableDownload().range_headers() == {}


def test_all_is_requested_after_a_mismatch(png):
    download = arrived(png[:40], TAGGED)
    assert download.pop_checked() == png[:40]
    with pytest.raises(FetchFailed):
        download.resume(416, {}, None)
    assert download.start(TAGGED, None)
    download.feed(png[:40])
    assert download.range_headers() == {}


def test_nothing_is_passed_on_before_it_is_a_picture(png):
    """The consumer never receives an error page, and restarts before that are invisible."""
    download = arrived(png[:20], TAGGED)
    assert download.pop_checked() == b""
    assert not download.start(TAGGED, None)
    for begin, end in ((0, 20), (20, 31), (31, 40)):
        assert download.pop_checked() == b""
        download.feed(png[begin:end])
    assert download.pop_checked() == png[:40]
    assert download.pop_checked(is_end=True) == b""


def test_part_that_would_make_the_picture_too_large_is_refused(png):
    """Even if its length was unknown before."""
    download = arrived(png[:20], TAGGED)
    with pytest.raises(DownloadError, match="the response is larger than 134,217,728 bytes"):
        download.resume(206, {"Content-Range": f"bytes 20-{MAX_BYTES}/*"} | TAGGED, None)


def test_part_without_the_tag_of_the_whole_is_no_part_of_it(png):
    """A server that ignores the condition sends the rest of another picture."""
    with pytest.raises(FetchFailed):
        arrived(png[:20], TAGGED).resume(206, {"Content-Range": "bytes 20-29/*"}, 10)


def test_range_of_unknown_total_says_how_far_the_part_goes(png):
    download = arrived(png[:20], TAGGED)
    download.resume(206, {"Content-Range": "bytes 20-29/*"} | TAGGED, 10)
    assert download.feed(png[20:30]) is None
    assert "more was sent than was announced" in str(download.feed(b"1"))


def test_picture_that_is_too_large_is_refused_while_it_comes(png):
    download = arrived(png[:33] + b"\xff\xff\xff\xffIDAT", {})
    assert isinstance(download.feed(bytes(MAX_BYTES)), DownloadError)


def test_traceback_with_local_variables_shows_no_bytes(png):
    assert "PNG" not in repr(arrived(png, TAGGED))
