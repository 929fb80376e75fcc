"""The listening socket: starts, and stops without leaving a task or a connection behind."""

import asyncio
from contextlib import suppress
from typing import Self

from aiohttp import web
from attrs import frozen

from lemon_async.emulator.http.fault_protocol import FaultProtocol
from lemon_async.emulator.http.handler import RequestHandler

_SHUTDOWN_S = 0.5
# Request heads are kept in memory before a key has arrived; aiohttp bounds each line at 8 KiB.
_MAX_HEADERS = 64
_ONE_LOOP = (
    "start, use and close it in the same loop. In pytest, its fixture and the test must share a loop: give both the "
    "same loop scope (pytest-asyncio: asyncio_default_fixture_loop_scope and asyncio_default_test_loop_scope), and let "
    "only one plugin run in auto mode"
)


@frozen
class Server:
    """aiohttp's low-level server behind our connections."""

    port: int
    _service: RequestHandler
    _http: web.Server
    _listener: asyncio.Server
    _loop: asyncio.AbstractEventLoop

    @classmethod
    async def start(cls, service: RequestHandler, host: str, port: int) -> Self:
        """Listen on one address.

        Raises:
            OSError: The address is taken or none of ours.
        """
        # A handler ends with its connection: nothing waits for a client that has left. Bodies are
        # not decompressed: no client of this API compresses them, and a bomb stays small.
        http = web.Server(
            service.handle,
            handler_cancellation=True,
            auto_decompress=False,
            access_log=None,
            max_headers=_MAX_HEADERS,
        )
        connections = service.connections
        connections.is_closed = False
        loop = asyncio.get_running_loop()
        listener = await loop.create_server(lambda: FaultProtocol(connections, http), host, port)
        return cls(listener.sockets[0].getsockname()[1], service, http, listener, loop)

    def check_owner(self) -> None:
        """Refuse a caller in another event loop.

        Raises:
            RuntimeError: The server runs in another event loop.
        """
        if asyncio.get_running_loop() is not self._loop:
            raise RuntimeError(f"the emulator was started in another event loop; {_ONE_LOOP}")

    def check_running(self) -> None:
        """Refuse a caller whose requests would wait in vain; the server's loop may well run in another thread.

        Raises:
            RuntimeError: The caller's event loop runs while the server's does not.
        """
        if _is_in_loop() and not self._loop.is_running():
            raise RuntimeError(f"the emulator's event loop is not running, so it cannot answer; {_ONE_LOOP}")

    async def aclose(self) -> None:
        """Stop listening and break every connection; bounded, whatever the handlers are doing."""
        connections = self._service.connections
        connections.is_closed = True
        self._listener.close()
        connections.abort_all()
        await self._http.shutdown(_SHUTDOWN_S)
        # From Python 3.12 on this waits for the connections, too; all of them are broken by now.
        with suppress(TimeoutError):
            async with asyncio.timeout(_SHUTDOWN_S):
                await self._listener.wait_closed()


def _is_in_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
