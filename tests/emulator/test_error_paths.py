"""Every refusal of the service has the documented status, type, code and `param`."""

import io
import json

import pytest

from lemon_async.emulator import Emulator, Fail, Fault, Status
from lemon_async.emulator.http.replies import replacement_reply

BAD = "invalid_request_error"
GENERATIONS, EDITS, VARIATIONS = (f"/v1/images/{name}" for name in ("generations", "edits", "variations"))
FOREIGN = {"Host": "evil.example"}


def refusal(answer):
    """What callers read of a refusal; a missing `param` is a KeyError."""
    assert answer.headers["Content-Type"] == "application/json"
    error = answer.json["error"]
    assert error["message"]
    return answer.status, error["type"], error["code"], error["param"]


PLAIN = [
    # Who asks: "Errors" names the types.
    (("GET", "/v1/models", {"key": ""}), (401, "invalid_api_key", "invalid_api_key", None)),
    (("GET", "/v1/nothing", {"key": "sk-wrong"}), (401, "invalid_api_key", "invalid_api_key", None)),
    (("GET", "/v1/models", {"headers": FOREIGN}), (421, BAD, "misdirected_request", None)),
    # Addresses.
    (("GET", "/v1/nothing", {}), (404, BAD, "not_found", None)),
    (("GET", "/nothing", {"key": ""}), (404, BAD, "not_found", None)),
    (("PUT", "/v1/models", {}), (405, BAD, "method_not_allowed", None)),
    # Bodies.
    (("POST", GENERATIONS, {"data": b"{"}), (400, BAD, BAD, None)),
    (("POST", GENERATIONS, {"data": b"[]"}), (400, BAD, BAD, None)),
    (("POST", EDITS, {"data": b"x", "headers": {"Content-Type": "text/plain"}}), (400, BAD, BAD, None)),
    (("POST", VARIATIONS, {"json": {}}), (400, BAD, BAD, None)),
    # Things that do not exist.
    (("GET", "/v1/tasks/no-such-task", {}), (404, BAD, "async_task_not_found", None)),
    (("GET", "/v1/images/no-such-task", {}), (404, BAD, "async_task_not_found", None)),
    (("DELETE", "/v1/tasks/no-such-task", {}), (404, BAD, "async_task_not_found", None)),
    (("GET", "/v1/models/no-such-model", {}), (404, BAD, "model_not_found", "model")),
    (("GET", "/v1/files/no-such-file", {}), (404, BAD, "file_not_found", "id")),
    (("GET", "/v1/files/no-such-file/content", {}), (404, BAD, "file_not_found", "id")),
    (("DELETE", "/v1/files/no-such-file", {}), (404, BAD, "file_not_found", "id")),
    (("GET", "/cdn/0.png", {"key": ""}), (404, BAD, "link_not_found", None)),
    # Queries.
    (("GET", "/v1/files?limit=0", {}), (400, BAD, BAD, "limit")),
    (("GET", "/v1/files?order=up", {}), (400, BAD, BAD, "order")),
    (("GET", "/v1/files?after=x", {}), (400, BAD, BAD, "after")),
]


@pytest.mark.parametrize(("request_", "expected"), PLAIN, ids=lambda row: " ".join(map(str, row[:2])))
async def test_request_that_is_refused_by_itself(client, request_, expected):
    method, path, options = request_
    assert refusal(await client.ask(method, path, **options)) == expected


async def test_body_that_is_too_large_is_refused(client):
    answer = await client.ask("POST", GENERATIONS, data=io.BytesIO(b" " * (2**20 + 1)))
    assert refusal(answer) == (413, BAD, "payload_too_large", None)


