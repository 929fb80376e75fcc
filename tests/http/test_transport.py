"""Requests with the key: to one origin, within a deadline, and with errors that say what may have been sent."""

import asyncio
import gzip
import socket
import ssl
import traceback

import attrs
import pytest

from lemon_async import ContractError, Timeouts, TransportError
from lemon_async._http.attempt import NoResponse
from lemon_async._http.key import ApiKey
from lemon_async._http.rate_limiter import RateLimiter
from lemon_async._http.transport import Transport
from lemon_async._pace.budget import RequestBudget
from lemon_async._uploads.preparation import Json
from lemon_async.emulator import Drip, Garbage, HalfClose, Redirect, Reset, Status

GENERATIONS = "/v1/images/generations"
BODY = b'{"prompt":"a cat","model":"flux-pro"}'
PAYLOAD = Json(GENERATIONS, BODY)
CANARY = "sk-canary-0123456789"


@pytest.fixture
async def open_transport():
    """Create transports that are closed after the test."""
    opened = []

    def make(origin, key="sk-canary", budget=None, **timeouts):
        settings = Timeouts(**{"connect_s": 60, "submit_s": 60, "request_s": 60, **timeouts})
        limiter = RateLimiter(budget or RequestBudget())
        opened.append(Transport(origin, ApiKey(key), timeouts=settings, rate_limiter=limiter))
        return opened[-1]

    yield make
    for transport in opened:
        await transport.aclose()


@pytest.fixture
def transport(emulator, open_transport):
    return open_transport(emulator.base_url, emulator.api_key)


@pytest.fixture
def environment(monkeypatch, tmp_path, deaf_port):
    """Proxies and credentials in environment variables, as on many company machines."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login evil password evil\n")
    monkeypatch.setenv("NETRC", str(netrc))
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{deaf_port}")


@pytest.fixture
def deaf_port():
    """A port that refuses connections: bound, and not listening."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        yield closed.getsockname()[1]


@attrs.define
class RecordingBudget:
    """A budget that never delays a request and records its calls."""

    notes: list = attrs.field(factory=list)

    def available(self, now):
        return 1

    def consume(self, now):
        pass

    def observe_429(self, now, retry_after_s, *, report):
        self.notes.append(retry_after_s)

    def observe(self, now, reported):
        self.notes.append("answered")


# Settings


def test_timeout_that_cannot_work_is_refused_where_it_is_written():
    for value in [0, -1, float("nan"), float("inf"), None, "5", True]:
        for name in [field.name for field in attrs.fields(Timeouts)]:
            with pytest.raises(ContractError, match=f"{name}: must be a finite number above 0, not "):
                Timeouts(**{name: value})


def test_paid_requests_get_more_than_the_documented_two_minutes():
    assert Timeouts().submit_s >= 120


# Answers


async def test_answer_comes_with_status_headers_and_body(transport):
    response = await transport.submit(PAYLOAD)
    assert response.status == 200
    assert response.json()["status"] == "pending"
    assert {name for name in response.headers if name != name.lower()} == set()
    assert response.headers["x-request-id"] == "req_00000001"


async def test_request_carries_what_it_needs_and_no_more(open_transport, serve, http_ok):
    """The key, a user agent, no `Accept-Encoding`; a content type only with a body."""
    server = await serve(http_ok(b"{}"))
    transport = open_transport(server.origin)
    await transport.submit(PAYLOAD)
    await transport.call("GET", "/v1/tasks/ldtask_1?x=%2F")
    paid, free = (dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if line) for head in server.heads)
    assert server.heads[0].startswith("POST /v1/images/generations HTTP/1.1\r\n")
    assert server.heads[1].startswith("GET /v1/tasks/ldtask_1?x=%2F HTTP/1.1\r\n")
    agent = paid.pop("User-Agent")
    assert free.pop("User-Agent") == agent
    assert agent.startswith("lemon-async/")
    common = {
        "Host": f"127.0.0.1:{server.port}",
        "Accept-Encoding": "identity",
        "Authorization": "Bearer sk-canary",
        "Accept": "application/json",
    }
    assert free == common
    body = {"Content-Type": "application/json", "Content-Length": str(len(BODY))}
    assert paid == common | body | {"Connection": "close"}
    assert server.bodies[0] == BODY


