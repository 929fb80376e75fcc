"""Fixtures that several test folders share. The fixtures for users come from the package's pytest plugin."""

import asyncio
import base64
import gc
import io
import logging
import os
import struct
import sys
import threading
import zlib
from contextlib import AsyncExitStack, asynccontextmanager
from functools import lru_cache

import orjson
import pytest
from PIL import Image

import open_files as listed
from kills import Processes
from lemon_async import EditRequest, LemonSession, PollPolicy, RetryPolicy
from lemon_async._images.downloads import Downloads
from lemon_async._images.links import LinkClient
from lemon_async.batch import threaded_journal
from lemon_async.emulator import Emulator
from lemon_async.emulator.pictures import render
from postgres_server import PostgresServer
from servers import ScriptedServer, gateway_to, listening

try:
    from hypothesis import HealthCheck, settings
except ModuleNotFoundError:  # some environments of `.ci/run` are for tests that do without
    pass
else:  # no example fails because the machine is busy, or in one run of many; more examples are for the fuzzers
    suppressed = [HealthCheck.too_slow]
    options = {"deadline": None, "derandomize": True, "suppress_health_check": suppressed}
    settings.register_profile("tests", max_examples=40, **options)
    settings.load_profile("tests")

QUICK = PollPolicy(min_gap_s=0.005, max_gap_s=0.02, deadline_s=120, lost_after_s=0.02)
ONCE = RetryPolicy(max_elapsed_s=0)

# Without a given limit, the first 429 would set the lowest documented tier: one request a second.
UNPACED_RPM = 60_000


# A disk that other programs keep busy may take longer than five seconds.
threaded_journal._CLOSE_WITHIN_S = 60.0

# Interpreters that tests start, and the next run, would compile everything again.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False


def pytest_addoption(parser):
    parser.addoption("--uvloop", action="store_true", help="run async tests on uvloop instead of asyncio's own loop")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers():
    """Have two workers more than processors, because tests also wait: for deadlines, disks and other processes."""
    return len(os.sched_getaffinity(0)) + 2 if hasattr(os, "sched_getaffinity") else None


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """Collect without garbage collections: every worker creates a million objects then, and drops hardly any."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


def pytest_collection_modifyitems(items):
    """Begin with the longest tests, so that the last worker to end has none of them."""
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


@pytest.fixture(scope="module", autouse=True)
def settled_heap():
    """Exclude what outlives the tests, thousands of items and reports, from every garbage collection."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def drawings():
    """Draw a picture once for all emulators, because a megapixel takes longer than most tests; each gets a copy."""
    original = render.render
    drawn = lru_cache(64)(original)
    render.render = lambda wanted: bytes(memoryview(drawn(wanted)))
    yield
    render.render = original


@pytest.fixture(scope="session")
def anyio_backend(pytestconfig):
    return "asyncio", {"use_uvloop": pytestconfig.getoption("uvloop")}


@pytest.fixture(scope="session")
def processes():
    """Processes for batches that are killed."""
    started = Processes()
    yield started
    started.close()


@pytest.fixture(scope="session")
def postgres():
    """A PostgreSQL server for databases of tests; a test that stops it starts it again."""
    server = PostgresServer()
    yield server
    server.remove()


@pytest.fixture
async def emulator():
    """An emulator whose jobs take a few milliseconds."""
    async with Emulator(speed=6000, durations=30.0) as running:
        yield running


@pytest.fixture
def connect(emulator):
    """Open sessions to the emulator; options override defaults that suit its speed."""

    @asynccontextmanager
    async def open_session(**options):
        options = {"polling": QUICK, "retry": ONCE, "requests_per_minute": UNPACED_RPM, **options}
        async with LemonSession(emulator.api_key, base_url=emulator.base_url, **options) as session:
            yield session

    return open_session


@pytest.fixture(scope="session")
def picture():
    """Make the file of a picture; a PNG is padded to any length with a chunk that readers skip."""

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


@pytest.fixture
async def gateway(emulator):
    """A gateway that serves the emulator below `/lemon`."""
    async with gateway_to(emulator.base_url) as running:
        yield running


@pytest.fixture
def no_drawing():
    """Wait for the threads of closed emulators, which may still draw: memory and objects are those of the process."""
    for thread in threading.enumerate():
        if thread.name.startswith("lemon-emulator"):
            thread.join(60)


@pytest.fixture
def library_log(caplog):
    """What the library logs: asyncio may speak of what other tests have left."""
    ours = logging.Filter("lemon_async")
    caplog.handler.addFilter(ours)
    yield caplog
    caplog.handler.removeFilter(ours)


@pytest.fixture
def timers(pytestconfig):
    """Return the timers that the event loop still holds."""
    if pytestconfig.getoption("uvloop"):
        pytest.skip("uvloop does not list its timers")
    return lambda: [timer for timer in asyncio.get_running_loop()._scheduled if not timer.cancelled()]


@pytest.fixture
async def listen():
    """Start servers with an `async handle(reader, writer)`; starting one returns its origin."""
    async with AsyncExitStack() as servers:
        yield lambda handle, **options: servers.enter_async_context(listening(handle, **options))


@pytest.fixture
def serve(listen):
    """Start servers that answer from a script, one answer per connection."""

    async def start(*answers):
        server = ScriptedServer(list(answers))
        server.origin = await listen(server.handle)
        return server

    return start


@pytest.fixture
def greet(listen):
    """Open ports whose connections send some bytes and then stay silent."""

    async def start(greeting):
        async def hello(_reader, writer):
            writer.write(greeting)
            await asyncio.Event().wait()

        return int((await listen(hello)).rpartition(":")[2])

    return start


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
    """Build an HTTP response: `http_ok(body, content_type=..., status=..., **headers)`."""

    def build(body=b"", content_type="application/json", status="200 OK", **headers):
        extra = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
        head = f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n{extra}"
        return f"{head}Connection: close\r\n\r\n".encode() + body

    return build


@pytest.fixture
def arrived(emulator):
    """Return the SHA-256 of every picture that was sent to the emulator, in a list for each task."""

    def digests():
        tasks = emulator._store.tasks.values()
        return [[source.blob.digest for source in task.spec.picture.sources] for task in tasks]

    return digests


@pytest.fixture
def open_files():
    """Count the open files of this process, after a garbage collection that warns of forgotten ones."""
    if not listed.IS_LISTED:
        pytest.skip("this system does not list open files")

    def count():
        gc.collect()
        return listed.open_files().total()

    return count


@pytest.fixture
async def open_downloads():
    """Make `Downloads` that are closed after the test."""
    opened = []

    def make(**options):
        own = {
            name: options.pop(name) for name in ("total_s", "pause_s", "pause", "limit", "emitter") if name in options
        }
        links = LinkClient(**{"connect_s": 30, "allow_loopback": True, **options})
        opened.append(Downloads(links, **{"total_s": 60, "pause_s": 0, "limit": 8, **own}))
        return opened[-1]

    yield make
    for downloads in opened:
        await downloads.aclose()


@pytest.fixture
def downloads(open_downloads):
    return open_downloads()


@pytest.fixture
async def link(connect):
    """The link to a picture of the emulator."""
    async with connect() as session:
        images = await session.generate("a cat", model="flux-pro")
        return images[0].url


def stream_event(name, **fields):
    return f"event: {name}\r\n".encode() + b"data: " + orjson.dumps({"type": name, **fields}) + b"\r\n\r\n"


@pytest.fixture
def tiny(picture):
    """A request whose pictures are small, and so drawn quickly."""
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
    """Open sessions to a server that sends these pieces as events; `None` resets the connection."""

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
