"""One request from its head to its response: keys, hosts, limits, bodies and faults."""

import gzip
import io
import time
from collections import deque

import aiohttp
import pytest

from lemon_async.emulator import (
    Blackhole,
    Body,
    Cut,
    Drip,
    Emulator,
    Expire,
    Garbage,
    HalfClose,
    Latency,
    Redirect,
    Reset,
    Status,
)

GENERATIONS = "/v1/images/generations"


# Keys, hosts and records


async def test_wrong_key_is_refused_before_anything_else(emu, client):
    key = emu.api_key
    wrong = ("", "sk-wrong", "Bearer", "Bearer ", "Bearer sk-wrong", f"Basic {key}", f"Bearer  {key}")
    for headers in ({}, *({"Authorization": value} for value in wrong)):
        for path in ("/v1/models", "/v1/nothing"):
            answer = await client.get(emu.base_url + path, headers=headers)
            assert (answer.status, answer.json["error"]["code"]) == (401, "invalid_api_key"), headers
            assert not emu.requests[-1].is_authorized


async def test_bearer_scheme_is_case_insensitive(emu, client):
    headers = {"Authorization": f"bearer {emu.api_key}"}
    assert (await client.get(emu.base_url + "/v1/models", headers=headers)).status == 200


async def test_foreign_host_header_is_refused(client):
    """A web page cannot reach the emulator by rebinding its own name."""
    for path in ("/v1/models", "/openapi.json", "/cdn/0.png"):
        answer = await client.ask("GET", path, headers={"Host": "evil.example"})
        assert (answer.status, answer.json["error"]["code"]) == (421, "misdirected_request")
        assert answer.json["error"]["message"] == (
            "This host is not served here: evil.example. Emulator(allowed_hosts=...) names the hosts that are."
        )


async def test_forwarded_ports_are_served_and_part_of_links(client):
    """`ssh -L` and `docker -p` change the port that clients see."""
    for host in ("localhost:9000", "LOCALHOST", "127.0.0.1", "127.0.0.1:1", "[::1]:9000"):
        answer = await client.ask("POST", GENERATIONS, headers={"Host": host}, json={"prompt": "p"})
        assert answer.json["data"][0]["url"].startswith(f"http://{host}/cdn/")


async def test_every_response_has_a_request_id_and_the_speed(client_of):
    """Successes and errors, downloads, replaced and raw responses alike."""
    async with Emulator(speed=12.5, durations=0) as emu:
        client = client_of(emu)
        emu.fault("models", Status(502, "html"))
        emu.fault("poll", Drip(10_000))
        responses = [
            await client.submit(model="nope"),
            await client.poll(await client.submit(model="flux-pro")),
            await client.ask("GET", "/v1/models"),
            await client.get(emu.base_url + "/cdn/0.png"),
            await client.get(emu.base_url + "/v1/files"),
        ]
    assert [response.status for response in responses] == [400, 200, 502, 404, 401]
    assert {response.headers["X-Emulator-Speed"] for response in responses} == {"12.5"}
    assert len({response.headers["x-request-id"] for response in responses}) == 5


async def test_requests_are_recorded_with_their_outcome(emu, client):
    await client.ask("GET", "/v1/models?tag=x")
    await client.get(emu.base_url + "/v1/models")
    await client.get(emu.base_url + "/cdn/0.png")
    records = [(r.route, r.method, r.path, r.status, r.is_authorized) for r in emu.requests]
    assert records == [
        ("models", "GET", "/v1/models", 200, True),
        ("models", "GET", "/v1/models", 401, False),
        ("cdn", "GET", "/cdn/0.png", 404, False),
    ]
    assert emu.requests[0].at_s <= emu.requests[1].at_s <= emu.now()


async def test_last_requests_are_kept(emu, client):
    assert emu._handler.requests.maxlen == 100_000
    emu._handler.requests = deque(maxlen=3)
    for number in range(5):
        last = await client.ask("GET", f"/v1/models/{number}")
    assert [seen.path[-1] for seen in emu.requests] == ["2", "3", "4"]
    assert (emu.requests[-1].path, len(emu.requests[1:])) == ("/v1/models/4", 2)
    assert last.headers["x-request-id"] == "req_00000005"


