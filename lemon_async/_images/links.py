"""Follow links to results, and keep track of what has arrived.

`LinkClient` sends neither key nor cookies, connects to no private network and keeps a deadline. `ResumableDownload` is
the state of one download over several responses: after a break, only the missing bytes are requested, if the server
supports ranges and sent an `ETag` or `Last-Modified` (RFC 9110, 13.1.5), by which it checks that the picture is still
the same. A response that does not fit the request is rejected as a whole: none of its bytes are joined to earlier ones.
"""

import asyncio
import re
from collections.abc import Callable, Coroutine, Mapping, Sequence
from collections.abc import Set as AbstractSet
from functools import partial
from typing import Any, TypeVar
from urllib.parse import urljoin

import aiohttp
from yarl import URL

from lemon_async._api.error_responses import Failure
from lemon_async._api.urls import find_link_fault, redact
from lemon_async._formats.json_documents import Mask
from lemon_async._formats.pictures import StreamValidator
from lemon_async._http.connections import (
    PrivateAddress,
    PublicResolver,
    checkpoint,
    failure_reason,
    open_session,
    safe_cause,
    take_buffered,
)
from lemon_async.errors import DownloadError

__all__ = ["MAX_BYTES", "Deadline", "FetchFailed", "LinkClient", "ResumableDownload"]

MAX_BYTES = 128 * 1024 * 1024

_MAX_REDIRECTS = 3
_IDLE_S = 15.0
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18}|\*)", re.ASCII | re.IGNORECASE)
_VALIDATORS = ("ETag", "Last-Modified")

T = TypeVar("T")


class FetchFailed(Exception):
    """An attempt failed; the retry table says whether another one may follow."""

    def __init__(self, link: str, reason: str, failure: Failure = Failure.TRANSIENT, status: int | None = None) -> None:
        super().__init__(reason)
        self.error = DownloadError(url=redact(link), reason=reason, status=status)
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
    """Follows links, on separate connections.

    Args:
        connect_s: Limit of name look-up, TCP and TLS.
        allow_loopback: Whether links to this machine are followed, as an API on this machine needs.
        own_host: Host of the API, which may be in a private network.
        http_hosts: Hosts that need no https and may be in a private network; see `parse_http_hosts`.
        mask: Removes the key from texts of a host, in case that is the API's.
        trace_configs: Those of the caller.
    """

    def __init__(
        self,
        *,
        connect_s: float,
        allow_loopback: bool,
        own_host: str | None = None,
        http_hosts: AbstractSet[str] = frozenset(),
        mask: Mask = str,
        trace_configs: Sequence[aiohttp.TraceConfig] = (),
    ) -> None:
        self.is_closed: bool = False
        self.mask: Mask = mask
        self.open_responses: set[aiohttp.ClientResponse] = set()
        self._connect_s = connect_s
        self._trace_configs = list(trace_configs)
        self._find_fault = partial(
            find_link_fault, allow_loopback=allow_loopback, own_host=own_host, http_hosts=http_hosts
        )
        self._open_resolver = partial(
            PublicResolver, allow_loopback=allow_loopback, own_host=own_host, http_hosts=http_hosts
        )
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

    def can_follow(self, url: str) -> bool:
        """Return whether a link may be followed, judging by the address alone."""
        return self._find_fault(url) is None

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
            fault = self._find_fault(link)
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
            raised = FetchFailed(link, failure_reason(broken, self._connect_s))
        cause = safe_cause(broken)
        del broken
        raise raised from cause

    def _session(self) -> aiohttp.ClientSession:
        if self._http is None:
            timeout = aiohttp.ClientTimeout(total=None, connect=self._connect_s)
            self._resolver = self._open_resolver()
            self._http = open_session(
                {"Accept": "image/*"},
                idle_s=_IDLE_S,
                resolver=self._resolver,
                timeout=timeout,
                trace_configs=self._trace_configs,
            )
        return self._http


