"""Batches against the emulator, whose ledger says what was sold."""

import asyncio
from pathlib import Path

import pytest

from batches import batch_of, journal_rows, rows, run_batch
from lemon_async import ContractError, Timeouts
from lemon_async.batch import BatchOutcome, State, open_journal
from lemon_async.emulator import Latency, Status, Stuck
from lemon_async.errors import BatchPaused, JournalError, SessionError
from maps import collect, until


async def test_rows_are_bought_once_and_saved(connect, emulator, tmp_path):
    """The second run finds everything done, and sends nothing."""
    async with connect() as session:
        first = await run_batch(session, tmp_path, rows(5))
        again = await run_batch(session, tmp_path, rows(5))
        resumed = await run_batch(session, tmp_path)
    assert first.error is again.error is resumed.error is None
    assert first.statuses == {f"r{index}": "done" for index in range(5)}
    assert all(path.read_bytes() for outcome in first.outcomes for path in outcome.paths)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [f"r{index}.png" for index in range(5)]
    assert again.outcomes == resumed.outcomes == []
    assert again.counts == resumed.counts == {"done": 5}
    assert emulator.ledger.sold.total() == 5


async def test_an_outcome_has_what_the_row_had(connect, tmp_path):
    """Columns that are no fields travel with it, and name the file."""
    item = {"id": "SKU 1", "prompt": "a cat", "shelf": "A", "n": 2}
    async with connect() as session:
        run = await run_batch(session, tmp_path, [item], save=str(tmp_path / "{shelf}" / "{key}"), price_usd=0.05)
    (outcome,) = run.outcomes
    assert isinstance(outcome, BatchOutcome)
    assert (outcome.key, outcome.status, outcome.columns) == ("SKU 1", State.DONE, {"id": "SKU 1", "shelf": "A"})
    assert outcome.paths == (tmp_path / "A" / "SKU-1.png", tmp_path / "A" / "SKU-1-2.png")
    assert (outcome.request.prompt, outcome.request.label, outcome.attempt) == ("a cat", "SKU 1", 1)
    assert (outcome.price_usd, outcome.error, len(outcome.images)) == (0.1, None, 2)
    assert repr(outcome).startswith("<BatchOutcome SKU 1 done ")
    assert (await journal_rows(tmp_path))["SKU 1"].pictures[0].path == "A/SKU-1.png"


async def test_new_rows_are_added_to_a_journal(connect, emulator, tmp_path):
    async with connect() as session:
        await run_batch(session, tmp_path, rows(2))
        run = await run_batch(session, tmp_path, rows(4))
    assert run.statuses == {"r2": "done", "r3": "done"}
    assert emulator.ledger.sold.total() == 4


async def test_a_file_is_read_once(connect, tmp_path):
    """A file that did not change is not read again; one that did, adds its new rows."""
    file = tmp_path / "rows.csv"
    file.write_text("id,prompt\na,one\n")
    async with connect() as session:
        assert (await run_batch(session, tmp_path, file)).statuses == {"a": "done"}
        assert (await run_batch(session, tmp_path, file)).outcomes == []
        file.write_text("id,prompt\na,one\nb,two\n")
        assert (await run_batch(session, tmp_path, file)).statuses == {"b": "done"}


async def test_deleted_files_are_not_bought_again(connect, emulator, tmp_path):
    async with connect() as session:
        await run_batch(session, tmp_path, rows(1))
        (tmp_path / "out" / "r0.png").unlink()
        assert (await run_batch(session, tmp_path, rows(1))).counts == {"done": 1}
    assert emulator.ledger.sold.total() == 1


BAD_ROWS = [
    ({"items": [{"id": "a", "promt": "x"}]}, "promt"),
    ({"items": [{"id": "a", "prompt": "x"}], "save": "{shelf}"}, "save: contains the unknown field 'shelf'"),
    ({"items": [{"id": "a", "prompt": "x"}], "save": "{key}/../b"}, "save: must name a file"),
    ({"items": [{"id": "a", "prompt": "x"}], "budget_usd": 1}, "the price of flux-pro is not known"),
]


async def test_rows_are_checked_before_anything_is_sent(connect, emulator, tmp_path):
    """And before a journal is made."""
    async with connect() as session:
        for options, words in BAD_ROWS:
            with pytest.raises(ContractError, match=words):
                async with batch_of(session, tmp_path, **options):
                    pass
    assert list(tmp_path.iterdir()) == []
    assert not emulator.requests


BAD_OPTIONS = [
    ({"in_flight": 0}, "in_flight"),
    ({"attempts": 0}, "attempts"),
    ({"budget_usd": -1}, "budget_usd"),
    ({"price_usd": "x"}, "price_usd"),
    ({"stop_on": "x"}, "stop_on"),
    ({"modell": "x"}, "modell"),
    ({"save": 5}, "save"),
    ({"progress": 5}, "progress"),
]


async def test_options_are_checked_when_the_batch_is_made(connect, tmp_path):
    async with connect() as session:
        for options, word in BAD_OPTIONS:
            with pytest.raises(ContractError, match=word):
                batch_of(session, tmp_path, rows(1), **options)
    assert not (tmp_path / "run.db").exists()


