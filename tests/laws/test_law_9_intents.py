"""Law 9: whatever interrupts a map, its journal knows each request that was sold, and doubts none that was not sent."""

import asyncio

import pytest

from lemon_async import RetryPolicy
from lemon_async.emulator import Status
from maps import workers
from memory_journal import MemoryJournal

IMPATIENT = RetryPolicy(max_elapsed_s=0.05, first_backoff_s=0.001, max_backoff_s=0.002)


@pytest.mark.parametrize("model", ["flux-pro", "dall-e-3"])
@pytest.mark.parametrize("first", range(0, 160, 40))
async def test_map_cancelled_at_any_step_leaves_a_journal_that_tells_the_truth(connect, emulator, first, model):
    """Sold: intended before, and accepted or unknown. Open intents: unknown, as `unknown_submissions` says.

    Maps of tasks are cancelled at even steps, those of inline responses at odd ones.
    """
    emulator.fault("submit", Status(402), prompt=" 1$")
    emulator.fault("submit", Status(429, headers={"Retry-After": "0"}), prompt=" 2$", times=1)
    for step in range(first + (model == "dall-e-3"), first + 40, 2):
        before = emulator.ledger.sold
        journal = MemoryJournal()
        wishes = [f"s{step} {number}" for number in range(5)]

        async def run(session, journal=journal, wishes=wishes):
            async with session.map(wishes, model=model, in_flight=3, journal=journal) as outcomes:
                async for outcome in outcomes:
                    assert outcome.task is journal.tasks.get(outcome.index)

        async with connect(retry=IMPATIENT) as session:
            running = asyncio.create_task(run(session))
            for _ in range(step):
                await asyncio.sleep(0)
            running.cancel()
            (end,) = await asyncio.gather(running, return_exceptions=True)
            assert end is None or isinstance(end, asyncio.CancelledError)
            assert workers() == []
            unknown = {error.request.prompt for error in session.unknown_submissions}
        sold = set(emulator.ledger.sold - before)
        assert {wishes[index] for index in journal.open()} == unknown, step
        assert sold <= {*(wishes[index] for index in journal.tasks), *unknown}, step
        assert sold >= {wishes[index] for index in journal.tasks}, step
