"""The connection of a journal to its server, which survives restarts: each transaction is made exactly once.

    owner       a row of `owners`, and a session lock on its number: whoever gets that lock knows that the owner is dead
    group       every transaction writes its number to the row of its owner, so that it is known, after a connection has
                ended without an answer to COMMIT, whether it was made
    return      the owner's lock is taken again first: only then has the old session ended, and no COMMIT of it can
                follow; the session itself is ended if the server has not noticed yet
    buried      an owner that took longer has lost its claims; its transaction is made again, and the tables decide
    lost data   a server that knows less than it has confirmed is an older copy: it would buy again

The store waits for its server for a minute by default. Nothing is sent meanwhile, because no intent is recorded.
"""

import copy
import os
import random
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

import attrs
import psycopg

from lemon_async.batch.store.faults import refusal
from lemon_async.batch.store.postgres import statements as sql
from lemon_async.batch.store.postgres.address import Address
from lemon_async.batch.store.postgres.connection import Connection, connect
from lemon_async.batch.store.postgres.faults import describe, is_lost, is_starting, unreachable
from lemon_async.errors import JournalError

__all__ = ["Link", "Owner", "first"]

_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 1.0
_LOCK_WITHIN = "5s"
_SIGN = 1 << 31
_OLD_SESSION = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = %s AND backend_start = %s"
_SESSION = "SELECT pg_backend_pid(), backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid()"
_TAG = "SELECT 'owners'::regclass::oid::bigint"
_STALE = (
    "the server has lost changes that it had confirmed (an older copy of the database, or a standby that lagged "
    "behind): it would buy again what was bought since; restore what is missing"
)

T = TypeVar("T")


@attrs.define
class Owner:
    """An open journal: the number in `owners`, and that of its last transaction."""

    id: int
    last_group: int = 0


class _StaleServer(Exception):
    """The server lacks what it has confirmed."""


