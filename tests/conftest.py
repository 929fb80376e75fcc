"""Fixtures that the test folders share; those for users come from the package's pytest plugin."""

import gc
import io
import struct
import zlib
from contextlib import asynccontextmanager

import aiohttp
import attrs
import pytest
from aiohttp import web
from PIL import Image

from lemon_async import LemonSession, PollPolicy, RetryPolicy
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
