"""The rate limit of an account in Redis, against a real server."""

import asyncio

import pytest

from lemon_async._http.shared_limit.store import StoreUnavailable
from lemon_async.errors import ContractError
from limit_cases import CASES, INTERVAL_S, SHORT_INTERVAL_S, Bench, is_near, reserve
from limit_servers import RedisLimits
from redis_server import RedisServer, shared_redis
from servers import free_port


@pytest.fixture
async def bench():
    bench = Bench(RedisLimits(shared_redis()))
    yield bench
    await bench.aclose()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
async def test_case(case, bench):
    """It does what every store does."""
    await case(bench)


async def test_state_of_an_earlier_process_of_the_server_is_not_trusted(bench):
    """It may be minutes old: all wait until the server has been up for a minute, also those who know nothing of it."""
    with RedisServer(is_persistent=True) as server:
        one, new, knows = (bench.open(server.url, interval_s=SHORT_INTERVAL_S) for _ in range(3))
        before = await reserve(one)
        server.kill()
        server.start()
        leases = [await reserve(new), await reserve(knows, epoch=before.epoch)]
        assert leases[0].epoch == leases[1].epoch != before.epoch
        assert is_near(leases[0].wait_s, 60)
        assert is_near(leases[1].wait_s, 60 + SHORT_INTERVAL_S)
        await bench.aclose()


async def test_other_addresses_lead_to_the_same_state(bench):
    """Valkey's scheme, a Unix socket, and options that would break the protocol are understood."""
    with RedisServer() as server:
        path, port = server.folder / "redis.sock", server.port
        urls = (f"valkey://127.0.0.1:{port}/0", f"unix://{path}", f"{server.url}?protocol=3&socket_timeout=0.01")
        for number, url in enumerate(urls):
            assert is_near((await reserve(bench.open(url))).wait_s, number * INTERVAL_S)
        await bench.aclose()


async def test_nodes_of_a_cluster_redirect(bench):
    """The keys of an account are in one slot, which another node may hold."""
    bus = str(free_port()), str(free_port())  # by default 10,000 above the other port, where connections have theirs
    options = ("--cluster-enabled", "yes", "--cluster-require-full-coverage", "no", "--cluster-port")
    with RedisServer(options=(*options, bus[0])) as one, RedisServer(options=(*options, bus[1])) as other:
        for server, owner in ((one, one), (other, one)):
            node = RedisLimits(server, is_empty=True)
            if server is owner:
                node.execute("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
            else:
                node.execute("CLUSTER", "MEET", "127.0.0.1", owner.port, bus[0])
        await until_answered(other, "Moved")
        await until_answered(one, "None")  # each is down for two seconds, and some more if it is late
        for number, server in enumerate((one, other)):
            assert is_near((await reserve(bench.open(server.url))).wait_s, number * INTERVAL_S)
        await bench.aclose()


async def until_answered(server, words):
    async with asyncio.timeout(60):
        while words not in str(RedisLimits(server, is_empty=True).execute("GET", "x", fails=True)):
            await asyncio.sleep(0.05)


async def test_servers_of_another_kind_are_refused(bench, listen, http_ok):
    """What answers in HTTP is no Redis server; what closes or stays silent cannot be told from one that is down."""

    async def web(reader, writer):
        await reader.read(1)
        writer.write(http_ok())

    async def closing(reader, _writer):
        await reader.read(1)

    with pytest.raises(ContractError, match=r"redis://127\.0\.0\.1:\d+ is not a Redis server"):
        await reserve(bench.open((await listen(web)).replace("http", "redis")))
    with pytest.raises(StoreUnavailable, match="closed"):
        await reserve(bench.open((await listen(closing)).replace("http", "redis")))


async def test_replies_that_make_no_sense_are_no_lease(bench, listen):
    """A program that speaks the protocol, and means something else, is as good as a store that is down."""
    time, lists = b"*2\r\n$1\r\n1\r\n$1\r\n0\r\n", b"*5\r\n" + b"$3\r\nx.5\r\n" * 5
    for info, moment, reply in (
        (b"$-1\r\n", time, time),
        (b"$0\r\n\r\n", b":7\r\n", time),
        *((b"$0\r\n\r\n", time, reply) for reply in (b"$-1\r\n", b":7\r\n", b"+OK\r\n", b"*0\r\n", lists)),
    ):

        async def odd(reader, writer, replies={b"INFO": info, b"TIME": moment, b"EVALSHA": reply}):  # noqa: B006 - read
            while line := await reader.readline():
                if (command := line.strip()) in replies:
                    writer.write(replies[command])
                elif command in {b"CLIENT", b"SELECT", b"HGET", b"SUBSCRIBE"}:
                    writer.write(b"+OK\r\n")

        with pytest.raises(StoreUnavailable, match=r"makes no sense|closed"):
            await reserve(bench.open((await listen(odd)).replace("http", "redis")))
