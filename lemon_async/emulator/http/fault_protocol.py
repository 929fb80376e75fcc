"""The protocol of the house: a protocol around aiohttp's that sees the raw bytes of a connection first.

Some faults happen where no HTTP handler can reach: before a byte is read, at the first bytes of a
request line, in the middle of a response. A `Door` stands between the transport and aiohttp's
protocol. Bytes pass through untouched unless a fault is due; a handler that wants to break its
answer finds the protocol by the transport and writes through it.

A connection on which no key and no result link has arrived yet is a stranger's. The number of these and the
lifetime of each are bounded, whether it sends nothing, drips a request head or does not read.

Invariants: aiohttp hears of a lost connection exactly when it has heard of a made one, and a protocol
that has ended its side lets no more bytes in.
"""

import asyncio
import struct
import sys
from collections.abc import Callable
from socket import SO_LINGER, SOL_SOCKET
from typing import Any, cast

from lemon_async.emulator.actions import Break, Reset

_LINGER_ZERO = struct.pack("ii", 1, 0)
_CHUNK = 64 * 1024
_LONGEST_LINE = 8 * 1024
_ARRIVAL_CHECKS = 200
_ARRIVAL_GAP_S = 0.002

if sys.platform == "win32":  # pragma: no cover - there a cut may lose bytes that are under way

    def _unacknowledged_bytes(_socket: Any) -> int:
        return 0

else:
    from fcntl import ioctl
    from termios import TIOCOUTQ

    def _unacknowledged_bytes(socket: Any) -> int:
        (count,) = struct.unpack("i", ioctl(socket.fileno(), TIOCOUTQ, bytes(4)))
        return int(count)


class Connections:
    """All open connections, and the two questions each of them asks.

    Args:
        ask_accept: Called for each connection; a break to strike it with, or None.
        ask_head: Called with method and path of each request line; likewise.
        max_unauthenticated: How many connections may be a stranger's; another one breaks the oldest of them.
        unauthenticated_s: Real seconds after which a stranger's connection is broken.
    """

    def __init__(
        self,
        ask_accept: Callable[[], Break | None],
        ask_head: Callable[[str, str], Break | None],
        *,
        max_unauthenticated: int = 1000,
        unauthenticated_s: float = 30.0,
    ) -> None:
        self.ask_accept = ask_accept
        self.ask_head = ask_head
        self.max_unauthenticated = max_unauthenticated
        self.unauthenticated_s = unauthenticated_s
        self.is_closed = False
        self._open: dict[asyncio.BaseTransport, FaultProtocol] = {}
        self._unauthenticated: dict[asyncio.BaseTransport, asyncio.TimerHandle] = {}

    def __len__(self) -> int:
        return len(self._open)

    @property
    def unauthenticated(self) -> int:
        """How many connections have shown no key and no result link."""
        return len(self._unauthenticated)

    def enter(self, transport: asyncio.BaseTransport, protocol: "FaultProtocol") -> None:
        """Count a connection, at first as a stranger's."""
        self._open[transport] = protocol
        self._unauthenticated[transport] = asyncio.get_running_loop().call_later(self.unauthenticated_s, protocol.abort)
        if len(self._unauthenticated) > self.max_unauthenticated:
            oldest = next(iter(self._unauthenticated))
            self.mark_authenticated(oldest)
            self._open[oldest].abort()

    def mark_authenticated(self, transport: asyncio.BaseTransport) -> None:
        """Stop counting a connection as a stranger's."""
        timer = self._unauthenticated.pop(transport, None)
        if timer is not None:
            timer.cancel()

    def leave(self, transport: asyncio.BaseTransport) -> None:
        """Forget a connection."""
        self.mark_authenticated(transport)
        self._open.pop(transport, None)

    def of(self, transport: asyncio.BaseTransport | None) -> "FaultProtocol | None":
        """The protocol of a connection that is still open."""
        return None if transport is None else self._open.get(transport)

    def abort_all(self) -> None:
        """Break every connection."""
        for protocol in tuple(self._open.values()):
            protocol.abort()


