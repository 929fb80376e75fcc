"""What a client without a key may cost: bounded memory for its requests, and few connections for a short time."""

import asyncio

import pytest

GET_MODELS = {"method": "GET", "path": "/v1/models", "Connection": "keep-alive"}
BRIEF_S = 0.03


@pytest.fixture
async def connections(emu):
    """Open raw connections; all are closed in the end."""
    writers = []

    async def connect():
        reader, writer = await asyncio.open_connection(*emu.base_url.removeprefix("http://").split(":"))
        writers.append(writer)
        return reader, writer

    yield connect
    for writer in writers:
        writer.transport.abort()


@pytest.fixture
def doors(emu):
    return emu._service.doors


async def is_reset(reader):
    """Read until the connection ends; whether that is by a reset."""
    async with asyncio.timeout(5):
        try:
            await reader.read()
        except ConnectionResetError:
            return True
    return False


async def answer_to(connection, request):
    """The status line and the body of one answer."""
    reader, writer = connection
    writer.write(request)
    async with asyncio.timeout(5):
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(int(line[16:]) for line in head.split(b"\r\n") if line.startswith(b"Content-Length: "))
        return head.split(b" ", 2)[1], await reader.readexactly(length)


# The log


async def test_long_request_lines_are_logged_in_part(emu, client):
    path = "/v1/models/" + "m" * 5000
    assert (await client.get(emu.base_url + path)).status == 401
    assert (await client.ask("GET", path)).status == 404
    assert [seen.path for seen in emu.requests] == [path[:199] + "…"] * 2
    assert (emu.requests[0].route, emu.requests[0].authorized) == ("models", False)


@pytest.mark.parametrize(
    "headers", [{f"X-{number}": "x" for number in range(100)}, {"X-Long": "x" * 10_000}], ids=["many", "long"]
)
async def test_request_head_that_no_client_needs_is_refused_unread(emu, wire, submit_bytes, headers):
    assert b" 400 Bad Request" in (await wire(submit_bytes(**headers))).head
    assert emu.requests == []


# Time


async def test_connection_that_says_nothing_is_broken(doors, connections):
    doors.stranger_s = BRIEF_S
    reader, _ = await connections()
    assert await is_reset(reader)
    assert len(doors) == 0


async def test_head_that_drips_is_broken_in_the_same_time(doors, connections):
    doors.stranger_s = BRIEF_S
    reader, writer = await connections()
    begin = asyncio.get_running_loop().time()
    ending = asyncio.create_task(is_reset(reader))
    while not ending.done():
        writer.write(b"G")
        await asyncio.sleep(0.002)
    assert await ending
    assert asyncio.get_running_loop().time() - begin < 1


@pytest.mark.parametrize("path", ["/v1/models", "/openapi.json", "/cdn/0.png", "/nothing"])
async def test_answer_does_not_make_a_friend_of_a_stranger(doors, connections, submit_bytes, path):
    """The time of a connection without a key goes on, answered or not."""
    await answer_to(await connections(), submit_bytes(b"", **GET_MODELS | {"path": path}, Authorization=None))
    assert (doors.strangers, len(doors)) == (1, 1)


async def test_connection_with_a_key_has_all_the_time(doors, connections, submit_bytes):
    assert (await answer_to(await connections(), submit_bytes(b"", **GET_MODELS)))[0] == b"200"
    assert (doors.strangers, len(doors)) == (0, 1)


async def test_connection_with_a_result_link_has_all_the_time(emu, client, doors, connections, submit_bytes):
    url = (await client.submit(model="dall-e-2", size="256x256")).json["data"][0]["url"]
    before = len(doors)
    request = submit_bytes(b"", **GET_MODELS | {"path": url.removeprefix(emu.base_url)}, Authorization=None)
    assert (await answer_to(await connections(), request))[0] == b"200"
    assert (doors.strangers, len(doors)) == (0, before + 1)


# Number


async def test_oldest_stranger_gives_way_to_the_newest(doors, connections, submit_bytes):
    doors.most_strangers = 3
    readers = [(await connections())[0] for _ in range(2)]
    rest = [await connections() for _ in range(3)]
    assert [await is_reset(reader) for reader in readers] == [True, True]
    request = submit_bytes(b"", **GET_MODELS)
    assert [(await answer_to(connection, request))[0] for connection in rest] == [b"200"] * 3


async def test_connections_with_a_key_give_way_to_no_stranger(doors, connections, submit_bytes, until):
    doors.most_strangers = 2
    known = [await connections() for _ in range(2)]
    request = submit_bytes(b"", **GET_MODELS)
    for _ in range(2):
        assert [(await answer_to(connection, request))[0] for connection in known] == [b"200"] * 2
        strangers = [await connections() for _ in range(5)]
        assert await is_reset(strangers[0][0])
    await until(lambda: len(doors) == 4)


async def test_strangers_are_forgotten_with_the_emulator(emu, doors, connections, until):
    reader, _ = await connections()
    await until(lambda: len(doors) == 1)
    await emu.aclose()
    assert await is_reset(reader)
    assert doors.strangers == 0
