"""Serve one page on a port of its own."""

from typing import Self

from aiohttp import web
from attrs import define, field

from lemon_async._web.pages import Pages

_SHUTDOWN_S = 0.5
_IDLE_S = 60.0


@define(eq=False)
class PageServer:
    """A server for `pages` until the `async with` block ends.

    Attributes:
        pages: What it serves.
        host: The address to listen on; by default, only this machine can connect.
        port: The port; 0 takes a free one, and then this is its number.
    """

    pages: Pages
    host: str = "127.0.0.1"
    port: int = 0
    _runner: web.ServerRunner | None = field(default=None, init=False)

    @property
    def url(self) -> str:
        """The address of the page."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}/"

    async def __aenter__(self) -> Self:
        # A handler is cancelled when its client disconnects: a stream ends then, and not with the next heartbeat.
        server = web.Server(
            self.pages.handle, handler_cancellation=True, access_log=None, keepalive_timeout=_IDLE_S, max_headers=64
        )
        self._runner = web.ServerRunner(server, shutdown_timeout=_SHUTDOWN_S)
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, self.host, self.port).start()
        except BaseException:
            await self._runner.cleanup()
            raise
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.pages.close()
        if self._runner is not None:
            await self._runner.cleanup()
