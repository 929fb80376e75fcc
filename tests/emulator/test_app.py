"""The emulator as a whole: starting, closing, restarting, and what it reports."""

import asyncio
import gc
import re
import socket
import threading
from contextlib import suppress

import aiohttp
import pytest

from lemon_async.emulator import Emulator, Script, Status

GENERATIONS = "/v1/images/generations"


def listens_on(host):
    with suppress(OSError), socket.create_server((host, 0), family=socket.AF_INET6):
        return True
    return False


def now():
    return asyncio.get_running_loop().time()


# Starting and stopping


async def test_emulator_starts_on_a_free_port_and_stops(client_of):
    async with Emulator() as emu:
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+", emu.base_url)
        assert (await client_of(emu).ask("GET", "/v1/models")).status == 200
    with pytest.raises(aiohttp.ClientConnectorError):
        await client_of(emu).ask("GET", "/v1/models")


async def test_start_and_aclose_can_be_repeated():
    emu = Emulator()
    await emu.aclose()
    await emu.start()
    url = emu.base_url
    await emu.start()
    assert emu.base_url == url
    await emu.aclose()
    await emu.aclose()


async def test_base_url_is_unknown_before_the_start():
    with pytest.raises(RuntimeError, match="no port yet"):
        _ = Emulator().base_url


async def test_taken_port_is_an_error(emu):
    port = int(emu.base_url.rpartition(":")[2])
    with pytest.raises(OSError, match="address already in use"):
        await Emulator(port=port).start()


async def test_emulator_on_all_addresses_is_reached_by_loopback_and_by_allowed_names(client_of):
    async with Emulator(host="0.0.0.0", allowed_hosts={"Studio.example"}, durations=0) as emu:
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+", emu.base_url)
        client = client_of(emu)
        assert (await client.ask("GET", "/v1/models")).status == 200
        headers = {"Host": "studio.example:9000"}
        body = {"prompt": "p", "model": "flux-schnell"}
        answer = await client.ask("POST", GENERATIONS, headers=headers, json=body)
        assert answer.json["data"][0]["url"].startswith("http://studio.example:9000/cdn/")
        assert (await client.ask("GET", "/v1/models", headers={"Host": "evil.example"})).status == 421


def test_base_url_of_all_ipv6_addresses_is_the_loopback_one():
    assert Emulator(host="::", port=80).base_url == "http://[::1]:80"


def test_key_is_random_if_other_machines_can_connect():
    """The key on a loopback address can be guessed: it depends on the seed alone."""
    for host in ("0.0.0.0", "::", "192.168.1.2", "example.com"):
        keys = {Emulator().api_key, Emulator(host=host).api_key, Emulator(host=host).api_key}
        assert len(keys) == 3
        assert all(re.fullmatch("sk-emulator-[0-9a-f]{32}", key) for key in keys)
        assert Emulator(host=host, api_key="sk-mine").api_key == "sk-mine"


def test_key_on_a_loopback_address_is_that_of_the_seed():
    assert len({Emulator(host=host).api_key for host in ("localhost", "127.0.0.1", "127.0.0.9", "::1")}) == 1


async def test_localhost_and_ipv6_loopback_are_served(client_of):
    async with Emulator(host="localhost") as emu:
        assert emu.base_url.startswith("http://127.0.0.1:")
    async with Emulator(host="::1") as emu:
        assert emu.base_url.startswith("http://[::1]:")
        assert (await client_of(emu).ask("GET", "/v1/models")).status == 200


# Restart


async def test_restart_keeps_the_port_and_the_tasks(emu, client):
    task, url = await client.submit(model="flux-pro"), emu.base_url
    await emu.restart()
    assert emu.base_url == url
    assert (await client.poll(task)).json["status"] == "completed"


async def test_restart_can_lose_tasks_and_links(client_of):
    async with Emulator() as emu:
        client = client_of(emu)
        task = await client.submit(model="flux-pro")
        await emu.restart(keep_tasks=False, down_s=0.01)
        assert (await client.poll(task)).status == 404
        assert emu.ledger.released == {"a cat": 1}