async def test_redirect_is_returned_and_not_followed(transport, emulator, serve, http_ok):
    """Neither the key nor the body is sent to the target of a redirect."""
    elsewhere = await serve(http_ok(b"{}"))
    emulator.fault("submit", Redirect(f"{elsewhere.origin}{GENERATIONS}"))
    emulator.fault("poll", Redirect(f"{elsewhere.origin}/v1/tasks/x", 302))
    assert (await transport.submit(PAYLOAD)).status == 307
    assert (await transport.call("GET", "/v1/tasks/x")).status == 302
    assert elsewhere.heads == []


async def test_cookies_are_not_kept(open_transport, serve, http_ok):
    server = await serve(http_ok(b"{}", Set_Cookie="session=1; Path=/"))
    transport = open_transport(server.origin)
    for _ in range(2):
        await transport.call("GET", "/v1/models")
    assert not any("cookie" in head.lower() for head in server.heads)


async def test_proxies_and_credentials_of_the_environment_are_not_used(open_transport, serve, http_ok, environment):
    """A proxy would see paid requests, and a `.netrc` would replace the key."""
    server = await serve(http_ok(b"{}"))
    await open_transport(server.origin).call("GET", "/v1/models")
    assert "Authorization: Bearer sk-canary" in server.heads[0]


async def test_compressed_body_is_decompressed_by_the_library(open_transport, serve, http_ok):
    """Unrequested compression is undone within bounds, not by aiohttp."""
    server = await serve(http_ok(gzip.compress(b"{}"), Content_Encoding="gzip"))
    assert (await open_transport(server.origin).call("GET", "/v1/models")).body == b"{}"


async def test_paid_requests_have_connections_of_their_own(transport, emulator):
    """Polls share a connection that is kept; each paid request has its own, closed after its response."""
    for _ in range(2):
        await transport.call("GET", "/v1/models")
        await transport.submit(PAYLOAD)
        assert emulator.connections == 1


# Nothing was sent


async def test_refused_connection_was_not_sent(open_transport, deaf_port):
    transport = open_transport(f"http://127.0.0.1:{deaf_port}")
    with pytest.raises(NoResponse, match="Connect call failed") as caught:
        await transport.submit(PAYLOAD)
    assert not caught.value.was_sent
    assert caught.value.status is None
    assert isinstance(caught.value.__cause__, OSError)


async def test_refused_connection_of_a_free_request_is_a_transport_error(open_transport, deaf_port):
    """The message names the request without its query."""
    transport = open_transport(f"http://127.0.0.1:{deaf_port}")
    with pytest.raises(TransportError, match=r"^GET /v1/tasks/x: .*Connect call failed") as caught:
        await transport.call("GET", "/v1/tasks/x?token=1")
    assert isinstance(caught.value.__cause__, NoResponse)


class LoopWithoutNames(asyncio.SelectorEventLoop):
    """A loop whose name look-ups fail."""

    async def getaddrinfo(self, *_args, **_options):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")


class LoopOfSlowNames(asyncio.SelectorEventLoop):
    """A loop whose name look-ups never return."""

    async def getaddrinfo(self, *_args, **_options):
        await asyncio.Event().wait()


async def submit_to_a_name(connect_s):
    transport = Transport(
        "http://api.test",
        ApiKey("sk-canary"),
        timeouts=Timeouts(connect_s=connect_s),
        rate_limiter=RateLimiter(RequestBudget()),
    )
    try:
        await transport.submit(PAYLOAD)
    finally:
        await transport.aclose()


def test_unknown_host_was_not_sent():
    with (
        asyncio.Runner(loop_factory=LoopWithoutNames) as runner,
        pytest.raises(NoResponse, match="Name or service not known") as caught,
    ):
        runner.run(submit_to_a_name(connect_s=60))
    assert not caught.value.was_sent


def test_name_look_up_is_bounded_by_connect_s():
    """A resolver that hangs costs the time to connect, not that of a whole paid request."""
    with (
        asyncio.Runner(loop_factory=LoopOfSlowNames) as runner,
        pytest.raises(NoResponse, match=r"^no response within 0\.03 s$") as caught,
    ):
        runner.run(asyncio.wait_for(submit_to_a_name(connect_s=0.03), 60))
    assert not caught.value.was_sent


@pytest.fixture
async def silent_port(greet):
    return await greet(b"")


