"""The ledger shows every job that was paid twice."""

from lemon_async.emulator.service.ledger import Ledger


def reserve(ledger, job, amount=0.1):
    """Reserve a job."""
    return ledger.reserve(job=job, task_id="t", model="flux-pro", amount_usd=amount)


def test_job_sold_twice_stays_visible():
    """Even if both were settled."""
    ledger = Ledger()
    for _ in range(2):
        ledger.settle(reserve(ledger, "cat"), 0.1)
    assert ledger.sold == {"cat": 2}
    assert ledger.settled == {"cat": 2}
    assert ledger.open == frozenset()


def test_open_jobs_are_those_with_more_reservations_than_ends():
    """Settlements and releases both end a reservation."""
    ledger = Ledger()
    ledger.settle(reserve(ledger, "cat"), 0.1)
    reserve(ledger, "cat")
    ledger.release(reserve(ledger, "dog"))
    assert ledger.open == {"cat"}
    assert ledger.released == {"dog": 1}


def test_entries_are_numbered_and_cannot_be_changed():
    """The ledger is append-only."""
    ledger = Ledger()
    ledger.release(reserve(ledger, "cat"))
    assert [(entry.seq, entry.kind) for entry in ledger.entries] == [(1, "reserve"), (2, "release")]
    assert isinstance(ledger.entries, tuple)


def test_held_money_follows_actual_usage():
    """A settlement corrects the estimate."""
    ledger = Ledger()
    ledger.settle(reserve(ledger, "cat", 0.5), 0.4)
    ledger.release(reserve(ledger, "dog", 0.5))
    reserve(ledger, "cow", 0.25)
    assert round(ledger.held_usd, 9) == 0.65
    assert repr(ledger) == "<Ledger sold 3, open 1, held $0.650>"


def test_sums_and_pages_need_no_look_at_all_entries():
    """They are kept by kind and model; pages are newest first."""
    ledger, seen = Ledger(), []
    ledger.on_entry(seen.append)
    ledger.settle(reserve(ledger, "cat", 0.5), 0.25, at_s=7.0)
    ledger.release(reserve(ledger, "dog", 0.5))
    assert (ledger.total("reserve"), ledger.total("settle"), ledger.total("release"), ledger.count) == (2, 1, 1, 4)
    assert ledger.sums["settle", "flux-pro"].amount_usd == 0.25
    assert [entry.seq for entry in ledger.page(4, 2)] == [3, 2]
    assert [entry.seq for entry in ledger.page(5, 10)] == [4, 3, 2, 1]
    assert ledger.page(1, 10) == []
    assert tuple(seen) == ledger.entries
    assert [entry.at_s for entry in seen] == [0.0, 7.0, 0.0, 0.0]
