"""The rate limit of an account in PostgreSQL, against a real server."""

import asyncio
import struct
from urllib.parse import urlsplit

import pytest

from lemon_async._http.shared_limit.store import StoreUnavailable
from lemon_async.errors import ContractError
from limit_cases import CASES, INTERVAL_S, Bench, reserve
from limit_servers import PostgresLimits


@pytest.fixture
async def bench(postgres):
    bench = Bench(PostgresLimits(postgres))
    yield bench
    await bench.aclose()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
async def test_case(case, bench):
    """It does what every store does."""
    await case(bench)


async def test_servers_of_another_kind_are_refused(bench, listen, http_ok):
    """What answers in HTTP is no PostgreSQL server; what closes cannot be told from one that is down."""

    async def web(reader, writer):
        await reader.read(1)
        writer.write(http_ok())

    async def closing(reader, _writer):
        await reader.read(1)

    with pytest.raises(ContractError, match=r"postgresql://127\.0\.0\.1:\d+ cannot be used: .*response"):
        await reserve(bench.open((await listen(web)).replace("http", "postgresql")))
    with pytest.raises(StoreUnavailable, match="closed"):
        await reserve(bench.open((await listen(closing)).replace("http", "postgresql")))


async def test_pooler_is_refused(bench, listen):
    """It gives each client a number of its own. In its sessions pauses would not arrive, and settings would stay."""
    port = urlsplit(bench.server.url).port

    async def pool(reader, writer):
        from_server, to_server = await asyncio.open_connection("127.0.0.1", port)
        forwarding = asyncio.create_task(forward(reader, to_server))
        try:
            while True:
                kind, size = struct.unpack("!ci", await from_server.readexactly(5))
                body = await from_server.readexactly(size - 4)
                writer.write(struct.pack("!ci", kind, size) + (b"pool" + body[4:] if kind == b"K" else body))
        finally:
            forwarding.cancel()
            to_server.close()

    async def forward(reader, to_server):
        while received := await reader.read(4096):
            to_server.write(received)

    pooler = (await listen(pool)).rpartition(":")[2]
    store = bench.open(f"{bench.server.url.replace(str(port), pooler)}?sslmode=disable&gssencmode=disable")
    with pytest.raises(ContractError, match=r"a connection pooler .* use the address of the server itself"):
        await reserve(store)


async def test_a_server_that_only_reads_is_unavailable(bench):
    """As a standby is until it is promoted."""
    with pytest.raises(StoreUnavailable, match="session is read-only"):
        await reserve(bench.open(f"{bench.server.url}?options=-c%20default_transaction_read_only%3Don"))


async def test_database_that_does_not_exist_is_named(bench):
    with pytest.raises(ContractError, match='database "limits" does not exist'):
        await reserve(bench.open(f"{bench.server.url.rpartition('/')[0]}/limits"))


async def test_database_with_strict_isolation_serves_all_at_the_same_time(bench):
    """Under its default, all but one of the clients would have failed."""
    url = f"{bench.server.url}?options=-c%20default_transaction_isolation%3Dserializable"
    stores = [bench.open(url) for _ in range(8)]
    leases = await asyncio.gather(*(reserve(store) for store in stores))
    leases += await asyncio.gather(*(reserve(store) for store in stores))
    assert len({-(-lease.wait_s // INTERVAL_S) for lease in leases}) == 16
