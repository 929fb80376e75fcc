"""Given rows are run to their end, and each is reported once, whatever has become of it."""

import asyncio

import pytest

from batches import rows
from lemon_async import ContractError
from lemon_async.batch import State, open_journal
from lemon_async.distributed.given_rows import GivenRows
from lemon_async.emulator import Fail, Status
from lemon_async.errors import JournalError

OPTIONS = {"key": "id", "model": "flux-pro", "size": "256x256", "stop_on": None}


@pytest.fixture
async def journal(tmp_path):
    async with open_journal(tmp_path / "run.db", create=True) as opened:
        yield opened


@pytest.fixture
def run(connect, journal, tmp_path):
    """Run rows in a session of their own."""

    async def run_given(given, **options):
        async with connect() as lemon:
            options = {**OPTIONS, "save": str(tmp_path / "{key}"), **options}
            work = GivenRows(lemon, journal, given, options.pop("key"), options)
            await work.run()
            return work.results()

    return run_given


def sold_of(emulator):
    return sum(entry.kind == "reserve" for entry in emulator.ledger.entries)


async def test_rows_are_bought_once_however_often_they_come(run, emulator, tmp_path):
    """In one call, in two at a time, and again later; the same key twice is one row."""
    given = rows(3)
    first, second = await asyncio.gather(run([*given, given[0]]), run(given))
    again = await run(given)
    assert [result.status for result in (*first, *second, *again)] == ["done"] * 10
    assert first[:3] == second == again
    assert first[3] == first[0]
    assert first[0].paths == [str(tmp_path / "r0.png")]
    assert first[0].error is None
    assert first[0].task_id.startswith("ldtask")
    assert sold_of(emulator) == 3


async def test_rows_that_are_invalid_do_not_stop_the_others(run, emulator):
    """A missing key, an empty prompt, other content under the same key, here and in the journal."""
    await run([{"id": "old", "prompt": "a cat"}])
    given = [
        {"id": None, "prompt": "a"},
        {"id": "empty", "prompt": ""},
        {"id": "good", "prompt": "b"},
        {"id": "good", "prompt": "other"},
        {"id": "old", "prompt": "a dog"},
    ]
    results = await run(given)
    assert [result.status for result in results] == ["refused", "refused", "done", "refused", "refused"]
    assert [result.error for result in results][2] is None
    words = ["id: the key is missing", "prompt:", None, "is the key of row", "prompt was 'a cat' and is 'a dog'"]
    for word, result in zip(words, results, strict=True):
        assert word is None or (result.error.startswith("ContractError: ") and word in result.error), result
    assert sold_of(emulator) == 2


async def test_many_invalid_rows_are_all_found(run, emulator):
    """The reader lists only the first of them."""
    results = await run([{"id": f"r{number}", "prompt": ""} for number in range(45)])
    assert {result.status for result in results} == {"refused"}
    assert sold_of(emulator) == 0


async def test_options_that_are_wrong_raise_before_anything_is_sold(run, emulator):
    """They are wrong for every row."""
    await run([{"id": "old", "prompt": "a cat"}])
    for options, problem in (
        ({"save": "out/{colour}"}, "colour"),
        ({"key": "prompt"}, "identified by"),
        ({"budget_usd": 5, "model": "ideogram-v3"}, "the price of ideogram-v3 is not known"),
    ):
        with pytest.raises(ContractError, match=problem):
            await run(rows(2), **options)
    assert sold_of(emulator) == 1


async def test_failures_are_results(run, emulator):
    """Refusals, tasks that fail, and what pauses a batch; rows that it has not reached stay new."""
    emulator.fault("submit", Fail("no"), prompt="prompt 1$")
    emulator.fault("submit", Status(402), prompt="prompt [2-9]")
    results = await run(rows(12), stop_on="account", attempts=1, in_flight=1)
    assert [result.status for result in results] == ["done", "dead", *["new"] * 8, *["new"] * 2]
    assert results[1].error.startswith("TaskFailed: ")
    assert results[2].error.startswith("InsufficientBalance: ")
    assert results[11].error.startswith("BatchPaused: ")


async def test_doubtful_rows_are_reported_and_not_sent_again(run, emulator, journal):
    """The user decides about them."""
    emulator.fault("submit", Status(502, body="html"), prompt="prompt 0$", bill=True)
    first = await run(rows(1))
    assert first[0].status == "doubtful"
    assert first[0].error.startswith("SubmissionUnknown: ")
    assert await run(rows(1)) == first
    assert sold_of(emulator) == 1


async def test_a_journal_that_fails_is_a_result_once_rows_may_be_sold(run, emulator, journal, monkeypatch):
    """What is not known stays empty; before that it is an error."""
    given = rows(2)
    await run(given)

    async def fail(key):
        raise JournalError(message="the disk is gone")

    monkeypatch.setattr(journal, "find", fail)
    results = await run(given)
    assert [(result.status, result.error) for result in results] == [(None, "JournalError: the disk is gone")] * 2
    await journal.aclose()
    with pytest.raises(JournalError, match="closed"):
        await run(given)


async def test_a_row_that_another_run_holds_is_awaited(run, emulator, journal):
    """It is reported when the other has ended it."""
    await run(rows(1))
    key = "held"
    given = [{"id": key, "prompt": "a cat"}]
    async with asyncio.timeout(60):
        running = asyncio.ensure_future(run(given))
        while sold_of(emulator) != 2:
            await asyncio.sleep(0.002)
        assert (await run(given))[0].status == "done"
        assert (await running)[0].status == "done"
    assert (await journal.find(key)).state is State.DONE
