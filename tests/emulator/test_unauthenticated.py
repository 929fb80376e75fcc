"""Clients without a key get bounded memory, and few connections for a short time."""

import asyncio

import pytest

GET_MODELS = {"method": "GET", "path": "/v1/models", "Connection": "keep-alive"}
BRIEF_S = 0.03


@pytest.fixture
async def open_connection(emu):
    """Open raw connections, which are closed when the test is over."""
    writers = []

    async def connect():
        reader, writer = await asyncio.open_connection(*emu.base_url.removeprefix("http://").split(":"))
        writers.append(writer)
        return reader, writer

    yield connect
    for writer in writers:
        writer.transport.abort()


@pytest.fixture
def connections(emu):
    return emu._handler.connections


async def is_reset(reader):
    """Read until the connection ends; return whether it was reset."""
    async with asyncio.timeout(20):
        try:
            await reader.read()
        except ConnectionResetError:
            return True
    return False


async def response_to(connection, request):
    """Return status and body of one response."""
    reader, writer = connection
    writer.write(request)
    async with asyncio.timeout(60):
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(int(line[16:]) for line in head.split(b"\r\n") if line.startswith(b"Content-Length: "))
        return head.split(b" ", 2)[1], await reader.readexactly(length)


# Requests


async def test_long_paths_are_recorded_in_part(emu, client):
    path = "/v1/models/" + "m" * 5000
    assert (await client.get(emu.base_url + path)).status == 401
    assert (await client.ask("GET", path)).status == 404
    assert [seen.path for seen in emu.requests] == [path[:199] + "…"] * 2
    assert (emu.requests[0].route, emu.requests[0].is_authorized) == ("models", False)


@pytest.mark.parametrize(
    "headers", [{f"X-{number}": "x" for number in range(100)}, {"X-Long": "x" * 10_000}], ids=["many", "long"]
)
async def test_request_head_beyond_what_clients_need_is_refused(emu, wire, submit_bytes, headers):
    assert b" 400 Bad Request" in (await wire(submit_bytes(**headers))).head
    assert emu.requests == []


# Time


async def test_silent_connection_is_reset(connections, open_connection):
    connections.unauthenticated_s = BRIEF_S
    reader, _ = await open_connection()
    assert await is_reset(reader)
    assert len(connections) == 0


async def test_dripping_head_is_reset_after_the_same_time(connections, open_connection):
    connections.unauthenticated_s = BRIEF_S
    reader, writer = await open_connection()
    begin = asyncio.get_running_loop().time()
    ending = asyncio.create_task(is_reset(reader))
    while not ending.done():
        writer.write(b"G")
        await asyncio.sleep(0.002)
    assert await ending
    assert asyncio.get_running_loop().time() - begin < 20


@pytest.mark.parametrize("path", ["/v1/models", "/openapi.json", "/cdn/0.png", "/nothing"])
async def test_response_to_a_request_without_key_leaves_the_connection_unauthenticated(
    connections, open_connection, submit_bytes, path
):
    await response_to(await open_connection(), submit_bytes(b"", **GET_MODELS | {"path": path}, Authorization=None))
    assert (connections.unauthenticated, len(connections)) == (1, 1)


async def test_connection_with_a_key_has_no_time_limit(connections, open_connection, submit_bytes):
    assert (await response_to(await open_connection(), submit_bytes(b"", **GET_MODELS)))[0] == b"200"
    assert (connections.unauthenticated, len(connections)) == (0, 1)


async def test_connection_with_a_result_link_has_no_time_limit(emu, client, connections, open_connection, submit_bytes):
    url = (await client.submit(model="dall-e-2", size="256x256")).json["data"][0]["url"]
    before = len(connections)
    request = submit_bytes(b"", **GET_MODELS | {"path": url.removeprefix(emu.base_url)}, Authorization=None)
    assert (await response_to(await open_connection(), request))[0] == b"200"
    assert (connections.unauthenticated, len(connections)) == (0, before + 1)


# Number


async def test_oldest_unauthenticated_connection_is_reset_for_a_new_one(connections, open_connection, submit_bytes):
    connections.max_unauthenticated = 3
    readers = [(await open_connection())[0] for _ in range(2)]
    rest = [await open_connection() for _ in range(3)]
    assert [await is_reset(reader) for reader in readers] == [True, True]
    request = submit_bytes(b"", **GET_MODELS)
    assert [(await response_to(connection, request))[0] for connection in rest] == [b"200"] * 3


async def test_connections_with_a_key_are_never_reset_for_new_ones(connections, open_connection, submit_bytes, until):
    connections.max_unauthenticated = 2
    known = [await open_connection() for _ in range(2)]
    request = submit_bytes(b"", **GET_MODELS)
    for _ in range(2):
        assert [(await response_to(connection, request))[0] for connection in known] == [b"200"] * 2
        others = [await open_connection() for _ in range(5)]
        assert await is_reset(others[0][0])
    await until(lambda: len(connections) == 4)


async def test_closing_the_emulator_forgets_unauthenticated_connections(emu, connections, open_connection, until):
    reader, _ = await open_connection()
    await until(lambda: len(connections) == 1)
    await emu.aclose()
    assert await is_reset(reader)
    assert connections.unauthenticated == 0
