"""The rate limit of an account in Redis, against a real server."""

import pytest

from limit_cases import CASES, Bench
from limit_servers import RedisLimits
from redis_server import shared_redis


@pytest.fixture
async def bench():
    bench = Bench(RedisLimits(shared_redis()))
    yield bench
    await bench.aclose()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
async def test_case(case, bench):
    """It does what every store does."""
    await case(bench)
