"""Follow links to results: without key or cookies, not into private networks, and with a deadline."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from collections.abc import Set as AbstractSet
from typing import Any, TypeVar
from urllib.parse import urljoin

import aiohttp
from yarl import URL

from lemon_async._api.error_responses import Failure
from lemon_async._api.urls import find_link_fault, redact
from lemon_async._formats.json_documents import Mask
from lemon_async._http.client_session import failure_reason, open_session, safe_cause
from lemon_async._http.connections import take_buffered
from lemon_async._http.fairness import checkpoint
from lemon_async._http.resolver import PrivateAddress, PublicResolver
from lemon_async.errors import DownloadError

__all__ = ["Deadline", "FetchFailed", "LinkClient"]

_MAX_REDIRECTS = 3
_IDLE_S = 15.0
_REDIRECTS = frozenset({301, 302, 303, 307, 308})

T = TypeVar("T")


class FetchFailed(Exception):
    """An attempt failed; the retry table says whether another one may follow."""

    def __init__(self, error: DownloadError, failure: Failure = Failure.TRANSIENT) -> None:
        super().__init__(error)
        self.error = error
        self.failure = failure


class Deadline:
    """The deadline of one download, which releases what it holds even if its consumer never returns."""

    def __init__(self, url: str, total_s: float) -> None:
        self._url = url
        self._total_s = total_s
        self._end = 0.0
        self._is_expired = False
        self._timer: asyncio.TimerHandle | None = None
        self._owned: dict[str, Callable[[], None]] = {}

    def start(self) -> None:
        """Start the time."""
        loop = asyncio.get_running_loop()
        self._end = loop.time() + self._total_s
        self._timer = loop.call_at(self._end, self._expire)

    def stop(self) -> None:
        """Release what is still held, and stop the time."""
        if self._timer is not None:
            self._timer.cancel()
        for name in tuple(self._owned):
            self.release(name)

    def own(self, name: str, release: Callable[[], None]) -> None:
        """Release a resource at the deadline, because the generator that holds it may not run before that."""
        self._owned[name] = release

    def release(self, name: str) -> None:
        """Release it now, unless it was released."""
        release = self._owned.pop(name, None)
        if release is not None:
            release()

    def _expire(self) -> None:
        self._is_expired = True
        self.stop()

    async def run(self, awaitable: Coroutine[Any, Any, T]) -> T:
        """Wait until the deadline at most; the timeout is closed before another task runs.

        Raises:
            DownloadError: The time is up.
        """
        scope = asyncio.timeout_at(self._end)
        try:
            if not self._is_expired:
                async with scope:
                    return await awaitable
            awaitable.close()
        except Exception:
            if not (scope.expired() or self._is_expired):  # closing a connection at the deadline raises, too
                raise
        raise self._error()

    def left_s(self) -> float:
        """Return the remaining seconds.

        Raises:
            DownloadError: The time is up.
        """
        left_s = self._end - asyncio.get_running_loop().time()
        if self._is_expired or left_s <= 0:
            raise self._error()
        return left_s

    def _error(self) -> DownloadError:
        return DownloadError(url=redact(self._url), reason=f"not finished within {self._total_s:g} s")


class LinkClient:
    """Follows links, on connections of its own.

    Args:
        connect_s: Limit of name look-up, TCP and TLS.
        allow_loopback: Whether links to this machine are followed.
        own_host: Host of the API, which may be in a private network.
        http_hosts: Hosts that need no https and may be in a private network.
        mask: Removes the key from texts of a host.
    """

    def __init__(
        self,
        *,
        connect_s: float,
        allow_loopback: bool,
        own_host: str | None,
        http_hosts: AbstractSet[str],
        mask: Mask,
    ) -> None:
        self.is_closed: bool = False
        self.mask: Mask = mask
        self.open_responses: set[aiohttp.ClientResponse] = set()
        self._connect_s = connect_s
        self._allow_loopback = allow_loopback
        self._own_host = own_host
        self._http_hosts = http_hosts
        self._http: aiohttp.ClientSession | None = None
        self._resolver: PublicResolver | None = None

    async def aclose(self) -> None:
        """Close the connections; reading from one raises."""
        self.is_closed = True
        for response in tuple(self.open_responses):
            self.drop(response)  # closing the session alone does not wake a reader
        if self._http is not None:
            await self._http.close()
        if self._resolver is not None:
            await self._resolver.close()

    def drop(self, response: aiohttp.ClientResponse) -> None:
        """Close a response; does nothing the second time."""
        self.open_responses.discard(response)
        response.close()

    def find_fault(self, url: str) -> str | None:
        """Return why a link must not be followed, or `None` if it may."""
        return find_link_fault(
            url, allow_loopback=self._allow_loopback, own_host=self._own_host, http_hosts=self._http_hosts
        )

    async def follow(
        self, url: str, headers: Mapping[str, str], deadline: Deadline
    ) -> tuple[aiohttp.ClientResponse, str]:
        """Return the response at the end of all redirects, and its address.

        Raises:
            DownloadError: The link or a redirect must not be followed, or there are too many.
            FetchFailed: There was no response.
        """
        link = url
        for _ in range(_MAX_REDIRECTS + 1):
            fault = self.find_fault(link)
            if fault is not None:
                raise DownloadError(url=redact(link), reason=f"not followed, because {fault}")
            response, target = await self._run(link, deadline, self._request(link, headers))
            if target is None:
                return response, link
            link = target
        raise DownloadError(url=redact(url), reason=f"more than {_MAX_REDIRECTS} redirects")

    async def read(self, response: aiohttp.ClientResponse, link: str, deadline: Deadline) -> bytes:
        """Return the next bytes of a response, `b""` at its end.

        Raises:
            DownloadError: The time is up.
            FetchFailed: The response broke off.
        """
        return await self._run(link, deadline, self._read_next(response))

    async def _read_next(self, response: aiohttp.ClientResponse) -> bytes:
        await checkpoint()
        try:
            return await response.content.readany()
        except (aiohttp.ClientError, OSError):
            # Bytes before the break need not be fetched again; the next call raises.
            if rest := take_buffered(response.content):
                return rest
            raise

    async def _request(self, link: str, headers: Mapping[str, str]) -> tuple[aiohttp.ClientResponse, str | None]:
        """Return a response, and the target of its redirect, if it is one."""
        await checkpoint()
        self._check_open(link)
        response = await self._session().get(URL(link, encoded=True), headers=headers, allow_redirects=False)
        if self.is_closed:  # meanwhile; closing the session does not wake a reader
            response.close()
            self._check_open(link)
        if response.status not in _REDIRECTS:
            return response, None
        response.release()
        return response, self.mask(urljoin(str(response.url), response.headers.get("Location", "")))

    def _check_open(self, link: str) -> None:
        if self.is_closed:
            raise DownloadError(url=redact(link), reason="not followed, because the session is closed")

    async def _run(self, link: str, deadline: Deadline, awaitable: Coroutine[Any, Any, T]) -> T:
        broken: Exception
        try:
            return await deadline.run(awaitable)
        except (aiohttp.ClientError, OSError, ValueError) as failure:
            broken = failure
        # Raised outside of `except` and without the variable: both would carry what the host sent.
        if isinstance(getattr(broken, "os_error", None), PrivateAddress):
            raised: Exception = DownloadError(
                url=redact(link), reason="not followed, because its host leads to a private address"
            )
        else:
            raised = FetchFailed(DownloadError(url=redact(link), reason=failure_reason(broken, self._connect_s)))
        cause = safe_cause(broken)
        del broken
        raise raised from cause

    def _session(self) -> aiohttp.ClientSession:
        if self._http is None:
            timeout = aiohttp.ClientTimeout(total=None, connect=self._connect_s)
            self._resolver = PublicResolver(
                allow_loopback=self._allow_loopback, own_host=self._own_host, http_hosts=self._http_hosts
            )
            self._http = open_session({"Accept": "image/*"}, idle_s=_IDLE_S, resolver=self._resolver, timeout=timeout)
        return self._http
