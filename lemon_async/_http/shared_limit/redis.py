"""Keep the rate limit of an account in Redis, Valkey or what else speaks their protocol.

One Lua script does all of `store.py`, atomically and by the server's clock. State and workers are two keys of one hash
slot, so that a node of a cluster can hold them; a node that does not redirects to the one that does.

A server that persists its data may come back with the state of minutes ago. Such a state has the id of another process
of the server: whoever finds it treats it as lost when the server started.

Pauses arrive over a second connection, which is subscribed to the channel of the account.
"""

import asyncio
import hashlib
import re
import socket
import ssl
import uuid
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from redis import exceptions
from redis.asyncio import ConnectionPool
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from lemon_async._http.shared_limit.store import RECONNECT_S, TIMEOUT_S, StoreUnavailable, other_limit
from lemon_async._pace.leases import Lease
from lemon_async.errors import ContractError

__all__ = ["RedisStore"]

# A peer that is gone without a word is noticed within half a minute.
_KEEPALIVE = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 4}
_OPTIONS: dict[str, Any] = {
    "decode_responses": True,
    "protocol": 2,
    "retry": Retry(NoBackoff(), 0),
    "socket_timeout": None,  # calls have a time limit as a whole, and the subscription has none
    "socket_connect_timeout": TIMEOUT_S,
}
_TCP_OPTIONS: dict[str, Any] = {
    "socket_keepalive": True,
    "socket_keepalive_options": {getattr(socket, name): s for name, s in _KEEPALIVE.items() if hasattr(socket, name)},
}
_CLOSE_S = 0.5
_DATABASE = re.compile(r"[^:]+://[^/?#]*/?[0-9]*(?:[?#].*)?")
_RUN_ID = re.compile(r"^run_id:(\w+)", re.MULTILINE)
_UPTIME = re.compile(r"^uptime_in_seconds:(\d+)", re.MULTILINE)

# Times are in microseconds. Lua's numbers hold them exactly, but replies and arguments must be text to stay so.
_SCRIPT = """
local slots, owed, pause, interval, horizon = unpack(ARGV, 1, 5)
local rpm, known, worker, run, started = unpack(ARGV, 6, 10)
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local text = function(number) return string.format('%.0f', number) end

local state = redis.call('HMGET', KEYS[1], 'rpm', 'epoch', 'due', 'clear_until', 'run')
if state[1] and state[1] ~= rpm then
    return {state[1]}
end
local epoch, due, clear = text(now), now, now
if state[1] then
    epoch, due, clear = state[2], tonumber(state[3]), tonumber(state[4])
end
local was_clear = clear
if math.max(due, clear) > now + horizon + 120000000 + 10 * interval then
    epoch, due, was_clear, clear = text(now), now, now, now + 60000000
end
if state[1] and state[5] ~= run then
    if now - started < 120000000 then
        epoch = text(started)
    else
        epoch = text(now)
    end
    clear = math.max(clear, epoch + 60000000)
end
if known ~= '' and known ~= epoch then
    clear = math.max(clear, epoch + 60000000)
end
clear = math.max(clear, now + pause)

slots = tonumber(slots)
local workers = 0
local first = math.max(now, due, clear) + owed * interval
if slots > 0 then
    if first > now + horizon then
        slots = 0
    end
    if slots > 0 or tonumber(owed) > 0 then
        due = first + slots * interval
    end
    redis.call('ZADD', KEYS[2], now, worker)
    redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now - 60000000)
    redis.call('PEXPIRE', KEYS[2], 120000)
    workers = redis.call('ZCARD', KEYS[2])
end

redis.call('HSET', KEYS[1], 'rpm', rpm, 'epoch', epoch, 'due', text(due), 'clear_until', text(clear), 'run', run)
redis.call('PEXPIRE', KEYS[1], text((math.max(now, due, clear) - now) / 1000 + 120000))
if clear > was_clear then
    redis.call('PUBLISH', KEYS[1], text(clear - now))
end
return {rpm, slots, text(first - now), epoch, workers}
"""
_SHA = hashlib.sha1(_SCRIPT.encode(), usedforsecurity=False).hexdigest()

