"""What a run does with refusals, unknown outcomes, failures and faults of the journal; the ledger is the oracle.

Every case runs a batch, then runs it again without the fault.
"""

import asyncio
import errno
import os
import sqlite3

import pytest

from batches import batch_of, journal_rows, rows, run_batch
from lemon_async import PollPolicy, RetryPolicy, Timeouts
from lemon_async._images.atomic_file import AtomicFile
from lemon_async.batch import State, open_journal
from lemon_async.batch.records import Change
from lemon_async.batch.states import Transition
from lemon_async.emulator import Blackhole, Expire, Fail, Latency, Reset, Result, Script, Status, Stuck, Vanish
from lemon_async.errors import BatchPaused, InsufficientBalance, JournalError, SessionError
from maps import collect, submits, until

REFUSED = Status(400, code="content_policy_violation", message="no")

# fault, statuses of the first run, its errors, counts after the second run without the fault, sold in all
FAULTS = {
    "a refusal": ("submit", REFUSED, "refused", "BadRequest", {"refused": 1, "done": 2}, 2),
    "no balance": ("submit", Status(402), "new", "InsufficientBalance", {"done": 3}, 3),
    "a server error": ("submit", Status(500), "new", "ServerError", {"done": 3}, 3),
    "a response that is HTML": (
        "submit", Status(502, body="html"), "doubtful", "SubmissionUnknown", {"doubtful": 1, "done": 2}, 2,
    ),
    "a failed task": ("submit", Fail(), "dead", "TaskFailed", {"dead": 1, "done": 2}, 2),
    "a cancelled task": ("submit", Fail(cancelled=True), "dead", "TaskCancelled", {"dead": 1, "done": 2}, 2),
    "a task without a picture": ("submit", Result([]), "dead", "TaskFailed", {"dead": 1, "done": 2}, 3),
    "a lost task": ("submit", Vanish(), "dead", "TaskLost", {"dead": 1, "done": 2}, 3),
    "a link that is refused": ("cdn", Status(403), "sold", "PartialSaveError", {"done": 3}, 3),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
async def test_a_row_ends_as_its_fault_says(name, connect, emulator, tmp_path):
    """The other rows do not suffer, and the next run goes on where that makes sense."""
    route, action, status, error, counts, sold = FAULTS[name]
    match = {} if route == "cdn" else {"prompt": "prompt 1"}
    emulator.fault(route, action, **match, **({"nth": 1} if route == "cdn" else {}))
    async with connect() as session:
        first = await run_batch(session, tmp_path, rows(3), attempts=1)
        emulator.clear_faults()
        again = await run_batch(session, tmp_path, rows(3), attempts=1)
    assert first.error is again.error is None
    assert sorted(first.statuses.values()) == sorted(["done", "done", status])
    assert list(first.errors.values()) == [error]
    assert again.counts == counts
    assert emulator.ledger.sold.total() - len(emulator.ledger.released) == sold
    assert len(list((tmp_path / "out").iterdir())) == counts["done"]


async def test_a_failed_row_is_repeated(connect, emulator, tmp_path):
    """At most `attempts` times; it has one outcome."""
    emulator.fault("submit", Fail(), prompt="prompt 0", times=2)
    emulator.fault("submit", Fail(), prompt="prompt 1")
    async with connect() as session:
        run = await run_batch(session, tmp_path, rows(3), in_flight=1)
    assert run.statuses == {"r0": "done", "r1": "dead", "r2": "done"}
    assert {outcome.key: outcome.attempt for outcome in run.outcomes} == {"r0": 3, "r1": 3, "r2": 1}


async def test_a_row_that_had_failed_is_taken_up(connect, emulator, tmp_path):
    """An earlier run may have ended between a failure and the next attempt."""
    emulator.fault("submit", Stuck(), times=2)
    async with connect() as session, batch_of(session, tmp_path, rows(2)) as batch:
        await until(lambda: batch.counts[State.SOLD] == 2)
    async with open_journal(tmp_path / "run.db") as journal:
        for key in ("r0", "r1"):
            await journal.record(Change(key=key, transition=Transition.FAIL))
    async with connect() as session:
        run = await run_batch(session, tmp_path, attempts=2)
    assert run.statuses == {"r0": "done", "r1": "done"}


async def test_refusals_of_the_account_pause_the_batch(connect, emulator, tmp_path, monkeypatch):
    """After the first three, with every row left; once that is put right, it goes on."""
    monkeypatch.setattr("lemon_async._tasks.map.PROBE_S", 600)  # a busy machine may take longer for three refusals
    emulator.fault("submit", Status(402, message="top up"))
    async with connect() as session:
        run = await run_batch(session, tmp_path, rows(30), stop_on="account")
        assert isinstance(run.error, BatchPaused)
        assert isinstance(run.error.__cause__, InsufficientBalance)
        assert "30 rows are left" in str(run.error)
        assert "top up the account and run it again" in str(run.error)
        assert set(run.statuses.values()) == {"new"}
        assert len(run.outcomes) == 3
        assert (run.batch.progress.submitting, run.batch.progress.done) == (0, 3)
        emulator.clear_faults()
        assert (await run_batch(session, tmp_path)).counts == {"done": 30}


async def test_an_empty_balance_midway_pauses_the_batch(connect, emulator, tmp_path):
    """What is in flight ends and is saved."""
    emulator.fault("submit", Status(402), nth=range(6, 1000))
    async with connect() as session:
        run = await run_batch(session, tmp_path, rows(20), in_flight=4, stop_on="account")
        assert isinstance(run.error, BatchPaused)
        assert run.counts == {"done": 5, "new": 15}
        emulator.clear_faults()
        assert (await run_batch(session, tmp_path)).counts == {"done": 20}
    assert emulator.ledger.sold.total() == 20


async def test_many_refusals_in_a_row_pause_the_batch(connect, emulator, tmp_path):
    """They may have one cause, which a person should look at."""
    emulator.fault("submit", REFUSED)
    async with connect() as session:
        run = await run_batch(session, tmp_path, rows(40), in_flight=2)
    assert isinstance(run.error, BatchPaused)
    assert "20 rows in a row were not accepted" in str(run.error)
    assert 20 <= run.counts["refused"] <= 22


async def test_unknown_outcomes_count_as_spent(connect, emulator, tmp_path):
    """The cap holds even if all of them were sold."""
    emulator.fault("submit", Reset("response_head"), times=2)
    async with connect() as session:
        run = await run_batch(session, tmp_path, rows(6), price_usd=0.05, budget_usd=0.2, in_flight=1)
    assert isinstance(run.error, BatchPaused)
    assert run.counts == {"doubtful": 2, "done": 2, "new": 2}
    assert run.batch.spending.doubtful == pytest.approx(0.1)
    assert all(row.fingerprint for row in (await journal_rows(tmp_path)).values() if row.state is State.DOUBTFUL)


async def test_retries_within_a_submit_do_not_count_as_attempts(connect, emulator, tmp_path):
    emulator.fault("submit", Status(503), times=2)
    async with connect(retry=RetryPolicy(first_backoff_s=0.001)) as session:
        run = await run_batch(session, tmp_path, rows(1))
    assert [(outcome.status, outcome.attempt) for outcome in run.outcomes] == [("done", 1)]


async def test_an_expired_link_is_renewed(connect, emulator, tmp_path):
    emulator.fault("cdn", Expire(), times=1)
    async with connect() as session:
        run = await run_batch(session, tmp_path, rows(2))
    assert run.counts == {"done": 2}


async def test_a_task_that_takes_too_long_is_resumed_by_the_next_run(connect, emulator, tmp_path):
    emulator.fault("submit", Script(("pending",) * 20 + ("completed",)), times=1)
    async with connect(polling=PollPolicy(min_gap_s=0.005, max_gap_s=0.02, deadline_s=0.05)) as session:
        run = await run_batch(session, tmp_path, rows(1))
    assert run.errors == {"r0": "TaskTimeout"}
    assert run.counts == {"sold": 1}
    async with connect() as session:
        assert (await run_batch(session, tmp_path)).statuses == {"r0": "done"}
    assert emulator.ledger.sold.total() == 1


async def test_a_file_of_an_earlier_run_is_adopted(connect, emulator, tmp_path):
    """The process ended after the file was complete, and before the journal had it."""
    async with connect() as session:
        await run_batch(session, tmp_path, rows(1))
    path = tmp_path / "out" / "r0.png"
    os.utime(path, (1, 1))
    database = sqlite3.connect(tmp_path / "run.db")
    with database:
        database.execute("UPDATE rows SET state = 'sold'")
        database.execute("DELETE FROM pictures")
    database.close()
    async with connect() as session:
        run = await run_batch(session, tmp_path)
    assert [outcome.paths for outcome in run.outcomes] == [(path,)]
    assert list((tmp_path / "out").iterdir()) == [path]


async def test_a_full_disk_pauses_the_batch(connect, emulator, tmp_path, monkeypatch):
    """Pictures are not bought that cannot be kept; they are saved by the next run."""

    def full(self, content, **_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(AtomicFile, "write", full)
        async with connect() as session:
            run = await run_batch(session, tmp_path, rows(20), in_flight=2)
    assert isinstance(run.error, BatchPaused)
    assert "could not be written" in str(run.error)
    assert run.counts["sold"] <= 5
    async with connect() as session:
        assert (await run_batch(session, tmp_path)).counts == {"done": 20}
    assert emulator.ledger.sold.total() == 20


class BrokenJournal:
    """A journal that fails from one kind of transition on."""

    def __init__(self, journal, transition):
        self._journal, self._transition, self._is_broken = journal, transition, False

    def record(self, change):
        self._is_broken |= change.transition is self._transition and change.key == "r1"
        if self._is_broken:
            return self._fail()
        return self._journal.record(change)

    async def _fail(self):
        await asyncio.sleep(0)
        raise JournalError(message="the disk is full")

    def __getattr__(self, name):
        return getattr(self._journal, name)


@pytest.mark.parametrize("transition", [Transition.INTEND, Transition.ACCEPT, Transition.SAVE])
async def test_a_journal_that_fails_stops_the_buying_only(transition, connect, emulator, tmp_path):
    """What is sold is still awaited and saved; then the loop raises the error, once."""
    async with connect() as session, open_journal(tmp_path / "run.db", create=True) as journal:
        run = await run_batch(session, tmp_path, rows(30), in_flight=3, journal=BrokenJournal(journal, transition))
    assert isinstance(run.error, JournalError)
    sold = emulator.ledger.sold.total()
    assert sold < 10
    assert len(list(tmp_path.glob("out/*"))) == sold
    assert sum(len(outcome.paths) for outcome in run.outcomes) == sold


class HungJournal(BrokenJournal):
    """A journal whose disk hangs from one kind of transition on."""

    def _fail(self):
        return asyncio.get_running_loop().create_future()

    async def counts(self):
        return await (self._fail() if self._is_broken else self._journal.counts())


@pytest.mark.parametrize("transition", [Transition.INTEND, Transition.ACCEPT, Transition.SAVE])
async def test_leaving_is_bounded_when_the_disk_hangs(transition, connect, emulator, tmp_path):
    """Nothing runs on; what was being recorded is decided when the journal is opened again."""
    async with (
        connect(timeouts=Timeouts(close_s=0.05)) as session,
        open_journal(tmp_path / "run.db", create=True) as journal,
    ):
        hung = HungJournal(journal, transition)
        async with asyncio.timeout(60), batch_of(session, tmp_path, rows(3), journal=hung):
            await until(lambda: hung._is_broken)
        # A file that was being written is finished first, and a disk takes its time.
        await until(
            lambda: not {task.get_name() for task in asyncio.all_tasks()} & {"lemon_async batch", "lemon_async map"}
        )
    states = {row.state for row in (await journal_rows(tmp_path)).values()}
    assert states <= {State.NEW, State.SOLD, State.DONE, State.DOUBTFUL}


async def test_leaving_is_bounded_when_the_disk_hangs_at_the_doubt_of_a_request(connect, emulator, tmp_path):
    """It does not take as long as a picture may take to save; the next opening records the doubt."""
    emulator.fault("submit", Blackhole())
    timeouts = Timeouts(close_s=0.05, download_s=3600)
    async with connect(timeouts=timeouts) as session, open_journal(tmp_path / "run.db", create=True) as journal:
        hung = HungJournal(journal, Transition.DOUBT)
        async with asyncio.timeout(120), batch_of(session, tmp_path, rows(2)[1:], journal=hung):
            await until(lambda: submits(emulator) == 1)
        assert hung._is_broken
    assert {row.state for row in (await journal_rows(tmp_path)).values()} == {State.DOUBTFUL}


async def test_closing_the_session_ends_the_batch(connect, emulator, tmp_path):
    """Rows stay sold, and the loop says why it ended."""
    emulator.fault("submit", Stuck())
    async with connect() as session, batch_of(session, tmp_path, rows(10), in_flight=3) as batch:
        await until(lambda: batch.counts[State.SOLD] == 3)
        await session.aclose()
        seen = []
        with pytest.raises(SessionError, match="the session was closed"):
            await collect(batch, seen)
    assert {outcome.status for outcome in seen} == {State.SOLD}
    assert batch.counts[State.SOLD] == 3
    assert batch.counts[State.NEW] == 7


async def test_responses_that_are_due_are_awaited_when_the_batch_is_left(connect, emulator, tmp_path):
    """The row is sold, with its token; it is not doubtful."""
    emulator.fault("submit", Latency(400))
    emulator.fault("poll", Status(502))  # however long leaving takes, no row is done
    async with connect() as session, batch_of(session, tmp_path, rows(10), in_flight=3) as batch:
        await until(lambda: submits(emulator) == 3)
    assert batch.counts[State.SOLD] == 3
    assert all(row.task for row in (await journal_rows(tmp_path)).values() if row.state is State.SOLD)


async def test_a_response_that_does_not_come_in_time_leaves_the_row_doubtful(connect, emulator, tmp_path):
    emulator.fault("submit", Blackhole())
    async with connect(timeouts=Timeouts(close_s=0.05)) as session, batch_of(session, tmp_path, rows(2)):
        await until(lambda: submits(emulator) == 2)
    # Leaving does not wait for a slow disk either, and so may leave it to the next opening to record the doubt.
    assert {row.state for row in (await journal_rows(tmp_path)).values()} == {State.DOUBTFUL}


async def test_inline_pictures_are_saved_when_the_batch_is_left(connect, emulator, tmp_path):
    """They are nowhere else."""
    emulator.fault("submit", Latency(50))
    async with connect() as session, batch_of(session, tmp_path, rows(2), model="dall-e-2") as batch:
        await until(lambda: submits(emulator) == 2)
    assert batch.counts[State.DONE] == 2
    assert len(list((tmp_path / "out").iterdir())) == 2
