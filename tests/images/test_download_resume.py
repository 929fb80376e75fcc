"""Downloads that break off are resumed, and parts are joined only if they belong together."""

import asyncio
import re
import traceback
from collections import Counter
from contextlib import suppress
from io import FileIO
from pathlib import Path

import attrs
import pytest

from lemon_async import DownloadError
from lemon_async._images.atomic_file import AtomicFile
from lemon_async.emulator import Cut, Drip, HalfClose, Status

HEAD = "HTTP/1.1 {status}\r\nContent-Type: image/png\r\nConnection: close\r\n{lines}\r\n"


@attrs.define
class Cdn:
    """A server of one file that breaks off after a number of bytes in each response, and records requests.

    Attributes:
        content: The file.
        cuts: After how many bytes the first answers break off; later ones do not.
        marks: Headers that every answer has.
        honours: Whether parts are served.
        twist: What changes the headers and the body of a part.
        asked: The `Range` and `If-Range` of each request.
    """

    content: bytes
    cuts: list = attrs.field(factory=list)
    marks: dict = attrs.field(factory=lambda: {"ETag": '"v1"'})
    honours: bool = True
    has_length: bool = True
    twist: object = None
    asked: list = attrs.field(factory=list)
    server: object = None

    @property
    def url(self):
        return f"{self.server.origin}/cat.png"

    async def answer(self, _reader, writer):
        head = self.server.heads[-1]
        fields = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if line)
        asked, condition = fields.get("Range"), fields.get("If-Range")
        cut = self.cuts[len(self.asked)] if len(self.asked) < len(self.cuts) else None
        self.asked.append((asked, condition))
        known = {None, self.marks.get("ETag"), self.marks.get("Last-Modified")}
        status, headers, body = "200 OK", dict(self.marks), self.content
        if self.honours and asked and condition in known:
            first = int(re.fullmatch(r"bytes=(\d+)-", asked)[1])
            status, body = "206 Partial Content", self.content[first:]
            headers["Content-Range"] = f"bytes {first}-{len(self.content) - 1}/{len(self.content)}"
        if self.has_length:
            headers["Content-Length"] = str(len(body))
        if self.twist and asked:
            status, headers, body = self.twist(status, headers, body)
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        writer.write(HEAD.format(status=status, lines=lines).encode() + body[:cut])


@pytest.fixture
def cdn(serve, whole):
    async def start(**options):
        made = Cdn(options.pop("content", whole), **options)
        made.server = await serve(made.answer)
        return made

    return start


@pytest.fixture(scope="session")
def whole(picture):
    """A picture of 100,000 bytes."""
    return picture(pad_to=100_000)


@pytest.fixture(params=["fetch", "save", "stream"])
def get(request, downloads, tmp_path):
    """Each way to download."""

    async def save(url):
        file = AtomicFile(tmp_path)
        try:
            await downloads.save(url, file)
            file.publish([tmp_path / "cat.png"], replace=True)
        finally:
            file.discard()
        return (tmp_path / "cat.png").read_bytes()

    async def stream(url):
        return b"".join([piece async for piece in downloads.stream(url)])

    return {"fetch": downloads.fetch, "save": save, "stream": stream}[request.param]


async def test_download_is_resumed_where_it_broke_off(get, cdn, whole):
    """More than three times, because each attempt brings bytes."""
    server = await cdn(cuts=[40_000, 10_000, 0, 0, 20_000, 1, 0])
    assert await get(server.url) == whole
    starts = [None, 40_000, 50_000, 50_000, 50_000, 70_000, 70_001, 70_001]
    wanted = [(None, None), *((f"bytes={at}-", '"v1"') for at in starts[1:])]
    assert server.asked == wanted


@pytest.mark.parametrize(
    ("marks", "condition"),
    [
        ({"ETag": '"v1"', "Last-Modified": "Mon, 01 Jan 2024 00:00:00 GMT"}, '"v1"'),
        ({"ETag": 'W/"v1"', "Last-Modified": "Mon, 01 Jan 2024 00:00:00 GMT"}, "Mon, 01 Jan 2024 00:00:00 GMT"),
        ({"Last-Modified": "Mon, 01 Jan 2024 00:00:00 GMT"}, "Mon, 01 Jan 2024 00:00:00 GMT"),
    ],
)
async def test_range_request_is_conditional(downloads, cdn, whole, marks, condition):
    """A weak tag cannot be a condition for ranges (RFC 9110, 13.1.5)."""
    server = await cdn(cuts=[30_000], marks=marks)
    assert await downloads.fetch(server.url) == whole
    assert server.asked == [(None, None), ("bytes=30000-", condition)]


