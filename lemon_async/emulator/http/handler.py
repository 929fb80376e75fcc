"""Handle one HTTP request: check Host, key and rate limit, read the body, apply a fault, call the endpoint.

The order is part of the contract. A fault is looked up only after the service would have admitted the request, so a
wrong key always gets a plain 401.
"""

import asyncio
from collections import deque
from contextlib import suppress

from aiohttp import web
from attrs import define, field

from lemon_async._web.host_header import AllowedHosts
from lemon_async._web.pages import Pages
from lemon_async.emulator.actions import Blackhole, Break, Expire, Garbage
from lemon_async.emulator.clock import Clock
from lemon_async.emulator.http.bodies import read_body
from lemon_async.emulator.http.endpoints import Endpoints
from lemon_async.emulator.http.fault_protocol import Connections, FaultProtocol
from lemon_async.emulator.http.faults import Fault, RequestFacts, Stage, take_fault
from lemon_async.emulator.http.raw_response import plan_raw_response, write_raw_response
from lemon_async.emulator.http.recordings import Recordings
from lemon_async.emulator.http.replies import error_reply, read_whole, replacement_reply, send
from lemon_async.emulator.http.routes import KEY_PREFIX, match_request
from lemon_async.emulator.service.messages import Call, Reply
from lemon_async.emulator.service.rate_limit import FixedWindow
from lemon_async.emulator.service.store import Store
from lemon_async.emulator.service_errors import ServiceError, excerpt

_MAX_RECORDED_REQUESTS = 100_000
_MAX_RECORDED_PATH_CHARS = 200
_MAX_RECORDED_METHOD_CHARS = 20

# Number of emulated seconds in a real one, for clients that adapt their polling; the service sends no such header.
SPEED_HEADER = "x-emulator-speed"

_SECRET_HEADERS = ("Authorization", "Cookie")


@define
class RecordedRequest:
    """One HTTP request whose head arrived; `status` is None unless a whole response head was sent.

    `path` is cut to 200 characters, `at_s` is in emulated seconds, `number` counts from 1.
    """

    route: str
    method: str
    path: str
    status: int | None
    at_s: float
    is_authorized: bool
    number: int = 0


@define
class RequestContext:
    """A request under way; `headers` go into its response."""

    request: web.BaseRequest
    protocol: FaultProtocol
    call: Call
    record: RecordedRequest
    headers: dict[str, str]