async def test_key_or_cookie_on_a_download_is_counted(emu, client):
    url = emu.base_url + "/cdn/0.png"
    await client.get(url)
    assert emu.key_leaks == 0
    await client.ask("GET", url)
    await client.get(url, headers={"Cookie": "a=b"})
    assert emu.key_leaks == 2


# Limits


async def test_rate_limit_counts_polls_but_no_downloads(client_of):
    async with Emulator(requests_per_minute=2, durations=0) as emu:
        client = client_of(emu)
        task = await client.submit(model="flux-pro")
        polled = await client.poll(task)
        for _ in range(3):
            assert (await client.get(polled.json["data"][0]["url"])).status == 200
        refused = await client.poll(task)
        assert polled.headers["X-RateLimit-Remaining"] == "0"
        assert (refused.status, refused.json["error"]["code"]) == (429, "rate_limit_exceeded")
        assert refused.headers["Retry-After"] == str(refused.json["error"]["retry_after"])
        assert refused.headers["X-RateLimit-Limit"] == "2"


async def test_unlimited_emulator_sends_no_rate_limit_headers(client):
    answer = await client.ask("GET", "/v1/models")
    assert not [name for name in answer.headers if name.lower().startswith("x-ratelimit")]


async def test_balance_runs_out(client_of):
    async with Emulator(balance_usd=0.05, durations=0) as emu:
        client = client_of(emu)
        assert [(await client.submit()).status for _ in range(2)] == [200, 402]


# Bodies


async def test_body_that_is_no_json_object_is_refused(client):
    for body in (b"", b"{", b"[]", b"null", b'"x"', b'{"a": NaN}', b"\xff", b"[" * 9999):
        answer = await client.ask("POST", GENERATIONS, data=body)
        assert (answer.status, answer.json["error"]["code"]) == (400, "invalid_request_error"), body


async def test_body_above_one_mib_is_refused(client):
    body = b'{"prompt": "' + b"x" * 2**20 + b'"}'
    answer = await client.ask("POST", GENERATIONS, data=io.BytesIO(body))
    assert (answer.status, answer.json["error"]["code"]) == (413, "payload_too_large")


async def test_compressed_body_is_not_decompressed(client):
    for body in (gzip.compress(b'{"prompt": "p"}', mtime=0), b"no gzip at all"):
        answer = await client.ask("POST", GENERATIONS, data=body, headers={"Content-Encoding": "gzip"})
        assert answer.status == 400


async def test_chunked_body_above_one_mib_is_refused(client):
    """A body of unannounced length is counted while it arrives."""

    async def chunks():
        for _ in range(17):
            yield b"x" * 2**16

    answer = await client.ask("POST", GENERATIONS, data=chunks())
    assert answer.status == 413


async def test_expect_header_is_answered_with_100_continue(wire, submit_bytes):
    seen = await wire(submit_bytes(Expect="100-continue"))
    assert seen.data.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")


async def test_connection_is_reused_after_refusals(emu, client):
    for _ in range(3):
        await client.submit(model="nope")
    assert emu.connections == 1


# Faults, as HTTP clients see them


async def test_status_fault_replaces_the_response_and_bills_nothing(emu, client):
    emu.fault("submit", Status(502, "html"), times=1)
    answer = await client.submit()
    assert (answer.status, answer.headers["Content-Type"]) == (502, "text/html; charset=utf-8")
    assert emu.requests[-1].status == 502
    assert not emu.ledger.sold
    assert (await client.submit()).status == 200


async def test_billed_status_fault_hides_a_job_that_was_accepted(emu, client):
    emu.fault("submit", Status(502), bill=True)
    assert (await client.submit(user="row 1")).status == 502
    assert emu.ledger.sold == {"row 1": 1}


async def test_invalid_request_is_not_billed_under_a_billed_fault(emu, client):
    emu.fault("submit", Status(502), bill=True)
    assert (await client.submit("")).status == 502
    assert not emu.ledger.sold


async def test_huge_body_arrives_whole(emu, client):
    emu.fault("submit", Status(500, "huge"))
    assert len((await client.submit()).raw) > 8 * 2**20


