"""Only silent connections are handed out, and the private parts of aiohttp that this needs exist."""

import asyncio
import shutil
import socket
import ssl
import subprocess
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp.client_proto import ResponseHandler

from lemon_async._http.connections import (
    CheckedConnector,
    UnusableConnection,
    never_resend,
    on_connected,
    take_buffered,
)

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@pytest.fixture
async def peer():
    """A server that responds to each request with `peer.answer`; `peer.connections` are those it has accepted."""

    class Peer(asyncio.Protocol):
        answer, connections, url = OK, [], ""

        def connection_made(self, transport):
            Peer.connections.append(transport)

        def data_received(self, data):
            Peer.connections[-1].write(Peer.answer)

    server = await asyncio.get_running_loop().create_server(Peer, "127.0.0.1", 0)
    Peer.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    yield Peer
    server.close()
    for transport in Peer.connections:
        transport.close()


@pytest.fixture(scope="module")
def tls(tmp_path_factory):
    """The two sides of a TLS connection to this machine."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed: it makes the certificate")
    folder = tmp_path_factory.mktemp("tls")
    command = "req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -subj /CN=localhost"
    command += " -addext subjectAltName=IP:127.0.0.1"
    subprocess.run(["openssl", *command.split()], cwd=folder, check=True, capture_output=True)
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    return server, ssl.create_default_context(cafile=folder / "cert.pem")


@asynccontextmanager
async def open_http(**options):
    async with aiohttp.ClientSession(connector=CheckedConnector(**options)) as http:
        yield http


async def get(http, peer):
    async with http.get(peer.url) as response:
        return await response.read()


async def test_private_parts_of_aiohttp_exist():
    """`connections.py` lists them; a version of aiohttp that renames one fails here first."""
    loop = asyncio.get_running_loop()
    protocol = ResponseHandler(loop)
    assert protocol._parser is None
    assert protocol.should_close in {True, False}
    content = aiohttp.StreamReader(protocol, 2**16, loop=loop)
    content.feed_data(b"abc")
    assert content._read_nowait(2) == b"ab"
    async with aiohttp.ClientSession() as session:
        assert session._retry_connection is True
    payload = aiohttp.payload.BytesPayload(b"abc")
    assert (payload._value, payload._size) == (b"abc", 3)
    assert hasattr(aiohttp.payload.Payload, "_autoclose")


async def test_connection_reports_the_request_that_gets_it(peer):
    """From then on the request counts as sent."""
    connected = []
    token = on_connected.set(lambda: connected.append(True))
    async with open_http() as http:
        await get(http, peer)
    on_connected.reset(token)
    assert connected == [True]


async def test_quiet_connection_is_used_again(peer):
    async with open_http() as http:
        for _ in range(3):
            assert await get(http, peer) == b"ok"
    assert len(peer.connections) == 1


@pytest.mark.parametrize("when", ["with the response", "read", "unread"])
async def test_connection_that_holds_a_byte_is_not_used_again(peer, when):
    """Wherever the byte is: in aiohttp's queue of messages, in its parser, or in the kernel."""
    for surplus in OK, OK[:-1], OK[:20], b"H", b"HTTP/1.1 200 OK\r\n\r\n":
        peer.answer, peer.connections = OK + surplus if when == "with the response" else OK, []
        async with open_http() as http:
            await get(http, peer)
            if when != "with the response":
                peer.connections[0].write(surplus)
            for _ in range(5 if when == "read" else 0):
                await asyncio.sleep(0)
            assert await get(http, peer) == b"ok"
        assert len(peer.connections) == 2, surplus


async def test_connection_that_the_server_has_closed_is_not_used_again(peer):
    """The event loop has not seen the end yet; the kernel has."""
    async with open_http() as http:
        await get(http, peer)
        peer.connections[0].get_extra_info("socket").shutdown(socket.SHUT_WR)
        assert await get(http, peer) == b"ok"
    assert len(peer.connections) == 2


async def test_new_connection_on_which_the_server_speaks_first_is_refused():
    class Greeter(asyncio.Protocol):
        def connection_made(self, transport):
            transport.write(b"220 mail.example ESMTP\r\n")

    server = await asyncio.get_running_loop().create_server(Greeter, "127.0.0.1", 0)
    async with server, open_http(force_close=True) as http:
        with pytest.raises(UnusableConnection):
            await http.get(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")


async def test_tls_session_tickets_on_a_new_connection_are_no_data(tls):
    """A TLS 1.3 server sends tickets right after the handshake: they do not make a connection unusable."""
    server_side, client_side = tls

    class Peer(asyncio.Protocol):
        def connection_made(self, transport):
            self.transport = transport

        def data_received(self, data):
            self.transport.write(OK)

    server = await asyncio.get_running_loop().create_server(Peer, "127.0.0.1", 0, ssl=server_side)
    url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    for options in {}, {"force_close": True}:
        async with open_http(ssl=client_side, **options) as http:
            for _ in range(3):
                async with http.get(url) as response:
                    assert await response.read() == b"ok"
    server.close()


async def test_connections_that_are_not_kept_are_closed_after_each_answer(peer):
    async with open_http(force_close=True) as http:
        for _ in range(3):
            assert await get(http, peer) == b"ok"
    assert len(peer.connections) == 3


async def test_bytes_before_a_break_can_still_be_read(peer):
    """`read` raises what broke the connection, and hides the bytes before."""
    peer.answer = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf of it"
    async with open_http() as http, http.get(peer.url) as response:
        peer.connections[0].close()
        while response.content.exception() is None:
            await asyncio.sleep(0)
        with pytest.raises(aiohttp.ClientPayloadError):
            await response.content.read(10)
        assert take_buffered(response.content, 4) == b"half"
        assert take_buffered(response.content) == b" of it"
        assert take_buffered(response.content) == b""


async def test_request_is_not_silently_sent_twice():
    """An idempotent request is repeated by aiohttp on a used connection that breaks, unless it is kept from that."""
    requests = []

    async def serve(reader, writer):
        while head := await reader.readuntil(b"\r\n\r\n"):
            requests.append(head)
            if len(requests) > 1:
                writer.close()
                return
            writer.write(OK)

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server, open_http() as http:
        never_resend(http)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with http.get(url) as response:
            await response.read()
        with pytest.raises(aiohttp.ServerDisconnectedError):
            await http.get(url)
    assert len(requests) == 2
