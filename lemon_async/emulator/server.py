"""The listening socket: starts, and stops without leaving a task or a connection behind."""

import asyncio
from contextlib import suppress
from typing import Self

from aiohttp import web
from attrs import frozen

from lemon_async.emulator.door import Door
from lemon_async.emulator.service import Service

_SHUTDOWN_S = 0.5
# Request heads are kept in memory before anyone has shown a key; aiohttp bounds each line at 8 KiB.
_MAX_HEADERS = 64


@frozen
class Server:
    """aiohttp's low-level server behind our doors."""

    port: int
    _service: Service
    _http: web.Server
    _listener: asyncio.Server

    @classmethod
    async def start(cls, service: Service, host: str, port: int) -> Self:
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
        doors = service.doors
        doors.is_closed = False
        loop = asyncio.get_running_loop()
        listener = await loop.create_server(lambda: Door(doors, http), host, port)
        return cls(listener.sockets[0].getsockname()[1], service, http, listener)

    async def aclose(self) -> None:
        """Stop listening and break every connection; bounded, whatever the handlers are doing."""
        doors = self._service.doors
        doors.is_closed = True
        self._listener.close()
        doors.abort_all()
        await self._http.shutdown(_SHUTDOWN_S)
        # From Python 3.12 on this waits for the connections, too; all of them are broken by now.
        with suppress(TimeoutError):
            async with asyncio.timeout(_SHUTDOWN_S):
                await self._listener.wait_closed()