async def test_server_that_speaks_no_tls_was_sent_nothing(open_transport, greet):
    port = await greet(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    with pytest.raises(NoResponse) as caught:
        await open_transport(f"https://127.0.0.1:{port}").submit(PAYLOAD)
    assert not caught.value.was_sent
    assert isinstance(caught.value.__cause__, ssl.SSLError)


async def test_silent_tls_handshake_is_bounded_by_connect_s(open_transport, silent_port):
    transport = open_transport(f"https://127.0.0.1:{silent_port}", connect_s=0.03)
    with pytest.raises(NoResponse, match=r"^no response within 0\.03 s$") as caught:
        await transport.submit(PAYLOAD)
    assert not caught.value.was_sent


async def test_time_left_that_is_shorter_than_connect_s_is_the_one_that_is_told(open_transport, silent_port):
    transport = open_transport(f"https://127.0.0.1:{silent_port}")
    with pytest.raises(TransportError, match=r"GET /v1/models: no response within 0\.02 s"):
        await transport.call("GET", "/v1/models", timeout_s=0.02)


async def test_cancelled_while_connecting_was_not_sent(open_transport, silent_port):
    transport = open_transport(f"https://127.0.0.1:{silent_port}")
    submitting = asyncio.create_task(transport.submit(PAYLOAD))
    await asyncio.sleep(0.01)
    submitting.cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        await submitting
    assert isinstance(caught.value.__cause__, NoResponse)
    assert not caught.value.__cause__.was_sent


# Something may have been sent


@pytest.mark.parametrize(
    ("action", "status"),
    [
        (Reset("request_head"), None),
        (Reset("request_body"), None),
        (Reset("request_end"), None),
        (Reset("response_head"), None),
        (Reset("response_body"), 200),
        (HalfClose("request_end"), None),
        (HalfClose("response_head"), None),
        (HalfClose("response_body"), 200),
        (Garbage(), None),
    ],
    ids=str,
)
async def test_whatever_breaks_on_a_connection_may_have_been_sent(transport, emulator, action, status):
    emulator.fault("submit", action)
    with pytest.raises(NoResponse) as caught:
        await transport.submit(PAYLOAD)
    assert caught.value.was_sent
    assert caught.value.status == status
    assert caught.value.reason.isprintable()


async def test_connection_closed_before_a_byte_of_answer_may_have_been_sent(open_transport, serve):
    server = await serve(b"")
    with pytest.raises(NoResponse, match="Server disconnected") as caught:
        await open_transport(server.origin).submit(PAYLOAD)
    assert caught.value.was_sent


async def test_request_that_breaks_on_a_connection_used_before_is_sent_once(open_transport, serve):
    """By default, aiohttp would send it again without asking the budget."""

    async def answer_once(reader, writer):
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}")
        await reader.readuntil(b"\r\n\r\n")

    server = await serve(answer_once)
    transport = open_transport(server.origin)
    await transport.call("GET", "/v1/models")
    with pytest.raises(TransportError, match="Server disconnected"):
        await transport.call("GET", "/v1/models")
    assert len(server.heads) == 1  # one connection, on which the server has read both


async def test_response_that_drips_ends_at_the_total_deadline(open_transport, emulator):
    """Frequent bytes do not extend the total deadline."""
    emulator.fault("submit", Drip(bytes_per_s=200))
    transport = open_transport(emulator.base_url, emulator.api_key, submit_s=0.3)
    status = None
    async with asyncio.timeout(60):
        while status is None:  # a busy machine may not have sent it in time
            with pytest.raises(NoResponse, match=r"^no response within 0\.3 s$") as caught:
                await transport.submit(PAYLOAD)
            status = caught.value.status
    assert caught.value.was_sent
    assert status == 200


async def test_cancelled_while_waiting_for_the_response_may_have_been_sent(open_transport, serve):
    """The `CancelledError` is raised, and its cause says what was interrupted."""

    async def never(reader, _writer):
        await reader.read()

    server = await serve(never)
    submitting = asyncio.create_task(open_transport(server.origin).submit(PAYLOAD))
    await server.arrived.wait()
    submitting.cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        await submitting
    cause = caught.value.__cause__
    assert isinstance(cause, NoResponse)
    assert cause.was_sent
    assert str(cause) == "cancelled while waiting for the response"


