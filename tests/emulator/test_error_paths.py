"""Every error reply has the documented status, type, code and `param`; API.md, section 7."""

import io
import json

from lemon_async.emulator import Emulator, Fail, Fault, Status
from lemon_async.emulator.http.replies import replacement_reply

BAD = "invalid_request_error"
GENERATIONS, EDITS, VARIATIONS = (f"/v1/images/{name}" for name in ("generations", "edits", "variations"))
FOREIGN = {"Host": "evil.example"}


def error_of(answer):
    """Return status, type, code and `param` of an error reply; all four are required."""
    assert answer.headers["Content-Type"] == "application/json"
    error = answer.json["error"]
    assert error["message"]
    return answer.status, error["type"], error["code"], error["param"]


PLAIN = [
    # Keys and hosts.
    (("GET", "/v1/models", {"key": ""}), (401, "invalid_api_key", "invalid_api_key", None)),
    (("GET", "/v1/nothing", {"key": "sk-wrong"}), (401, "invalid_api_key", "invalid_api_key", None)),
    (("GET", "/v1/models", {"headers": FOREIGN}), (421, BAD, "misdirected_request", None)),
    # Paths.
    (("GET", "/v1/nothing", {}), (404, BAD, "not_found", None)),
    (("GET", "/nothing", {"key": ""}), (404, BAD, "not_found", None)),
    (("PUT", "/v1/models", {}), (405, BAD, "method_not_allowed", None)),
    # Bodies.
    (("POST", GENERATIONS, {"data": b"{"}), (400, BAD, BAD, None)),
    (("POST", GENERATIONS, {"data": b"[]"}), (400, BAD, BAD, None)),
    (("POST", EDITS, {"data": b"x", "headers": {"Content-Type": "text/plain"}}), (400, BAD, BAD, None)),
    (("POST", VARIATIONS, {"json": {}}), (400, BAD, BAD, None)),
    # Missing objects.
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


async def test_requests_that_are_refused_by_themselves(client):
    """These need no state."""
    for (method, path, options), expected in PLAIN:
        assert error_of(await client.ask(method, path, **options)) == expected, (method, path)


async def test_body_that_is_too_large_is_refused(client):
    """JSON is limited to a mebibyte."""
    answer = await client.ask("POST", GENERATIONS, data=io.BytesIO(b" " * (2**20 + 1)))
    assert error_of(answer) == (413, BAD, "payload_too_large", None)


GPT = {"model": "gpt-image-2"}
WRONG_GENERATIONS = [
    ({"prompt": ""}, (400, BAD, BAD, "prompt")),
    ({"n": 11}, (400, BAD, BAD, "n")),
    ({"model": 1}, (400, BAD, BAD, "model")),
    ({"model": "no-such-model"}, (400, BAD, "model_not_found", "model")),
    ({"model": "dall-e-3", "async": True}, (400, BAD, BAD, "async")),
    ({**GPT, "async": True, "stream": True}, (400, BAD, BAD, "stream")),
    ({**GPT, "resolution": "4k"}, (400, BAD, BAD, "resolution")),
]


async def test_generations_that_are_refused(client):
    """`param` is the first invalid field."""
    for fields, expected in WRONG_GENERATIONS:
        assert error_of(await client.ask("POST", GENERATIONS, json={"prompt": "p", **fields})) == expected, fields


WRONG_EDITS = [
    ({}, (400, BAD, BAD, "image_url")),
    ({"image_urls": ["https://a.example/"] * 17}, (400, BAD, "too_many_images", "image_urls")),
    ({"model": "grok-imagine-image", "images": [{"file_id": "f"}] * 4}, (400, BAD, "too_many_images", "images")),
    ({"images": [{"file_id": "no-such-file"}]}, (404, BAD, "file_not_found", "images[0].file_id")),
    ({"image_url": "http://127.0.0.1/"}, (400, BAD, BAD, "image_url")),
    ({"image_url": "https://a.example/", "mask": "m"}, (400, BAD, BAD, "mask")),
]


async def test_json_edits_that_are_refused(client):
    """`param` is the path of the invalid source."""
    for fields, expected in WRONG_EDITS:
        assert error_of(await client.edit_json(**fields)) == expected, fields


async def test_forms_that_are_refused(client, picture):
    """Edits, variations and uploads."""
    raw = picture()
    assert error_of(await client.edit("p", b"no picture", **GPT)) == (400, BAD, BAD, "image")
    assert error_of(await client.edit("p", raw, mask=raw, **GPT)) == (400, BAD, BAD, "mask")
    assert error_of(await client.edit("p", *[raw] * 18, **GPT)) == (400, BAD, "too_many_images", "image")
    assert error_of(await client.edit("p", raw, user="x" * 65_537, **GPT)) == (413, BAD, "payload_too_large", "user")
    variation = await client.send_form(VARIATIONS, [("image", picture((4, 2)))])
    assert error_of(variation) == (400, BAD, BAD, "image")
    assert error_of(await client.upload(raw, purpose="batch")) == (400, BAD, BAD, "purpose")


async def test_account_without_balance_is_refused(client_of):
    """The estimate does not fit."""
    async with Emulator(balance_usd=0.01) as emu:
        assert error_of(await client_of(emu).submit()) == (402, "insufficient_balance", "insufficient_balance", None)


async def test_account_above_its_rate_limit_is_refused(client_of):
    """The limit is per key and minute."""
    async with Emulator(requests_per_minute=0) as emu:
        assert error_of(await client_of(emu).submit()) == (429, "rate_limit_error", "rate_limit_exceeded", None)


async def test_cancellations_that_are_refused(client_of):
    """Not supported, owned by another key, already finished."""
    for is_cancellable, is_other_key, expected in [
        (False, False, (400, BAD, "unsupported_task_cancel", None)),
        (True, True, (403, "access_denied", "access_denied", None)),
        (True, False, (409, BAD, "task_not_cancellable", None)),
    ]:
        async with Emulator(durations=0, cancellable=is_cancellable) as emu:
            client, key = client_of(emu), emu.add_key("sk-other")
            task = await client.submit(model="flux-pro")
            answer = await client.ask("DELETE", f"/v1/tasks/{task.json['id']}", key=key if is_other_key else None)
            assert error_of(answer) == expected


async def test_link_that_has_expired_is_refused(client_of):
    """410, where an unknown one is 404."""
    async with Emulator(durations=0, link_ttl_s=0) as emu:
        client = client_of(emu)
        url = (await client.submit()).json["data"][0]["url"]
        assert error_of(await client.get(url)) == (410, BAD, "link_expired", None)


async def test_job_that_fails_inline_or_in_a_stream_is_an_upstream_error(emu, client):
    """An error object keeps its code."""
    for fail, code in [
        (Fail("boom"), "upstream_error"),
        (Fail({"code": "content_policy", "message": "no"}), "content_policy"),
    ]:
        fault = emu.fault("submit", fail)
        assert error_of(await client.submit()) == (502, "upstream_error", code, None)
        streamed = await client.submit(stream=True, **GPT)
        error = json.loads(streamed.raw.partition(b"data: ")[2])["error"]
        assert (error["type"], error["code"], error["param"]) == ("upstream_error", code, None)
        emu.faults.remove(fault)


# Scripted errors have the shape of real ones


def scripted(action):
    """Return the reply of a fault, and the error in its body if it is JSON."""
    reply = replacement_reply(Fault("poll", action))
    return reply, json.loads(reply.body)["error"] if reply.body.startswith(b"{") else None


TYPES = [
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
]


def test_scripted_status_has_the_documented_type_and_code():
    """A code replaces that of the status, and may determine the type."""
    for action, type_, code in TYPES:
        reply, error = scripted(action)
        assert (reply.status, error["type"], error["code"], error["param"]) == (action.status, type_, code, None)


RETRY_AFTER = [
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
]


def test_scripted_429_has_a_retry_after_unless_the_fault_sets_one():
    """Header and hint agree; proxies send neither."""
    for action, header, hint in RETRY_AFTER:
        reply, error = scripted(action)
        assert {name.lower(): value for name, value in reply.headers.items()}.get("retry-after") == header, action
        assert hint == (error and error.get("retry_after", "none")), action


RETRYABLE = [
    (Status(503), True),
    (Status(503, error={"retryable": False}), False),
    (Status(503, error={"retryable": None}), None),
    (Status(500), None),
    (Status(502), None),
    (Status(429), None),
]


def test_scripted_503_is_retryable_unless_the_fault_denies_it():
    """Other statuses have no such hint."""
    for action, retryable in RETRYABLE:
        assert scripted(action)[1].get("retryable") is retryable, action