@pytest.mark.parametrize("marks", [{"Accept-Ranges": "bytes"}, {"Accept-Ranges": "bytes", "ETag": 'W/"v1"'}])
async def test_server_without_validators_gets_no_range_request(downloads, cdn, whole, marks):
    """Two pictures of the same length could be joined."""
    server = await cdn(cuts=[30_000], marks=marks)
    assert await downloads.fetch(server.url) == whole
    assert server.asked == [(None, None), (None, None)]


@pytest.mark.parametrize(
    ("marks", "has_length"),
    [({}, True), ({"Accept-Ranges": "none", "ETag": '"v1"'}, True), ({"Accept-Ranges": "bytes"}, False)],
)
async def test_server_without_ranges_gets_no_range_request(downloads, cdn, whole, marks, has_length):
    server = await cdn(cuts=[30_000], marks=marks, has_length=has_length)
    assert await downloads.fetch(server.url) == whole
    assert server.asked == [(None, None), (None, None)]


async def test_complete_response_to_a_range_request_is_used(get, cdn, whole):
    """Its complete response is used; bytes that were passed on before are not repeated."""
    server = await cdn(cuts=[30_000, 60_000, 10], honours=False)
    assert await get(server.url) == whole
    assert [asked for asked, _ in server.asked] == [None, "bytes=30000-", "bytes=60000-", "bytes=10-"]


async def test_large_picture_arrives_byte_for_byte(get, cdn, picture):
    """In many pieces and several writes, twice from the beginning."""
    large = picture(pad_to=5_000_000)
    assert await get((await cdn(content=large, cuts=[1_700_000, 2_000_000])).url) == large
    restarting = await cdn(content=large, cuts=[1_700_000, 2_000_000], honours=False)
    assert await get(restarting.url) == large


async def test_download_without_progress_is_given_up(get, cdn):
    """With or without ranges: no attempt brings anything new."""
    server = await cdn(cuts=[30_000, *[0] * 99])
    with pytest.raises(DownloadError, match="the response broke off before its end"):
        await get(server.url)
    assert len(server.asked) == 4


async def test_server_that_sends_byte_by_byte_is_given_up_at_last(downloads, cdn):
    server = await cdn(cuts=[1] * 1000)
    with pytest.raises(DownloadError, match="the response broke off before its end"):
        await downloads.fetch(server.url)
    assert len(server.asked) == 100


async def test_parts_are_joined(downloads, cdn, whole):
    """Some servers limit the size of a part."""

    def small(status, headers, body):
        first, total = re.search(r"(\d+)-\d+/(\d+)", headers["Content-Range"]).groups()
        body = body[:25_000]
        content_range = f"bytes {first}-{int(first) + len(body) - 1}/{total}"
        return status, {**headers, "Content-Range": content_range, "Content-Length": str(len(body))}, body

    server = await cdn(cuts=[25_000], twist=small)
    assert await downloads.fetch(server.url) == whole
    assert len(server.asked) == 4


async def test_part_without_the_total_length_is_accepted(downloads, cdn, whole):
    def starred(status, headers, body):
        return status, {**headers, "Content-Range": headers["Content-Range"].replace("/100000", "/*")}, body

    server = await cdn(cuts=[25_000], twist=starred)
    assert await downloads.fetch(server.url) == whole


LIES = {
    "another start": {"Content-Range": "bytes 29999-99999/100000"},
    "another length": {"Content-Range": "bytes 30000-99998/99999"},
    "a start behind the end": {"Content-Range": "bytes 30000-29999/100000"},
    "an end behind the end": {"Content-Range": "bytes 30000-100000/100000"},
    "no range": {"Content-Range": ""},
    "a range that is none": {"Content-Range": "bytes a-b/c"},
    "a range in other digits": {"Content-Range": "bytes ٣0000-99999/100000".encode().decode("latin-1")},
    "another tag": {"ETag": '"v2"'},
    "another date": {"Last-Modified": "Tue, 02 Jan 2024 00:00:00 GMT"},
    "fewer bytes than the range": {"Content-Length": "60000"},
}