_REFUSALS = (
    exceptions.AuthenticationError,
    exceptions.AuthorizationError,
    exceptions.AuthenticationWrongNumberOfArgsError,
    exceptions.NoPermissionError,
)
# The server is starting, a replica, out of memory, or its cluster is being changed.
_FOR_NOW = (
    exceptions.BusyLoadingError,
    exceptions.ReadOnlyError,
    exceptions.OutOfMemoryError,
    exceptions.ClusterDownError,
    exceptions.TryAgainError,
    exceptions.AskError,
)
_FAILURES = (exceptions.RedisError, OSError, TimeoutError)
# What comes of replies that no Redis server sends: another program may listen there.
_STRANGE = (TypeError, ValueError, LookupError, OverflowError)
_NONSENSE = "its reply makes no sense"


class RedisStore:
    """The rate limit of one account in Redis or Valkey; arguments are those of `open_store`, and its name.

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
        self._pool = _parse(url)
        self._on_pause = on_pause
        # The braces are the part of a key that decides its hash slot.
        self._channel = f"lemon-async:{{{account}}}:limit"
        self._keys = (self._channel, f"lemon-async:{{{account}}}:workers")
        self._limit = (round(interval_s * 1e6, 3), round(horizon_s * 1e6), rpm)
        self._worker = uuid.uuid4().hex
        self._node: dict[str, Any] = {}  # where a cluster has redirected to
        self._run: tuple[str, int] = ("", 0)  # id of the server's process, and when it started
        self._connection: AbstractConnection | None = None
        self._subscription: AbstractConnection | None = None
        self._listener: asyncio.Task[None] | None = None

    @property
    def name(self) -> str:
        """The address of the store, without credentials."""
        return self._name

    async def reserve(self, slots: int, *, epoch: str | None, owed: int) -> Lease:
        """Reserve consecutive slots, or none if the first would be farther away than the horizon."""
        reply = await self._call(slots, owed, 0, epoch or "")
        try:
            _, granted, wait_us, now_epoch, workers = reply
            wait_s, spacing_s = int(wait_us) / 1e6, self._limit[0] / 1e6
            return Lease(
                slots=int(granted), wait_s=wait_s, spacing_s=spacing_s, epoch=str(now_epoch), workers=int(workers)
            )
        except _STRANGE as error:
            raise StoreUnavailable(_NONSENSE) from error

    async def pause(self, seconds: float) -> None:
        """Grant no slot before this many seconds have passed, and notify all processes."""
        await self._call(0, 0, round(seconds * 1e6), "")

    async def aclose(self) -> None:
        """Close the connections."""
        if self._listener is not None:
            self._listener.cancel()
            await asyncio.wait([self._listener])
        for connection in (self._connection, self._subscription):
            if connection is not None:
                with suppress(*_FAILURES):  # over TLS the server takes part in it
                    async with asyncio.timeout(_CLOSE_S):
                        await connection.disconnect()

    async def _call(self, slots: int, owed: int, pause_us: int, epoch: str) -> list[str]:
        """Return the reply of the script, and listen for pauses from the first one on."""
        try:
            async with asyncio.timeout(TIMEOUT_S):
                reply = await self._ask(slots, owed, pause_us, *self._limit, epoch, self._worker)
                is_refused = len(reply) == 1
                if self._listener is None:
                    self._subscription = await self._subscribe()
                    self._listener = asyncio.create_task(self._listen(), name="lemon_async: pauses of a shared limit")
        except _FAILURES as error:
            self._node = {}
            raise self._translated(error) from error
        except _STRANGE as error:
            raise StoreUnavailable(_NONSENSE) from error
        if is_refused:
            raise other_limit(self.name, reply[0], self._limit[2])
        return reply

    async def _ask(self, *arguments: object) -> list[str]:
        """Run the script; a connection that has broken since the last call is replaced."""
        while True:
            is_new = self._connection is None
            connection = self._connection or await self._connect()
            self._connection = None  # until the reply is read: a call that is cancelled leaves no half of it behind
            try:
                reply = await self._evaluate(connection, *arguments)
            except exceptions.MovedError as moved:
                self._node = {"host": moved.host, "port": moved.port} if moved.host else {"port": moved.port}
            except (exceptions.ConnectionError, OSError):
                if is_new:
                    raise
            else:
                self._connection = connection
                return reply

    async def _evaluate(self, connection: AbstractConnection, *arguments: object) -> list[str]:
        tail = (len(self._keys), *self._keys, *arguments, *self._run)
        try:
            try:
                reply: list[str] = await _exchange(connection, "EVALSHA", _SHA, *tail)
            except exceptions.NoScriptError:
                reply = await _exchange(connection, "EVAL", _SCRIPT, *tail)
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        return reply

    async def _open(self) -> AbstractConnection:
        connection: AbstractConnection = self._pool.connection_class(**{**self._pool.connection_kwargs, **self._node})
        try:
            await connection.connect()  # type: ignore[no-untyped-call]  # redis-py has no types for it
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        return connection

    async def _connect(self) -> AbstractConnection:
        """Return a connection, and note which process of the server it leads to."""
        connection = await self._open()
        try:
            self._run = ("", 0)
            with suppress(exceptions.ResponseError):  # some hosted servers do not say
                info = await _exchange(connection, "INFO", "server")
                now_s = int((await _exchange(connection, "TIME"))[0])
                self._run = _run_of(info, now_s)
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        return connection

    async def _subscribe(self) -> AbstractConnection:
        """Return a connection on which pauses arrive; report one that is under way."""
        connection = await self._open()
        try:
            await connection.send_packed_command(
                connection.pack_commands(
                    [("TIME",), ("HGET", self._channel, "clear_until"), ("SUBSCRIBE", self._channel)]
                )
            )
            seconds, microseconds = await connection.read_response()
            clear_us = int(await connection.read_response() or 0)
            await connection.read_response()
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        self._report_pause(clear_us - int(seconds) * 1_000_000 - int(microseconds))
        return connection

    async def _listen(self) -> None:
        """Pass on pauses, and subscribe again whenever the connection breaks."""
        while True:
            with suppress(*_FAILURES, *_STRANGE):
                if self._subscription is None:
                    async with asyncio.timeout(TIMEOUT_S):
                        self._subscription = await self._subscribe()
                while True:
                    message = await self._subscription.read_response(disconnect_on_error=False)
                    self._report_pause(int(message[2]))
            if self._subscription is not None:
                await self._subscription.disconnect(nowait=True)
                self._subscription = None
            await asyncio.sleep(RECONNECT_S)

    def _report_pause(self, pause_us: int) -> None:
        if pause_us > 0:
            self._on_pause(pause_us / 1e6)

    def _translated(self, error: Exception) -> ContractError | StoreUnavailable:
        if isinstance(error, _REFUSALS):
            return ContractError.of("shared_limit", f"{self.name} refuses the user, the password or a command: {error}")
        if isinstance(error.__context__, ssl.SSLCertVerificationError):
            advice = f"{error.__context__.verify_message}; name its authority (?ssl_ca_certs=FILE), or correct the host"
            return ContractError.of("shared_limit", f"{self.name} has a certificate that cannot be checked: {advice}")
        if isinstance(error, exceptions.InvalidResponse):
            return ContractError.of("shared_limit", f"{self.name} is not a Redis server")
        if isinstance(error, exceptions.ResponseError) and not isinstance(error, _FOR_NOW):
            return ContractError.of("shared_limit", f"{self.name} cannot be used: {error}")
        return StoreUnavailable(str(error) or f"no response within {TIMEOUT_S:.0f} s")


def _run_of(info: str, now_s: int) -> tuple[str, int]:
    """Return the id of the server's process, and when it started."""
    run, uptime = _RUN_ID.search(info), _UPTIME.search(info)
    return (run[1], (now_s - int(uptime[1])) * 1_000_000) if run and uptime else ("", 0)


async def _exchange(connection: AbstractConnection, *command: object) -> Any:
    await connection.send_command(*command)
    return await connection.read_response()


def _parse(url: str) -> ConnectionPool:
    """Return a pool, which only holds what connections to a URL are made of."""
    is_tcp = not url.startswith("unix:")
    if is_tcp and not _DATABASE.fullmatch(url):
        raise ContractError.of("shared_limit", "must be a URL whose path is the number of a database, if it has one")
    options = {**_OPTIONS, **(_TCP_OPTIONS if is_tcp else {})}
    try:
        parts = urlsplit(re.sub("^valkey", "redis", url))
        # Of an option that is also in the URL, redis-py takes that one.
        query = urlencode([option for option in parse_qsl(parts.query) if option[0] not in options])
        pool = ConnectionPool.from_url(parts._replace(query=query).geturl(), **options)
        pool.connection_class(**pool.connection_kwargs)
    except (ValueError, TypeError, exceptions.RedisError):  # not quoted: it may have a part of the password
        advice = "is no URL that redis-py understands: percent-encode its user and password, and check its options"
        raise ContractError.of("shared_limit", advice) from None
    return pool
