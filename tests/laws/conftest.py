"""Sessions that are quick to poll, and servers that must never be reached."""

import asyncio
from contextlib import asynccontextmanager

import attrs
import pytest

from lemon_async import LemonSession, PollPolicy, RetryPolicy
from lemon_async.emulator import Emulator

QUICK = PollPolicy(min_gap_s=0.005, max_gap_s=0.02, deadline_s=20, lost_after_s=0.02)
ONCE = RetryPolicy(max_elapsed_s=0)


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
        options = {"polling": QUICK, "retry": ONCE, **options}
        async with LemonSession(emulator.api_key, base_url=emulator.base_url, **options) as session:
            yield session

    return open_session


@attrs.define
class Stranger:
    """A server that is not the API; it notes what it is sent."""

    port: int = 0
    requests: list = attrs.field(factory=list)

    @property
    def authority(self):
        return f"127.0.0.1:{self.port}"

    async def serve(self, reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        self.requests.append(head.decode("latin-1"))
        writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()


@pytest.fixture
async def stranger():
    """A second server, beside the API."""
    other = Stranger()
    server = await asyncio.start_server(other.serve, "127.0.0.1", 0)
    other.port = server.sockets[0].getsockname()[1]
    async with server:
        yield other