class Link:
    """A connection that is made again when it ends.

    Args:
        address: The server.
        patience_s: How long to wait for a server that is gone.

    Raises:
        JournalError: The server cannot be reached, or cannot hold a journal.
    """

    def __init__(self, address: Address, *, patience_s: float) -> None:
        self._address = address
        self._patience_s = patience_s
        self._stop = threading.Event()
        self._failure: JournalError | None = None
        self._session: tuple[object, ...] = ()
        self._pipeline: psycopg.Pipeline | None = None
        self._tag: int | None = None
        self.owner: Owner | None = None
        self._connection = self._connect()

    def _connect(self) -> Connection:
        """Connect for the first time; only a server that is starting is worth waiting for."""
        deadline, pause = time.monotonic() + self._patience_s, _FIRST_PAUSE_S
        while True:
            try:
                return connect(self._address)
            except psycopg.Error as failure:
                if not is_starting(failure) or time.monotonic() >= deadline:
                    raise unreachable(self._address, failure) from failure
            self._stop.wait(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_S)

    def read(self, work: Callable[[Connection], T]) -> T:
        """Return what work reads; it is repeated if the connection ends."""
        while True:
            connection = self._usable()
            try:
                return work(connection)
            except psycopg.Error as failure:
                if not is_lost(connection, failure):
                    raise describe(self._address, failure) from failure
                self._reconnect()

    def transact(self, work: Callable[[Connection], T]) -> T:
        """Make a transaction, exactly once; work is repeated if the connection ends before it is made.

        Work runs in a pipeline: it calls `settle` before it fetches, and may leave its last statements there.
        """
        deadline = time.monotonic() + self._patience_s
        while True:
            connection, results = self._usable(), list[T]()
            group: tuple[int, int] | None = None
            try:
                owner = self.owner or self._register(connection)
                group = owner.id, owner.last_group + 1
                self._attempt(connection, group, lambda: results.append(work(connection)))  # noqa: B023 - called now
            except psycopg.errors.LockNotAvailable as failure:
                if time.monotonic() > deadline:
                    raise describe(self._address, failure) from failure
                self.read(lambda each: each.execute(sql.END_HOLDERS))
                continue
            except psycopg.Error as failure:
                if not is_lost(connection, failure):
                    raise describe(self._address, failure) from failure
                last_group = self._reconnect()
                if group is None or last_group != group:
                    if time.monotonic() > deadline + self._patience_s:  # the server ends every session anew
                        raise describe(self._address, failure) from failure
                    continue
            else:
                owner.last_group += 1
            return results[0]

    def _attempt(self, connection: Connection, group: tuple[int, int], work: Callable[[], None]) -> None:
        owner, number = group
        try:
            with connection.pipeline() as self._pipeline:
                connection.execute(sql.BEGIN)
                connection.execute(sql.GROUP, (number, owner))
                work()
                connection.execute("COMMIT")
        except BaseException:
            with suppress(psycopg.Error):
                connection.execute("ROLLBACK")
            raise
        finally:
            self._pipeline = None

    def settle(self) -> None:
        """Wait for the results of a pipeline; the server then waits for us, and its timeout for that runs."""
        if self._pipeline is not None:
            self._pipeline.sync()

    def _usable(self) -> Connection:
        if self._failure is not None:
            raise copy.copy(self._failure)
        return self._connection

    def _register(self, connection: Connection) -> Owner:
        with connection.transaction():  # others see the owner when it has its lock
            (number,) = first(connection.execute(sql.REGISTER, (socket.gethostname(), os.getpid())))
            connection.execute("SELECT pg_advisory_lock(%s, %s)", (self.tag(connection), number))
        self._session = first(connection.execute(_SESSION))
        self.owner = Owner(number)
        return self.owner

    def tag(self, connection: Connection) -> int:
        """Return the first number of the locks of this journal's owners; it differs from those of other journals."""
        if self._tag is None:
            (oid,) = first(connection.execute(_TAG))
            self._tag = int(oid) - 2 * _SIGN if oid >= _SIGN else int(oid)
        return self._tag

    def _reconnect(self) -> tuple[int, int] | None:
        """Connect again, and return the number of the last transaction of the owner; `None` if there was no owner."""
        self._connection.close()
        deadline, pause = time.monotonic() + self._patience_s, _FIRST_PAUSE_S
        while True:
            try:
                self._connection = connect(self._address)
                return self._return(self._connection)
            except _StaleServer as stale:
                self._failure = refusal(self._address.name, str(stale))
                raise copy.copy(self._failure) from None
            except (psycopg.Error, JournalError) as failure:
                self._connection.close()
                if self._stop.is_set() or time.monotonic() >= deadline:
                    final = failure if isinstance(failure, JournalError) else unreachable(self._address, failure)
                    self._failure = final
                    raise copy.copy(final) from failure
            self._stop.wait(pause * (0.5 + random.random()))  # noqa: S311 - so that owners do not come all together
            pause = min(2 * pause, _LONGEST_PAUSE_S)

    def _return(self, connection: Connection) -> tuple[int, int] | None:
        if (owner := self.owner) is None:
            return None
        connection.execute(_OLD_SESSION, self._session)
        with connection.transaction():
            connection.execute(f"SET LOCAL lock_timeout = '{_LOCK_WITHIN}'")
            connection.execute("SELECT pg_advisory_lock(%s, %s)", (self.tag(connection), owner.id))
        row = connection.execute(sql.RETURN, (owner.id,)).fetchone()
        if row is None or row[0] not in {owner.last_group, owner.last_group + 1}:
            raise _StaleServer(_STALE)
        last_group, is_buried = row
        owner.last_group = last_group
        self._session = first(connection.execute(_SESSION))
        if is_buried:
            self.owner = None
        return owner.id, last_group

    def give_up(self) -> None:
        """Wait no longer for a server that is gone."""
        self._stop.set()

    def close(self) -> None:
        """End the connection."""
        self._connection.close()


def first(cursor: "psycopg.Cursor[Any]") -> Any:
    """Return the first row of a result that has one."""
    row = cursor.fetchone()
    assert row is not None  # noqa: S101 - aggregates, RETURNING, and the one row of a table
    return row
