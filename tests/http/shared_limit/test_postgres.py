"""The rate limit of an account in PostgreSQL, against a real server."""

import pytest

from limit_cases import CASES, Bench
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
