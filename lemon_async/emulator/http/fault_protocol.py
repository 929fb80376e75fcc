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
from lemon_async.emulator.http.faults import Stage
from lemon_async.emulator.http.routes import match_request

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
        find_break: Called with `accept` for each new connection, and with `request_head` and the route for each request
            line; returns how to break the connection, or None.
        max_unauthenticated: Limit of unauthenticated connections; one more resets the oldest of them.
        unauthenticated_s: Real seconds after which an unauthenticated connection is reset.
        is_closed: Whether new connections are reset.
    """

    find_break: Callable[[Stage, str], Break | None]
    max_unauthenticated: int = 1000
    unauthenticated_s: float = 30.0
    is_closed: bool = False
    _open: dict[asyncio.BaseTransport | None, "FaultProtocol"] = field(factory=dict, init=False)
    _unauthenticated: dict["FaultProtocol", asyncio.TimerHandle] = field(factory=dict, init=False)

    def __len__(self) -> int:
        return len(self._open)

    @property
    def unauthenticated(self) -> int:
        """Number of connections on which neither a key nor a result link has arrived."""
        return len(self._unauthenticated)

    def add(self, transport: asyncio.BaseTransport, protocol: "FaultProtocol") -> None:
        """Add a new connection, as an unauthenticated one."""
        self._open[transport] = protocol
        self._unauthenticated[protocol] = asyncio.get_running_loop().call_later(self.unauthenticated_s, protocol.abort)
        if len(self._unauthenticated) > self.max_unauthenticated:
            oldest = next(iter(self._unauthenticated))
            self.mark_authenticated(oldest)
            oldest.abort()

    def mark_authenticated(self, protocol: "FaultProtocol") -> None:
        """Exempt a connection from the limits of unauthenticated ones."""
        timer = self._unauthenticated.pop(protocol, None)
        if timer is not None:
            timer.cancel()

    def remove(self, transport: asyncio.BaseTransport, protocol: "FaultProtocol") -> None:
        """Remove a closed connection."""
        self.mark_authenticated(protocol)
        del self._open[transport]

    def find(self, transport: asyncio.BaseTransport | None) -> "FaultProtocol | None":
        """Return the protocol of a connection, or None if it is closed."""
        return self._open.get(transport)

    def abort_all(self) -> None:
        """Reset every connection."""
        for protocol in tuple(self._open.values()):
            protocol.abort()


class FaultProtocol(asyncio.Protocol):
    """One connection."""

    def __init__(self, connections: Connections, make_inner: Callable[[], asyncio.Protocol]) -> None:
        self._connections = connections
        self._make_inner = make_inner
        self._inner = asyncio.Protocol()  # ignores everything; replaced unless a fault breaks the connection
        self._transport: asyncio.Transport
        self._held = b""
        self._is_before_request = True
        self._ignores_input = False
        self._closed = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()

    # Called by the transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Hand the connection to aiohttp, unless a fault breaks it or the emulator is closed."""
        # An `isinstance` check would fail: uvloop's transports are not subclasses of asyncio's.
        self._transport = cast(asyncio.Transport, transport)
        # With this limit, "paused" means that not all bytes have left this process, which `send` waits for.
        self._transport.set_write_buffer_limits(high=0)
        self._connections.add(transport, self)
        if self._connections.is_closed:
            self.abort()
        elif not self._breaks_at("accept"):
            self._inner = self._make_inner()
            self._inner.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        """Pass bytes on; hold a request line back until it is complete and no fault breaks it."""
        if self._ignores_input:
            return
        if self._is_before_request:
            data = self._held = self._held + data
            if b"\r\n" not in data.lstrip(b"\r\n") and len(data) < _MAX_LINE_BYTES:
                return
            self._held = b""
            self._is_before_request = False
            words = data.lstrip(b"\r\n").split(b"\r\n", 1)[0].decode("latin-1").split(" ")
            if len(words) == 3:  # method, target, version; anything else is left to aiohttp
                route = match_request(words[0], words[1].partition("?")[0]).route
                if self._breaks_at("request_head", route):
                    return
        self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        """Pass the client's FIN on."""
        return None if self._ignores_input else self._inner.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wake everything that waits for the connection."""
        self._connections.remove(self._transport, self)
        self._closed.set()
        self._writable.set()
        self._inner.connection_lost(exc)

    def pause_writing(self) -> None:
        """Make `send` wait."""
        self._writable.clear()
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        """Let `send` continue."""
        self._writable.set()
        self._inner.resume_writing()

    def _breaks_at(self, stage: Stage, route: str = "") -> bool:
        """Break the connection if a fault does so at this stage."""
        fault = self._connections.find_break(stage, route)
        if fault is not None:
            self.break_off(fault)
        return fault is not None

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
        # A transport that is closing may still wait without limit for a client that does not read.
        if self._transport.is_closing() and not self._transport.get_write_buffer_size():
            return
        socket = self._transport.get_extra_info("socket")
        socket.setsockopt(SOL_SOCKET, SO_LINGER, _LINGER_ZERO)
        self._transport.abort()

    def end(self) -> None:
        """Send FIN, and keep the connection until the client closes it."""
        self._ignores_input = True
        if not self._transport.is_closing():
            self._transport.write_eof()

    def close(self) -> None:
        """Close the connection once all bytes have left."""
        self._ignores_input = True
        self._transport.close()

    async def send(self, data: bytes) -> None:
        """Write past aiohttp; returns when all bytes have left this process."""
        view = memoryview(data)
        for start in range(0, len(view), _CHUNK_BYTES):
            if self._transport.is_closing():
                return
            self._transport.write(view[start : start + _CHUNK_BYTES])
            await self._writable.wait()

    async def wait_acknowledged(self) -> None:
        """Wait until the client has acknowledged all bytes: a reset discards those in transit."""
        for _ in range(_ACKNOWLEDGE_CHECKS):
            if self._transport.is_closing() or not _unacknowledged_bytes(self._transport.get_extra_info("socket")):
                return
            await asyncio.sleep(_ACKNOWLEDGE_GAP_S)

    async def wait_closed(self) -> None:
        """Wait until the connection is closed."""
        await self._closed.wait()
