"""Open connections on which no response is older than its request, to addresses that were checked.

aiohttp hands out an idle connection as long as it is open. If the server sent something while it was idle, or one
response too many, the next request takes that for its own: the picture of a cat becomes that of a dog, and an old 429
makes a client repeat a request that was accepted. `CheckedConnector` hands out only connections on which no byte waits.

A request with an effect never gets a used connection. A server may close one at any moment after its response, and a
request in flight at that moment cannot be distinguished from one that was executed. Checking a kept connection is not
enough: `python -m benchmarks connections` counts the failures, and measures what a new connection costs.

Every private part of aiohttp in use; a test in `tests/http/test_connections.py` fails when one is renamed:

    ResponseHandler._parser              whether a connection was used, and part of a response waits on it
    StreamReader._read_nowait            bytes that arrived before the connection broke
    ClientSession._retry_connection      keeps aiohttp from sending a request twice
    Payload._value, ._size, ._autoclose  bodies that are sent in chunks (`_uploads.preparation`)
"""

import asyncio
import errno
import ipaddress
import select
import socket
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from collections.abc import Set as AbstractSet
from contextvars import ContextVar
from typing import Any
from weakref import WeakKeyDictionary

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.client_proto import ResponseHandler
from aiohttp.http_exceptions import BadStatusLine, InvalidHeader, LineTooLong
from yarl import URL

from lemon_async._api.response import Unreadable
from lemon_async._api.urls import find_link_fault, is_http_host
from lemon_async._formats.json_documents import one_line
from lemon_async._version import __version__

__all__ = [
    "CheckedConnector",
    "PrivateAddress",
    "PublicResolver",
    "ReadFairness",
    "TooLarge",
    "UnusableConnection",
    "checkpoint",
    "failure_reason",
    "never_resend",
    "on_connected",
    "open_session",
    "safe_cause",
    "take_buffered",
]


class ReadFairness:
    """A queue from which each iteration of the event loop releases the first few.

    Reading a socket that has data costs the loop a tenth of a millisecond or more. When forty responses arrive
    together, everything else that is ready would wait for all of them. Readers therefore pass a checkpoint before each
    read: the loop lets one of them through in each iteration, in order of arrival, and other callbacks run in between.
    A reader that waits at the checkpoint also pauses its socket.

    Args:
        per_iteration: How many.
    """

    def __init__(self, per_iteration: int = 1) -> None:
        self._per_iteration = per_iteration
        self._left = per_iteration
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._is_scheduled = False

    async def checkpoint(self) -> None:
        """Wait for an iteration with room; returns immediately if this one has. Cancelling leaves the queue."""
        if self._left and not self._waiters:
            self._left -= 1
            self._schedule()
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        self._schedule()
        await waiter

    def _schedule(self) -> None:
        if not self._is_scheduled:
            self._is_scheduled = True
            asyncio.get_running_loop().call_soon(self._release)

    def _release(self) -> None:
        """Start an iteration."""
        self._left, self._is_scheduled = self._per_iteration, False
        while self._waiters and self._left:
            waiter = self._waiters.popleft()
            if not waiter.done():  # it was not cancelled
                waiter.set_result(None)
                self._left -= 1
        if self._left < self._per_iteration:
            self._schedule()


_by_loop: WeakKeyDictionary[asyncio.AbstractEventLoop, ReadFairness] = WeakKeyDictionary()


def checkpoint() -> Awaitable[None]:
    """Pass the checkpoint of the running loop, which all sessions share; see `ReadFairness.checkpoint`."""
    loop = asyncio.get_running_loop()
    found = _by_loop.get(loop)
    if found is None:
        found = _by_loop[loop] = ReadFairness()
    return found.checkpoint()


_TRANSLATED = ipaddress.ip_network("64:ff9b::/96")
# Local tunnels return these for every name; no host has one (RFC 2544).
_PLACEHOLDERS = ipaddress.ip_network("198.18.0.0/15")


class PrivateAddress(OSError):
    """A host name has only private addresses, which links must not lead to."""


class PublicResolver(AbstractResolver):
    """Looks up host names and drops addresses of private networks.

    Following a link whose public name resolves to an address behind the firewall would open that network to the author
    of the link. Checking a name and then connecting to it would take two look-ups, and a hostile name server can give
    two answers.

    Args:
        allow_loopback: Whether names may resolve to this machine.
        own_host: The host of the API, which may have any address.
        http_hosts: Hosts that the user has listed, which may have any address, too.
    """

    def __init__(
        self, *, allow_loopback: bool, own_host: str | None, http_hosts: AbstractSet[str] = frozenset()
    ) -> None:
        self._allow_loopback = allow_loopback
        self._own_host = own_host
        self._http_hosts = http_hosts
        self._resolver: AbstractResolver = aiohttp.DefaultResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Return the addresses of `host` that we may connect to.

        Raises:
            PrivateAddress: There are only private ones.
            OSError: The name is unknown.
        """
        found = await self._resolver.resolve(host, port, family)
        if host.lower() == self._own_host or is_http_host(host, port, self._http_hosts):
            return found
        public = [address for address in found if self._is_public(address["host"])]
        if found and not public:
            raise PrivateAddress(errno.EACCES, "leads to a private address")
        return public

    async def close(self) -> None:
        """Close the underlying resolver."""
        await self._resolver.close()

    def _is_public(self, address: str) -> bool:
        plain = _plain(address)
        if plain.version == 4 and plain in _PLACEHOLDERS:
            return True
        literal = f"[{plain}]" if plain.version == 6 else str(plain)
        return find_link_fault(f"https://{literal}/", allow_loopback=self._allow_loopback) is None


def _plain(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Return an address; for one that translates IPv4 into IPv6, the IPv4 address (RFC 6052)."""
    found = ipaddress.ip_address(address.partition("%")[0])
    if found.version == 6 and found in _TRANSLATED:
        return ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)
    return found


