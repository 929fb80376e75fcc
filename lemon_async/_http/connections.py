"""Connections on which no answer is older than its request, and the private parts of aiohttp that this takes.

aiohttp hands out an idle connection as long as it is open. If the server sent something while it was idle, or sends
one answer too many, the next request reads that as its own: the picture of a cat becomes that of a dog, and an old 429
makes a client repeat what was sold. `CheckedConnector` hands out only connections that hold no byte yet.

A request with an effect never gets a used connection at all. A server may close one at any moment after its answer, and
a request that is on its way then cannot be distinguished from one that was executed. Checking a kept connection is not
enough: `python -m benchmarks connections` counts what breaks, and what a new connection costs.
"""

import select
from contextlib import suppress
from typing import Any
from weakref import WeakSet

import aiohttp
from aiohttp.client_proto import ResponseHandler

__all__ = ["CheckedConnector", "UnusableConnection", "never_resend", "take_buffered"]


class UnusableConnection(aiohttp.ClientConnectionError):
    """The server closed a new connection, or sent something, before it was asked; no request was sent."""


class CheckedConnector(aiohttp.TCPConnector):
    """Connections on which nothing has arrived that the next request could take for its answer."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._used: WeakSet[ResponseHandler] = WeakSet()

    async def connect(
        self,
        req: aiohttp.ClientRequest,
        traces: list[Any],
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 - aiohttp's signature
    ) -> aiohttp.connector.Connection:
        """Return a connection, new or used.

        Raises:
            UnusableConnection: The server closed a new one, or sent something.
        """
        while True:
            connection = await super().connect(req, traces, timeout)
            protocol = connection.protocol
            assert protocol is not None  # noqa: S101 - only a released connection has none
            is_used = protocol in self._used
            if _is_silent(protocol, is_used=is_used):
                self._used.add(protocol)
                return connection
            connection.close()
            if not is_used:
                raise UnusableConnection


def _is_silent(protocol: ResponseHandler, *, is_used: bool) -> bool:
    """Return whether a connection is open and nothing waits to be read, in aiohttp or in the kernel."""
    transport = protocol.transport
    if transport is None or transport.is_closing() or protocol.should_close or _has_half_a_message(protocol):
        return False
    # After a TLS handshake the server sends session tickets: on a new connection they mean nothing.
    if not is_used and transport.get_extra_info("ssl_object") is not None:
        return True
    return not _is_readable(transport.get_extra_info("socket").fileno())


def _has_half_a_message(protocol: ResponseHandler) -> bool:
    """Return whether the parser of the last answer has begun another; the next request replaces it."""
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
    """Keep aiohttp from silently sending a request twice when a used connection turns out to be closed."""
    session._retry_connection = False