@pytest.mark.parametrize("lie", LIES)
async def test_part_that_does_not_fit_is_not_joined(get, cdn, whole, lie):
    """The picture is requested again as a whole."""

    def twist(status, headers, body):
        changed = {**headers, **LIES[lie]}
        return status, changed, b"x" * int(changed["Content-Length"])

    marks = {"ETag": '"v1"', "Last-Modified": "Mon, 01 Jan 2024 00:00:00 GMT"}
    server = await cdn(cuts=[30_000, 70_000], marks=marks, twist=twist)
    assert await get(server.url) == whole
    assert [asked for asked, _ in server.asked] == [None, "bytes=30000-", None]


async def test_part_that_is_longer_than_announced_is_not_joined(get, cdn, whole):
    def longer(status, headers, body):
        return status, {name: value for name, value in headers.items() if name != "Content-Length"}, body + b"more"

    server = await cdn(cuts=[30_000], twist=longer)
    assert await get(server.url) == whole
    assert [asked for asked, _ in server.asked] == [None, "bytes=30000-", None]


async def test_part_that_is_shorter_than_announced_is_resumed(get, cdn, whole):
    """It is handled like any break."""

    def shorter(status, headers, body):
        return status, {name: value for name, value in headers.items() if name != "Content-Length"}, body[:20_000]

    server = await cdn(cuts=[30_000], twist=shorter)
    assert await get(server.url) == whole
    assert len(server.asked) == 5


async def test_part_that_is_refused_with_416_is_requested_again(get, cdn, whole):
    def beyond(_status, _headers, _body):
        return "416 Range Not Satisfiable", {"Content-Range": "bytes */30000", "Content-Length": "0"}, b""

    server = await cdn(cuts=[30_000], twist=beyond)
    assert await get(server.url) == whole
    assert [asked for asked, _ in server.asked] == [None, "bytes=30000-", None]


async def test_picture_that_says_it_is_too_large_is_refused_by_its_head(downloads, serve):
    server = await serve(b"HTTP/1.1 200 OK\r\nContent-Length: 134217729\r\n\r\n\x89PNG")
    with pytest.raises(DownloadError, match="larger than 134,217,728 bytes"):
        await downloads.fetch(server.origin)
    assert len(server.heads) == 1


async def test_compressed_part_is_refused(downloads, cdn):
    server = await cdn(
        cuts=[30_000], twist=lambda status, headers, body: (status, headers | {"Content-Encoding": "br"}, body)
    )
    with pytest.raises(DownloadError, match="Content-Encoding that was not requested"):
        await downloads.fetch(server.url)


async def test_link_that_is_refused_in_the_middle_is_refused(downloads, cdn):
    """It has expired: a new link is needed, not another attempt."""
    server = await cdn(cuts=[30_000], twist=lambda *_: ("410 Gone", {"Content-Length": "0"}, b""))
    with pytest.raises(DownloadError, match="HTTP 410") as caught:
        await downloads.fetch(server.url)
    assert caught.value.status == 410
    assert len(server.asked) == 2


async def test_picture_that_changes_while_it_is_fetched_is_the_new_one(downloads, cdn, whole, picture):
    other = picture(colour=(1, 2, 3, 255), pad_to=90_000)

    def change(*_):
        return "200 OK", {"ETag": '"v2"', "Content-Length": str(len(other))}, other

    server = await cdn(cuts=[30_000], twist=change)
    assert await downloads.fetch(server.url) == other


@pytest.mark.parametrize("pad_to", [90_000, 100])
async def test_picture_that_changes_during_a_stream_is_an_error(downloads, cdn, picture, pad_to):
    """Halves of two pictures must not be joined."""
    other = picture((8, 8), pad_to=pad_to) if pad_to > 1000 else picture((8, 8))

    def change(*_):
        return "200 OK", {"ETag": '"v2"', "Content-Length": str(len(other))}, other

    server = await cdn(cuts=[30_000], twist=change)
    handed = bytearray()

    async def take():
        async for piece in downloads.stream(server.url):
            handed.extend(piece)

    with pytest.raises(DownloadError, match="it broke off, and was another picture when it was fetched again"):
        await take()
    assert len(handed) == 30_000