GPT = {"model": "gpt-image-2"}
WRONG_ORDERS = [
    ({"prompt": ""}, (400, BAD, BAD, "prompt")),
    ({"n": 11}, (400, BAD, BAD, "n")),
    ({"model": 1}, (400, BAD, BAD, "model")),
    ({"model": "no-such-model"}, (400, BAD, "model_not_found", "model")),
    ({"model": "dall-e-3", "async": True}, (400, BAD, BAD, "async")),
    ({**GPT, "async": True, "stream": True}, (400, BAD, BAD, "stream")),
    ({**GPT, "resolution": "4k"}, (400, BAD, BAD, "resolution")),
]


@pytest.mark.parametrize(("fields", "expected"), WRONG_ORDERS, ids=str)
async def test_generation_that_is_refused(client, fields, expected):
    assert refusal(await client.ask("POST", GENERATIONS, json={"prompt": "p", **fields})) == expected


WRONG_EDITS = [
    ({}, (400, BAD, BAD, "image_url")),
    ({"image_urls": ["https://a.example/"] * 17}, (400, BAD, "too_many_images", "image_urls")),
    ({"model": "grok-imagine-image", "images": [{"file_id": "f"}] * 4}, (400, BAD, "too_many_images", "images")),
    ({"images": [{"file_id": "no-such-file"}]}, (404, BAD, "file_not_found", "images[0].file_id")),
    ({"image_url": "http://127.0.0.1/"}, (400, BAD, BAD, "image_url")),
    ({"image_url": "https://a.example/", "mask": "m"}, (400, BAD, BAD, "mask")),
]


@pytest.mark.parametrize(("fields", "expected"), WRONG_EDITS, ids=str)
async def test_json_edit_that_is_refused(client, fields, expected):
    assert refusal(await client.edit_json(**fields)) == expected


async def test_form_that_is_refused(client, picture):
    raw = picture()
    assert refusal(await client.edit("p", b"no picture", **GPT)) == (400, BAD, BAD, "image")
    assert refusal(await client.edit("p", raw, mask=raw, **GPT)) == (400, BAD, BAD, "mask")
    assert refusal(await client.edit("p", *[raw] * 18, **GPT)) == (400, BAD, "too_many_images", "image")
    assert refusal(await client.edit("p", raw, user="x" * 65_537, **GPT)) == (413, BAD, "payload_too_large", "user")
    variation = await client.send_form(VARIATIONS, [("image", picture((4, 2)))])
    assert refusal(variation) == (400, BAD, BAD, "image")
    assert refusal(await client.upload(raw, purpose="batch")) == (400, BAD, BAD, "purpose")


async def test_account_without_money_is_refused(client_of):
    async with Emulator(balance_usd=0.01) as emu:
        assert refusal(await client_of(emu).submit()) == (402, "insufficient_balance", "insufficient_balance", None)


async def test_account_above_its_rate_is_refused(client_of):
    async with Emulator(requests_per_minute=0) as emu:
        assert refusal(await client_of(emu).submit()) == (429, "rate_limit_error", "rate_limit_exceeded", None)


@pytest.mark.parametrize(
    ("is_cancellable", "is_stranger", "expected"),
    [
        (False, False, (400, BAD, "unsupported_task_cancel", None)),
        (True, True, (403, "access_denied", "access_denied", None)),
        (True, False, (409, BAD, "task_not_cancellable", None)),
    ],
)
async def test_cancellation_that_is_refused(client_of, is_cancellable, is_stranger, expected):
    async with Emulator(durations=0, cancellable=is_cancellable) as emu:
        client, key = client_of(emu), emu.add_key("sk-other")
        task = await client.submit(model="flux-pro")
        answer = await client.ask("DELETE", f"/v1/tasks/{task.json['id']}", key=key if is_stranger else None)
        assert refusal(answer) == expected


async def test_link_that_has_expired_is_refused(client_of):
    async with Emulator(durations=0, link_ttl_s=0) as emu:
        client = client_of(emu)
        url = (await client.submit()).json["data"][0]["url"]
        assert refusal(await client.get(url)) == (410, BAD, "link_expired", None)


