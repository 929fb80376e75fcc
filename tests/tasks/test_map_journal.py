"""`map(journal=...)`: the caller records each paid request before it is sent, and how that ended."""

import asyncio
from contextlib import suppress

import pytest

from lemon_async import ContractError, RetryPolicy, Timeouts
from lemon_async.emulator import Blackhole, Latency, Status, Stuck
from lemon_async.errors import InsufficientBalance, JournalError, SessionError
from maps import collect, prompts, submits, until, workers
from memory_journal import MemoryJournal, failing, waiting

MODEL = "flux-pro"
INLINE = "dall-e-3"
BROKEN = JournalError(message="the disk is full")


@pytest.mark.parametrize("model", [MODEL, INLINE])
async def test_request_is_intended_and_its_task_recorded_before_its_outcome(connect, emulator, model):
    """Inline answers, too, which have no token."""
    journal = MemoryJournal()
    async with connect() as session, session.map(prompts(9), model=model, journal=journal) as outcomes:
        async for outcome in outcomes:
            assert journal.tasks[outcome.index] is outcome.task
            assert outcome.task.done()
    for index in range(9):
        assert [name for name, place in journal.events if place == index] == ["intend", "accept"]


async def test_a_request_that_the_journal_refuses_is_not_sent_and_has_no_outcome(connect, emulator):
    """The others do not suffer, in their order or not, and its place in the map is free."""
    for ordered in (False, True):
        journal = MemoryJournal(refused={0, 4, 7, 8})
        async with connect() as session:
            options = {"model": MODEL, "journal": journal, "in_flight": 2, "ordered": ordered}
            async with session.map(prompts(9), **options) as outcomes:
                indices = [outcome.index async for outcome in outcomes]
                assert outcomes.progress.done == 5
        assert sorted(indices) == [1, 2, 3, 5, 6]
        assert not {"withdraw"} & {*journal.names}
    assert emulator.ledger.sold.total() == 10


async def test_outcome_waits_for_the_journal(connect):
    written = asyncio.Event()
    journal = MemoryJournal(waiting("accept", written))
    async with connect() as session, session.map(["p"], model=INLINE, journal=journal) as outcomes:
        reading = asyncio.create_task(anext(outcomes))
        await until(lambda: journal.tasks)
        await asyncio.sleep(0.01)
        assert not reading.done()
        assert outcomes.pending == (journal.tasks[0],)
        written.set()
        assert (await reading).images


async def test_refused_request_is_withdrawn(connect, emulator):
    emulator.fault("submit", Status(402), prompt="^p1$")
    journal = MemoryJournal()
    async with connect() as session, session.map(prompts(3), model=MODEL, journal=journal) as outcomes:
        assert len([outcome async for outcome in outcomes]) == 3
    assert [name for name, index in journal.events if index == 1] == ["intend", "withdraw"]
    assert isinstance(journal.reasons[0], InsufficientBalance)
    assert journal.open() == set()


async def test_request_that_cannot_be_is_not_recorded(connect):
    """Its problems are found before."""
    journal = MemoryJournal()
    async with connect() as session, session.map([7, "p"], model=MODEL, n=99, journal=journal) as outcomes:
        assert [type(outcome.error) async for outcome in outcomes] == [ContractError] * 2
    assert journal.events == []


# Hooks that raise


async def test_intent_that_fails_ends_the_submitting_and_no_job(connect, emulator):
    """What was accepted is yielded; the loop raises the error of the journal itself."""
    seen = []

    def fail(name, index):
        if (name, index) == ("intend", 4):
            raise BROKEN

    async with connect() as session:
        journal = MemoryJournal(fail)
        async with session.map(prompts(50), model=MODEL, in_flight=3, journal=journal) as outcomes:
            with pytest.raises(JournalError) as caught:
                await collect(outcomes, seen)
            assert outcomes.pending == ()
        assert workers() == []
    assert caught.value is BROKEN
    assert {outcome.request.prompt for outcome in seen} == set(emulator.ledger.settled) >= {"p0", "p1"}
    assert "p4" not in emulator.ledger.sold
    assert submits(emulator) == len(seen) <= 6
    assert journal.open() == set()


async def test_task_that_cannot_be_recorded_is_yielded_nevertheless(connect, emulator):
    """Its pictures are paid for."""
    seen = []
    journal = MemoryJournal(failing("accept", JournalError(message="the disk is full")))
    async with connect() as session, session.map(prompts(50), model=INLINE, in_flight=1, journal=journal) as outcomes:
        with pytest.raises(JournalError, match="the disk is full") as caught:
            await collect(outcomes, seen)
    assert [outcome.images is not None for outcome in seen] == [True]
    assert caught.value.__notes__ == ["49 of 50 requests were not submitted"]
    assert emulator.ledger.sold == {"p0": 1}


async def test_withdrawal_that_fails_ends_the_submitting(connect, emulator):
    emulator.fault("submit", Status(400))
    journal = MemoryJournal(failing("withdraw", JournalError(message="the disk is full")))
    async with connect() as session, session.map(prompts(50), model=MODEL, in_flight=1, journal=journal) as outcomes:
        with pytest.raises(JournalError, match="the disk is full"):
            await anext(outcomes)
    assert submits(emulator) == 1


async def test_hook_that_the_program_cancels_does_not_hang_the_reader(connect, emulator):
    """Its request is not sent."""

    def cancel(name, index):
        if name == "intend":
            asyncio.current_task().cancel()

    journal = MemoryJournal(cancel)
    async with connect() as session, session.map(["p"], model=MODEL, journal=journal) as outcomes, asyncio.timeout(60):
        with pytest.raises(SessionError, match="a request of the map was cancelled by the program"):
            await anext(outcomes)
    assert journal.names == ["intend", "withdraw"]
    assert emulator.requests == []


