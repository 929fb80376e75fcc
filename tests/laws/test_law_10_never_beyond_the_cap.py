"""Law 10. Never beyond the cap: in all runs together, whatever is in flight, fails, is refunded or stays in doubt."""

import base64
import random

import pytest

from kills import Books, Sales, check_money, check_sales
from lemon_async import LemonSession, PollPolicy, Timeouts
from lemon_async.batch import State
from lemon_async.emulator import Emulator, Fail, Reset, Result
from lemon_async.errors import BatchPaused

PRICES = {"flux-pro": 0.05, "midjourney": 0.08, "ideogram-v3": 0.06}  # those of the emulator
DEAREST_USD = 4 * max(PRICES.values())
ROWS = 400
FAILURES = 0.3
UNKNOWN = 0.03
POLLING = PollPolicy(min_gap_s=0.02, max_gap_s=0.1, deadline_s=120)
PATIENT = Timeouts(connect_s=600, submit_s=600)  # for 400 connections at a time on a busy machine


@pytest.fixture
async def service(png):
    """An emulator whose tasks end in any order, often in failure, and whose pictures take no time to draw."""
    async with Emulator(speed=3000, durations=120.0) as running:
        running._handler.connections.unauthenticated_s = 600  # likewise
        running.fault("submit", Reset("response_head"), probability=UNKNOWN, seed=1)
        running.fault("submit", Fail("no luck"), probability=FAILURES, seed=2)
        for n in range(1, 5):
            running.fault("submit", Result([{"b64_json": base64.b64encode(png).decode()}] * n), prompt=f"-{n}$")
        yield running


@pytest.fixture
def rows():
    """Rows at twelve prices, from 5 to 32 cents."""
    dice = random.Random(10)
    models = list(PRICES)
    numbers = [dice.randint(1, 4) for _ in range(ROWS)]
    return [{"prompt": f"p{row}-{n}", "model": dice.choice(models), "n": n} for row, n in enumerate(numbers)]


@pytest.fixture
def run(service, rows, tmp_path):
    """Run the batch under a cap, in a session of its own; return the message if it was paused, and the books."""

    async def run_once(cap_usd):
        message = None
        options = {"polling": POLLING, "timeouts": PATIENT, "requests_per_minute": 600_000, "max_submits": ROWS}
        session = LemonSession(service.api_key, base_url=service.base_url, **options)
        async with session:
            options = {"key": "prompt", "in_flight": ROWS, "budget_usd": cap_usd, "price_usd": PRICES}
            batch = session.batch(tmp_path / "run.db", rows, save=str(tmp_path / "out" / "{key}"), **options)
            try:
                async with batch:
                    async for _ in batch:
                        pass
            except BatchPaused as paused:
                message = str(paused)
        return message, await Books.of(tmp_path / "run.db")

    return run_once


@pytest.mark.long
async def test_no_run_spends_beyond_the_cap(run, service, rows):
    """Not even for a moment, with 400 rows in flight at prices that differ, failures, refunds and unknown outcomes."""
    prompts = {row["prompt"] for row in rows}
    for cap_usd in (0.5, 5.0, 5.0, 20.0):
        message, books = await run(cap_usd)
        sales = Sales.of(service, prompts)
        check_sales(sales, books)
        check_money(sales, books, cap_usd)
        assert f"${cap_usd:g}" in message
        assert books.spending.committed > cap_usd - DEAREST_USD  # refunds are used again
        assert books.counts[State.NEW]
    message, books = await run(1000.0)
    check_sales(Sales.of(service, prompts), books)
    check_money(Sales.of(service, prompts), books, 1000.0)
    assert message is None
    assert books.counts.keys() == {State.DONE, State.DOUBTFUL, State.DEAD}
    assert books.counts.total() == ROWS


async def test_a_cap_that_is_spent_buys_nothing(run, service):
    """A second run under the same cap does not send a paid request."""
    await run(0.5)
    sold = service.ledger.sold.total()
    message, _ = await run(0.5)
    assert service.ledger.sold.total() <= sold + 1  # a cheap row may still fit, where it failed before
    assert "0.5" in message
