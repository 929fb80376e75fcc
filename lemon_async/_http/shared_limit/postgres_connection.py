"""One connection to PostgreSQL that runs a statement at a time and hears notifications in between.

It uses libpq's own asynchronous functions, through `psycopg.pq`: psycopg's cursors read notifications only while they
run, and a call that is cancelled asks the server to cancel it, too, which takes ten seconds if the server hangs.
"""

import asyncio
import socket
from collections.abc import Callable, Sequence
from typing import Any

from psycopg import AsyncConnection, OperationalError, errors
from psycopg.pq import ExecStatus

__all__ = ["PostgresConnection", "Row"]

_GOOD = {ExecStatus.TUPLES_OK, ExecStatus.COMMAND_OK}

Row = Sequence[str | None]


class PostgresConnection:
    """A connection that belongs to the running event loop; `connect` opens one.

    Attributes:
        backend_pid: The id of the server's process, or what a pooler has said instead.
        is_closed: Whether it has ended.
    """

    def __init__(
        self, connection: AsyncConnection[Any], on_notify: Callable[[str], None], on_close: Callable[[], None]
    ) -> None:
        self.is_closed: bool = False
        self._connection = connection
        self._libpq = connection.pgconn
        self.backend_pid: int = self._libpq.backend_pid
        self._libpq.nonblocking = 1
        self._on_notify = on_notify
        self._on_close = on_close
        self._result: asyncio.Future[Row] | None = None
        self._row: Row = ()
        self._error: Exception | None = None
        self._loop = asyncio.get_running_loop()
        # A duplicate, because libpq closes its own when the connection breaks, while the loop still watches it.
        self._socket = socket.fromfd(self._libpq.socket, socket.AF_INET, socket.SOCK_STREAM)
        self._loop.add_reader(self._socket, self._read)

    @classmethod
    async def connect(
        cls, on_notify: Callable[[str], None], on_close: Callable[[], None], **parameters: Any
    ) -> "PostgresConnection":
        """Connect with libpq's parameters; cancelling ends the attempt.

        Args:
            on_notify: Called with the payload of each notification.
            on_close: Called once when the connection has ended, for whatever reason.
            parameters: Those of `psycopg.conninfo.conninfo_to_dict`.

        Raises:
            psycopg.Error: The server cannot be reached or refuses the connection.
        """
        return cls(await AsyncConnection.connect(autocommit=True, **parameters), on_notify, on_close)

    async def execute(self, statements: str, arguments: Sequence[object] = ()) -> Row:
        """Execute a statement, or several without arguments, and return the last row; `()` if there is none.

        Cancelling closes the connection.

        Raises:
            psycopg.Error: The server refuses it, or the connection has ended.
        """
        try:
            self._result = self._loop.create_future()
            if arguments:
                values = [None if value is None else str(value).encode() for value in arguments]
                self._libpq.send_query_params(statements.encode(), values)
            else:
                self._libpq.send_query(statements.encode())
            self._write()
            return await self._result
        except (OperationalError, asyncio.CancelledError):
            self.close()
            raise
        finally:
            self._result = None

    def close(self) -> None:
        """Close the connection without waiting for the server."""
        if not self.is_closed:
            self.is_closed = True
            self._loop.remove_reader(self._socket)
            self._loop.remove_writer(self._socket)
            self._libpq.finish()
            self._socket.close()
            self._on_close()

    def _write(self) -> None:
        """Send what libpq has to send, now or as soon as the socket takes it."""
        if self._libpq.flush():
            self._loop.add_writer(self._socket, self._write)
        else:
            self._loop.remove_writer(self._socket)

    def _read(self) -> None:
        try:
            self._libpq.consume_input()
            while notification := self._libpq.notifies():
                self._on_notify(notification.extra.decode())
            self._collect()
        except OperationalError as error:
            self.close()
            if self._result is not None and not self._result.done():
                self._result.set_exception(error)

    def _collect(self) -> None:
        """Read the results that have arrived; after the last one, wake the caller of `execute`."""
        while not self._libpq.is_busy():
            result = self._libpq.get_result()
            if result is None:
                self._finish()
                return
            if result.status not in _GOOD:
                self._error = errors.error_from_result(result)
            elif result.ntuples:
                values = (result.get_value(0, column) for column in range(result.nfields))
                self._row = [None if value is None else value.decode() for value in values]

    def _finish(self) -> None:
        row, error, self._row, self._error = self._row, self._error, (), None
        if self._result is None or self._result.done():
            return
        if error is not None:
            self._result.set_exception(error)
        else:
            self._result.set_result(row)