async def test_error_of_the_journal_says_how_many_requests_were_not_submitted(connect, emulator):
    journal = MemoryJournal(failing("intend", JournalError(message="the disk is full")))
    async with connect() as session, session.map(prompts(50), model=MODEL, in_flight=1, journal=journal) as outcomes:
        with pytest.raises(JournalError, match="the disk is full") as caught:
            await anext(outcomes)
    assert caught.value.__notes__ == ["50 of 50 requests were not submitted"]
    assert emulator.requests == []


# Leaving


async def test_leaving_withdraws_what_was_intended_and_not_sent(connect, emulator):
    """A row is not made doubtful without need."""
    journal = MemoryJournal(waiting("intend", asyncio.Event()))
    async with connect() as session:
        async with session.map(prompts(3), model=MODEL, journal=journal):
            await until(lambda: len(journal.events) == 3)
        assert sorted(journal.names) == ["intend"] * 3 + ["withdraw"] * 3
        assert workers() == []
    assert emulator.requests == []


async def test_tasks_in_a_journal_are_not_reported_as_unfinished(connect, emulator, library_log):
    """They are not lost: neither the log nor the exception that leaves the map lists them."""
    emulator.fault("submit", Stuck())
    library_log.set_level("INFO", logger="lemon_async.pending")
    failure = KeyError()
    with suppress(KeyError):
        async with connect() as session, session.map(prompts(2), model=MODEL, journal=MemoryJournal()) as outcomes:
            await until(lambda: outcomes.progress.in_flight == 2)
            raise failure
    assert len(session.pending) == 2
    assert not library_log.records
    assert not hasattr(failure, "__notes__")


async def test_closing_the_session_withdraws_what_was_intended_and_not_sent(connect, emulator):
    journal = MemoryJournal(waiting("intend", asyncio.Event()))
    async with connect() as session, session.map(prompts(3), model=MODEL, journal=journal):
        await until(lambda: len(journal.events) == 3)
        await session.aclose()
        assert journal.open() == set()
    assert emulator.requests == []


async def test_leaving_leaves_open_what_may_have_been_sent(connect, emulator):
    emulator.fault("submit", Blackhole())
    journal = MemoryJournal()
    async with connect(timeouts=Timeouts(close_s=0.02)) as session:
        async with session.map(prompts(3), model=MODEL, journal=journal):
            await until(lambda: submits(emulator) == 3)
        assert len(session.unknown_submissions) == 3
    assert journal.open() == {0, 1, 2}


@pytest.mark.parametrize("hook", ["accept", "withdraw"])
async def test_leaving_does_not_interrupt_what_records_the_past(connect, emulator, hook):
    """The token of an accepted job, or that nothing was sold."""
    if hook == "withdraw":
        emulator.fault("submit", Status(400))
    emulator.fault("submit", Stuck())
    ended = []

    async def write():
        await asyncio.sleep(0.02)
        ended.append(hook)

    journal = MemoryJournal(lambda name, _: write() if name == hook else None)
    async with connect() as session:
        async with session.map(["p"], model=MODEL, journal=journal) as outcomes:
            await until(lambda: hook in journal.names)
        assert ended == [hook]
        assert len(outcomes.pending) == (hook == "accept")
        assert journal.open() == set()


async def test_stop_and_leaving_together_do_not_interrupt_a_withdrawal(connect, emulator):
    """The map stops, cancels a request in its intent, and is left while that is withdrawn."""
    emulator.fault("submit", Status(402), prompt="^p[012]$")
    ended = []

    async def write():
        await asyncio.sleep(0.02)
        ended.append("withdraw")

    def hook(name, index):
        if index == 3:
            return asyncio.Event().wait() if name == "intend" else write()
        return asyncio.sleep(0.005)

    journal = MemoryJournal(hook)
    async with connect() as session:
        await session.submit("first", model=MODEL)  # so that the map begins with more than three
        async with session.map(prompts(4), model=MODEL, journal=journal):
            await until(lambda: ("withdraw", 3) in journal.events)
        assert ended == ["withdraw"]


async def test_accept_that_does_not_end_loses_no_task(connect, emulator):
    """After `close_s` it is cancelled, and the task is in `pending`."""
    journal = MemoryJournal(waiting("accept", asyncio.Event()))
    async with connect(timeouts=Timeouts(close_s=0.02)) as session:
        async with session.map(["p"], model=MODEL, journal=journal) as outcomes, asyncio.timeout(60):
            await until(lambda: journal.tasks)
        assert outcomes.pending == (journal.tasks[0],)
        assert workers() == []
        assert await outcomes.pending[0]


async def test_dropped_requests_leave_no_intent(connect, emulator):
    """Those that wait for another attempt when a map stops were withdrawn."""
    emulator.fault("submit", Latency(10), Status(503, error={"retryable": True}), prompt="^p0$")
    emulator.fault("submit", Status(402), prompt="^p[1-9]$")
    journal = MemoryJournal()
    policy = RetryPolicy(max_elapsed_s=60, first_backoff_s=30, max_backoff_s=30)
    async with (
        connect(retry=policy) as session,
        session.map(prompts(9), model=MODEL, journal=journal, stop_on=InsufficientBalance) as outcomes,
    ):
        with pytest.raises(InsufficientBalance):
            await collect(outcomes, [])
    assert journal.open() == set()
    assert not emulator.ledger.sold


# Misuse


@pytest.mark.parametrize("journal", [5, "run.db"])
async def test_journal_that_has_no_hooks_is_refused(connect, journal):
    words = "journal: must have the coroutine functions intend, withdraw, accept"
    async with connect() as session:
        with pytest.raises(ContractError, match=words):
            session.map([], journal=journal)
