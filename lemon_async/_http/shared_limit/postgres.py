"""Keep the rate limit of an account in PostgreSQL.

One function of `postgres_schema.py` does all of `store.py` while it holds the row of the account, by the clock of the
server. The connection that calls it also listens for pauses: one connection per process. It is refused if it leads to a
pooler: pauses would not arrive, and settings would change the sessions of other programs.
"""

import asyncio
import re
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import psycopg
from psycopg import conninfo, errors

from lemon_async._formats.json_documents import one_line
from lemon_async._http.shared_limit.postgres_connection import PostgresConnection, Row
from lemon_async._http.shared_limit.postgres_schema import CHANNEL, CREATE, RESERVE, VERSION
from lemon_async._http.shared_limit.store import RECONNECT_S, TIMEOUT_S, StoreUnavailable, other_limit
from lemon_async._pace.leases import Lease
from lemon_async.errors import ContractError

__all__ = ["PostgresStore"]

# Under a stricter isolation, all but one of those who reserve at the same time would fail.
_PREPARE = (
    "SET statement_timeout = 2000; SET default_transaction_isolation = 'read committed'; "
    "LISTEN {channel}; SELECT version FROM lemon_async_limit.version"
)
_PAUSE = """
SELECT clear_until - extract(epoch FROM clock_timestamp()) FROM lemon_async_limit.accounts WHERE account = $1
"""
# libpq reports why it could not connect in words only.
_REFUSAL = re.compile(
    r"authentication failed|password supplied|no pg_hba\.conf entry|not permitted|permission denied"
    r"|FATAL:.* does not exist|invalid response to SSL|expected authentication request|support SSL|[Cc]ertificate"
)
_POOLER = (
    "a connection pooler (such as PgBouncer) is in between, and pauses need a session of their own; "
    "use the address of the server itself"
)
_PORTS = re.compile("[0-9,]*")
_FAILURES = (psycopg.Error, OSError, TimeoutError)
_FOR_NOW = (psycopg.OperationalError, psycopg.InterfaceError, errors.ReadOnlySqlTransaction, OSError, TimeoutError)


