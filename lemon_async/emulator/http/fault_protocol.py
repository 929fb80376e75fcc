"""Wrap aiohttp's protocol, so that faults can act on the raw bytes of a connection.

Some faults happen where no request handler can reach: before a byte is read, at the request line, in the middle of a
response. A `FaultProtocol` stands between the transport and aiohttp's protocol and passes bytes through, unless a fault
is due. A handler that has to break its response finds the protocol by the transport and writes through it.

A connection is unauthenticated until a request with a key or a result link arrives. The number of such connections and
the lifetime of each are bounded, whether it is silent, sends its request byte by byte or does not read.

Invariants: aiohttp's protocol sees `connection_lost` if and only if it has seen `connection_made`, and receives nothing
once our side of the connection has ended.
"""

import asyncio
import struct
import sys
from collections.abc import Callable
from socket import SO_LINGER, SOL_SOCKET
from typing import Any, cast

from attrs import define, field

from lemon_async.emulator.actions import Break, Reset

_LINGER_ZERO = struct.pack("ii", 1, 0)
_CHUNK_BYTES = 64 * 1024
_MAX_LINE_BYTES = 8 * 1024
_ACKNOWLEDGE_CHECKS = 200
_ACKNOWLEDGE_GAP_S = 0.002

if sys.platform == "win32":  # pragma: no cover - there a cut may lose bytes in transit

    def _unacknowledged_bytes(_socket: Any) -> int:
        return 0

else:
    from fcntl import ioctl
    from termios import TIOCOUTQ

    def _unacknowledged_bytes(socket: Any) -> int:
        (count,) = struct.unpack("i", ioctl(socket.fileno(), TIOCOUTQ, bytes(4)))
        return int(count)