class ResumableDownload:
    """The part of one picture that has arrived.

    Attributes:
        picture: Checks the bytes so far.
        total_bytes: Size of the picture, if known.
        link: The address of the current response, for errors.
    """

    def __init__(self) -> None:
        self.picture: StreamValidator = StreamValidator()
        self.total_bytes: int | None = None
        self.link: str = ""
        self._end_bytes: int | None = None  # of the part in the current response
        self._validators: Mapping[str, str] = {}
        self._has_ranges = False
        self._uses_ranges = True
        self._held = b""
        self._is_passed_on = False

    @property
    def kept_bytes(self) -> int:
        """Number of bytes that need not be requested again."""
        return self.picture.size_bytes if self._has_ranges and self._uses_ranges else 0

    @property
    def _condition(self) -> str | None:
        etag = self._validators.get("ETag", "")
        return etag if etag.startswith('"') else self._validators.get("Last-Modified")

    def range_headers(self) -> dict[str, str]:
        """Return the headers that request the missing bytes; none to request all."""
        if not self.kept_bytes:
            return {}
        return {"Range": f"bytes={self.kept_bytes}-", "If-Range": self._condition or ""}

    def start(self, headers: Mapping[str, str], length: int | None) -> bool:
        """Start over with a complete response; return whether bytes of an earlier one were passed on.

        Raises:
            DownloadError: It is too large.
        """
        if length is not None and length > MAX_BYTES:
            raise self._too_large()
        was_passed_on, self._is_passed_on = self._is_passed_on, False
        self.restart()
        self.total_bytes = self._end_bytes = length
        self._validators = _validators_of(headers)
        # Without a validator, the rest of another picture could be joined to this one.
        self._has_ranges = headers.get("Accept-Ranges", "").strip().lower() != "none" and self._condition is not None
        return was_passed_on

    def resume(self, status: int, headers: Mapping[str, str], length: int | None) -> None:
        """Continue with a partial response.

        Raises:
            FetchFailed: It is not the requested part, or a part of another picture.
            DownloadError: The picture is too large.
        """
        content_range = _CONTENT_RANGE.fullmatch(headers.get("Content-Range", "").strip())
        if status == 416 or content_range is None:
            raise self._mismatch("the rest was requested, and the response does not say that it is the rest")
        first, end = int(content_range[1]), int(content_range[2]) + 1
        total = self.total_bytes if content_range[3] == "*" else int(content_range[3])
        validators = _validators_of(headers)
        # A partial response repeats the ETag of the complete one (RFC 9110, 15.3.7).
        has_etag = not self._validators.get("ETag", "").startswith('"') or "ETag" in validators
        is_same = has_etag and all(self._validators.get(name, value) == value for name, value in validators.items())
        is_as_long = self.total_bytes in {None, total} and length in {None, end - first}
        if not (is_same and is_as_long and self.picture.size_bytes == first < end <= (total or end)):
            raise self._mismatch("the rest was requested, and something else was sent")
        if end > MAX_BYTES:
            raise self._too_large()
        self.total_bytes, self._end_bytes = total, end

    def feed(self, piece: bytes) -> Exception | None:
        """Add the next bytes; return the error as soon as it is certain. Raised here, it would show the bytes."""
        size_bytes = self.picture.size_bytes + len(piece)
        if self._end_bytes is not None and size_bytes > self._end_bytes:
            return self._mismatch("more was sent than was announced")
        if size_bytes > MAX_BYTES:
            return self._too_large()
        self._held = self._held + piece if self._held else piece
        return self._fault(self.picture.feed(piece))

    def find_fault(self) -> Exception | None:
        """Return the error if the response has ended, and the picture is not whole."""
        if self.total_bytes is not None and self.picture.size_bytes < self.total_bytes:
            return FetchFailed(self.link, "the response broke off before its end")
        return self._fault(self.picture.end())

    def pop_checked(self, *, is_end: bool = False) -> bytes:
        """Return the bytes since the last call; none until they are known to begin a picture."""
        if not (is_end or self.picture.is_picture):
            return b""
        held, self._held = self._held, b""
        self._is_passed_on = self._is_passed_on or bool(held)
        return held

    def restart(self) -> None:
        """Drop the bytes, to request them again."""
        self.picture = StreamValidator()
        self._held = b""

    def _fault(self, fault: str | None) -> FetchFailed | None:
        if fault is None:
            return None
        self.restart()
        return FetchFailed(self.link, fault)

    def _mismatch(self, reason: str) -> FetchFailed:
        """Drop the bytes, and request no ranges any more."""
        self.restart()
        self._uses_ranges = False
        return FetchFailed(self.link, reason)

    def _too_large(self) -> DownloadError:
        return DownloadError(url=redact(self.link), reason=f"the response is larger than {MAX_BYTES:,} bytes")


def _validators_of(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: headers[name].strip() for name in _VALIDATORS if name in headers}
