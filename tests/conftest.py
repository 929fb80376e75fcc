"""Fixtures that the test folders share; those for users come from the package's pytest plugin."""

import asyncio
import base64
import gc
import io
import os
import struct
import zlib
from contextlib import asynccontextmanager, suppress

import aiohttp
import attrs
import orjson
import pytest
from aiohttp import web
from PIL import Image

from lemon_async import EditRequest, LemonSession, PollPolicy, RetryPolicy
from lemon_async._images.downloads import Downloads
from lemon_async.emulator import Emulator

QUICK = PollPolicy(min_gap_s=0.005, max_gap_s=0.02, deadline_s=20, lost_after_s=0.02)
ONCE = RetryPolicy(max_elapsed_s=0)

# With no limit given, the first 429 would teach the lowest documented tier: one request a second from there on.
UNPACED_RPM = 60_000


def pytest_addoption(parser):
    parser.addoption("--uvloop", action="store_true", help="run async tests on uvloop instead of asyncio's own loop")


@pytest.fixture(scope="module", autouse=True)
def settled_heap():
    """Spare the garbage collector what outlives the tests: thousands of items and reports, in every collection."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def anyio_backend(pytestconfig):
    return "asyncio", {"use_uvloop": pytestconfig.getoption("uvloop")}


@pytest.fixture
async def emulator():
    """An emulator whose jobs take a few milliseconds."""
    async with Emulator(speed=6000, durations=30.0) as running:
        yield running


@pytest.fixture
def connect(emulator):
    """Open sessions on the emulator; options override the quick defaults."""

    @asynccontextmanager
    async def open_session(**options):
        options = {"polling": QUICK, "retry": ONCE, "requests_per_minute": UNPACED_RPM, **options}
        async with LemonSession(emulator.api_key, base_url=emulator.base_url, **options) as session:
            yield session

    return open_session


@pytest.fixture(scope="session")
def picture():
    """Make the file of a picture; a PNG is padded to any length with a chunk that nobody reads."""

    def make(size=(16, 16), mode="RGBA", *, kind="PNG", colour=0, pad_to=None):
        file = io.BytesIO()
        Image.new(mode, size, colour).save(file, kind)
        raw = file.getvalue()
        if pad_to is None:
            return raw
        padding = b"paDd" + bytes(pad_to - len(raw) - 12)
        chunk = struct.pack(">I", len(padding) - 4) + padding + struct.pack(">I", zlib.crc32(padding))
        return raw[:-12] + chunk + raw[-12:]

    return make


@attrs.define(eq=False)
class Gateway:
    """A reverse proxy that serves the API below a path, and notes what it is sent.

    Attributes:
        target: Origin of the API.
        is_rewriting: Whether it puts its path before the `poll_url`s in the API's answers.
        requests: Path and headers of each request.
    """

    target: str
    prefix: str = "/lemon"
    is_rewriting: bool = False
    requests: list = attrs.field(factory=list)
    origin: str = ""
    http: aiohttp.ClientSession | None = None

    @property
    def base_url(self):
        return f"{self.origin}{self.prefix}"

    @property
    def paths(self):
        return [path for path, _ in self.requests]

    async def handle(self, request):
        self.requests.append((request.raw_path, request.headers))
        if not request.raw_path.startswith(f"{self.prefix}/"):
            return web.Response(status=404, text="nothing is served here")
        path = request.raw_path.removeprefix(self.prefix)
        headers = {name: value for name, value in request.headers.items() if name not in {"Host", "Content-Length"}}
        body = await request.read()
        async with self.http.request(
            request.method, f"{self.target}{path}", headers=headers, data=body, allow_redirects=False
        ) as answer:
            content = await answer.read()
            if self.is_rewriting:
                content = content.replace(b'"/v1/', f'"{self.prefix}/v1/'.encode())
            kept = {name: answer.headers[name] for name in ("Content-Type", "Location") if name in answer.headers}
            return web.Response(status=answer.status, body=content, headers=kept)


@pytest.fixture
async def gateway(emulator):
    """A gateway that serves the emulator below `/lemon`."""
    proxy = Gateway(emulator.base_url)
    runner = web.ServerRunner(web.Server(proxy.handle, access_log=None))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    proxy.origin = f"http://127.0.0.1:{runner.addresses[0][1]}"
    async with aiohttp.ClientSession() as proxy.http:
        yield proxy
    await runner.cleanup()


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
        return [[source.blob.digest for source in task.spec.sources] for task in tasks]

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
