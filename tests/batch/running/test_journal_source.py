"""A batch finds its journal, makes a new one only for rows, and never shows a password."""

import re

import pytest

from lemon_async.batch import open_journal
from lemon_async.batch.running.journal_source import JournalSource
from lemon_async.errors import JournalError

URL = "http://127.0.0.1:1"


@pytest.fixture(params=["sqlite", "postgres"])
def address(request, tmp_path):
    """The address of a journal that does not exist yet."""
    return tmp_path / "run.db" if request.param == "sqlite" else request.getfixturevalue("postgres").new_journal()


async def test_journal_is_created_only_for_rows(address):
    """Otherwise there is none to continue."""
    source = JournalSource(address, URL)
    async with source.opened(create=False) as journal:
        assert journal is None
    async with source.opened(create=True) as journal:
        assert await journal.read_note("base_url") == URL
    assert not await source.is_missing()
    async with source.opened(create=False) as journal:
        assert await journal.read_note("base_url") == URL
    words = r"there is no journal '.*' to continue; pass the rows of a new one"
    assert re.search(words, str(source.nothing()))


async def test_only_a_file_is_missing_before_it_is_opened(tmp_path):
    assert await JournalSource(tmp_path / "run.db", URL).is_missing()
    assert not await JournalSource("postgresql://db.test/app", URL).is_missing()


async def test_an_open_journal_stays_open(tmp_path):
    async with open_journal(tmp_path / "run.db", create=True) as journal:
        source = JournalSource(journal, URL)
        async with source.opened(create=False) as opened:
            assert opened is journal
        assert not await source.is_missing()
        assert source.name == journal.name
        await journal.counts()


def test_a_password_is_never_shown():
    """Not in the text of a batch, nor in the error of a URL that cannot be read."""
    source = JournalSource("postgresql://me:hunter2@db.test:5432/app", URL)
    assert source.name == "postgresql://db.test:5432/app"
    with pytest.raises(JournalError, match="cannot be read") as refused:
        JournalSource("postgresql://me:hun/t@er2@db.test:5432/app", URL)
    assert "er2" not in str(refused.value)
