"""Fixtures that the test folders share; those for users come from the package's pytest plugin."""

import gc
import io
import struct
import zlib
from contextlib import asynccontextmanager

import pytest
from PIL import Image

from lemon_async import LemonSession, PollPolicy, RetryPolicy
from lemon_async.emulator import Emulator

QUICK = PollPolicy(min_gap_s=0.005, max_gap_s=0.02, deadline_s=20, lost_after_s=0.02)
ONCE = RetryPolicy(max_elapsed_s=0)

# With no limit given, the first 429 would teach the lowest documented tier: one request a second from there on.
UNPACED_RPM = 60_000


@pytest.fixture(scope="module", autouse=True)
def settled_heap():
    """Spare the garbage collector what outlives the tests: thousands of items and reports, in every collection."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def anyio_backend():
    return "asyncio"


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
