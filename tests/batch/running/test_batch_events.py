"""What a batch emits adds up: its counts when it is entered, and every change of a row, give those when it is left."""

import asyncio
from collections import Counter

import pytest

from lemon_async import ContractError, SubmissionUnknown
from lemon_async.batch import open_journal
from lemon_async.batch.records import Change
from lemon_async.batch.running.batch_events import BatchEvents
from lemon_async.batch.states import State, Transition
from lemon_async.emulator import Fail, Status
from lemon_async.events import BatchClosed, BatchOpened, RowChanged


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Pictures are saved in a folder of the test, and not in the one that pytest was started in."""
    monkeypatch.chdir(tmp_path)


def summed(seen):
    """Return the counts at the end that follow from those at the beginning and the changes."""
    counts = Counter(seen[0].counts)
    for event in seen[1:-1]:
        counts[event.before] -= 1
        counts[event.after] += 1
    return +counts


def of_batch(seen):
    return [event for event in seen if isinstance(event, BatchOpened | RowChanged | BatchClosed)]


async def test_changes_lead_from_the_first_counts_to_the_last(connect, emulator, tmp_path):
    """Failed, repeated, refused and doubtful rows included; each change has its reason if that is an error."""
    seen = []
    emulator.fault("submit", Fail(), prompt="fails", times=1)
    emulator.fault("submit", Status(400), prompt="refused")
    emulator.fault("submit", Status(502, "html"), prompt="unknown")
    rows = [*(f"cat {number}" for number in range(3)), "fails", "refused", "unknown"]
    path = tmp_path / "run.db"
    async with connect(on_event=seen.append) as session:
        async with session.batch(path, rows, model="flux-pro", stop_on=None) as batch:
            errors = [outcome.error async for outcome in batch]
        assert any(isinstance(error, SubmissionUnknown) for error in errors)
    events = of_batch(seen)
    opened, *changes, closed = events
    assert isinstance(opened, BatchOpened)
    assert isinstance(closed, BatchClosed)
    assert {event.journal for event in events} == {str(path)}
    assert (opened.counts["new"], opened.counts["done"]) == (6, 0)
    assert summed(events) == +Counter(closed.counts) == {"done": 4, "refused": 1, "doubtful": 1}
    assert not any(event.before == event.after for event in changes)
    assert all(event.error for event in changes if event.after in {"refused", "doubtful", "failed"})
    async with open_journal(path) as journal:
        assert +Counter(await journal.counts()) == +Counter(closed.counts)


async def test_rows_that_become_doubtful_at_the_opening_are_in_its_counts(connect, emulator, tmp_path):
    """The journal makes them so itself, before the batch is entered."""
    seen, path = [], tmp_path / "run.db"
    async with connect() as session:
        await session.batch(path, ["a cat", "a dog"], key=str, model="flux-pro").add()
    async with open_journal(path) as journal:  # as a process that was killed would leave it
        await journal.claim("run", State.NEW, keys=["a cat"])
        await journal.record(Change(key="a cat", transition=Transition.INTEND, fingerprint="f", run="run"))
    async with connect(on_event=seen.append) as session, session.batch(path) as batch:
        assert [outcome.key async for outcome in batch] == ["a dog"]
    opened, *changes, closed = of_batch(seen)
    assert +Counter(opened.counts) == {"doubtful": 1, "new": 1}
    assert {event.key for event in changes} == {"a dog"}
    assert +Counter(closed.counts) == {"doubtful": 1, "done": 1}


async def test_batch_that_was_not_entered_has_no_events(connect, tmp_path):
    seen = []
    async with connect(on_event=seen.append) as session:
        with pytest.raises(ContractError):
            async with session.batch(tmp_path / "run.db", [{"prompt": "a cat", "n": 77}], model="flux-pro"):
                pass
    assert of_batch(seen) == []


async def test_name_of_a_journal_is_without_credentials(connect, tmp_path):
    async with connect(on_event=print) as session:
        batch = session.batch("postgresql://user:secret@host/database", ["a cat"], model="flux-pro")
    assert "secret" not in batch._events._journal


async def test_change_that_is_recorded_while_its_waiter_is_cancelled_is_emitted():
    """And the next change of the row begins where that one has led."""
    seen, recording = [], asyncio.get_running_loop().create_future()
    events = BatchEvents(lambda kind, **facts: seen.append((facts["before"], facts["after"])), "run.db")
    waiting = asyncio.create_task(events.recorded(recording, "a cat", State.NEW, None))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    recording.set_result(State.INTENT)
    await asyncio.sleep(0)
    events.changed("a cat", State.NEW, State.NEW, None)  # withdrawn: whoever records that knows of no intent
    assert seen == [("new", "intent"), ("intent", "new")]


@pytest.mark.parametrize("end", [lambda future: future.set_result(None), asyncio.Future.cancel])
async def test_change_that_was_not_recorded_is_not_emitted(end):
    seen, recording = [], asyncio.get_running_loop().create_future()
    events = BatchEvents(lambda *_, **facts: seen.append(facts), "run.db")
    waiting = asyncio.create_task(events.recorded(recording, "a cat", State.NEW, None))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    end(recording)
    await asyncio.sleep(0)
    assert seen == []
