"""From an HTTP request to an HTTP answer: who asks, may they, what breaks, what is the answer.

The order is the contract: Host, key, rate limit, body, faults, endpoint. A fault is asked only after
the service would have let the request in, so a wrong key is always a plain 401.
"""

import asyncio
from contextlib import suppress

from aiohttp import web
from attrs import define, field

from lemon_async.emulator.actions import Blackhole, Break, Expire, Garbage
from lemon_async.emulator.clock import Clock
from lemon_async.emulator.http.bodies import READERS, Body
from lemon_async.emulator.http.endpoints import Endpoints
from lemon_async.emulator.http.fault_protocol import Connections, FaultProtocol
from lemon_async.emulator.http.faults import Fault, RequestFacts, Stage, take
from lemon_async.emulator.http.host_header import AllowedHosts
from lemon_async.emulator.http.raw_response import plan_raw_response, write_raw_response
from lemon_async.emulator.http.replies import error_reply, read_whole, replacement_reply, send
from lemon_async.emulator.http.routes import KEY_PREFIX, match_request
from lemon_async.emulator.service.messages import Call, Reply
from lemon_async.emulator.service.rate_limit import FixedWindow
from lemon_async.emulator.service.store import Store
from lemon_async.emulator.service_errors import ServiceError, excerpt

_KEPT_REQUESTS = 100_000
_KEPT_PATH_CHARS = 200
_KEPT_METHOD_CHARS = 20

# Announces how many emulated seconds pass in a real one, so that clients need not wait as for the service, which sends
# nothing like it.
SPEED_HEADER = "x-emulator-speed"

_SECRET_HEADERS = ("Authorization", "Cookie")


@define
class RecordedRequest:
    """One HTTP request whose head arrived; `status` is None when no whole head was answered.

    Of a path, 200 characters are kept.
    """

    route: str
    method: str
    path: str
    status: int | None
    at_s: float
    authorized: bool


@define
class RequestContext:
    """One request on its way through the service."""

    request: web.BaseRequest
    protocol: FaultProtocol
    call: Call
    seen: RecordedRequest
    body: Body = field(factory=Body)
    headers: dict[str, str] = field(factory=dict)


