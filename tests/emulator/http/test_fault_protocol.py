"""Faults on the wire: what a raw socket sees of them."""

import asyncio

import pytest

from lemon_async.emulator import Body, Cut, Drip, Garbage, HalfClose, Reset, Status
from lemon_async.emulator.http.fault_protocol import Connections, FaultProtocol

BODY = b'{"prompt": "a cat", "response_format": "b64_json"}'


async def test_reset_at_accept_reads_nothing(emu, wire, submit_bytes):
    emu.fault("submit", Reset("accept"), times=1)
    seen = await wire()
    assert (seen.data, seen.is_reset) == (b"", True)
    assert emu.requests == []
    assert (await wire(submit_bytes())).data.startswith(b"HTTP/1.1 200")


async def test_half_close_at_accept_is_an_orderly_end(emu, wire):
    emu.fault("submit", HalfClose("accept"))
    seen = await wire()
    assert (seen.data, seen.is_reset) == (b"", False)


@pytest.mark.parametrize(("kind", "is_reset"), [(Reset, True), (HalfClose, False)])
async def test_request_head_break_needs_only_the_request_line(emu, wire, kind, is_reset):
    emu.fault("submit", kind("request_head"))
    seen = await wire(b"POST /v1/images/gener", b"ations?x=1 HTTP/1.1\r\n")
    assert (seen.data, seen.is_reset) == (b"", is_reset)
    assert emu.requests == []


@pytest.mark.parametrize(("kind", "is_reset"), [(Reset, True), (HalfClose, False)])
async def test_request_body_break_comes_before_the_body_was_read(emu, wire, submit_bytes, kind, is_reset):
    emu.fault("submit", kind("request_body"), key=emu.api_key)
    seen = await wire(submit_bytes(Content_Length="1000"))
    assert (seen.data, seen.is_reset) == (b"", is_reset)
    assert [request.status for request in emu.requests] == [None]


@pytest.mark.parametrize(("kind", "is_reset"), [(Reset, True), (HalfClose, False)])
async def test_response_head_break_shows_half_a_head(emu, wire, submit_bytes, kind, is_reset):
    emu.fault("submit", kind("response_head"))
    seen = await wire(submit_bytes())
    assert seen.data.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"\r\n\r\n" not in seen.data
    assert seen.is_reset == is_reset
    assert emu.requests[-1].status is None


@pytest.mark.parametrize(("kind", "is_reset"), [(Reset, True), (HalfClose, False)])
async def test_response_body_break_shows_half_a_body(emu, wire, submit_bytes, kind, is_reset):
    emu.fault("submit", kind("response_body"))
    seen = await wire(submit_bytes(BODY))
    (length,) = [int(n.split(b": ")[1]) for n in seen.head.split(b"\r\n") if b"-Length" in n]
    assert length > 100_000
    assert len(seen.body) == length // 2
    assert seen.is_reset == is_reset


@pytest.mark.parametrize("at_byte", [0, 1, 150_000])
async def test_cut_ends_at_exactly_that_byte(emu, wire, submit_bytes, at_byte):
    """Every byte before the cut arrives, although a reset discards bytes in transit."""
    emu.fault("submit", Cut(at_byte))
    seen = await wire(submit_bytes(BODY))
    assert len(seen.body) == at_byte
    assert seen.is_reset


async def read_slowly(reader, into):
    """Read in small pieces until the connection breaks."""
    while True:
        into += await reader.readexactly(1000)


async def test_cut_waits_for_a_slow_reader(emu, submit_bytes):
    """The reset follows when the client has read everything before it."""
    emu.fault("submit", Status(500, "huge"), Cut(6_000_000))
    address = emu.base_url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(*address, limit=1024)
    writer.write(submit_bytes())
    await asyncio.sleep(0.05)
    data = bytearray()
    with pytest.raises(ConnectionResetError):
        await read_slowly(reader, data)
    writer.transport.abort()
    whole = data.index(b"\r\n\r\n") + 4 + 6_000_000
    assert whole - len(data) < 1000


async def test_drip_sends_everything_slowly(emu, wire, submit_bytes):
    emu.fault("submit", Drip(10_000))
    before = asyncio.get_running_loop().time()
    seen = await wire(submit_bytes())
    assert seen.body.endswith(b"}")
    assert asyncio.get_running_loop().time() - before >= len(seen.body) / 10_000
    assert not seen.is_reset