async def test_a_changed_row_under_an_old_key_is_refused(connect, emulator, tmp_path):
    async with connect() as session:
        await run_batch(session, tmp_path, rows(1))
        run = await run_batch(session, tmp_path, [{"id": "r0", "prompt": "other"}])
    assert isinstance(run.error, ContractError)
    assert "r0" in str(run.error)
    assert emulator.ledger.sold.total() == 1


async def test_a_changed_row_keeps_all_others_out(connect, emulator, tmp_path):
    """A conflict in the last of 1,500 rows leaves none of them behind, to be bought with the next run."""
    async with connect() as session:
        await run_batch(session, tmp_path, rows(1))
        more = [{"id": f"new-{number}", "prompt": "x"} for number in range(1500)]
        await run_batch(session, tmp_path, [*more, {"id": "r0", "prompt": "other"}])
        await run_batch(session, tmp_path, rows(1))
    assert emulator.ledger.sold.total() == 1


async def test_a_batch_is_used_once_and_inside_its_block(connect, tmp_path):
    """Each misuse says what to do."""
    async with connect() as session:
        batch = batch_of(session, tmp_path, rows(1))
        with pytest.raises(SessionError, match="enter the batch first"):
            await anext(batch)
        with pytest.raises(SessionError, match="not open"):
            await batch.dead()
        await batch.aclose()  # it was not entered
        async with batch:
            with pytest.raises(SessionError, match="plan the batch before"):
                await batch.plan()
            assert await batch.doubtful() == []
        with pytest.raises(SessionError, match="a batch runs once"):
            await batch.__aenter__()
        with pytest.raises(StopAsyncIteration):
            await anext(batch)


async def test_repr_says_where_a_batch_is(connect, tmp_path):
    async with connect() as session:
        batch = batch_of(session, tmp_path, rows(1))
        assert repr(batch) == f"<Batch '{tmp_path}/run.db' not entered>"
        async with batch:
            assert repr(batch) == f"<Batch '{tmp_path}/run.db' running | 1 new>"
            assert [outcome.key async for outcome in batch] == ["r0"]
            assert repr(batch) == f"<Batch '{tmp_path}/run.db' over | 1 done>"
        assert repr(batch) == f"<Batch '{tmp_path}/run.db' left | 1 done>"


async def test_progress_counts_the_rows_that_are_to_be_done(connect, tmp_path):
    """Those of an earlier run are not counted; the last state is shown at the end."""
    seen = []
    async with connect() as session:
        await run_batch(session, tmp_path, rows(2))
        await run_batch(session, tmp_path, rows(5), progress=seen.append)
    assert {progress.total for progress in seen} == {3}
    assert (seen[-1].done, seen[-1].failed, seen[-1].in_flight, seen[-1].submitting) == (3, 0, 0, 0)


async def test_a_plan_says_what_a_batch_would_do(connect, emulator, tmp_path):
    async with connect() as session:
        batch = batch_of(session, tmp_path, rows(3), price_usd=0.05)
        plan = await batch.plan()
        assert not (tmp_path / "run.db").exists()
        async with batch:
            async for _ in batch:
                break
        later = await batch_of(session, tmp_path, rows(4), price_usd=0.05).plan()
    assert (plan.rows, plan.new, plan.to_buy) == (3, 3, 3)
    assert plan.price_usd == pytest.approx(0.15)
    assert (later.rows, later.new) == (4, 1)


async def test_a_slow_reader_slows_the_spending_down(connect, emulator, tmp_path):
    """Only `in_flight` rows are bought until an outcome is read."""
    async with connect() as session, batch_of(session, tmp_path, rows(6), in_flight=2) as batch:
        await until(lambda: batch.counts[State.DONE] == 2)
        assert emulator.ledger.sold.total() == 2
        await anext(batch)
        await until(lambda: batch.counts[State.DONE] == 3)
        assert emulator.ledger.sold.total() == 3


async def test_the_cap_is_never_exceeded(connect, emulator, tmp_path):
    """However many are in flight; a higher one goes on."""
    async with connect() as session:
        options = {"price_usd": 0.05, "in_flight": 50}
        run = await run_batch(session, tmp_path, rows(12), budget_usd=0.22, **options)
        assert isinstance(run.error, BatchPaused)
        assert str(run.error) == (
            "the budget is used up: the next row, r4, costs $0.05; 8 rows are left. $0.20 spent, $0.00 reserved, "
            "$0.00 doubtful, of $0.22. To continue, raise budget_usd and run it again"
        )
        assert emulator.ledger.sold.total() == 4
        run = await run_batch(session, tmp_path, budget_usd=10, **options)
    assert run.counts == {"done": 12}
    assert run.batch.spending.spent == pytest.approx(0.6)


async def test_prices_are_learned_from_what_rows_have_cost(connect, tmp_path):
    """Under a cap, the first rows need a price; later ones need none."""
    async with connect() as session:
        await run_batch(session, tmp_path, rows(2))
        run = await run_batch(session, tmp_path, rows(6), budget_usd=0.22)
    costs = [outcome.cost_usd for outcome in run.outcomes]
    assert run.counts == {"done": 4, "new": 2}, costs