@define(eq=False)
class Connections:
    """The open connections of an emulator.

    Attributes:
        find_accept_fault: Called for each new connection; returns how to break it, or None.
        find_head_fault: Called with the method and path of each request line; likewise.
        max_unauthenticated: Limit of unauthenticated connections; one more resets the oldest of them.
        unauthenticated_s: Real seconds after which an unauthenticated connection is reset.
        is_closed: Whether new connections are reset.
    """

    find_accept_fault: Callable[[], Break | None]
    find_head_fault: Callable[[str, str], Break | None]
    max_unauthenticated: int = 1000
    unauthenticated_s: float = 30.0
    is_closed: bool = False
    _open: dict[asyncio.BaseTransport, "FaultProtocol"] = field(factory=dict, init=False)
    _unauthenticated: dict[asyncio.BaseTransport, asyncio.TimerHandle] = field(factory=dict, init=False)

    def __len__(self) -> int:
        return len(self._open)

    @property
    def unauthenticated(self) -> int:
        """Number of connections on which neither a key nor a result link has arrived."""
        return len(self._unauthenticated)

    def add(self, transport: asyncio.BaseTransport, protocol: "FaultProtocol") -> None:
        """Add a new connection, as an unauthenticated one."""
        self._open[transport] = protocol
        self._unauthenticated[transport] = asyncio.get_running_loop().call_later(self.unauthenticated_s, protocol.abort)
        if len(self._unauthenticated) > self.max_unauthenticated:
            oldest = next(iter(self._unauthenticated))
            self.mark_authenticated(oldest)
            self._open[oldest].abort()

    def mark_authenticated(self, transport: asyncio.BaseTransport) -> None:
        """Exempt a connection from the limits of unauthenticated ones."""
        timer = self._unauthenticated.pop(transport, None)
        if timer is not None:
            timer.cancel()

    def remove(self, transport: asyncio.BaseTransport) -> None:
        """Remove a closed connection."""
        self.mark_authenticated(transport)
        self._open.pop(transport, None)

    def find(self, transport: asyncio.BaseTransport | None) -> "FaultProtocol | None":
        """Return the protocol of a connection, or None if it is closed."""
        return None if transport is None else self._open.get(transport)

    def abort_all(self) -> None:
        """Reset every connection."""
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
        self._closed = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()

    # Called by the transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Hand the connection to aiohttp, unless a fault breaks it or the emulator is closed."""
        # An `isinstance` check would fail: uvloop's transports are no subclasses of asyncio's.
        self._transport = cast(asyncio.Transport, transport)
        # With this limit, "paused" means that not all bytes have left this process, which `send` waits for.
        self._transport.set_write_buffer_limits(high=0)
        self._connections.add(transport, self)
        if self._connections.is_closed:
            self.abort()
            return
        fault = self._connections.find_accept_fault()
        if fault is not None:
            self.break_off(fault)
            return
        self._inner = self._make_inner()
        self._inner.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        """Pass bytes on; hold a request line back until it is complete and no fault breaks it."""
        if self._ignores_input or self._inner is None:
            return
        if self._is_before_request:
            data = self._held = self._held + data
            if b"\r\n" not in data.lstrip(b"\r\n") and len(data) < _MAX_LINE_BYTES:
                return
            self._held = b""
            self._is_before_request = False
            fault = self._find_head_fault(data)
            if fault is not None:
                self.break_off(fault)
                return
        self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        """Pass the client's FIN on."""
        return None if self._ignores_input or self._inner is None else self._inner.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wake everything that waits for the connection."""
        if self._transport is not None:
            self._connections.remove(self._transport)
        self._closed.set()
        self._writable.set()
        if self._inner is not None:
            self._inner.connection_lost(exc)

    def pause_writing(self) -> None:
        """Make `send` wait."""
        self._writable.clear()
        if self._inner is not None:
            self._inner.pause_writing()

    def resume_writing(self) -> None:
        """Let `send` continue."""
        self._writable.set()
        if self._inner is not None:
            self._inner.resume_writing()

    def _find_head_fault(self, data: bytes) -> Break | None:
        words = data.lstrip(b"\r\n").split(b"\r\n", 1)[0].split(b" ")
        if len(words) != 3:  # method, target, version
            return None
        method, target = (word.decode("latin-1") for word in words[:2])
        return self._connections.find_head_fault(method, target.partition("?")[0])

    # Called by request handlers

    def expect_request(self) -> None:
        """Treat the next bytes as a new request; called when the previous one was read to its end."""
        self._is_before_request = True

    def break_off(self, fault: Break) -> None:
        """Break the connection as the fault says."""
        if isinstance(fault, Reset):
            self.abort()
        else:
            self.end()

    def abort(self) -> None:
        """Reset the connection: with a linger time of zero, closing sends RST instead of FIN."""
        self._ignores_input = True
        if self._transport is None:
            return
        # A transport that is closing may still wait without limit for a client that does not read.
        if self._transport.is_closing() and not self._transport.get_write_buffer_size():
            return
        socket = self._transport.get_extra_info("socket")
        socket.setsockopt(SOL_SOCKET, SO_LINGER, _LINGER_ZERO)
        self._transport.abort()

    def end(self) -> None:
        """Send FIN, and keep the connection until the client closes it."""
        self._ignores_input = True
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write_eof()

    def close(self) -> None:
        """Close the connection once all bytes have left."""
        self._ignores_input = True
        if self._transport is not None:
            self._transport.close()

    async def send(self, data: bytes) -> None:
        """Write past aiohttp; returns when all bytes have left this process."""
        view = memoryview(data)
        for start in range(0, len(view), _CHUNK_BYTES):
            if self._transport is None or self._transport.is_closing():
                return
            self._transport.write(view[start : start + _CHUNK_BYTES])
            await self._writable.wait()

    async def wait_acknowledged(self) -> None:
        """Wait until the client has acknowledged all bytes: a reset discards those in transit."""
        for _ in range(_ACKNOWLEDGE_CHECKS):
            transport = self._transport
            if transport is None or transport.is_closing():
                return
            if not _unacknowledged_bytes(transport.get_extra_info("socket")):
                return
            await asyncio.sleep(_ACKNOWLEDGE_GAP_S)

    async def wait_closed(self) -> None:
        """Wait until the connection is closed."""
        await self._closed.wait()