async def test_drip_and_cut_combine(emu, wire, submit_bytes):
    emu.fault("submit", Drip(100_000), Cut(50))
    assert len((await wire(submit_bytes())).body) == 50


async def test_garbage_is_followed_by_an_orderly_end(emu, wire, submit_bytes):
    emu.fault("submit", Garbage())
    seen = await wire(submit_bytes())
    assert not seen.data.startswith(b"HTTP")
    assert not seen.is_reset


async def test_request_may_arrive_byte_by_byte(wire, submit_bytes):
    seen = await wire(*(bytes([byte]) for byte in b"\r\n" + submit_bytes()))
    assert seen.data.startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("length", ["5", "500"])
async def test_wrong_length_is_sent_and_ends_the_connection(emu, wire, submit_bytes, length):
    """Bytes that are left over must not look like the next response."""
    emu.fault("cdn", Body(b"x" * 50, headers={"Content-Length": length}))
    seen = await wire(submit_bytes(b"", method="GET", path="/cdn/0.png", Connection="keep-alive"))
    assert f"Content-Length: {length}".encode() in seen.head
    assert (seen.body, seen.is_reset) == (b"x" * 50, False)


async def test_body_that_looks_like_a_request_line_is_not_looked_up(emu, wire, submit_bytes):
    emu.fault("models", Reset("request_head"))
    body = b"GET /v1/models HTTP/1.1\r\n"
    head = submit_bytes(Content_Length=str(len(body))).partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
    assert (await wire(head, body)).data.startswith(b"HTTP/1.1 400")


@pytest.mark.parametrize("junk", [b"x" * 9000, b"not http\r\n\r\n", b"\x16\x03\x01\r\n\r\n"])
async def test_junk_is_left_to_the_http_parser(emu, wire, junk):
    emu.fault("submit", Reset("request_head"))
    assert (await wire(junk)).data.startswith(b"HTTP/1.0 400")


@pytest.mark.parametrize("at", ["accept", "request_head"])
async def test_half_closed_connection_ignores_further_bytes(emu, at, submit_bytes, until):
    emu.fault("submit", HalfClose(at))
    reader, writer = await asyncio.open_connection(*emu.base_url.removeprefix("http://").split(":"))
    request = submit_bytes()
    line_end = request.index(b"\r\n") + 2
    writer.write(request[:line_end])
    assert await reader.read() == b""
    writer.write(request[line_end:] + request)
    await writer.drain()
    writer.transport.abort()
    await until(lambda: emu.connections == 0)
    assert emu.requests == []


async def test_connection_after_closing_is_reset():
    """The listening socket may hand over a connection while the emulator closes."""
    connections = Connections(lambda _stage, _route: None)
    connections.is_closed = True
    loop = asyncio.get_running_loop()
    listener = await loop.create_server(lambda: FaultProtocol(connections, asyncio.Protocol), "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*listener.sockets[0].getsockname())
    with pytest.raises(ConnectionResetError):
        await reader.read()
    writer.transport.abort()
    listener.close()
    async with asyncio.timeout(60):
        await listener.wait_closed()


@pytest.fixture
async def unread(emu, submit_bytes, until):
    """A connection whose client does not read the response."""
    emu.fault("models", Drip(10**12), Body(b"x" * 30_000_000))
    _, writer = await asyncio.open_connection(*emu.base_url.removeprefix("http://").split(":"), limit=1024)
    writer.write(submit_bytes(b"", method="GET", path="/v1/models"))
    await until(lambda: any(is_waiting(transport) for transport in emu._handler.connections._open))
    yield next(iter(emu._handler.connections._open.values()))
    writer.transport.abort()


def is_waiting(transport):
    """Whether bytes are waiting to leave this process."""
    return transport.get_write_buffer_size() > 0


async def test_connection_that_is_closing_can_be_aborted(emu, unread):
    """Closing waits for the client to read, and this one never does."""
    unread.close()
    unread.abort()
    async with asyncio.timeout(60):
        await unread.wait_closed()
    unread.abort()
    assert emu.connections == 0


async def test_emulator_closes_although_a_client_does_not_read(emu, unread):
    unread.close()
    async with asyncio.timeout(60):
        await emu.aclose()
    assert emu.connections == 0
