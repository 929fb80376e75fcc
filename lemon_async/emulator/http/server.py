"""Run the listening socket: start it, and stop it without leaving tasks or connections behind."""

import asyncio
import os
import socket
from contextlib import suppress
from typing import Any, Self

from aiohttp import web
from attrs import frozen

from lemon_async.emulator.http.fault_protocol import FaultProtocol
from lemon_async.emulator.http.handler import RequestHandler

_SHUTDOWN_S = 0.5
# Request heads are held in memory before a key has arrived; aiohttp limits each line to 8 KiB.
_MAX_HEADERS = 64
_ONE_LOOP = (
    "start, use and close it in the same loop. In pytest, its fixture and the test must share a loop: give both the "
    "same loop scope (pytest-asyncio: asyncio_default_fixture_loop_scope and asyncio_default_test_loop_scope), and let "
    "only one plugin run in auto mode"
)


@frozen
class Server:
    """aiohttp's low-level server behind a `FaultProtocol` for each connection."""

    port: int
    _handler: RequestHandler
    _http: web.Server
    _listener: asyncio.Server
    _loop: asyncio.AbstractEventLoop

    @classmethod
    async def start(cls, handler: RequestHandler, host: str, port: int, kept: socket.socket | None = None) -> Self:
        """Listen on one address, or on a socket from `keep_port`.

        Raises:
            OSError: The address is taken, or not one of this machine.
        """
        # A handler is cancelled when its client disconnects, so that no task outlives its connection. Bodies are not
        # decompressed: no client of this API compresses them, and a decompression bomb stays small.
        http = web.Server(
            handler.handle,
            handler_cancellation=True,
            auto_decompress=False,
            access_log=None,
            max_headers=_MAX_HEADERS,
        )
        handler.connections.is_closed = False
        loop = asyncio.get_running_loop()
        place: dict[str, Any] = {"host": host, "port": port} if kept is None else {"sock": kept}
        listener = await loop.create_server(lambda: FaultProtocol(handler.connections, http), **place)
        return cls(listener.sockets[0].getsockname()[1], handler, http, listener, loop)

    def check_owner(self) -> None:
        """Check that the caller runs in the server's event loop.

        Raises:
            RuntimeError: The server runs in another event loop.
        """
        if asyncio.get_running_loop() is not self._loop:
            raise RuntimeError(f"the emulator was started in another event loop; {_ONE_LOOP}")

    def check_running(self) -> None:
        """Check that requests from the caller would be answered; the server's loop may run in another thread.

        Raises:
            RuntimeError: The caller's event loop runs while the server's does not.
        """
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return
        if not self._loop.is_running():
            raise RuntimeError(f"the emulator's event loop is not running, so it cannot answer; {_ONE_LOOP}")

    def keep_port(self) -> socket.socket | None:
        """Stop listening, and return a socket that refuses connections and lets no other program take the port.

        `None` if a program was quicker, or if the host has several addresses.
        """
        places = [(each.family, each.getsockname()) for each in self._listener.sockets]
        self._listener.close()
        return _bind(*places[0]) if len(places) == 1 else None

    async def aclose(self) -> None:
        """Stop listening and reset every connection, within about a second."""
        self._handler.connections.is_closed = True
        self._listener.close()
        self._handler.connections.abort_all()
        await self._http.shutdown(_SHUTDOWN_S)
        # From Python 3.12 on this waits for the connections, too; all of them have been reset by now.
        with suppress(TimeoutError):
            async with asyncio.timeout(_SHUTDOWN_S):
                await self._listener.wait_closed()


def _bind(family: int, address: Any) -> socket.socket | None:
    """Return a socket that is bound as asyncio binds those of servers, or `None` if the address is taken."""
    bound = socket.socket(family)
    if os.name == "posix":  # connections that have ended still use the address
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    try:
        bound.bind(address)
    except OSError:
        bound.close()
        return None
    return bound
