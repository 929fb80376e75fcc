import asyncio
import traceback

import attrs
import psycopg
import pytest

from lemon_async.batch.opening import open_journal
from lemon_async.batch.running.journal_source import JournalSource
from lemon_async.batch.store.postgres.address import Address
from lemon_async.batch.store.postgres.connection import _check, connect
from lemon_async.errors import JournalError


@attrs.define
class FakeConnection:
    """A connection through a pooler: its number is not that of the server's process."""

    server_version: int = 150000
    backend_pid: int = 1

    @property
    def info(self):
        return self

    def execute(self, _statement):
        return self

    def fetchone(self):
        return 2, "UTF8", False, "on"


def test_pooler_and_old_server_are_refused():
    """A session that others share holds no lock for its owner."""
    address = Address.of("postgresql://h/db")
    with pytest.raises(JournalError, match=r"a connection pooler .* is in between"):
        _check(FakeConnection(), address)
    with pytest.raises(JournalError, match="older than PostgreSQL 12"):
        _check(FakeConnection(server_version=110022), address)


def test_settings_protect_what_is_committed_and_other_processes(postgres):
    """A commit is synced whatever the database says, and a process that stops in a transaction loses its session."""
    url = postgres.new_database()
    postgres.execute(f"ALTER DATABASE {url.rpartition('/')[2]} SET synchronous_commit = off")
    with connect(Address.of(url)) as connection:
        for name, value in (
            ("synchronous_commit", "on"),
            ("idle_in_transaction_session_timeout", "10s"),
            ("search_path", '"lemon_async"'),
        ):
            assert connection.execute(f"SHOW {name}").fetchone() == (value,)


def test_silent_server_ends_the_connection(postgres):
    """A proxy may accept what is sent, and keep the connection open, although the server is gone."""
    with connect(Address.of(postgres.new_database())) as connection:
        connection.response_s = 0.2
        with pytest.raises(psycopg.OperationalError, match=r"no response within 0\.2 s"):
            connection.execute("SELECT pg_sleep(600)")
        assert connection.closed


@pytest.mark.parametrize("end", ["", "?bogus=1"])
def test_passwords_are_in_no_traceback(unused_port, end):
    """Not even in one that shows local variables."""
    url = f"postgresql://u:s3cret@127.0.0.1:{unused_port}/db{end}"

    async def use():
        async with open_journal(url):
            pass

    with pytest.raises(JournalError) as refusal:
        asyncio.run(use())
    error, shown = refusal.value, []
    while error is not None:
        shown += traceback.TracebackException.from_exception(error, capture_locals=True).format()
        error = error.__cause__ or error.__context__
    assert "s3cret" not in "".join(shown).replace(repr(url), "")
    assert "s3cret" not in repr(JournalSource(url, "http://x"))
