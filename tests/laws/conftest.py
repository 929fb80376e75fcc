"""Sessions that are quick to poll, and servers that must never be reached."""

import asyncio

import attrs
import pytest


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
