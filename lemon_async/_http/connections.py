"""Connections on which no response is older than its request; every private part of aiohttp in use is listed here.

aiohttp hands out an idle connection as long as it is open. If the server sent something while it was idle, or one
response too many, the next request takes that for its own: the picture of a cat becomes that of a dog, and an old 429
makes a client repeat a request that was accepted. `CheckedConnector` hands out only connections on which no byte waits.

A request with an effect never gets a used connection. A server may close one at any moment after its response, and a
request that is on its way then cannot be distinguished from one that was executed. Checking a kept connection is not
enough: `python -m benchmarks connections` counts the failures, and measures what a new connection costs.

Private parts of aiohttp, each with a test in `tests/http/test_connections.py` that fails when it is renamed:

    ResponseHandler._parser              whether part of a response waits on an idle connection
    StreamReader._read_nowait            bytes that arrived before the connection broke
    ClientSession._retry_connection      keeps aiohttp from sending a request twice
    Payload._value, ._size, ._autoclose  bodies that are sent in chunks (`_uploads.payload`)
"""

import select
from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar
from typing import Any
from weakref import WeakSet

import aiohttp
from aiohttp.client_proto import ResponseHandler

__all__ = ["CheckedConnector", "UnusableConnection", "never_resend", "on_connected", "take_buffered"]

on_connected: ContextVar[Callable[[], None] | None] = ContextVar("lemon_async on_connected", default=None)
"""Called when the request of this context gets its connection: from then on bytes may be on their way."""


class UnusableConnection(aiohttp.ClientConnectionError):
    """The server closed a new connection, or sent something on it, before the request; no request was sent."""


class CheckedConnector(aiohttp.TCPConnector):
    """A connector that checks each connection, and calls `on_connected`."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._used: WeakSet[ResponseHandler] = WeakSet()

    async def connect(
        self,
        req: aiohttp.ClientRequest,
        traces: list[Any],
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 - aiohttp's signature
    ) -> aiohttp.connector.Connection:
        """Return a connection, new or used, on which nothing has arrived.

        Raises:
            UnusableConnection: The server closed a new one, or sent something on it.
        """
        while True:
            connection = await super().connect(req, traces, timeout)
            protocol = connection.protocol
            assert protocol is not None  # noqa: S101 - only a released connection has none
            is_used = protocol in self._used
            if _is_silent(protocol, is_used=is_used):
                self._used.add(protocol)
                if (callback := on_connected.get()) is not None:
                    callback()
                return connection
            connection.close()
            if not is_used:
                raise UnusableConnection


def _is_silent(protocol: ResponseHandler, *, is_used: bool) -> bool:
    """Return whether a connection is open and nothing waits to be read, in aiohttp or in the kernel."""
    transport = protocol.transport
    if transport is None or transport.is_closing() or protocol.should_close or _has_partial_message(protocol):
        return False
    # After a TLS handshake the server sends session tickets: on a new connection they mean nothing.
    if not is_used and transport.get_extra_info("ssl_object") is not None:
        return True
    return not _is_readable(transport.get_extra_info("socket").fileno())


def _has_partial_message(protocol: ResponseHandler) -> bool:
    """Return whether the parser of the last response has begun another; the next request replaces it."""
    parser = protocol._parser
    with suppress(Exception):
        return parser is not None and parser.feed_eof() is not None
    return True


def _is_readable(descriptor: int) -> bool:
    if not hasattr(select, "poll"):  # Windows
        return bool(select.select([descriptor], [], [], 0)[0])
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(0))


def take_buffered(content: aiohttp.StreamReader, max_bytes: int = -1) -> bytes:
    """Return bytes that had arrived before a connection broke; `read` raises the failure and hides them."""
    return content._read_nowait(max_bytes)


def never_resend(session: aiohttp.ClientSession) -> None:
    """Keep aiohttp from sending a request twice when a used connection turns out to be closed."""
    session._retry_connection = False