async def test_a_second_runner_is_refused(connect, tmp_path):
    async with connect() as session, batch_of(session, tmp_path, rows(1)) as batch:
        other = await run_batch(session, tmp_path, rows(1))
        assert isinstance(other.error, JournalError)
        assert [outcome.key async for outcome in batch] == ["r0"]


async def test_a_batch_takes_an_open_journal(connect, tmp_path):
    """And leaves it open."""
    async with connect() as session, open_journal(tmp_path / "j.db", create=True) as journal:
        async with session.batch(journal, ["a", "b"], model="flux-pro", save=str(tmp_path / "{key}")) as batch:
            keys = [outcome.key async for outcome in batch]
        assert len(keys) == 2
        assert (await journal.counts())[State.DONE] == 2


async def test_leaving_early_is_resumable(connect, emulator, tmp_path):
    """Nothing is lost, nothing is doubtful, and nothing runs on."""
    async with connect() as session:
        async with batch_of(session, tmp_path, rows(8), in_flight=3) as batch:
            await anext(batch)
        names = {task.get_name() for task in asyncio.all_tasks()}
        assert not names & {"lemon_async batch", "lemon_async map"}
        assert batch.counts[State.DOUBTFUL] == batch.counts[State.INTENT] == 0
    async with connect() as session:
        run = await run_batch(session, tmp_path)
    assert run.counts == {"done": 8}
    assert emulator.ledger.sold.total() == 8


async def test_leaving_early_saves_what_came_inline(connect, emulator, tmp_path):
    """However long that takes: there is no task from which the next run could fetch the pictures."""
    emulator.fault("cdn", Latency(300))
    async with connect(timeouts=Timeouts(close_s=0.05)) as session:
        async with batch_of(session, tmp_path, rows(4), model="dall-e-3", size="1024x1024") as batch:
            await until(lambda: batch.counts[State.SOLD] + batch.counts[State.DONE] == 4)
        assert batch.counts[State.DONE] == 4


async def test_sold_rows_are_resumed_within_the_limit(connect, emulator, tmp_path):
    """They count as in flight, and come before new ones."""
    emulator.fault("submit", Stuck(), times=5)
    async with connect() as session, batch_of(session, tmp_path, rows(5)) as batch:
        await until(lambda: batch.counts[State.SOLD] == 5)
    assert emulator.ledger.sold.total() == 5
    async with connect() as session, batch_of(session, tmp_path, rows(7), in_flight=2) as batch:
        await until(lambda: batch.progress.in_flight == 2)
        assert len(session.pending) == 2
        assert batch.counts[State.NEW] == 2


async def test_files_are_never_overwritten(connect, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "r0.png").write_bytes(b"mine")
    async with connect() as session:
        run = await run_batch(session, tmp_path, rows(1))
    assert [path.name for path in run.outcomes[0].paths] == ["r0-2.png"]
    assert Path(tmp_path / "out" / "r0.png").read_bytes() == b"mine"


async def test_files_say_where_they_come_from(connect, tmp_path):
    async with connect() as session:
        run = await run_batch(session, tmp_path, rows(1), provenance=True)
    (path,) = run.outcomes[0].paths
    assert b"prompt 0" in path.read_bytes()
    (entry,) = (await journal_rows(tmp_path))["r0"].pictures
    assert entry.size_bytes == path.stat().st_size


async def test_readers_share_the_outcomes(connect, tmp_path):
    """Each goes to one of them, and all of them end."""
    seen = []
    async with connect() as session, batch_of(session, tmp_path, rows(9)) as batch:
        await asyncio.gather(*(collect(batch, seen) for _ in range(4)))
    assert sorted(outcome.key for outcome in seen) == [f"r{number}" for number in range(9)]


async def test_rows_whose_tasks_go_on_are_no_warning(connect, emulator, tmp_path, caplog):
    """Whether this run has bought or resumed them: the journal has their tasks, and the next run continues."""
    emulator.fault("submit", Stuck())
    for _ in range(2):
        async with connect() as session, batch_of(session, tmp_path, rows(1)) as batch:
            await until(lambda batch=batch, session=session: batch.counts[State.SOLD] and session.pending)
    assert emulator.ledger.sold.total() == 1
    assert caplog.messages == []


async def test_a_resumed_row_has_the_name_that_it_would_have_had(connect, emulator, tmp_path):
    """Its task does not know prompt and model of the request any more."""
    save = str(tmp_path / "{model}" / "{slug}-{key}")
    emulator.fault("poll", Status(502))  # however long leaving takes, the first run sees no picture
    async with connect() as session:
        async with batch_of(session, tmp_path, rows(1), save=save) as batch:
            await until(lambda: batch.counts[State.SOLD])
        emulator.clear_faults()
        run = await run_batch(session, tmp_path, save=save)
    assert run.outcomes[0].paths == (tmp_path / "flux-pro" / "prompt-0-r0.png",)
