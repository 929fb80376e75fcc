"""Whatever is wrong with a server, the error says what to do, and never shows the password."""

import asyncio
import struct

import psycopg
import pytest

from lemon_async.batch.opening import open_journal
from lemon_async.batch.store.postgres.address import Address
from lemon_async.batch.store.postgres.faults import describe, unreachable
from lemon_async.batch.store.postgres.link import Link
from lemon_async.errors import JournalError
from servers import listening

SECRET = "s3cret"


async def refused(url, words):
    """Assert that opening is refused with these words."""
    with pytest.raises(JournalError) as caught:
        async with open_journal(url, create=True):
            pass
    assert words in str(caught.value)
    assert SECRET not in str(caught.value)


async def test_login_and_rights_are_explained(postgres):
    """A wrong password, a missing database, a user without rights."""
    postgres.execute(f"CREATE ROLE guarded LOGIN PASSWORD '{SECRET}'")
    postgres.execute("CREATE ROLE guest LOGIN")
    url = postgres.new_database()
    name = url.rpartition("/")[2]
    await refused(postgres.url(name, f"guarded:{SECRET}x"), "refuses the connection; check user, password and database")
    await refused(postgres.url("missing"), 'database "missing" does not exist')
    await refused(postgres.url(name, "guest"), "the user lacks rights; let its owner grant them, or use another schema")
    await refused(postgres.url(name, f"guarded:{SECRET}"), f"permission denied for database {name} (42501)")


async def test_server_that_is_not_there_is_named(unused_port):
    """With host and port."""
    url = f"postgresql://me:{SECRET}@127.0.0.1:{unused_port}/db"
    await refused(url, "the server does not respond; start it, or check host and port")
    await refused(url, f"cannot use the journal 'postgresql://127.0.0.1:{unused_port}/db'")


async def test_server_that_is_starting_is_waited_for():
    """Within the patience of a journal; then the error says what the server does. Other threads run meanwhile."""
    fatal = {"57P03": b"the database system is starting up", "28P01": b"password authentication failed"}
    codes = iter(["57P03"] * 4)

    async def reject(reader, writer):
        (size,) = struct.unpack("!i", await reader.readexactly(4))
        await reader.readexactly(size - 4)
        code = next(codes, "28P01")
        body = b"SFATAL\0VFATAL\0C%s\0M%s\0\0" % (code.encode(), fatal[code])
        writer.write(b"E" + struct.pack("!i", len(body) + 4) + body)
        await writer.drain()

    async with listening(reject) as origin:
        port = origin.rpartition(":")[2]
        options = "sslmode=disable&gssencmode=disable&connect_timeout=60"
        address = Address.of(f"postgresql://me:{SECRET}@127.0.0.1:{port}/db?{options}")
        with pytest.raises(JournalError, match="the server is starting or shutting down; wait until it has started"):
            await asyncio.to_thread(Link, address, patience_s=0)
        with pytest.raises(JournalError, match="refuses the connection; check user, password and database"):
            await asyncio.to_thread(Link, address, patience_s=60)
        assert next(codes, None) is None


async def test_parameters_that_libpq_does_not_know_are_named(unused_port):
    """No server is asked."""
    url = f"postgresql://me:{SECRET}@127.0.0.1:{unused_port}/db"
    for parameter, fault in (
        ("foo=1", 'invalid connection option "foo"'),
        ("connect_timeout=a", "connect_timeout: 'a'"),
    ):
        await refused(f"{url}?{parameter}", "correct the parameters after the question mark of its URL: ")
        await refused(f"{url}?{parameter}", fault)


async def test_read_only_server_is_refused(postgres):
    """Such as a standby."""
    url = postgres.new_database()
    postgres.execute(f"ALTER DATABASE {url.rpartition('/')[2]} SET default_transaction_read_only = on")
    await refused(url, "the server is read-only (a standby, or default_transaction_read_only); use the address of")


async def test_database_without_utf8_is_refused(postgres):
    """Not every prompt would fit."""
    postgres.execute("CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    await refused(postgres.url("latin"), "has the encoding LATIN1; create one with ENCODING 'UTF8'")


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (psycopg.errors.DiskFull, "the disk of the server is full; free some space, then run the batch again"),
        (psycopg.errors.OutOfMemory, "the server is out of resources"),
        (psycopg.errors.LockNotAvailable, "another session has locked it for too long"),
        (psycopg.errors.QueryCanceled, "a statement took too long and was cancelled"),
        (psycopg.errors.ReadOnlySqlTransaction, "the server is read-only"),
        (psycopg.errors.DataCorrupted, "it is damaged; restore the database only if nothing was bought since"),
        (psycopg.errors.UniqueViolation, "what it says (23505)"),
        (psycopg.OperationalError, "what it says"),
    ],
)
def test_errors_of_statements_say_what_to_do(kind, words):
    """The server's own words and code are kept."""
    error = str(describe(Address.of("postgresql://h/db"), kind("what it says")))
    assert error.startswith(f"cannot use the journal 'postgresql://h/db': {words}")
    assert "what it says" in error


def test_message_of_libpq_shows_no_password(unused_port):
    """Even if libpq quotes it."""
    address = Address.of(f"postgresql://me:{SECRET}@127.0.0.1:{unused_port}/db")
    error = unreachable(address, psycopg.OperationalError(f"could not\n  use {SECRET!r}"))
    assert str(error).endswith("could not use '…'")
