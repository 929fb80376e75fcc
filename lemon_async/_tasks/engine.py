"""What runs for one session, put together: `LemonSession` is its face."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import ExitStack, asynccontextmanager
from urllib.parse import urlsplit

from lemon_async._api.urls import is_loopback
from lemon_async._http.attempt import StreamedResponse
from lemon_async._http.calls import Calls
from lemon_async._http.rate_limiter import RateLimiter
from lemon_async._http.transport import Transport
from lemon_async._images.downloads import Downloads
from lemon_async._pace.budget import RequestBudget
from lemon_async._pace.learned_durations import LearnedDurations
from lemon_async._tasks.lifetime import Lifetime
from lemon_async._tasks.map import FanOuts
from lemon_async._tasks.poller import Poller
from lemon_async._tasks.registry import TaskRegistry
from lemon_async._tasks.settings import Settings
from lemon_async._tasks.stream import ImageStream
from lemon_async._tasks.submission import PreparedRequest, Submissions
from lemon_async._tasks.task import ImageTask
from lemon_async._uploads.preparation import prepare
from lemon_async.requests import Request

__all__ = ["Engine"]


class Engine:
    """The parts of one session, and the way of a paid request through them.

    Raises:
        ContractError: A setting cannot work; nothing was connected.
    """

    def __init__(self, settings: Settings) -> None:
        base_url, http_hosts, durations = settings.checked()
        self.base_url: str = base_url
        self.durations: LearnedDurations = durations
        timeouts = settings.timeouts
        self.rate_limiter: RateLimiter = RateLimiter(RequestBudget(settings.requests_per_minute))
        self.transport: Transport = Transport(
            self.base_url, settings.key, timeouts=timeouts, rate_limiter=self.rate_limiter
        )
        self.submissions: Submissions = Submissions(self.transport, settings.retry, limit=settings.max_submits)
        self.poller: Poller = Poller(
            self.transport, settings.polling, self.rate_limiter, durations=self.durations, limit=settings.max_polls
        )
        host = urlsplit(self.base_url).hostname or ""
        downloads = Downloads(
            total_s=timeouts.download_s,
            connect_s=timeouts.connect_s,
            limit=settings.max_downloads,
            allow_loopback=is_loopback(host),
            own_host=host,
            http_hosts=http_hosts,
            mask=settings.key.mask,
        )
        self.calls: Calls = Calls(self.transport, settings.retry)
        self.fan_outs: FanOuts = FanOuts(
            self.submit,
            is_sending=self.transport.is_sending,
            workers=settings.max_submits,
            close_s=timeouts.close_s,
        )
        self.life: Lifetime = Lifetime(
            (self.fan_outs, self.transport, downloads, self.poller), close_s=timeouts.close_s
        )
        self.tasks: TaskRegistry = TaskRegistry(self.life, self.base_url, self.calls, self.poller, downloads)
        self._check_contracts = settings.check_contracts

    async def submit(
        self,
        request: Request,
        check_contracts: bool | None,
        *,
        is_wanted: Callable[[], bool] = lambda: True,
        line: asyncio.Lock | None = None,
    ) -> ImageTask:
        """Have a request accepted; see `LemonSession.submit` and, for `is_wanted` and `line`, `Submissions.submit`."""
        self.life.check()
        with ExitStack() as held:
            payload = await prepare(request, held, is_checked=self._is_checked(check_contracts))
            sale = await self.submissions.submit(PreparedRequest(request, payload), is_wanted=is_wanted, line=line)
        return self.tasks.adopt(sale, request)

    @asynccontextmanager
    async def stream(self, request: Request, check_contracts: bool | None) -> AsyncGenerator[ImageStream, None]:
        """Have a request accepted, and its pictures come one by one; see `LemonSession.stream`."""
        self.life.check()
        with ExitStack() as held:
            payload = await prepare(request, held, is_checked=self._is_checked(check_contracts), is_stream=True)
            order = PreparedRequest(request, payload)
            async with self.submissions.stream(order) as answer:
                source = answer if isinstance(answer, StreamedResponse) else self.tasks.adopt(answer, request)
                stream = ImageStream(
                    order, source, self.submissions, results=self.tasks, conclude=self.tasks.account.sold
                )
                try:
                    yield stream
                finally:
                    await stream._leave()

    def _is_checked(self, check_contracts: bool | None) -> bool:
        return self._check_contracts if check_contracts is None else check_contracts