class FaultProtocol(asyncio.Protocol):
    """One connection."""

    def __init__(self, connections: Connections, make_inner: Callable[[], asyncio.Protocol]) -> None:
        self._connections = connections
        self._make_inner = make_inner
        self._inner: asyncio.Protocol | None = None
        self._transport: asyncio.Transport | None = None
        self._held = b""
        self._is_before_request = True
        self._ignores_input = False
        self._gone = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()

    # From the transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Let a connection in, unless a fault or the end of the house is quicker."""
        # An `isinstance` check would fail: uvloop's transports are no subclasses of asyncio's.
        self._transport = cast(asyncio.Transport, transport)
        # "Paused" then means "not everything has left this process", which `send` waits for.
        self._transport.set_write_buffer_limits(high=0)
        self._connections.enter(transport, self)
        if self._connections.is_closed:
            self.abort()
            return
        broken = self._connections.ask_accept()
        if broken is not None:
            self.break_off(broken)
            return
        self._inner = self._make_inner()
        self._inner.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        """Pass bytes on; hold back a request line until it is whole and has been judged."""
        if self._ignores_input or self._inner is None:
            return
        if self._is_before_request:
            data = self._held = self._held + data
            if b"\r\n" not in data.lstrip(b"\r\n") and len(data) < _LONGEST_LINE:
                return
            self._held = b""
            self._is_before_request = False
            broken = self._break_at_head(data)
            if broken is not None:
                self.break_off(broken)
                return
        self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        """The client has ended its side."""
        return None if self._ignores_input or self._inner is None else self._inner.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        if self._transport is not None:
            self._connections.leave(self._transport)
        self._gone.set()
        self._writable.set()
        if self._inner is not None:
            self._inner.connection_lost(exc)

    def pause_writing(self) -> None:
        """Bytes are waiting to leave."""
        self._writable.clear()
        if self._inner is not None:
            self._inner.pause_writing()

    def resume_writing(self) -> None:
        """All bytes have left."""
        self._writable.set()
        if self._inner is not None:
            self._inner.resume_writing()

    def _break_at_head(self, data: bytes) -> Break | None:
        words = data.lstrip(b"\r\n").split(b"\r\n", 1)[0].split(b" ")
        if len(words) != 3:  # method, target, version
            return None
        method, target = (word.decode("latin-1") for word in words[:2])
        return self._connections.ask_head(method, target.partition("?")[0])

    # From a handler

    def expect_request(self) -> None:
        """The request was read to its end: the next bytes begin another one."""
        self._is_before_request = True

    def break_off(self, broken: Break) -> None:
        """Break the connection the way the fault says."""
        if isinstance(broken, Reset):
            self.abort()
        else:
            self.end()

    def abort(self) -> None:
        """Reset the connection: with a linger time of zero, closing sends RST instead of FIN."""
        self._ignores_input = True
        if self._transport is None:
            return
        # One that closes in order may still wait, for ever, for a client that does not read.
        if self._transport.is_closing() and not self._transport.get_write_buffer_size():
            return
        socket = self._transport.get_extra_info("socket")
        socket.setsockopt(SOL_SOCKET, SO_LINGER, _LINGER_ZERO)
        self._transport.abort()

    def end(self) -> None:
        """Send FIN and keep the connection until the client closes it."""
        self._ignores_input = True
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write_eof()

    def close(self) -> None:
        """Close in order, once everything has left."""
        self._ignores_input = True
        if self._transport is not None:
            self._transport.close()

    async def send(self, data: bytes) -> None:
        """Write past aiohttp; returns when everything has left this process."""
        view = memoryview(data)
        for start in range(0, len(view), _CHUNK):
            if self._transport is None or self._transport.is_closing():
                return
            self._transport.write(view[start : start + _CHUNK])
            await self._writable.wait()

    async def wait_acknowledged(self) -> None:
        """Wait until the peer has acknowledged everything: a reset throws away what is under way."""
        for _ in range(_ARRIVAL_CHECKS):
            if not self._unacknowledged():
                return
            await asyncio.sleep(_ARRIVAL_GAP_S)

    def _unacknowledged(self) -> int:
        if self._transport is None or self._transport.is_closing():
            return 0
        return _unacknowledged_bytes(self._transport.get_extra_info("socket"))

    async def wait_closed(self) -> None:
        """Wait until the connection is lost."""
        await self._gone.wait()