async def test_no_other_program_takes_the_port_during_a_restart(emu, client):
    """Connections are refused; a restart that is cancelled keeps the port for the next start."""
    port, url = int(emu.base_url.rpartition(":")[2]), emu.base_url
    restarting = asyncio.create_task(emu.restart(down_s=60))
    while emu._server is not None or emu._renderer._threads is not None:
        await asyncio.sleep(0)
    with pytest.raises(aiohttp.ClientConnectorError):
        await client.get(url)
    with socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind(("127.0.0.1", port))
    restarting.cancel()
    await asyncio.wait([restarting])
    await emu.start()
    assert emu.base_url == url
    assert (await client.ask("GET", "/v1/models")).status == 200


IPV6 = pytest.param("::1", marks=pytest.mark.skipif(not listens_on("::1"), reason="this machine has no IPv6"))


@pytest.mark.parametrize("host", ["0.0.0.0", IPV6])
async def test_other_addresses_are_restarted_as_they_were(client_of, host):
    async with Emulator(host=host) as emu:
        url = emu.base_url
        await emu.restart()
        assert emu.base_url == url
        assert (await client_of(emu).ask("GET", "/v1/models")).status == 200


async def test_restart_that_is_cancelled_leaves_nothing_open(emu):
    restarting = asyncio.create_task(emu.restart(down_s=60))
    while emu._kept is None:
        await asyncio.sleep(0)
    restarting.cancel()
    await asyncio.wait([restarting])
    await emu.aclose()
    assert emu._kept is None
    gc.collect()  # warns of an open socket


async def test_restart_drops_connections(emu, until):
    reader, writer = await asyncio.open_connection(*emu.base_url.removeprefix("http://").split(":"))
    writer.write(b"GET /")
    await until(lambda: emu.connections)
    await emu.restart()
    with pytest.raises(ConnectionResetError):
        await reader.read()
    assert emu.connections == 0
    writer.transport.abort()


# Observing


async def test_key_is_the_same_for_a_seed_unless_given():
    assert Emulator(seed=1).api_key == Emulator(seed=1).api_key != Emulator(seed=2).api_key
    assert Emulator().api_key.startswith("sk-emulator-")
    assert Emulator(api_key="sk-mine").api_key == "sk-mine"


async def test_same_seed_draws_the_same_pictures(client_of):
    async def file(seed):
        async with Emulator(seed=seed, durations=0) as emu:
            client = client_of(emu)
            answer = await client.submit(model="dall-e-2", size="256x256")
            return (await client.get(answer.json["data"][0]["url"])).raw

    assert await file(1) == await file(1)
    assert await file(1) != await file(2)


async def test_speed_shortens_durations(client_of):
    async with Emulator(speed=6000) as emu:
        client = client_of(emu)
        task = await client.submit(model="flux-pro")
        while (await client.poll(task)).json["status"] != "completed":
            await asyncio.sleep(0.001)
        assert 10 < emu.now() < 180_000  # half a real minute


async def test_repr_is_a_dashboard(emu, client):
    emu.fault("poll", Status(500))
    emu.fault("submit", Script(("weird",)), prompt="dog")
    await client.submit(model="flux-pro")
    await client.submit("a dog", model="flux-pro")
    assert repr(emu) == (
        f"<Emulator {emu.base_url} running at 1x, tasks: 1 completed, 1 weird, "
        "sold 2, open 1, $0.100, 1 connections, 2 requests, 2 faults>"
    )
    assert repr(Emulator(speed=60)).startswith("<Emulator stopped at 60x, tasks: none")


async def test_faults_are_listed_and_cleared(emu, client):
    fault = emu.fault("models", Status(500), times=3)
    assert emu.faults == [fault]
    assert (await client.ask("GET", "/v1/models")).status == 500
    emu.clear_faults()
    assert (await client.ask("GET", "/v1/models")).status == 200
    assert fault.hits == 1


async def test_loop_stays_free_while_a_large_picture_is_drawn(emu, client):
    """Drawing happens in a thread."""
    turns = 0

    async def turn():
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    turning = asyncio.create_task(turn())
    answer = await client.submit(model="nano-banana-pro", resolution="2k", aspect_ratio="1:1")
    turns = 0
    assert (await client.get(answer.json["data"][0]["url"])).status == 200
    turning.cancel()
    assert turns > 100


def drawing_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("lemon-emulator")]


async def test_threads_end_with_the_emulator(client_of, until):
    async with Emulator(durations=0) as emu:
        await client_of(emu).submit(response_format="b64_json")
        assert drawing_threads()
    await until(lambda: not drawing_threads())