async def test_cancelled_before_it_is_sent_says_so(open_transport):
    submitting = asyncio.create_task(open_transport("http://127.0.0.1:1").submit(PAYLOAD))
    while not submitting.get_coro().cr_await:
        await asyncio.sleep(0)
    submitting.cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        await submitting
    cause = caught.value.__cause__
    assert isinstance(cause, NoResponse)
    assert (cause.was_sent, str(cause)) == (False, "cancelled before it was sent")


@pytest.mark.parametrize("size", [5, 900_000], ids=["short", "long"])
@pytest.mark.parametrize("action", [Reset("request_body"), Reset("response_head"), Garbage(), Drip(100)], ids=str)
async def test_failure_shows_no_key_even_with_local_variables(open_transport, emulator, action, size):
    """Frames of aiohttp hold headers and bytes of the request; the failure does not lead to them."""
    emulator.fault("submit", action)
    transport = open_transport(emulator.base_url, emulator.add_key(CANARY), submit_s=0.3)
    with pytest.raises(NoResponse) as caught:
        await transport.submit(Json(GENERATIONS, b'{"prompt":"%s"}' % (b"a" * size)))
    shown = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    assert CANARY not in "".join(shown.format())


# The budget


async def test_429_pauses_every_other_request(transport, emulator):
    """A limit that one request meets applies to all of them."""
    emulator.fault("submit", Status(429, headers={"Retry-After": "0.04"}))
    loop = asyncio.get_running_loop()
    began_at = loop.time()
    assert (await transport.submit(PAYLOAD)).status == 429
    await transport.call("GET", "/v1/models")
    assert loop.time() - began_at >= 0.035


@pytest.mark.parametrize(
    ("host", "announced", "speed"),
    [
        ("127.0.0.1", "60", 60.0),
        ("localhost", "1e5", 100_000.0),
        ("127.0.0.1", "100001", 1.0),
        ("127.0.0.1", "0.5", 1.0),
        ("127.0.0.1", "-60", 1.0),
        ("127.0.0.1", "nan", 1.0),
        ("127.0.0.1", "inf", 1.0),
        ("127.0.0.1", "fast", 1.0),
        ("127.0.0.1", "", 1.0),
        ("0.0.0.0", "60", 1.0),
    ],
)
async def test_announced_speed_is_used_within_bounds_and_from_loopback_servers_only(
    open_transport, serve, http_ok, host, announced, speed
):
    """The emulator announces it; no other server can make a session poll faster."""
    server = await serve(http_ok(b"{}", X_Emulator_Speed=announced))
    transport = open_transport(f"http://{host}:{server.port}")
    assert transport.server_speed == 1.0
    await transport.call("GET", "/v1/models")
    assert transport.server_speed == speed


async def test_response_without_a_speed_keeps_the_last_one(open_transport, serve, http_ok):
    """A scripted fault or a gateway may respond instead of the emulator."""
    server = await serve(http_ok(b"{}", X_Emulator_Speed="60"), http_ok(b"{}"))
    transport = open_transport(server.origin)
    for _ in range(2):
        await transport.call("GET", "/v1/models")
        assert transport.server_speed == 60


async def test_budget_observes_responses(open_transport, emulator):
    """A 429 with its `Retry-After`, other responses, and nothing if there is no response."""
    budget = RecordingBudget()
    transport = open_transport(emulator.base_url, emulator.api_key, budget)
    emulator.fault("submit", Status(429, error={"retry_after": None}), nth=[1])
    emulator.fault("submit", Status(429, error={"retry_after": 7}), nth=[2])
    emulator.fault("submit", Status(500, "html"), nth=[3])
    emulator.fault("submit", Reset("request_end"), nth=[4])
    for _ in range(3):
        await transport.submit(PAYLOAD)
    with pytest.raises(NoResponse):
        await transport.submit(PAYLOAD)
    await transport.call("GET", "/v1/models")
    assert budget.notes == [None, 7.0, "answered", "answered"]


async def test_429_that_breaks_off_still_pauses(open_transport, serve):
    """Its head suffices."""
    server = await serve(b"HTTP/1.1 429 Slow down\r\nRetry-After: 9\r\nContent-Length: 100\r\n\r\n{")
    budget = RecordingBudget()
    with pytest.raises(NoResponse):
        await open_transport(server.origin, budget=budget).submit(PAYLOAD)
    assert budget.notes == [9.0]


