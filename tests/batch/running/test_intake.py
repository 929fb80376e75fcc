"""Rows and file names are checked before a row is added to a journal."""

import pytest

from lemon_async.batch import open_journal
from lemon_async.batch.prices import Prices
from lemon_async.batch.rows.reader import RowReader
from lemon_async.batch.running.intake import add_rows, check_rows, keys_of, learn_prices
from lemon_async.errors import ContractError
from lemon_async.requests import GenerateRequest
from saved_rows import add, finish


@pytest.fixture
async def journal(tmp_path):
    async with open_journal(tmp_path / "run.db", create=True) as opened:
        yield opened


def reader_of(source, **options):
    return RowReader(source, validate=lambda request: (), key="id", **options)


async def keys(journal):
    return [row.key for row in await journal.rows()]


async def test_the_template_is_kept_for_the_next_run(journal):
    for given, used in ((None, "{key}"), ("out/{key}", "out/{key}"), (None, "out/{key}"), ("{key}-2", "{key}-2")):
        assert await add_rows(journal, None, given) == (used, 0)


async def test_rows_that_are_new_are_counted(journal):
    reader = reader_of([{"id": "a", "prompt": "x"}, {"id": "b", "prompt": "x"}])
    assert await add_rows(journal, reader_of([{"id": "a", "prompt": "x"}]), None) == ("{key}", 1)
    assert await add_rows(journal, reader, None) == ("{key}", 1)
    assert await keys_of(reader) == await keys(journal) == ["a", "b"]


async def test_a_file_is_added_once_for_its_content_and_options(journal, tmp_path):
    """Other options make other rows."""
    file = tmp_path / "rows.csv"
    file.write_text("id,prompt\na,x\n")
    await add_rows(journal, reader_of(file), "{key}")
    unread = reader_of(file)
    await add_rows(journal, unread, "{key}")
    assert unread._found is None
    with pytest.raises(ContractError, match="a"):
        await add_rows(journal, reader_of(file, fields={"size": "256x256"}), "{key}")
    assert await keys(journal) == ["a"]


OTHER_KEYS = [{"key": None}, {"key": "sku"}, {"key": "id", "fields": {"model": ["flux-pro", "dall-e-3"]}}]


@pytest.mark.parametrize("options", OTHER_KEYS, ids=str)
async def test_rows_under_another_kind_of_key_are_refused(journal, options):
    """All of them would be new, and be bought again."""
    rows = [{"id": "a", "sku": "b", "prompt": "x", "size": "256x256"}]
    await add_rows(journal, reader_of(rows, fields={"model": "flux-pro"}), "{key}")
    with pytest.raises(ContractError, match="bought again"):
        await add_rows(journal, RowReader(rows, validate=lambda request: (), **options), "{key}")
    assert await keys(journal) == ["a"]


async def test_a_function_may_return_what_is_in_the_column(journal):
    rows = [{"id": "a", "prompt": "x"}]
    await add_rows(journal, reader_of(rows), "{key}")
    await add_rows(journal, RowReader(rows, validate=lambda request: (), key=lambda row: row["id"]), "{key}")
    assert await keys(journal) == ["a"]


BAD = [
    (reader_of([{"id": "a", "promt": "x"}]), "{key}", "promt"),
    (reader_of([{"id": "a", "prompt": "x"}]), "{shelf}", "unknown field 'shelf'"),
]


async def test_bad_rows_are_refused_before_there_is_a_journal():
    for reader, save, words in BAD:
        with pytest.raises(ContractError, match=words):
            await check_rows(reader, save)
        reader.close()
    reader = reader_of([{"id": "a", "prompt": "x"}])
    await check_rows(reader, None)
    reader.close()


async def test_nothing_is_added_if_there_is_a_problem(journal):
    for reader, save, words in BAD:
        with pytest.raises(ContractError, match=words):
            await add_rows(journal, reader, save)
        reader.close()
    assert await keys(journal) == []
    assert await journal.read_note("save") is None


async def test_columns_of_the_journal_are_fields_of_the_template(journal):
    await add(journal, "a", columns={"shelf": "A"})
    await add_rows(journal, None, "{shelf}/{key}")
    with pytest.raises(ContractError, match="unknown field 'row'"):
        await add_rows(journal, None, "{row}/{key}")


async def test_prices_are_learned_from_finished_rows(journal, tmp_path):
    await add(journal, "a")
    await finish(journal, "a", tmp_path, cost_usd=0.07)
    prices = Prices()
    await learn_prices(journal, prices)
    assert prices.price_of(GenerateRequest("x", model="flux-pro", n=2)) == pytest.approx(0.14)
