"""`LemonGenerator` adds columns to batches of rows; it needs no Ray to do so."""

import asyncio
import gc
import threading

import pytest

from batches import rows
from lemon_async import ContractError, PollPolicy
from lemon_async.distributed import LemonGenerator
from lemon_async.emulator import Status
from lemon_async.errors import JournalError

pytest.importorskip("numpy")
QUICK = PollPolicy(min_gap_s=0.005, max_gap_s=0.02)


@pytest.fixture
def make(emulator, postgres, tmp_path, monkeypatch):
    """Make generators of one journal."""
    monkeypatch.setenv("LEMONDATA_API_KEY", emulator.api_key)
    options = {
        "journal": postgres.new_database(),
        "key": "id",
        "save": str(tmp_path / "out" / "{key}"),
        "base_url": emulator.base_url,
        "polling": QUICK,
        "requests_per_minute": 60_000,
        "model": "flux-pro",
        "size": "256x256",
    }
    return lambda **more: LemonGenerator(**{**options, **more})


def columns(number, **more):
    given = rows(number)
    return {name: [row[name] for row in given] for name in given[0]} | more


def as_arrays(batch):
    numpy = pytest.importorskip("numpy")
    return {name: numpy.array(values, dtype=object) for name, values in batch.items()}


def sold_of(emulator):
    return sum(entry.kind == "reserve" for entry in emulator.ledger.entries)


async def test_batches_come_back_with_columns(make, emulator, tmp_path):
    """Several batches at a time share one session; a row that comes again, there or elsewhere, is not bought again."""
    emulator.fault("submit", Status(400, code="content_policy_violation"), prompt="prompt 2$")
    generator, other = make(), make(prefix="lemon_")
    batch = as_arrays(columns(4))
    first, second = await asyncio.gather(generator(batch), generator(batch))
    assert list(first) == ["id", "prompt", "status", "paths", "error", "cost_usd", "task_id"]
    assert list(first["status"]) == list(second["status"]) == ["done", "done", "refused", "done"]
    assert next(iter(first["paths"])) == [str(tmp_path / "out" / "r0.png")]
    assert first["error"][2].startswith("BadRequest: ")
    again = await other(batch)
    assert list(again["lemon_task_id"]) == list(first["task_id"])
    assert sold_of(emulator) == 3


async def test_columns_that_are_not_chosen_stay_out_of_the_journal(make, emulator):
    """They may be anything, as the pictures of a data set."""
    batch = as_arrays(columns(2, picture=[b"1", b"2"]))
    refused = await make()(batch)
    assert list(refused["status"]) == ["refused"] * 2
    assert "picture: cannot be kept as JSON" in refused["error"][0]
    assert sold_of(emulator) == 0
    chosen = await make(columns=["prompt"])(batch)
    assert list(chosen["status"]) == ["done"] * 2
    assert list(chosen["picture"]) == [b"1", b"2"]


async def test_what_is_wrong_for_all_rows_raises(make, monkeypatch):
    """Before anything is sold."""
    for options, problem in (
        ({"journal": "run.db"}, "several machines"),
        ({"key": ""}, "must be the name of a column"),
        ({"model": ["flux-pro", "ideogram-v3"]}, "must be one model"),
        ({"api_key": "sk-x"}, "LEMONDATA_API_KEY"),
    ):
        with pytest.raises(ContractError, match=problem):
            make(**options)
    for options, more, problem in (
        ({"key": "sku"}, {}, "'sku' is no column"),
        ({}, {"status": [1]}, "status: is a column of the data set already"),
        ({"columns": ["colour"]}, {}, "colour: is no column"),
        ({}, {"sizes": ["x"]}, "is not a field"),
        ({"save": "{colour}"}, {}, "colour"),
    ):
        with pytest.raises(ContractError, match=problem):
            await make(**options)(as_arrays(columns(1, **more)))
    with pytest.raises(JournalError):
        await make(journal="postgresql://127.0.0.1:1/nothing")(as_arrays(columns(1)))
    monkeypatch.delenv("LEMONDATA_API_KEY")
    with pytest.raises(ContractError, match="LEMONDATA_API_KEY"):
        make()


async def test_a_generator_that_is_dropped_closes_what_it_has_opened(make, emulator):
    """Ray drops it when its worker ends."""
    before = set(threading.enumerate())
    generator = make()
    await generator(as_arrays(columns(1)))
    names = {"lemon_async generator", "lemon_async journal"}
    opened = [thread for thread in set(threading.enumerate()) - before if thread.name in names]
    assert {thread.name for thread in opened} == names
    del generator
    gc.collect()
    for thread in opened:  # a journal is closed a moment before its thread has ended
        thread.join(60)
    assert not [thread.name for thread in opened if thread.is_alive()]


async def test_a_journal_that_fails_later_is_a_column(make, emulator, postgres):
    """The batches after it try again; the first one of a worker would raise."""
    generator = make()
    assert list((await generator(as_arrays(columns(1))))["status"]) == ["done"]
    postgres.execute("ALTER SCHEMA lemon_async RENAME TO other; CREATE SCHEMA lemon_async", generator._options.journal)
    failed = await generator(as_arrays(columns(2)))
    assert list(failed["status"]) == [None, None]
    assert failed["error"][0].startswith("JournalError: ")
    postgres.execute("DROP SCHEMA lemon_async; ALTER SCHEMA other RENAME TO lemon_async", generator._options.journal)
    assert list((await generator(as_arrays(columns(2))))["status"]) == ["done"] * 2
    assert sold_of(emulator) == 2