on_connected: ContextVar[Callable[[], None] | None] = ContextVar("lemon_async on_connected", default=None)
"""Called when the request of this context gets its connection: from then on bytes may have been sent."""


class UnusableConnection(aiohttp.ClientConnectionError):
    """The server closed a new connection, or sent something on it, before the request; no request was sent."""


class CheckedConnector(aiohttp.TCPConnector):
    """A connector that checks each connection, and calls `on_connected`."""

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
            is_used = protocol._parser is not None  # each request sets one
            if _is_silent(protocol, is_used=is_used):
                if (callback := on_connected.get()) is not None:
                    callback()
                return connection
            connection.close()
            if not is_used:
                raise UnusableConnection


def _is_silent(protocol: ResponseHandler, *, is_used: bool) -> bool:
    """Return whether a connection is open and nothing waits to be read, in aiohttp or in the kernel."""
    transport = protocol.transport
    if transport is None or transport.is_closing() or protocol.should_close:
        return False
    if is_used and _has_partial_message(protocol):
        return False
    # After a TLS handshake the server sends session tickets: on a new connection they mean nothing.
    if not is_used and transport.get_extra_info("ssl_object") is not None:
        return True
    return not _is_readable(transport.get_extra_info("socket").fileno())


def _has_partial_message(protocol: ResponseHandler) -> bool:
    """Return whether the parser of the last response has begun another; the next request replaces it."""
    try:
        return protocol._parser is not None and protocol._parser.feed_eof() is not None
    except Exception:  # noqa: BLE001 - whatever a parser raises, it has begun a message
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


_LONGEST_REASON = 200
# aiohttp's own messages for these quote the server.
_REASONS: tuple[tuple[type[Exception], str], ...] = (
    (aiohttp.ServerDisconnectedError, "Server disconnected"),
    (UnusableConnection, "the server closed the connection or sent data before the request"),
    (aiohttp.ClientConnectionError, "Connection closed"),
    (aiohttp.ClientPayloadError, "the response broke off before its end"),
    (BadStatusLine, "the response has no HTTP status line"),
    (InvalidHeader, "the response has a header that is not HTTP"),
    (LineTooLong, "the head of the response has a line that is too long"),
    (aiohttp.ClientResponseError, "the head of the response is not HTTP"),
)


class TooLarge(Exception):
    """A response is larger than any plausible one."""


_SAFE_TO_QUOTE = (OSError, TooLarge, Unreadable)  # messages of the operating system, and ours


class _Response(aiohttp.ClientResponse):
    """A response whose `repr` has no reason phrase and headers: they may quote the key, and tracebacks print it."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.status}>"


class _NoCookies(aiohttp.DummyCookieJar):
    """Does not even parse cookies: aiohttp would log the names of malformed ones."""

    def update_cookies_from_headers(self, headers: Sequence[str], response_url: URL) -> None:
        pass


def open_session(
    headers: dict[str, str], *, idle_s: float | None, resolver: AbstractResolver | None = None, **options: Any
) -> aiohttp.ClientSession:
    """Return an aiohttp session that does nothing by itself.

    It keeps no cookies, takes no proxy or netrc credentials from the environment, decompresses nothing and opens any
    number of connections: concurrency is limited before a request's clock starts. It asks for no compressed responses:
    JSON with links is small, pictures are compressed already, and most readers take a truncated gzip stream for whole.

    Args:
        headers: Headers of every request.
        idle_s: Seconds for which an idle connection is kept; `None`: each request gets a new one.
        resolver: Looks up host names.
        options: Further options of `aiohttp.ClientSession`.
    """
    keeping: dict[str, Any] = {"force_close": True} if idle_s is None else {"keepalive_timeout": idle_s}
    return aiohttp.ClientSession(
        connector=CheckedConnector(limit=0, resolver=resolver, **keeping),
        headers={"User-Agent": f"lemon-async/{__version__}", "Accept-Encoding": "identity", **headers},
        cookie_jar=_NoCookies(),
        response_class=_Response,
        trust_env=False,
        auto_decompress=False,
        **options,
    )


def failure_reason(failure: Exception, timeout_s: float) -> str:
    """Describe what aiohttp raised in one printable line that quotes no server; `timeout_s` is what it exceeded."""
    if isinstance(failure, TimeoutError):
        return f"no response within {round(timeout_s, 2):g} s"
    if isinstance(failure, aiohttp.ClientConnectorError):
        return f"cannot connect to {failure.host}:{failure.port}: {one_line(str(failure.os_error))}"[:_LONGEST_REASON]
    if isinstance(failure, _SAFE_TO_QUOTE):
        return (one_line(str(failure)) or type(failure).__name__)[:_LONGEST_REASON]
    for kind, reason in _REASONS:
        if isinstance(failure, kind) or isinstance(failure.__cause__, kind):
            return reason
    return type(failure).__name__


def safe_cause(failure: Exception) -> Exception | None:
    """Return a failure as the `__cause__` of an error of this library, or `None` if its message may quote a server.

    Its frames and its own causes are dropped: they can hold the bytes of the request, the key among them, and those of
    a response that quotes it.
    """
    if not isinstance(failure, _SAFE_TO_QUOTE):
        return None
    failure.__traceback__ = failure.__cause__ = failure.__context__ = None
    return failure