class RequestHandler:
    """The request handler of the server, and the two questions of its connections."""

    def __init__(
        self,
        *,
        endpoints: Endpoints,
        store: Store,
        clock: Clock,
        keys: set[str],
        hosts: AllowedHosts,
        limit: FixedWindow | None,
    ) -> None:
        self.faults: list[Fault] = []
        self.requests: list[RecordedRequest] = []
        self.key_leaks: int = 0
        self.kept_requests: int = _KEPT_REQUESTS
        self._request_count = 0
        self.connections: Connections = Connections(self._break_at_accept, self._break_at_head)
        self._endpoints = endpoints
        self._store = store
        self._clock = clock
        self._keys = keys
        self._hosts = hosts
        self._limit = limit

    # Faults that need no HTTP

    def _take(self, stage: Stage, facts: RequestFacts) -> Fault | None:
        return take(self.faults, stage, facts, self._clock.now())

    def _break_at_accept(self) -> Break | None:
        fault = self._take("accept", RequestFacts())
        return fault.connection_break if fault else None

    def _break_at_head(self, method: str, path: str) -> Break | None:
        fault = self._take("request_head", RequestFacts(match_request(method, path).route))
        return fault.connection_break if fault else None

    # One request

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request. Cancelled by aiohttp when the client leaves."""
        protocol = self.connections.of(request.transport)
        if protocol is None:  # The client left before we came to read its request.
            return web.Response()
        context = self._admit(request, protocol)
        try:
            reply = await self._reply(context)
        finally:
            context.body.close()
            if request.content.is_eof():
                protocol.expect_request()
        return await send(reply, request)

    def _admit(self, request: web.BaseRequest, protocol: FaultProtocol) -> RequestContext:
        """Write the request into the log."""
        call = match_request(request.method, request.path)
        call.query = request.query
        call.key = _bearer(request)
        call.origin = f"http://{request.host}"
        call.headers = request.headers
        seen = RecordedRequest(
            route=call.route,
            method=excerpt(request.method, _KEPT_METHOD_CHARS),
            path=excerpt(request.path, _KEPT_PATH_CHARS),
            status=None,
            at_s=self._clock.now(),
            authorized=call.key in self._keys,
        )
        self._log(seen)
        if request.transport is not None and (seen.authorized or self._has_link(call)):
            self.connections.mark_authenticated(request.transport)
        if call.route == "cdn":
            self.key_leaks += any(name in request.headers for name in _SECRET_HEADERS)
        headers = {"x-request-id": f"req_{self._request_count:08x}", SPEED_HEADER: f"{self._clock.speed:g}"}
        return RequestContext(request, protocol, call, seen, headers=headers)

    def _has_link(self, call: Call) -> bool:
        return call.route == "cdn" and self._store.find_link(call.args["token"]) is not None

    def _log(self, seen: RecordedRequest) -> None:
        """Remember a request, and forget the oldest ones of a long life."""
        self._request_count += 1
        self.requests.append(seen)
        # A hundredth too many goes at once: one by one, the whole list would move each time.
        if len(self.requests) > self.kept_requests + self.kept_requests // 100:
            del self.requests[: -self.kept_requests]

    async def _reply(self, context: RequestContext) -> Reply:
        """The answer; a broken one never comes back from here, the client is gone by then."""
        try:
            self._check(context)
            await self._break_at_body(context)
            await self._read_body(context)
            fault = self._take("request", self._endpoints.facts(context.call))
            if fault is not None:
                return await self._faulted(context, fault)
            reply = await self._endpoints.answer(context.call)
        except ServiceError as problem:
            reply = error_reply(problem)
        reply = reply.with_headers(context.headers)
        context.seen.status = reply.status
        return reply

    # May they?

    def _check(self, context: RequestContext) -> None:
        """Host, key, limit.

        Raises:
            ServiceError: 421, 401, 429.
        """
        host = context.request.headers.get("Host", "")
        if not self._hosts.accept(host):
            advice = "Emulator(allowed_hosts=...) names the hosts that are."
            raise ServiceError(421, message=f"This host is not served here: {excerpt(host)}. {advice}")
        is_public = context.call.route == "cdn" or not context.request.path.startswith(KEY_PREFIX)
        if is_public:
            return
        if not context.seen.authorized:
            raise ServiceError(401)
        if self._limit is None:
            return
        status = self._limit.take(context.call.key, self._clock.real_s())
        context.headers |= status.headers(self._clock.unix())
        if not status.is_granted:
            raise ServiceError(429, extras={"retry_after": status.retry_after})

    async def _break_at_body(self, context: RequestContext) -> None:
        fault = self._take("request_body", RequestFacts(context.call.route, key=context.call.key))
        if fault is not None and fault.connection_break is not None:
            context.protocol.break_off(fault.connection_break)
            # Never returns: the handler is cancelled with its connection.
            await context.protocol.wait_closed()

    async def _read_body(self, context: RequestContext) -> None:
        """Read what comes with the request.

        Raises:
            ServiceError: 400, 413.
        """
        call = context.call
        if call.body_kind is not None:
            body = context.body = await READERS[call.body_kind](context.request)
            call.body, call.uploads, call.is_form = body.fields, body.uploads, body.is_form

    # What breaks?

    async def _faulted(self, context: RequestContext, fault: Fault) -> Reply:
        """The answer with a fault in it."""
        context.call.script = fault.task_script
        reply = (await self._answer_under(fault, context.call)).with_headers(context.headers)
        await asyncio.sleep(fault.latency_s())
        delivery = plan_raw_response(reply, fault)
        if delivery is None:
            context.seen.status = reply.status
            return reply
        if reply.chunks is not None:  # What travels past aiohttp travels in one piece.
            delivery = plan_raw_response(await read_whole(reply), fault) or delivery
        context.seen.status = delivery.status
        await write_raw_response(context.protocol, delivery)
        return reply

    async def _answer_under(self, fault: Fault, call: Call) -> Reply:
        """Sell or do not sell, and find the words.

        Three cases: the answer will not be seen (replaced or swallowed), so only the sale matters;
        the request must not be sold, so the answer is a refusal; else the answer is the real one.
        """
        replacement = replacement_reply(fault)
        if replacement is not None or _is_silent(fault):
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
        except ServiceError as problem:
            return error_reply(problem)


def _bearer(request: web.BaseRequest) -> str:
    """The key of a request; empty when there is none to be read."""
    scheme, _, key = request.headers.get("Authorization", "").partition(" ")
    return key if scheme.lower() == "bearer" else ""


def _is_silent(fault: Fault) -> bool:
    """Whether no byte of a real answer is going to be sent."""
    is_at_end = fault.connection_break is not None and fault.connection_break.at == "request_end"
    return is_at_end or any(isinstance(action, Blackhole | Garbage) for action in fault.do)
