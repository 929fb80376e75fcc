"""The schema of rate limits in PostgreSQL is created once, and has a version."""

import asyncio

import pytest

from lemon_async.errors import ContractError
from limit_cases import Bench, is_near, reserve
from limit_servers import PostgresLimits


@pytest.fixture
async def bench(postgres):
    bench = Bench(PostgresLimits(postgres))
    yield bench
    await bench.aclose()


async def test_many_create_it_at_the_same_time(bench):
    """Twenty processes that start together on an empty database all get a slot."""
    leases = await asyncio.gather(*(reserve(bench.open()) for _ in range(20)))
    assert max(lease.workers for lease in leases) == 20


async def test_another_version_is_refused(bench, postgres):
    """The error names both versions; nothing is changed."""
    await reserve(bench.open())
    postgres.execute("UPDATE lemon_async_limit.version SET version = 7", bench.server.url)
    with pytest.raises(ContractError, match="has version 7, and this release needs 1: use one release"):
        await reserve(bench.open())
    assert postgres.execute("SELECT version FROM lemon_async_limit.version", bench.server.url) == [(7,)]


async def test_missing_rights_are_named(bench, postgres):
    """A role that may not create the schema gets PostgreSQL's own words."""
    postgres.execute("CREATE ROLE reader LOGIN", bench.server.url)
    with pytest.raises(ContractError, match="permission denied for database"):
        await reserve(bench.open(bench.server.url.replace("//lemon@", "//reader@")))


async def test_crash_is_noticed_by_those_who_did_not_see_it(bench, postgres):
    """A crash empties the state; that the account was used is known nevertheless, so that one minute is waited out."""
    await reserve(bench.open())
    postgres.restart()
    lease = await reserve(bench.open())
    assert is_near(lease.wait_s, 60)
