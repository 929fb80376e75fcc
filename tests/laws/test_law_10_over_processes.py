"""Law 10 across processes: what all of them spend together is never beyond the cap."""

from fleet import PRICE_USD, Fleet, plan_of
from kills import Sales

CAP_ROWS = 40


async def test_processes_that_share_a_journal_share_its_cap(emulator, new_journal, tmp_path):
    """Three processes have more rows in flight than the cap pays for: not one sale exceeds it, at any time."""
    cap_usd = CAP_ROWS * PRICE_USD
    options = {"run": {"in_flight": 30, "budget_usd": cap_usd}, "requests_per_minute": 60_000}
    plan = plan_of(emulator, tmp_path, new_journal(), 2 * CAP_ROWS, workers=3, **options)
    fleet = Fleet(emulator, plan, restarts={})
    await fleet.run(worker_kills=0, driver_kills=0)
    sales = Sales.of(emulator, set(plan.rows))
    assert sales.sold.total() == CAP_ROWS
    assert sales.most_held_usd <= cap_usd + 1e-6
    assert len(fleet.driver.pauses) == 3
    assert all(f"${cap_usd:g}" in message for message in fleet.driver.pauses)
    assert not fleet.driver.failures
