"""Connect to the server of a journal, with the settings that its promises need."""

import time
from collections.abc import Generator
from typing import Any

import psycopg

from lemon_async.batch.store.faults import refusal
from lemon_async.batch.store.postgres.address import Address

__all__ = ["Connection", "connect"]

Connection = psycopg.Connection[tuple[Any, ...]]

_OLDEST = 120000
_WITH_IDLE_SESSIONS = 140000
# Both ends notice within about half a minute that the other one is gone. The user's own parameters go first.
_PARAMETERS = {
    "application_name": "lemon_async",
    "connect_timeout": "5",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "30000",
}
_SETTINGS = {
    "idle_in_transaction_session_timeout": "10s",  # a process that was stopped inside a transaction blocks the others
    "lock_timeout": "10s",
    "statement_timeout": "60s",
    "default_transaction_isolation": "read committed",  # sees what was committed while it waited for a lock
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
}
# Every statement finds its rows by an index. The planner would not always: it does not know new tables, nor what of
# large ones is in memory.
_PLANS = dict.fromkeys(("enable_seqscan", "enable_bitmapscan", "enable_hashjoin", "enable_mergejoin", "jit"), "off")
_IDLE_SESSION = "60s"  # a process that was stopped, or cut off, for so long counts as dead
_RESPONSE_S = 70.0  # statements end before that
_STATE = (
    "SELECT pg_backend_pid(), current_setting('server_encoding'), "
    "pg_is_in_recovery() OR current_setting('default_transaction_read_only')::boolean, "
    "current_setting('synchronous_commit')"
)


class _Connection(psycopg.Connection[tuple[Any, ...]]):
    """A connection that ends when the server is silent: a proxy may keep it open although the server is gone."""

    response_s: float = _RESPONSE_S

    def wait(self, gen: Generator[Any, Any, Any], *arguments: Any, **options: Any) -> Any:
        """Wait for a result; psycopg calls this for each."""
        return super().wait(self._bounded(gen), *arguments, **options)

    def _bounded(self, steps: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
        deadline = time.monotonic() + self.response_s
        try:
            step = next(steps)
            while True:
                is_ready = yield step
                if not is_ready and time.monotonic() > deadline:
                    self.pgconn.finish()
                    raise psycopg.OperationalError(f"no response within {self.response_s:g} s")
                step = steps.send(is_ready)
        except StopIteration as end:
            return end.value


def connect(address: Address) -> Connection:
    """Return a new connection; every statement is a transaction of its own unless `BEGIN` says otherwise.

    Raises:
        psycopg.Error: There is none.
        JournalError: The server cannot hold a journal.
    """
    parameters = {**_PARAMETERS, **address.parameters, "client_encoding": "utf8"}
    try:
        connection: Connection = _Connection.connect("", autocommit=True, **parameters)  # type: ignore[arg-type] # strings
    except psycopg.Error as failure:
        raise _without_frames(failure)  # noqa: B904 - it is the same
    try:
        _check(connection, address)
        settings = {**_SETTINGS, **_PLANS, "search_path": f'"{address.schema}"'}
        if connection.info.server_version >= _WITH_IDLE_SESSIONS:
            settings["idle_session_timeout"] = _IDLE_SESSION
        calls = ", ".join("set_config(%s, %s, false)" for _ in settings)
        connection.execute(f"SELECT {calls}".encode(), [text for pair in settings.items() for text in pair])
    except BaseException:
        connection.close()
        raise
    return connection


def _without_frames(failure: psycopg.Error) -> psycopg.Error:
    """Forget the frames of psycopg: their local variables have the password."""
    failure.__cause__ = failure.__context__ = None
    return failure.with_traceback(None)


def _check(connection: Connection, address: Address) -> None:
    if connection.info.server_version < _OLDEST:
        raise refusal(address.name, "the server is older than PostgreSQL 12; use a newer one")
    row = connection.execute(_STATE).fetchone() or (0, "", False, "")
    pid, encoding, is_read_only, commit = row
    if pid != connection.info.backend_pid:
        words = "a connection pooler (such as PgBouncer) is in between, and a journal needs a session of its own"
        raise refusal(address.name, f"{words}; use the address of the server itself")
    if encoding != "UTF8":
        raise refusal(address.name, f"the database has the encoding {encoding}; create one with ENCODING 'UTF8'")
    if is_read_only:
        words = "the server is read-only (a standby, or default_transaction_read_only); use the address of the primary"
        raise refusal(address.name, words)
    if commit in {"off", "local"}:
        connection.execute("SET synchronous_commit = on")