@define(eq=False, kw_only=True)
class RequestHandler:
    """Handles the requests of one emulator, with the faults registered in `faults`.

    `key_leaks` counts downloads that carried a key or a cookie. With `pages`, a page is served beside the API: its
    requests are not recorded and meet neither keys, limits nor faults. With `recordings`, bodies of paid requests are
    kept.
    """

    _endpoints: Endpoints
    _store: Store
    _clock: Clock
    _keys: set[str]
    _hosts: AllowedHosts
    _limit: FixedWindow | None
    pages: Pages | None = field(default=None, init=False)
    recordings: Recordings | None = field(default=None, init=False)
    faults: list[Fault] = field(factory=list, init=False)
    requests: deque[RecordedRequest] = field(factory=lambda: deque(maxlen=_MAX_RECORDED_REQUESTS), init=False)
    key_leaks: int = field(default=0, init=False)
    connections: Connections = field(init=False)
    request_count: int = field(default=0, init=False)

    def __attrs_post_init__(self) -> None:
        self.connections = Connections(self._find_break)

    def _take_fault(self, stage: Stage, facts: RequestFacts) -> Fault | None:
        return take_fault(self.faults, stage, facts, self._clock.now())

    def _find_break(self, stage: Stage, route: str, key: str | None = None) -> Break | None:
        """Return how a fault breaks the connection at a stage at which the request is not known in full."""
        fault = self._take_fault(stage, RequestFacts(route, key=key))
        return fault.connection_break if fault else None

    # One request

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request; aiohttp cancels this when the client disconnects."""
        protocol = self.connections.find(request.transport)
        if protocol is None:  # the client disconnected before its request was handled
            return web.Response()
        if self.pages is not None and self.pages.owns(request.path):
            return await self._show(self.pages, request, protocol)
        context = self._begin(request, protocol)
        try:
            reply = await self._reply(context)
        finally:
            for upload in context.call.uploads:
                upload.file.close()
            if request.content.is_eof():
                protocol.expect_request()
        return await send(reply, request)

    async def _show(self, pages: Pages, request: web.BaseRequest, protocol: FaultProtocol) -> web.StreamResponse:
        """Answer a request of a page."""
        # Whoever may read the page may also read the key in it.
        if pages.admits(request):
            self.connections.mark_authenticated(protocol)
        try:
            return await pages.handle(request)
        finally:
            if request.content.is_eof():
                protocol.expect_request()

    def _begin(self, request: web.BaseRequest, protocol: FaultProtocol) -> RequestContext:
        """Find the endpoint and record the request."""
        call = match_request(request.method, request.path)
        call.query = request.query
        call.key = _bearer_key(request)
        call.origin = f"http://{request.host}"
        call.headers = request.headers
        self.request_count += 1
        record = RecordedRequest(
            route=call.route,
            method=excerpt(request.method, _MAX_RECORDED_METHOD_CHARS),
            path=excerpt(request.path, _MAX_RECORDED_PATH_CHARS),
            status=None,
            at_s=self._clock.now(),
            is_authorized=call.key in self._keys,
            number=self.request_count,
        )
        self.requests.append(record)
        is_download = call.route == "cdn" and self._store.find_link(call.args["token"]) is not None
        if record.is_authorized or is_download:
            self.connections.mark_authenticated(protocol)
        if call.route == "cdn":
            self.key_leaks += any(name in request.headers for name in _SECRET_HEADERS)
        headers = {"x-request-id": f"req_{self.request_count:08x}", SPEED_HEADER: f"{self._clock.speed:g}"}
        return RequestContext(request, protocol, call, record, headers)

    async def _reply(self, context: RequestContext) -> Reply:
        """Return the reply; if a fault breaks the connection, that has happened when this returns."""
        try:
            self._check(context)
            break_ = self._find_break("request_body", context.call.route, context.call.key)
            if break_ is not None:
                context.protocol.break_off(break_)
                # Never returns: aiohttp cancels the handler when the connection is lost.
                await context.protocol.wait_closed()
            if context.call.body_kind is not None:
                await read_body(context.request, context.call)
            facts = self._endpoints.facts(context.call)
            if self.recordings is not None and context.call.is_paid:
                self.recordings.add(context.record.number, context.call, facts.model, facts.prompt)
            fault = self._take_fault("request", facts)
            if fault is not None:
                return await self._faulty_reply(context, fault)
            reply = await self._endpoints.answer(context.call)
        except ServiceError as error:
            reply = error_reply(error)
        reply = reply.with_headers(context.headers)
        context.record.status = reply.status
        return reply

    def _check(self, context: RequestContext) -> None:
        """Check Host, key and rate limit.

        Raises:
            ServiceError: 421, 401, 429.
        """
        host = context.request.headers.get("Host", "")
        if not self._hosts.accept(host):
            advice = "Emulator(allowed_hosts=...) names the hosts that are."
            raise ServiceError(421, message=f"This host is not served here: {excerpt(host)}. {advice}")
        if context.call.route == "cdn" or not context.request.path.startswith(KEY_PREFIX):
            return
        if not context.record.is_authorized:
            raise ServiceError(401)
        if self._limit is None:
            return
        headers, retry_after = self._limit.take(context.call.key, self._clock.real_s(), self._clock.unix())
        context.headers |= headers
        if retry_after is not None:
            hints = {"retry_after": retry_after}
            raise ServiceError(429, extras=hints, headers={"Retry-After": str(retry_after)})

    async def _faulty_reply(self, context: RequestContext, fault: Fault) -> Reply:
        """Return the reply under a fault; one that aiohttp cannot send has been sent when this returns."""
        context.call.script = fault.task_script
        reply = (await self._answer_under(fault, context.call)).with_headers(context.headers)
        await asyncio.sleep(fault.latency_s())
        raw = plan_raw_response(reply, fault)
        if raw is None:
            context.record.status = reply.status
            return reply
        if reply.chunks is not None:  # a raw response is sent in one piece
            raw = plan_raw_response(await read_whole(reply), fault) or raw
        context.record.status = raw.status
        await write_raw_response(context.protocol, raw)
        return reply

    async def _answer_under(self, fault: Fault, call: Call) -> Reply:
        """Return the reply that a fault leaves, and accept the job if the fault bills it.

        Three cases. The client will not see the endpoint's reply, because the fault replaces or suppresses it: only
        billing matters. A paid request must not be billed: the reply is a 502. Otherwise: the endpoint's reply.
        """
        replacement = replacement_reply(fault)
        if replacement is not None or _suppresses_reply(fault):
            if call.is_paid and fault.is_billed:
                with suppress(ServiceError):
                    await self._endpoints.jobs.accept(call)
            if fault.find(Expire) and call.route == "cdn":
                self._store.expire_link(call.args["token"], self._clock.now())
            return replacement or Reply(200)
        if call.is_paid and not fault.is_billed:
            return error_reply(ServiceError(502))
        try:
            return await self._endpoints.answer(call)
        except ServiceError as error:
            return error_reply(error)


def _bearer_key(request: web.BaseRequest) -> str:
    """Return the key of a request; empty if there is none."""
    scheme, _, key = request.headers.get("Authorization", "").partition(" ")
    return key if scheme.lower() == "bearer" else ""


def _suppresses_reply(fault: Fault) -> bool:
    """Return whether a fault sends no byte of the endpoint's reply."""
    is_at_end = fault.connection_break is not None and fault.connection_break.at == "request_end"
    return is_at_end or any(isinstance(action, Blackhole | Garbage) for action in fault.actions)
