"""Servers on the loopback interface for tests: raw ones that misbehave on purpose, and a gateway to the API."""

import asyncio
import random
import re
import socket
from contextlib import asynccontextmanager, suppress

import aiohttp
import attrs
from aiohttp import web

__all__ = ["Gateway", "ScriptedServer", "free_port", "gateway_to", "listening", "read_request"]

_PORTS = iter(random.sample(range(20_000, 32_000), 12_000))  # in an order of this process, which takes each once


def free_port():
    """Return a TCP port that nothing uses, below those that systems give to connections: so it stays free.

    Other processes of the tests do not choose it either: its UDP port is taken until this process ends.
    """
    for port in _PORTS:
        address = ("127.0.0.1", port)
        with suppress(OSError), socket.create_server(address), socket.socket(type=socket.SOCK_DGRAM) as claim:
            claim.bind(address)
            claim.detach()
            return port
    raise OSError("no free port found")


@asynccontextmanager
async def listening(handle, **options):
    """Run a TCP server with the connection handler `async handle(reader, writer)`, and yield its origin.

    A connection is closed when its handler returns, or when the peer hangs up; all are when the block ends.
    """
    handlers = set()

    async def serve(reader, writer):
        handlers.add(asyncio.current_task())
        try:
            if server.is_serving():  # otherwise it came as the block ended, and nothing would cancel its handler
                await handle(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            handlers.discard(asyncio.current_task())
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, **options)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        running = tuple(handlers)
        for handler in running:
            handler.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await server.wait_closed()


async def read_request(reader):
    """Return the head of a request as text, and its body of announced length."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    length = re.search(r"(?i)content-length: (\d+)", head)
    return head, await reader.readexactly(int(length[1]) if length else 0)


@attrs.define(eq=False)
class ScriptedServer:
    """A server that answers one request per connection from a script, and records the requests.

    Attributes:
        answers: One per connection, the last one for all that follow: bytes, or `async (reader, writer)`.
        heads: Heads of the requests.
        bodies: Bodies of the requests.
        arrived: Set when a request has arrived.
    """

    answers: list
    origin: str = ""
    heads: list = attrs.field(factory=list)
    bodies: list = attrs.field(factory=list)
    arrived: asyncio.Event = attrs.field(factory=asyncio.Event)

    @property
    def port(self):
        return int(self.origin.rpartition(":")[2])

    async def handle(self, reader, writer):
        head, body = await read_request(reader)
        answer = self.answers[min(len(self.heads), len(self.answers) - 1)]
        self.heads.append(head)
        self.bodies.append(body)
        self.arrived.set()
        if isinstance(answer, bytes):
            writer.write(answer)
            await writer.drain()
        else:
            await answer(reader, writer)


@attrs.define(eq=False)
class Gateway:
    """A reverse proxy that serves the API below a path, and records the requests.

    Attributes:
        target: Origin of the API.
        is_rewriting: Whether it puts its path before the `poll_url`s in the API's responses.
        requests: Path and headers of each request.
        may_answer: Responses wait for it.
    """

    target: str
    http: aiohttp.ClientSession
    prefix: str = "/lemon"
    is_rewriting: bool = False
    requests: list = attrs.field(factory=list)
    origin: str = ""
    may_answer: asyncio.Event = attrs.field(factory=asyncio.Event)

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
        ) as response:
            content = await response.read()
            await self.may_answer.wait()
            if self.is_rewriting:
                content = content.replace(b'"/v1/', f'"{self.prefix}/v1/'.encode())
            kept = {name: response.headers[name] for name in ("Content-Type", "Location") if name in response.headers}
            return web.Response(status=response.status, body=content, headers=kept)


@asynccontextmanager
async def gateway_to(target):
    """Run a gateway to the API at an origin."""
    async with aiohttp.ClientSession() as http:
        gateway = Gateway(target, http)
        gateway.may_answer.set()
        runner = web.ServerRunner(web.Server(gateway.handle, access_log=None, handler_cancellation=True))
        await runner.setup()
        try:
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            gateway.origin = f"http://127.0.0.1:{runner.addresses[0][1]}"
            yield gateway
        finally:
            await runner.cleanup()