class PostgresStore:
    """The rate limit of one account in PostgreSQL; arguments are those of `open_store`, and its name.

    Raises:
        ContractError: The URL is invalid.
    """

    def __init__(
        self,
        url: str,
        *,
        name: str,
        account: str,
        rpm: int,
        interval_s: float,
        horizon_s: float,
        on_pause: Callable[[float], None],
    ) -> None:
        self._name = name
        self._parameters = _parse(url)
        self._on_pause = on_pause
        self._account = account
        self._limit = (interval_s, horizon_s, rpm)
        self._worker = uuid.uuid4().hex
        self._connection: PostgresConnection | None = None
        self._is_lost = asyncio.Event()
        self._lock = asyncio.Lock()
        self._listener: asyncio.Task[None] | None = None

    @property
    def name(self) -> str:
        """The address of the store, without credentials."""
        return self._name

    async def reserve(self, slots: int, *, epoch: str | None, owed: int) -> Lease:
        """Reserve consecutive slots, or none if the first would be farther away than the horizon."""
        rpm, granted, wait_s, now_epoch, workers = await self._call(slots, owed, 0.0, epoch)
        if granted is None or wait_s is None or now_epoch is None or workers is None:
            raise other_limit(self.name, rpm, self._limit[2])
        return Lease(
            slots=int(granted),
            wait_s=float(wait_s),
            spacing_s=self._limit[0],
            epoch=now_epoch,
            workers=int(workers),
        )

    async def pause(self, seconds: float) -> None:
        """Grant no slot before this many seconds have passed, and notify all processes."""
        await self._call(0, 0, seconds, None)

    async def aclose(self) -> None:
        """Close the connection."""
        if self._listener is not None:
            self._listener.cancel()
            await asyncio.wait([self._listener])
        if self._connection is not None:
            self._connection.close()

    async def _call(self, slots: int, owed: int, pause_s: float, epoch: str | None) -> Row:
        """Return the row of the function, and listen for pauses from the first one on."""
        arguments = (self._account, self._worker, slots, owed, pause_s, *self._limit, epoch)
        try:
            async with asyncio.timeout(TIMEOUT_S), self._lock:
                row = await self._ask(arguments)
        except _FAILURES as error:
            raise self._translated(error) from error
        if self._listener is None:
            self._listener = asyncio.create_task(self._keep_listening(), name="lemon_async: pauses of a shared limit")
        return row

    async def _ask(self, arguments: Sequence[object]) -> Row:
        """Call the function of the schema; a connection that has ended since the last call is replaced."""
        while True:
            is_new = self._connection is None or self._connection.is_closed
            connection = await self._connected()
            try:
                return await connection.execute(RESERVE, arguments)
            except psycopg.OperationalError:
                if is_new:
                    raise

    async def _connected(self) -> PostgresConnection:
        """Return the connection, a new one if there is none; it listens for pauses, and the schema is there."""
        if self._connection is None or self._connection.is_closed:
            self._connection = await PostgresConnection.connect(
                self._report_pause, self._is_lost.set, **self._parameters
            )
            await self._prepare(self._connection)
            self._is_lost.clear()
        return self._connection

    async def _prepare(self, connection: PostgresConnection) -> None:
        prepare = _PREPARE.format(channel=CHANNEL + self._account)
        try:
            await self._check_session(connection)
            try:
                version = await connection.execute(prepare)
            except (errors.UndefinedTable, errors.InvalidSchemaName):
                await connection.execute(CREATE)
                version = await connection.execute(prepare)
            self._check_version(version)
            paused = await connection.execute(_PAUSE, (self._account,))
        except BaseException:
            connection.close()
            raise
        if paused and paused[0]:
            self._report_pause(paused[0])

    async def _check_session(self, connection: PostgresConnection) -> None:
        if await connection.execute("SELECT pg_backend_pid()") != [str(connection.backend_pid)]:
            raise ContractError.of("shared_limit", f"{self.name}: {_POOLER}")

    def _check_version(self, row: Row) -> None:
        if row != [str(VERSION)]:
            found = row[0] if row else None
            advice = (
                f"{self.name}: its schema lemon_async_limit has version {found}, and this release needs {VERSION}: "
            )
            advice += "use one release of lemon_async in all processes"
            raise ContractError.of("shared_limit", advice)

    async def _keep_listening(self) -> None:
        """Connect again whenever the connection is lost, so that pauses are heard between calls."""
        while True:
            await self._is_lost.wait()
            await asyncio.sleep(RECONNECT_S)
            with suppress(*_FAILURES, ContractError):  # the next call reports it
                async with asyncio.timeout(TIMEOUT_S), self._lock:
                    await self._connected()

    def _report_pause(self, pause_s: str) -> None:
        if float(pause_s) > 0:
            self._on_pause(float(pause_s))

    def _translated(self, error: Exception) -> ContractError | StoreUnavailable:
        reason = one_line(str(error)) or f"no response within {TIMEOUT_S:.0f} s"
        if isinstance(error, _FOR_NOW) and not _REFUSAL.search(reason):
            return StoreUnavailable(reason)
        return ContractError.of("shared_limit", f"{self.name} cannot be used: {reason}")


def _parse(url: str) -> dict[str, Any]:
    """Return the parameters of connections."""
    parameters: dict[str, Any] = {"port": "unclear"}
    with suppress(psycopg.Error):  # not quoted: it has the URL
        parameters = conninfo.conninfo_to_dict(url)
    if not _PORTS.fullmatch(str(parameters.get("port", ""))):  # a part of the password, if that has a slash
        advice = "is no URL that PostgreSQL understands: percent-encode its user and password, and check its options"
        raise ContractError.of("shared_limit", advice)
    defaults = {"target_session_attrs": "read-write", "application_name": "lemon_async"}
    if "," in str(parameters.get("host", "")):
        defaults["load_balance_hosts"] = "random"  # the first of them may hang whenever it is tried
    return {**defaults, **parameters}
