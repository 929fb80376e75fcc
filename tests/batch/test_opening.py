"""A journal is opened by a path or by a URL."""

import sys

import pytest

from lemon_async.batch.opening import open_journal
from lemon_async.batch.watching.view import watch_journal
from lemon_async.errors import JournalError


async def test_path_is_a_file_and_url_a_server(tmp_path, postgres):
    """Only the second one is shared."""
    async with open_journal(tmp_path / "run.db", create=True) as journal:
        assert (journal.name, journal.folder, journal.is_shared) == (str(tmp_path / "run.db"), tmp_path, False)
    url = postgres.new_journal()
    async with open_journal(url, create=True) as journal:
        assert (journal.name, journal.folder, journal.is_shared) == (url.replace("lemon@", ""), None, True)
        assert repr(journal) == f"<Journal {journal.name!r}>"


async def test_missing_extra_is_named(monkeypatch):
    """With the command that installs it."""
    monkeypatch.setitem(sys.modules, "psycopg", None)
    for name in [name for name in sys.modules if name.startswith("lemon_async.batch.store.postgres.")]:
        if not name.endswith((".address", ".values", ".statements")):
            monkeypatch.delitem(sys.modules, name)
    with pytest.raises(JournalError, match=r"it needs psycopg; pip install 'lemon-async\[postgres\]'"):
        async with open_journal("postgresql://me:secret@h/db"):
            pass


@pytest.mark.parametrize("name", ["typo.db", "empty.db"])
async def test_reading_makes_no_file_of_a_wrong_name(tmp_path, name):
    """Nor a journal of an empty file."""
    (tmp_path / "empty.db").touch()
    with pytest.raises(JournalError, match=rf"there is no journal '.*{name}': (there is no file|the file is empty)"):
        async with open_journal(tmp_path / name):
            pass
    assert [(file.name, file.stat().st_size) for file in tmp_path.iterdir()] == [("empty.db", 0)]


@pytest.mark.parametrize("look", [open_journal, watch_journal])
async def test_reading_makes_no_schema(postgres, look):
    """Nor does watching; the error names the schema."""
    url = postgres.new_journal()
    database, _, schema = url.partition("?schema=")
    with pytest.raises(JournalError, match=f"there is no journal '.*': the schema '{schema}' has no tables; check"):
        async with look(url):
            pass
    assert postgres.execute(f"SELECT to_regnamespace('{schema}') IS NULL", database) == [(True,)]