async def test_emulator_supports_resuming(get, link, emulator):
    """Its links behave as those of a CDN."""
    emulator.fault("cdn", Cut(500), times=3)
    emulator.fault("cdn", HalfClose("response_body"), times=1)
    emulator.fault("cdn", Status(503), times=1)
    content = await get(link)
    assert content.startswith(b"\x89PNG")
    assert Counter(request.status for request in emulator.requests if request.route == "cdn")[206] >= 3


async def test_traceback_with_local_variables_shows_no_byte_of_a_picture(get, cdn, whole):
    """It may be megabytes long, and private."""
    server = await cdn(content=whole.replace(b"paDd" + bytes(6), b"paDdCANARY"), cuts=[60_000, *[0] * 9])
    with pytest.raises(DownloadError) as caught:
        await get(server.url)
    frames = [frame for frame in traceback.walk_tb(caught.tb) if "lemon_async" in frame[0].f_code.co_filename]
    assert len(frames) > 1
    shown = [repr(value) for frame, _ in frames for value in frame.f_locals.values()]
    assert [text for text in shown if "CANARY" in text] == []


# The place, and the deadline


async def test_stream_that_is_left_releases_its_slot(open_downloads, cdn):
    """A consumer that stops after three pieces does not block the others."""
    server = await cdn()
    downloads = open_downloads(limit=1)
    for _ in range(3):
        stream = downloads.stream(server.url)
        assert await anext(stream)
        await stream.aclose()
    assert await downloads.fetch(server.url)
    assert downloads.under_way == 0


async def test_stream_that_drips_ends_at_the_total_deadline(open_downloads, link, emulator):
    """However often it is resumed."""
    emulator.fault("cdn", Drip(bytes_per_s=2000))
    with pytest.raises(DownloadError, match=r"not finished within 0\.2 s"):
        async for _ in open_downloads(total_s=0.2).stream(link):
            pass


async def test_unread_stream_releases_its_slot_at_the_deadline(open_downloads, cdn):
    """Its connection is closed, its slot is released once, and reading on raises."""
    server = await cdn()
    downloads = open_downloads(total_s=0.2, limit=1)
    is_begun = False
    async with asyncio.timeout(60):
        while not is_begun:  # a busy machine may not read anything in time
            stream = downloads.stream(server.url)
            with suppress(DownloadError):
                is_begun = bool(await anext(stream))
    async with asyncio.timeout(30):
        await downloads._slots.acquire()
    assert downloads.under_way == 0
    with pytest.raises(DownloadError, match=r"not finished within 0\.2 s"):
        async for _ in stream:
            pass
    await stream.aclose()
    assert downloads._slots.value == 0


async def test_stream_that_was_read_to_its_end_leaves_no_timer(open_downloads, cdn, whole, timers):
    """No timer is left."""
    server = await cdn()
    downloads = open_downloads(limit=1)
    before = timers()
    assert b"".join([piece async for piece in downloads.stream(server.url)]) == whole
    assert not any("Deadline" in repr(timer) for timer in timers() if timer not in before)


async def test_stream_can_be_taken_by_several_asyncio_tasks(downloads, cdn, whole):
    """As notebook cells do: no timeout of one task is open in the other."""
    server = await cdn(cuts=[40_000])
    stream = downloads.stream(server.url)
    pieces = []
    while piece := await asyncio.create_task(anext(stream, b"")):
        pieces.append(piece)
    assert b"".join(pieces) == whole


async def test_failing_write_is_an_os_error(downloads, cdn, tmp_path):
    """A full disk is not reported as a broken link."""
    if not Path("/dev/full").exists():
        pytest.fail("this test needs a device that is full")
    file = AtomicFile(tmp_path)
    file.write(b"")
    file._file.close()
    file._file = FileIO("/dev/full", "r+")
    server = await cdn()
    with pytest.raises(OSError, match="No space left on device"):
        await downloads.save(server.url, file)
    file.discard()
    assert downloads.under_way == 0


async def test_connections_are_kept_for_the_next_picture(downloads, link, emulator):
    for _ in range(3):
        await downloads.fetch(link)
    assert "1 connections" in repr(emulator)
