"""Laws 1 and 9 across processes: whichever of them is killed, each row is bought once, and the others finish it."""

from fleet import PRICE_USD, Fleet, plan_of
from kills import Batches

STRIDE = 8


async def test_workers_that_are_killed_leave_their_rows_to_the_others(emulator, new_journal, tmp_path):
    """Three processes share the rows; six of them are killed, and then all together with the driver."""
    plan = plan_of(emulator, tmp_path, new_journal(), 120, workers=3, run={"in_flight": 10}, requests_per_minute=60_000)
    fleet = Fleet(emulator, plan, restarts={})
    await fleet.run(worker_kills=6)
    figures = await fleet.check(tmp_path)
    assert figures["sold_twice"] == 0
    assert not figures["failures_of_workers"]
    assert fleet.kills >= 6


async def test_kill_around_intent_and_acceptance_leaves_the_row_to_the_next_process(
    processes, emulator, new_journal, tmp_path
):
    """A process is killed at edges of a row's life, from its claim to its picture; the next one finishes the row."""
    batches = Batches(processes, emulator, tmp_path, new_journal, price_usd=PRICE_USD)
    edges = await batches.edges_of(batches.new(1))
    claimed, saved = edges.index("before send") - 24, edges.index("after link") + 12
    for edge in range(claimed, saved, STRIDE):
        await batches.kill_at_edges(batches.new(1), edge)
    totals = batches.totals
    assert totals.kills > 0.9 * len(range(claimed, saved, STRIDE))
    assert 0 < totals.doubtful < totals.kills
    assert not totals.dead
