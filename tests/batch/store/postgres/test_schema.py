"""A journal uses only a schema of its own, of its own version."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from journals import new_rows
from lemon_async.errors import JournalError


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            "UPDATE ledger SET version = 9",
            "its schema version 9 is newer than 1, which this version uses; update",
        ),
        ("UPDATE ledger SET version = 0", "its schema version 0 is older than 1, which this version uses; start"),
        ("UPDATE ledger SET program = 'accounts'", "has tables of another program; name another schema"),
        ("DELETE FROM ledger", "has tables of another program; name another schema"),
        ("DROP TABLE claims", "has tables of another program; name another schema"),
    ],
)
def test_schema_of_another_version_or_program_is_refused(open_store, postgres, url, change, words):
    """And nothing is written to it."""
    store = open_store()
    store.add(new_rows(2))
    store.close()
    database, _, schema = url.partition("?schema=")
    postgres.execute(f"SET search_path = {schema}; {change}", database)
    with pytest.raises(JournalError, match=words):
        open_store()


def test_schema_with_other_tables_is_refused(open_store, postgres):
    """Another schema of the same database will do."""
    url = postgres.new_database()
    postgres.execute("CREATE TABLE orders (id int)", url)
    with pytest.raises(JournalError, match=r"the schema 'public' has tables of another program; name another schema"):
        open_store(f"{url}?schema=public")
    assert open_store(url).add(new_rows(1)) == 1


def test_journal_has_an_identity(open_store):
    """Every process reads the same."""
    assert len(open_store().read_note("journal_id")) == 32
    assert open_store().read_note("journal_id") == open_store().read_note("journal_id")


def test_programs_that_create_it_at_the_same_time_share_it(open_store, url):
    """Also if the transactions of the database do not see by default what was committed after they began."""
    url += "&options=-c%20default_transaction_isolation%3Dserializable"
    with ThreadPoolExecutor(8) as pool:
        stores = list(pool.map(open_store, [url] * 8))
    assert len({store.read_note("journal_id") for store in stores}) == 1
