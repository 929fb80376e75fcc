"""Quick sessions on an emulator, servers that misbehave, and stand-ins for what a unit is built on."""

import asyncio
import base64
import gc
import os
import struct
import zlib
from contextlib import suppress

import attrs
import orjson
import pytest

from lemon_async import EditRequest, LemonSession, RetryPolicy
from lemon_async.client.download import Downloads


@attrs.define(eq=False)
class OddServer:
    """A server that answers one request per connection with whatever it was told, and notes what it was sent.

    Attributes:
        answers: One per connection, the last one for all that follow; bytes, or what to do with the connection.
        heads: Heads of the requests, as they came.
        bodies: Bodies of the requests.
        arrived: Set when a request has come.
    """

    answers: list
    heads: list = attrs.field(factory=list)
    bodies: list = attrs.field(factory=list)
    arrived: asyncio.Event = attrs.field(factory=asyncio.Event)
    port: int = 0
    _handlers: set = attrs.field(factory=set)
    _server: asyncio.Server | None = None

    @property
    def origin(self):
        return f"http://127.0.0.1:{self.port}"

    async def start(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def aclose(self):
        self._server.close()
        for handler in self._handlers:
            handler.cancel()
        await asyncio.gather(*self._handlers, return_exceptions=True)
        await self._server.wait_closed()

    async def _serve(self, reader, writer):
        self._handlers.add(asyncio.current_task())
        try:
            await self._answer(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    async def _answer(self, reader, writer):
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        length = [line.split(":")[1] for line in head.split("\r\n") if line.lower().startswith("content-length")]
        self.bodies.append(await reader.readexactly(int(length[0])) if length else b"")
        answer = self.answers[min(len(self.heads), len(self.answers) - 1)]
        self.heads.append(head)
        self.arrived.set()
        if isinstance(answer, bytes):
            writer.write(answer)
            await writer.drain()
        else:
            await answer(reader, writer)


@pytest.fixture
def timers(pytestconfig):
    """List the timers that the event loop still holds."""
    if pytestconfig.getoption("uvloop"):
        pytest.skip("uvloop does not list its timers")
    return lambda: [timer for timer in asyncio.get_running_loop()._scheduled if not timer.cancelled()]


@pytest.fixture
async def serve():
    """Start servers of odd answers, one answer per connection."""
    servers = []

    async def start(*answers):
        servers.append(OddServer(list(answers)))
        await servers[-1].start()
        return servers[-1]

    yield start
    for server in servers:
        await server.aclose()


@pytest.fixture
async def greet():
    """Open ports where each connection hears some bytes at once and then nothing."""
    servers, accepted = [], []

    async def start(greeting):
        def hello(_reader, writer):
            accepted.append(writer)
            writer.write(greeting)

        servers.append(await asyncio.start_server(hello, "127.0.0.1", 0))
        return servers[-1].sockets[0].getsockname()[1]

    yield start
    for server in servers:
        server.close()
    for writer in accepted:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


def _chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


@pytest.fixture(scope="session")
def png():
    """A whole picture of 2 x 3 pixels."""
    header = struct.pack(">IIBBBBB", 2, 3, 8, 0, 0, 0, 0)
    pixels = zlib.compress(b"\0\0\0" * 3)
    chunks = _chunk(b"IHDR", header) + _chunk(b"IDAT", pixels) + _chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


@pytest.fixture(scope="session")
def http_ok():
    """Build a plain HTTP answer: `http_ok(body, content_type=..., status=..., **headers)`."""

    def build(body=b"", content_type="application/json", status="200 OK", **headers):
        extra = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
        head = f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n{extra}"
        return f"{head}Connection: close\r\n\r\n".encode() + body

    return build


@pytest.fixture
def arrived(emulator):
    """What reached the emulator: the SHA-256 of every picture of every task, in the order in which they were sold."""

    def digests():
        tasks = emulator._store.tasks.values()
        return [[source.stored.digest for source in task.order.sources] for task in tasks]

    return digests


@pytest.fixture
def open_files():
    """Count what this process has open; garbage is collected first, so that what was only forgotten is warned of."""
    if not os.path.isdir("/proc/self/fd"):  # noqa: PTH112 - not a file of ours
        pytest.skip("this system does not tell")

    def count():
        gc.collect()
        return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - likewise

    return count


@pytest.fixture
async def open_downloads():
    """Make downloads that are closed when the test is over."""
    opened = []

    def make(**options):
        settings = {"total_s": 5, "pause_s": 0, "connect_s": 5, "limit": 8, "allow_loopback": True, **options}
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


def stream_event(name, **fields):
    return f"event: {name}\r\n".encode() + b"data: " + orjson.dumps({"type": name, **fields}) + b"\r\n\r\n"


@pytest.fixture
def tiny(picture):
    """A request whose pictures are quickly drawn: as large as the one it starts from."""
    return EditRequest("a hat", image=picture(mode="RGB"), model="gpt-image-2")


@pytest.fixture
def preview(png):
    text = base64.b64encode(png).decode()
    return lambda index=0: stream_event("image_generation.partial_image", b64_json=text, partial_image_index=index)


@pytest.fixture
def final(png):
    text = base64.b64encode(png).decode()
    return lambda **fields: stream_event("image_generation.completed", b64_json=text, **fields)


@pytest.fixture
def streaming(serve):
    """Open sessions on a server that sends these pieces as events; `None` breaks the connection off."""

    async def open_session(*pieces, is_chunked=True, coding=None, **options):
        async def answer(_reader, writer):
            head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nX-Request-Id: req_1\r\n"
            head += b"Content-Encoding: %s\r\n" % coding.encode() if coding else b""
            writer.write(head + (b"Transfer-Encoding: chunked\r\n\r\n" if is_chunked else b"\r\n"))
            for piece in pieces:
                if piece is None:
                    writer.transport.abort()
                    return
                writer.write(b"%x\r\n%s\r\n" % (len(piece), piece) if is_chunked else piece)
                await writer.drain()
            writer.write(b"0\r\n\r\n" if is_chunked else b"")
            await writer.drain()

        server = await serve(answer)
        return LemonSession("sk-x", base_url=server.origin, retry=RetryPolicy(max_elapsed_s=0), **options)

    return open_session