async def test_latency_and_status_combine(emu, client):
    emu.fault("models", Latency(20), Status(503, error={"retryable": True}))
    before = time.monotonic()
    answer = await client.ask("GET", "/v1/models")
    assert time.monotonic() - before >= 0.018  # timers of uvloop may be a millisecond early
    assert answer.json["error"]["retryable"] is True


async def test_latency_alone_delays_the_real_response(emu, client):
    emu.fault("submit", Latency(1))
    assert (await client.submit()).status == 200
    assert (await client.submit("")).status == 400
    assert emu.ledger.sold == {"a cat": 1}


async def test_transport_fault_that_must_not_bill_responds_with_a_502(emu, client):
    emu.fault("submit", Latency(0), bill=False)
    assert (await client.submit()).status == 502
    assert not emu.ledger.sold


async def test_redirect_fault_sends_its_location(emu, client):
    emu.fault("poll", Redirect("http://evil.example/", 302))
    answer = await client.poll("x")
    assert (answer.status, answer.headers["Location"]) == (302, "http://evil.example/")


async def test_body_fault_sends_any_bytes(emu, client):
    bomb = gzip.compress(b"\0" * 10_000)
    emu.fault("cdn", Body(bomb, headers={"Content-Encoding": "gzip"}))
    answer = await client.get(emu.base_url + "/cdn/0.png")
    assert (answer.headers["Content-Type"], answer.raw) == ("image/png", b"\0" * 10_000)


async def test_expired_link_is_renewed_by_the_next_poll(emu, client):
    emu.fault("cdn", Expire(), times=1)
    task = await client.submit(model="flux-pro")
    first = (await client.poll(task)).json["data"][0]["url"]
    assert (await client.get(first)).status == 410
    assert (await client.get(first)).status == 410
    second = (await client.poll(task)).json["data"][0]["url"]
    assert (await client.get(second)).status == 200


async def test_headers_of_a_fault_are_sent_as_they_are(emu, client):
    emu.fault("poll", Status(429, headers={"Retry-After": "1e400"}))
    assert (await client.poll("x")).headers["Retry-After"] == "1e400"


async def test_blackhole_accepts_the_job_and_sends_nothing(emu, client, hang_up):
    emu.fault("submit", Blackhole())
    await hang_up(client.ask("POST", GENERATIONS, json={"prompt": "p"}), lambda: emu.ledger.sold)
    assert emu.ledger.sold == {"p": 1}
    assert emu.requests[-1].status is None


async def test_garbage_is_not_http(emu, client):
    emu.fault("submit", Garbage())
    with pytest.raises(aiohttp.ClientError):
        await client.submit()
    assert emu.ledger.sold == {"a cat": 1}


@pytest.mark.parametrize("kind", [Reset, HalfClose])
@pytest.mark.parametrize(
    ("at", "sold"),
    [
        ("accept", 0),
        ("request_head", 0),
        ("request_body", 0),
        ("request_end", 1),
        ("response_head", 1),
        ("response_body", 1),
    ],
)
async def test_broken_connection_is_billed_once_the_request_was_read(emu, client, kind, at, sold):
    fault = emu.fault("submit", kind(at), times=1)
    with pytest.raises(aiohttp.ClientError):
        await client.submit()
    assert fault.hits == 1
    assert emu.ledger.sold.total() == sold
    assert (await client.submit()).status == 200
    assert (await client.ask("GET", "/v1/models")).status == 200


async def test_cut_download_is_short(emu, client):
    task = await client.submit(model="flux-pro")
    url = (await client.poll(task)).json["data"][0]["url"]
    emu.fault("cdn", Cut(1000))
    with pytest.raises(aiohttp.ClientError):
        await client.get(url)
    assert emu.requests[-1].status == 200


async def test_request_head_fault_acts_on_a_reused_connection(emu, client):
    """Each request line of a connection is looked up, not only the first."""
    await client.ask("GET", "/v1/models")
    emu.fault("submit", Reset("request_head"))
    assert (await client.ask("GET", "/v1/models")).status == 200
    assert emu.connections == 1
    with pytest.raises(aiohttp.ClientError):
        await client.submit()
    assert [seen.route for seen in emu.requests] == ["models", "models"]
