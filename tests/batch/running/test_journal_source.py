"""A batch finds its journal, makes a new one only for rows, and never shows a password."""

import pytest

from lemon_async.batch import open_journal
from lemon_async.batch.running.journal_source import JournalSource
from lemon_async.errors import ContractError, JournalError
from saved_rows import add

URL = "http://127.0.0.1:1"


async def test_without_rows_there_must_be_a_journal(tmp_path):
    """And none is made."""
    source = JournalSource(tmp_path / "run.db", URL)
    assert await source.is_missing()
    with pytest.raises(ContractError, match=r"there is no journal '.*run\.db' to continue; pass the rows of a new one"):
        async with source.opened(may_be_empty=False):
            pass
    assert await source.is_missing()
    async with source.opened(may_be_empty=True) as journal:
        assert await journal.read_note("base_url") == URL
    assert not await source.is_missing()
    async with source.opened(may_be_empty=False):
        pass


async def test_an_open_journal_stays_open(tmp_path):
    async with open_journal(tmp_path / "run.db") as journal:
        source = JournalSource(journal, URL)
        async with source.opened(may_be_empty=False) as opened:
            assert opened is journal
        assert not await source.is_missing()
        assert source.name == journal.name
        await journal.counts()


async def test_a_database_without_rows_counts_as_missing(postgres):
    """The tables are made when it is opened."""
    url = postgres.new_journal()
    source = JournalSource(url, URL)
    assert not await source.is_missing()
    with pytest.raises(ContractError, match=r"there is no journal 'postgresql://127\.0\.0\.1:.*' to continue"):
        async with source.opened(may_be_empty=False):
            pass
    async with source.opened(may_be_empty=True) as journal:
        await add(journal, "a")
    async with source.opened(may_be_empty=False) as journal:
        assert journal.is_shared


def test_a_password_is_never_shown():
    """Not in the text of a batch, nor in the error of a URL that cannot be read."""
    source = JournalSource("postgresql://me:hunter2@db.test:5432/app", URL)
    assert source.name == "postgresql://db.test:5432/app"
    with pytest.raises(JournalError, match="cannot be read") as refused:
        JournalSource("postgresql://me:hun/t@er2@db.test:5432/app", URL)
    assert "er2" not in str(refused.value)
