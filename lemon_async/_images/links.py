"""Following links that the service names: without key or cookies, not inside a private network, and never for long."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from collections.abc import Set as AbstractSet
from typing import Any, TypeVar
from urllib.parse import urljoin

import aiohttp
from yarl import URL

from lemon_async._api.refusals import Failure
from lemon_async._api.urls import find_link_fault, redact
from lemon_async._formats.masking import Mask
from lemon_async._http.client_session import cause_of, open_session, reason_of
from lemon_async._http.connections import take_buffered
from lemon_async._http.fairness import rounds
from lemon_async._http.resolver import PrivateAddress, PublicResolver
from lemon_async.errors import DownloadError

__all__ = ["Deadline", "FetchFailed", "Links"]

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
    """The end of one download, whatever it waits for, and be it for the one who takes the pieces."""

    def __init__(self, url: str, total_s: float) -> None:
        self._url = url
        self._total_s = total_s
        self._end = 0.0
        self._is_over = False
        self._alarm: asyncio.TimerHandle | None = None
        self._give_back: dict[str, Callable[[], None]] = {}

    def start(self) -> None:
        """Let the time run."""
        loop = asyncio.get_running_loop()
        self._end = loop.time() + self._total_s
        self._alarm = loop.call_at(self._end, self._ring)

    def stop(self) -> None:
        """Give back what is still held; nothing happens at the end any more."""
        if self._alarm is not None:
            self._alarm.cancel()
        for name in tuple(self._give_back):
            self.drop(name)

    def hold(self, name: str, give_back: Callable[[], None]) -> None:
        """Have something given back at the end; the generator that holds it may not go on before that."""
        self._give_back[name] = give_back

    def drop(self, name: str) -> None:
        """Give it back now, unless it was."""
        give_back = self._give_back.pop(name, None)
        if give_back is not None:
            give_back()

    def _ring(self) -> None:
        self._is_over = True
        self.stop()

    async def bound(self, awaitable: Coroutine[Any, Any, T]) -> T:
        """Wait until the end at most; the scope is closed before anybody else runs.

        Raises:
            DownloadError: That was not enough.
        """
        scope = asyncio.timeout_at(self._end)
        try:
            if not self._is_over:
                async with scope:
                    return await awaitable
            awaitable.close()
        except Exception:
            if not (scope.expired() or self._is_over):  # a connection that is closed at the end breaks, too
                raise
        raise self._late()

    def left_s(self) -> float:
        """Return how many seconds are left.

        Raises:
            DownloadError: No time is left.
        """
        left_s = self._end - asyncio.get_running_loop().time()
        if self._is_over or left_s <= 0:
            raise self._late()
        return left_s

    def _late(self) -> DownloadError:
        return DownloadError(url=redact(self._url), reason=f"not finished within {self._total_s:g} s")


class Links:
    """The connections on which links are followed.

    Args:
        connect_s: Bound of name look-up, TCP and TLS.
        allow_loopback: Whether links to this machine are followed.
        own_host: Host of the API, which may be in a private network.
        http_hosts: Hosts that need no https and may be in a private network.
        mask: What takes the key out of what a host says.
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
        self.open_answers: set[aiohttp.ClientResponse] = set()
        self._connect_s = connect_s
        self._allow_loopback = allow_loopback
        self._own_host = own_host
        self._http_hosts = http_hosts
        self._http: aiohttp.ClientSession | None = None
        self._resolver: PublicResolver | None = None

    async def aclose(self) -> None:
        """Close the connections; who reads from one hears of it."""
        self.is_closed = True
        for answer in tuple(self.open_answers):
            self.drop(answer)  # a session that closes a connection does not wake who reads from it
        if self._http is not None:
            await self._http.close()
        if self._resolver is not None:
            await self._resolver.close()

    def drop(self, answer: aiohttp.ClientResponse) -> None:
        """Read no more of an answer; does nothing the second time."""
        self.open_answers.discard(answer)
        answer.close()

    def find_fault(self, url: str) -> str | None:
        """Return why a link must not be followed, or `None` when it may."""
        return find_link_fault(
            url, allow_loopback=self._allow_loopback, own_host=self._own_host, http_hosts=self._http_hosts
        )

    async def follow(
        self, url: str, headers: Mapping[str, str], deadline: Deadline
    ) -> tuple[aiohttp.ClientResponse, str]:
        """Return what a link leads to in the end, and where that is.

        Raises:
            DownloadError: It must not be followed, or not as far.
            FetchFailed: There was no answer.
        """
        link = url
        for _ in range(_MAX_REDIRECTS + 1):
            fault = self.find_fault(link)
            if fault is not None:
                raise DownloadError(url=redact(link), reason=f"not followed, because {fault}")
            answer, target = await self._guarded(link, deadline, self._ask(link, headers))
            if target is None:
                return answer, link
            link = target
        raise DownloadError(url=redact(url), reason=f"more than {_MAX_REDIRECTS} redirects")

    async def read(self, answer: aiohttp.ClientResponse, link: str, deadline: Deadline) -> bytes:
        """Return the next bytes of an answer, `b""` at its end.

        Raises:
            DownloadError: Time is up.
            FetchFailed: The answer broke off.
        """
        return await self._guarded(link, deadline, self._next_of(answer))

    async def _next_of(self, answer: aiohttp.ClientResponse) -> bytes:
        await rounds().turn()
        try:
            return await answer.content.readany()
        except (aiohttp.ClientError, OSError):
            # Bytes that came before the break need not be sent again; the next call raises.
            if rest := take_buffered(answer.content):
                return rest
            raise

    async def _ask(self, link: str, headers: Mapping[str, str]) -> tuple[aiohttp.ClientResponse, str | None]:
        """Return an answer, and where it redirects to, if it does."""
        await rounds().turn()
        self._check_open(link)
        answer = await self._session().get(URL(link, encoded=True), headers=headers, allow_redirects=False)
        if self.is_closed:  # while the head came: closing the session does not wake a reader
            answer.close()
            self._check_open(link)
        if answer.status not in _REDIRECTS:
            return answer, None
        answer.release()
        return answer, self.mask(urljoin(str(answer.url), answer.headers.get("Location", "")))

    def _check_open(self, link: str) -> None:
        if self.is_closed:
            raise DownloadError(url=redact(link), reason="not followed, because the session is closed")

    async def _guarded(self, link: str, deadline: Deadline, awaitable: Coroutine[Any, Any, T]) -> T:
        broken: Exception
        try:
            return await deadline.bound(awaitable)
        except (aiohttp.ClientError, OSError, ValueError) as failure:
            broken = failure
        # Neither raised where that was caught, nor with it in a variable: what the host said would come along.
        if isinstance(getattr(broken, "os_error", None), PrivateAddress):
            raised: Exception = DownloadError(
                url=redact(link), reason="not followed, because its host leads to a private address"
            )
        else:
            raised = FetchFailed(DownloadError(url=redact(link), reason=reason_of(broken, self._connect_s)))
        cause = cause_of(broken)
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
