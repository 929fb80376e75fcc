"""Fetching results from whatever host the service names: no key, no cookies, nothing but a picture."""

import asyncio
from urllib.parse import urljoin

import aiohttp
import anyio
from yarl import URL

from lemon_async.api.errors import DownloadError
from lemon_async.api.masking import Mask
from lemon_async.api.pictures import find_picture_fault
from lemon_async.api.response import one_line
from lemon_async.api.urls import find_link_fault, redact
from lemon_async.client.http import TooLarge, cause_of, open_session, read_body, reason_of

__all__ = ["Downloads"]

_MAX_REDIRECTS = 3
_MAX_BYTES = 128 * 1024 * 1024
_ATTEMPTS = 3
_IDLE_S = 15.0
_PAUSE_S = 0.25
_REDIRECTS = frozenset({301, 302, 303, 307, 308})


class Downloads:
    """The downloads of one session, with a limit of their own.

    Args:
        total_s: Bound of one download in seconds, redirects and retries included.
        connect_s: Bound of name look-up, TCP and TLS.
        limit: Number of downloads under way at once.
        allow_loopback: Whether links to this machine are followed, as they must be for an API on this machine.
        mask: What takes the key out of what a host says, should it be that of the API.
    """

    def __init__(self, *, total_s: float, connect_s: float, limit: int, allow_loopback: bool, mask: Mask = str) -> None:
        self._total_s = total_s
        self._connect_s = connect_s
        self._allow_loopback = allow_loopback
        self._mask = mask
        self._slots = anyio.Semaphore(limit)
        self._http: aiohttp.ClientSession | None = None
        self._arrived: set[aiohttp.ClientResponse] = set()
        self._is_closed = False

    async def fetch(self, url: str) -> bytes:
        """Return the picture behind a link; what breaks in transit is fetched again.

        Raises:
            DownloadError: When the link may not be followed, was refused, or never came over whole.
        """
        async with self._slots:
            try:
                async with asyncio.timeout(self._total_s):
                    return await self._fetch_with_retries(url)
            except TimeoutError:
                reason = f"not finished within {self._total_s:g} s"
                raise DownloadError(url=redact(url), reason=reason) from None

    def close(self) -> None:
        """Fetch nothing from now on."""
        self._is_closed = True

    async def aclose(self) -> None:
        """Close the connections; downloads under way end with `DownloadError`."""
        self.close()
        for arrived in tuple(self._arrived):
            arrived.close()  # a session that closes a connection does not wake who reads from it
        if self._http is not None:
            await self._http.close()

    async def _fetch_with_retries(self, url: str) -> bytes:
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                return await self._fetch(url)
            except _Transient as failure:
                if attempt == _ATTEMPTS or self._is_closed:
                    raise failure.error from failure.__cause__
            await asyncio.sleep(_PAUSE_S * attempt)
        raise AssertionError("unreachable")

    async def _fetch(self, url: str) -> bytes:
        link = url
        for _ in range(_MAX_REDIRECTS + 1):
            fault = find_link_fault(link, allow_loopback=self._allow_loopback)
            if self._is_closed:
                fault = "the session is closed"
            if fault is not None:
                raise DownloadError(url=redact(link), reason=f"not followed, because {fault}")
            broken: Exception
            try:
                async with self._session().get(URL(link, encoded=True), allow_redirects=False) as response:
                    if response.status not in _REDIRECTS:
                        return await self._receive(response, link)
                    link = self._mask(urljoin(str(response.url), response.headers.get("Location", "")))
                continue
            except (TooLarge, aiohttp.ClientError, OSError, ValueError) as failure:
                broken = failure
            # Neither raised where that was caught, nor with it in a variable: what the host said would come along.
            error = DownloadError(url=redact(link), reason=reason_of(broken, self._connect_s))
            raised, cause = error if isinstance(broken, TooLarge) else _Transient(error), cause_of(broken)
            del broken
            raise raised from cause
        raise DownloadError(url=redact(url), reason=f"more than {_MAX_REDIRECTS} redirects")

    async def _receive(self, response: aiohttp.ClientResponse, link: str) -> bytes:
        if response.status != 200:
            reason = f"HTTP {response.status} {one_line(self._mask(response.reason or '')) or ''}".strip()
            error = DownloadError(url=redact(link), reason=reason, status=response.status)
            raise _Transient(error) if response.status >= 500 or response.status == 429 else error
        if response.headers.get("Content-Encoding", "identity").lower() != "identity":
            # Unpacking what nobody asked to be packed is how half a megabyte becomes half a gigabyte.
            raise DownloadError(url=redact(link), reason="the picture is packed in a way that was not asked for")
        self._arrived.add(response)
        try:
            content = await read_body(response, _MAX_BYTES)
        finally:
            self._arrived.discard(response)
        fault = find_picture_fault(content)
        if fault is not None:
            del content  # a traceback that shows local variables must not show it
            raise _Transient(DownloadError(url=redact(link), reason=fault))
        return content

    def _session(self) -> aiohttp.ClientSession:
        if self._http is None:
            timeout = aiohttp.ClientTimeout(total=None, connect=self._connect_s)
            self._http = open_session({"Accept": "image/*"}, idle_s=_IDLE_S, timeout=timeout)
        return self._http


class _Transient(Exception):
    """A failure that another attempt may not meet."""

    def __init__(self, error: DownloadError) -> None:
        super().__init__(error)
        self.error = error