@pytest.mark.parametrize(
    ("fail", "code"),
    [(Fail("boom"), "upstream_error"), (Fail({"code": "content_policy", "message": "no"}), "content_policy")],
)
async def test_job_that_fails_inline_or_in_a_stream_is_an_upstream_error(emu, client, fail, code):
    emu.fault("submit", fail)
    assert refusal(await client.submit()) == (502, "upstream_error", code, None)
    streamed = await client.submit(stream=True, **GPT)
    error = json.loads(streamed.raw.partition(b"data: ")[2])["error"]
    assert (error["type"], error["code"], error["param"]) == ("upstream_error", code, None)


# Faults speak as the service does


@pytest.mark.parametrize(
    ("action", "type_", "code"),
    [
        (Status(400), BAD, BAD),
        (Status(400, code="model_not_found"), BAD, "model_not_found"),
        (Status(401), "invalid_api_key", "invalid_api_key"),
        (Status(401, code="expired_api_key"), "invalid_api_key", "expired_api_key"),
        (Status(402), "insufficient_balance", "insufficient_balance"),
        (Status(402, code="insufficient_quota"), "quota_exceeded", "insufficient_quota"),
        (Status(402, code="quota_exceeded"), "quota_exceeded", "quota_exceeded"),
        (Status(403, code="model_not_allowed"), "access_denied", "model_not_allowed"),
        (Status(404), BAD, "not_found"),
        (Status(404, code="async_task_not_found"), BAD, "async_task_not_found"),
        (Status(405), BAD, "method_not_allowed"),
        (Status(408), BAD, "request_timeout"),
        (Status(409), BAD, "conflict"),
        (Status(410), BAD, "link_expired"),
        (Status(413), BAD, "payload_too_large"),
        (Status(418), BAD, BAD),
        (Status(422), BAD, BAD),
        (Status(429), "rate_limit_error", "rate_limit_exceeded"),
        (Status(500), "server_error", "server_error"),
        (Status(500, code="upstream_error"), "upstream_error", "upstream_error"),
        (Status(500, code="mystery"), "server_error", "mystery"),
        (Status(502), "upstream_error", "upstream_error"),
        (Status(503), "all_channels_failed", "all_channels_failed"),
        (Status(504), "timeout_error", "timeout_error"),
        (Status(599), "server_error", "server_error"),
    ],
    ids=str,
)
def test_status_has_the_documented_type_and_code(action, type_, code):
    reply = replacement_reply(Fault("poll", action))
    error = json.loads(reply.body)["error"]
    assert (reply.status, error["type"], error["code"], error["param"]) == (action.status, type_, code, None)


@pytest.mark.parametrize(
    ("action", "header", "hint"),
    [
        (Status(429), "1", 1),
        (Status(429, "huge"), "1", 1),
        (Status(429, headers={"retry-after": "7"}), "7", "none"),
        (Status(429, headers={"Retry-After": "soon"}), "soon", "none"),
        (Status(429, error={"retry_after": 0.01}), None, 0.01),
        (Status(429, error={"retry_after": None}), None, "none"),
        (Status(429, "html"), None, None),
        (Status(429, "empty"), None, None),
        (Status(503), None, "none"),
        (Status(400), None, "none"),
    ],
    ids=str,
)
def test_status_429_of_the_service_says_when_to_come_back_unless_the_fault_does(action, header, hint):
    reply = replacement_reply(Fault("poll", action))
    assert {name.lower(): value for name, value in reply.headers.items()}.get("retry-after") == header
    if hint is not None:
        assert json.loads(reply.body)["error"].get("retry_after", "none") == hint


@pytest.mark.parametrize(
    ("action", "retryable"),
    [
        (Status(503), True),
        (Status(503, error={"retryable": False}), False),
        (Status(503, error={"retryable": None}), None),
        (Status(500), None),
        (Status(502), None),
        (Status(429), None),
    ],
    ids=str,
)
def test_status_503_of_the_service_is_retryable_unless_the_fault_denies_it(action, retryable):
    assert json.loads(replacement_reply(Fault("poll", action)).body)["error"].get("retryable") is retryable