async def test_pause_longer_than_the_patience_is_told_at_once_and_nothing_is_sent(open_transport, emulator):
    budget = RequestBudget(paused_until=asyncio.get_running_loop().time() + 300)
    transport = open_transport(emulator.base_url, emulator.api_key, budget, submit_s=1, request_s=1)
    with pytest.raises(NoResponse, match=r"paused by the rate limit for (300|29[0-9]) s more") as caught:
        await transport.acquire(None)
    assert not caught.value.was_sent
    with pytest.raises(TransportError, match="GET /v1/models: requests are paused by the rate limit"):
        await transport.call("GET", "/v1/models")
    assert emulator.requests == []


async def test_cancelled_in_a_pause_was_certainly_not_sent(open_transport, emulator):
    """Nothing was sent, so the `CancelledError` has no cause."""
    budget = RequestBudget(paused_until=asyncio.get_running_loop().time() + 300)
    transport = open_transport(emulator.base_url, emulator.api_key, budget, submit_s=600)
    submitting = asyncio.create_task(transport.acquire(None))
    await asyncio.sleep(0)
    submitting.cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        await submitting
    assert caught.value.__cause__ is None


# Closing


async def test_closing_what_was_never_opened_takes_nothing(open_transport):
    await open_transport("https://api.test").aclose()


async def test_closing_ends_requests_under_way(open_transport, serve):
    """The outcome of a paid one is unknown, a free one can be repeated."""

    async def never(reader, _writer):
        await reader.read()

    server = await serve(never)
    transport = open_transport(server.origin)
    paid = asyncio.create_task(transport.submit(PAYLOAD))
    free = asyncio.create_task(transport.call("GET", "/v1/models"))
    while len(server.heads) < 2:
        await asyncio.sleep(0)
    await transport.aclose()
    with pytest.raises(NoResponse) as caught:
        await paid
    assert caught.value.was_sent
    with pytest.raises(TransportError):
        await free


@pytest.mark.parametrize("is_chunked", [True, False])
async def test_closing_wakes_the_reader_of_a_response_that_drips(open_transport, serve, is_chunked):
    """After the head, aiohttp would close the connection but leave the reader waiting until its deadline."""

    async def drip(reader, writer):
        length = b"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n" if is_chunked else b"Content-Length: 9\r\n\r\nx"
        writer.write(b"HTTP/1.1 200 OK\r\n" + length)
        await reader.read()

    server = await serve(drip)
    transport = open_transport(server.origin, submit_s=600, request_s=600)
    exchanges = [transport.submit(PAYLOAD), transport.call("GET", "/v1/models")]
    waiting = [asyncio.create_task(exchange) for exchange in exchanges]
    while sum(attempt.response is not None for attempt in transport._attempts) < 2:
        await asyncio.sleep(0)
    async with asyncio.timeout(60):
        await transport.aclose()
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [NoResponse, TransportError]
    assert outcomes[0].was_sent
    assert transport._attempts == set()


async def test_closed_transport_sends_nothing(open_transport, emulator):
    """Requests that wait for a slot raise; no connection is opened that would stay open."""
    transport = open_transport(emulator.base_url, emulator.api_key)
    await transport.aclose()
    with pytest.raises(NoResponse, match="the session is closed") as caught:
        await transport.submit(PAYLOAD)
    assert not caught.value.was_sent
    with pytest.raises(TransportError, match="GET /v1/models: the session is closed"):
        await transport.call("GET", "/v1/models")
    assert emulator.requests == []
    assert emulator.connections == 0


async def test_transport_closed_in_a_pause_sends_nothing_afterwards(open_transport, emulator):
    """A request that waits for the rate limit raises immediately and is not sent."""
    budget = RequestBudget(paused_until=asyncio.get_running_loop().time() + 300)
    transport = open_transport(emulator.base_url, emulator.api_key, budget, submit_s=600, request_s=600)
    waiting = [
        asyncio.create_task(transport.submit(PAYLOAD)),
        asyncio.create_task(transport.call("GET", "/v1/models")),
    ]
    await asyncio.sleep(0)
    async with asyncio.timeout(60):
        await transport.aclose()
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [NoResponse, TransportError]
    assert emulator.requests == []
