"""Create the tables of a journal, or check that they are of this version."""

import uuid

from lemon_async.batch.store.faults import missing, refusal
from lemon_async.batch.store.postgres import statements as sql
from lemon_async.batch.store.postgres.address import Address
from lemon_async.batch.store.postgres.connection import Connection

__all__ = ["prepare"]

_TABLES = """
SELECT relname::text FROM pg_class
WHERE relnamespace = to_regnamespace(%s) AND relkind IN ('r', 'p', 'v', 'm', 'f')"""
_ALONE = "SELECT pg_advisory_xact_lock(hashtext('lemon_async'), hashtext(%s))"


def prepare(connection: Connection, address: Address, base_url: str | None, *, create: bool = True) -> None:
    """Create the tables if the schema is empty, and check what it holds.

    Raises:
        JournalError: It is empty without `create`, or holds other tables, another version, or rows for another service.
        psycopg.Error: The tables cannot be read or created.
    """
    if not _tables(connection, address) >= sql.TABLES:
        with connection.transaction():
            connection.execute(_ALONE, (address.schema,))
            if not (tables := _tables(connection, address)):
                if not create:
                    raise missing(address.name, f"the schema {address.schema!r} has no tables")
                _create(connection, address)
            elif not tables >= sql.TABLES:
                raise _of_another_program(address)
    _check_version(connection, address)
    if base_url is not None:
        _check_service(connection, address, base_url.rstrip("/"))


def _tables(connection: Connection, address: Address) -> set[str]:
    rows = connection.execute(_TABLES, (f'"{address.schema}"',)).fetchall()
    return {str(name) for (name,) in rows}


def _create(connection: Connection, address: Address) -> None:
    schema = f'"{address.schema}"'
    if connection.execute("SELECT to_regnamespace(%s) IS NULL", (schema,)).fetchone() == (True,):
        connection.execute(f"CREATE SCHEMA {schema}".encode())
    connection.execute(sql.SCHEMA)
    connection.execute("INSERT INTO ledger (program, version) VALUES (%s, %s)", (sql.PROGRAM, sql.VERSION))
    connection.execute(sql.WRITE_NOTE, ("journal_id", uuid.uuid4().hex))


def _of_another_program(address: Address) -> Exception:
    words = f"the schema {address.schema!r} has tables of another program; name another schema (?schema=NAME)"
    return refusal(address.name, words)


def _check_version(connection: Connection, address: Address) -> None:
    (row,) = connection.execute("SELECT to_jsonb(ledger) FROM ledger LIMIT 1").fetchone() or ({},)
    known = row if isinstance(row, dict) else {}
    if known.get("program") != sql.PROGRAM:
        raise _of_another_program(address)
    if (version := known["version"]) != sql.VERSION:
        age, advice = ("newer", "update lemon_async") if version > sql.VERSION else ("older", "start a new journal")
        words = f"its schema version {version} is {age} than {sql.VERSION}, which this version uses; {advice}"
        raise refusal(address.name, words)


def _check_service(connection: Connection, address: Address, base_url: str) -> None:
    if (known := connection.execute(sql.READ_NOTE, ("base_url",)).fetchone()) is None:
        connection.execute("INSERT INTO notes VALUES ('base_url', %s) ON CONFLICT DO NOTHING", (base_url,))
        known = connection.execute(sql.READ_NOTE, ("base_url",)).fetchone()
    if known != (base_url,):
        raise refusal(address.name, f"its rows are for {known and known[0]}, and this session is for {base_url}")
