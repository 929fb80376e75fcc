"""Answer the requests of one page: find the endpoint, check the request, and add the headers.

`Pages.handle` is a handler of aiohttp's low-level server, and of a route in an application.
"""

import re
from collections.abc import Awaitable, Callable, Mapping

from aiohttp import web
from attrs import define, field

from lemon_async._web.assets import Assets
from lemon_async._web.host_header import AllowedHosts
from lemon_async._web.protection import Protection
from lemon_async._web.replies import NOT_STORED, SECURITY_HEADERS, PageError
from lemon_async._web.summaries import Summaries

PREFIX = "/_page/"

_NAME = "[A-Za-z0-9_.:-]{1,200}"

# Takes a request and the parts of its path.
Endpoint = Callable[[web.BaseRequest, Mapping[str, str]], Awaitable[web.StreamResponse]]


# A method, a pattern for paths and what answers.
Line = tuple[str, re.Pattern[str], Endpoint]


def _compile(line: str, endpoint: Endpoint) -> Line:
    method, path = line.split(" ")
    escaped = path.replace(".", r"\.")
    return method, re.compile(re.sub(r"{(\w+)}", rf"(?P<\1>{_NAME})", escaped)), endpoint


@define(eq=False, kw_only=True)
class Pages:
    """A page, its files, its stream of summaries and its endpoints.

    Attributes:
        page: The name of the HTML file.
        hosts: The names under which the page is served.
        endpoints: What else it serves: functions by method and path, such as `GET /_page/files/{id}/{index}`.
        summaries: The stream at `/_page/events`.
        meta: Values for `<meta>` elements of the page, besides `page-token`.
        assets: The files.
    """

    page: str
    hosts: AllowedHosts
    endpoints: Mapping[str, Endpoint]
    summaries: Summaries
    meta: Mapping[str, str] = field(factory=dict, repr=False)
    assets: Assets = field(factory=Assets.read, repr=False)
    protection: Protection = field(init=False)
    _table: list[Line] = field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        self.protection = Protection(self.hosts)
        own = {"GET /": self._page, "GET /_page/static/{name}": self._static, "GET /_page/events": self._events}
        self._table = [_compile(line, endpoint) for line, endpoint in {**own, **self.endpoints}.items()]

    @staticmethod
    def owns(path: str) -> bool:
        """Return whether a path belongs to pages."""
        return path == "/" or path.startswith(PREFIX)

    def admits(self, request: web.BaseRequest) -> bool:
        """Return whether a request is answered otherwise than by a refusal."""
        try:
            self.protection.check(request)
        except PageError:
            return False
        return True

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request; it never raises a `PageError`."""
        try:
            self.protection.check(request)
            response = await self._answer(request)
        except PageError as error:
            response = error.reply()
        if not response.prepared:
            response.headers.update(SECURITY_HEADERS)
            response.headers.setdefault("Cache-Control", NOT_STORED)
        return response

    def close(self) -> None:
        """End the streams."""
        self.summaries.close()

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        allowed = []
        for method, pattern, endpoint in self._table:
            match = pattern.fullmatch(request.path)
            if match and method == request.method:
                return await endpoint(request, match.groupdict())
            allowed += [method] if match else []
        if allowed:
            raise PageError(405, f"this takes {', '.join(allowed)} only", {"Allow": ", ".join(allowed)})
        raise PageError(404, "there is no such page")

    async def _page(self, _request: web.BaseRequest, _args: Mapping[str, str]) -> web.StreamResponse:
        return self.assets.page(self.page, {"page-token": self.protection.token, **self.meta})

    async def _static(self, request: web.BaseRequest, args: Mapping[str, str]) -> web.StreamResponse:
        return self.assets.reply(request, args["name"])

    async def _events(self, request: web.BaseRequest, _args: Mapping[str, str]) -> web.StreamResponse:
        return await self.summaries.reply(request)
