"""Laws 1, 2, 4 and 7 against odd responses: about other tasks, from gateways, with odd characters, with junk."""

import asyncio
import base64
import gzip
import re
import subprocess
import sys
import zlib
from contextlib import suppress
from itertools import product

import attrs
import orjson
import pytest

from lemon_async import LemonSession, PollPolicy, RetryPolicy, SubmissionUnknown
from lemon_async._formats.json_documents import read_json
from lemon_async._http.attempt import Unpacker
from lemon_async.errors import BadRequest, ServerError, TaskCancelled, TaskFailed
from servers import read_request

LINK = "https://cdn.test/1.png"
PATIENT = RetryPolicy(max_elapsed_s=20, first_backoff_s=0.001, max_backoff_s=0.01)
QUICK = PollPolicy(min_gap_s=0.001, max_gap_s=0.002, deadline_s=120, lost_after_s=0.01)


def http(body=b"", *head, status="200 OK", kind="application/json"):
    body = body if isinstance(body, bytes) else orjson.dumps(body)
    lines = [f"HTTP/1.1 {status}", f"Content-Type: {kind}", f"Content-Length: {len(body)}", *head, "Connection: close"]
    return "\r\n".join([*lines, "", ""]).encode() + body


def event(data, name="image_generation.completed"):
    data = data if isinstance(data, bytes) else orjson.dumps(data)
    return b"event: %b\ndata: %b\n\n" % (name.encode(), data)


@attrs.define
class Scripted:
    """A server that answers POSTs and GETs from two lists; the last response of each is repeated."""

    posts: list = attrs.field(factory=list)
    gets: list = attrs.field(factory=list)
    asked: list = attrs.field(factory=list)
    origin: str = ""

    def play(self, *posts, gets=()):
        """Restart with these responses."""
        self.posts, self.gets, self.asked = posts, gets, []

    async def serve(self, reader, writer):
        head, _ = await read_request(reader)
        method = head.partition(" ")[0]
        answers = self.posts if method == "POST" else self.gets
        writer.write(answers[min(self.asked.count(method), len(answers) - 1)])
        self.asked.append(method)
        await writer.drain()

    def connect(self, **options):
        options = {"retry": PATIENT, "polling": QUICK, "requests_per_minute": 60_000, **options}
        return LemonSession("sk-0123456789", base_url=self.origin, **options)


@pytest.fixture
async def server(listen):
    scripted = Scripted()
    scripted.origin = await listen(scripted.serve)
    return scripted


@pytest.fixture
async def session(server):
    async with server.connect() as opened:
        yield opened


async def submit(session):
    return await session.submit("a cat", model="flux-pro")


async def stream(session):
    async with session.stream("a cat", model="gpt-image-2") as pictures:
        return [picture async for picture in pictures]


SENDS = pytest.mark.parametrize("send", [submit, stream])


# An odd character (law 1: what is paid for is not lost)

ODD_TEXTS = {
    "half an emoji": rb"a cat \ud83d",
    "the other half": rb"a cat \ude00!",
    "cut UTF-8": b"a cat \xf0\x9f\x98",
    "Latin-1": b"caf\xe9",
    "control characters": b"a\ncat\x00\x1b[2J",
    "an escape that is none": rb"it\'s a \x63at",
}
ODD_FIELDS = {
    **{name: b'"revised_prompt": "%b"' % text for name, text in ODD_TEXTS.items()},
    "NaN": b'"score": NaN',
    "Infinity": b'"score": [Infinity, -Infinity, 1e999]',
    "a huge number": b'"seed": ' + b"9" * 5000,
}
DOCUMENTS = {
    **{name: b'{"created": 1, "data": [{"url": "https://cdn.test/1.png", %b}]}' % f for name, f in ODD_FIELDS.items()},
    "a byte order mark": b'\xef\xbb\xbf{"created": 1, "data": [{"url": "https://cdn.test/1.png"}]}',
}


async def test_inline_response_with_an_odd_character_is_delivered(server, session):
    for case, body in DOCUMENTS.items():
        for response in http(body), http(gzip.compress(body), "Content-Encoding: gzip"):
            server.play(response)
            images = await (await submit(session))
            assert images[0].url == LINK, case
            str(images[0].revised_prompt).encode()
            repr(hash(images[0].revised_prompt))


async def test_polled_response_with_an_odd_character_ends_its_task(server, session):
    for case, body in DOCUMENTS.items():
        done = http(body.replace(b'"created"', b'"task_id": "t1", "status": "completed", "created"'))
        server.play(http({"task_id": "t1", "status": "pending"}), gets=[done])
        images = await (await submit(session))
        assert images[0].url == LINK, case
        assert server.asked == ["POST", "GET"]


async def test_streamed_picture_with_an_odd_character_is_delivered(server, session):
    for case, odd in ODD_FIELDS.items():
        field = odd.replace(b"\n", b"\t")  # a raw line break would end the line of the event
        server.play(http(event(b'{"url": "https://cdn.test/1.png", %b}' % field), kind="text/event-stream"))
        (picture,) = await stream(session)
        assert picture.url == LINK, case


@pytest.mark.parametrize("is_streamed", [False, True])
async def test_base64_picture_among_odd_characters_is_delivered(server, session, is_streamed):
    """Megabytes of base64 are decoded as they arrive; the odd characters are before and after them."""
    content = bytes(range(256)) * 4096
    for case, odd in ODD_FIELDS.items():
        field = odd.replace(b"\n", b"\t")
        entry = b'{%b, "b64_json": "%b", "x": {%b}}' % (field, base64.b64encode(content), field)
        server.play(http(event(entry), kind="text/event-stream") if is_streamed else http(b'{"data": [%b]}' % entry))
        (picture,) = await stream(session) if is_streamed else await (await submit(session))
        assert picture.data.content() == content, case


async def test_response_that_is_cut_stays_unknown(server, session):
    """Lenient parsing adds nothing that did not arrive."""
    for cut in 1, 2, 30:
        server.play(http(DOCUMENTS["half an emoji"][:-cut]))
        with pytest.raises(SubmissionUnknown):
            await submit(session)
        assert server.asked == ["POST"]


# Polls (law 2)

GATEWAYS_POLLS = {
    "failure of a gateway": {"status": "failed", "message": "no healthy upstream"},
    "error of a gateway": {"status": "failed", "error": {"message": "no healthy upstream", "code": 503}},
    "end without a picture": {"status": "completed", "message": "handled"},
    "failure of another task": {"task_id": "t2", "status": "failed", "error": "no"},
    "picture of another task": {"task_id": "t2", "status": "completed", "data": [{"url": "https://cdn.test/2.png"}]},
    "picture of another id": {"id": "t2", "status": "completed", "data": [{"url": "https://cdn.test/2.png"}]},
    "cancellation of another task": {"task_id": "t2", "status": "failed", "cancelled": True},
    "progress of another task": {"task_id": "t2", "status": "processing", "progress": 99},
}


async def test_poll_response_that_is_not_about_the_task_does_not_end_it(server, session):
    done = http({"task_id": "t1", "status": "completed", "data": [{"url": LINK}]})
    for case, body in GATEWAYS_POLLS.items():
        server.play(http({"task_id": "t1", "status": "pending"}), gets=[http(body)] * 5 + [done])
        task = await submit(session)
        assert [image.url for image in await task] == [LINK], case
        assert task.progress is None
        assert len(server.asked) == 7


async def test_failure_of_the_task_ends_it(server, session):
    for name in {"task_id": "t1"}, {"id": "t1"}:
        for error in "no", {"message": "no", "code": "moderation"}, None:
            failed = http({"created": 1, **name, "status": "failed", "data": [], "error": error})
            server.play(http({"task_id": "t1", "status": "pending"}), gets=[failed])
            with pytest.raises(TaskFailed, match="no"):
                await (await submit(session))


async def test_cancellation_that_is_confirmed_without_an_id_counts(server, session):
    """It comes from the task's own address, in a form that only the service has."""
    server.posts = [http({"task_id": "t1", "status": "pending"})]
    server.gets = [http({"task_id": "t1", "status": "pending"}), http({"status": "failed", "cancelled": True})]
    task = await submit(session)
    with pytest.raises(TaskCancelled):
        await task


async def test_cancellation_of_another_task_does_not_end_this_one(server, session):
    server.posts = [http({"task_id": "t1", "status": "pending"})]
    server.gets = [http({"task_id": "t2", "status": "failed", "cancelled": True})]
    task = await submit(session)
    with suppress(Exception):
        await task.request_cancel()
    assert not task.done()


UNNAMED = {
    "a word after the id": {"poll_url": "/v1/tasks/t1/status"},
    "the id in the query": {"poll_url": "/v1/tasks?id=t1"},
    "an opaque address": {"poll_url": "/v1/poll/a7"},
    "an id that is not the task's": {"id": "img-1", "poll_url": "/v1/tasks/t1"},
}


async def test_task_of_which_only_the_address_is_known_ends_under_any_name(server, session):
    done = http({"task_id": "t1", "status": "completed", "data": [{"url": LINK}]})
    for case, body in UNNAMED.items():
        server.play(
            http({"status": "pending", **body}), gets=[http({"task_id": "t1", "status": "pending"})] * 3 + [done]
        )
        task = await submit(session)
        async with server.connect() as other:
            assert [image.url for image in await other.task(task.resume_token())] == [LINK], case
        assert [image.url for image in await task] == [LINK], case


async def test_tasks_whose_addresses_end_alike_are_not_mixed_up(server, session):
    """A guess at the id from the end of the address is the same for both."""
    server.posts = [http({"status": "pending", "poll_url": f"/v1/tasks/{name}/status"}) for name in ("t1", "t2")]
    server.gets = [http({"status": "pending"})]
    first, second = await submit(session), await submit(session)
    assert session.task(first.resume_token()) is first
    assert session.task(second.resume_token()) is second


async def test_accepted_task_with_a_number_as_id_is_polled(server, session):
    server.posts = [http({"task_id": 51, "status": "pending"})]
    server.gets = [http({"task_id": 51, "status": "completed", "data": [{"url": LINK}]})]
    assert (await (await submit(session)))[0].url == LINK


# Refusals (law 1)

SOLD = {
    "a 429 with a task": http({"error": {"message": "slow"}, "task_id": "t1"}, "Retry-After: 0.01", status="429 No"),
    "a 429 with a pending task": http(
        {"error": {"message": "slow"}, "id": "t1", "status": "pending"}, "Retry-After: 0.01", status="429 No"
    ),
    "a 503 with a task": http(
        {"error": {"message": "busy", "code": "all_channels_failed", "retryable": True}, "task_id": "t1"},
        status="503 No",
    ),
    "a 429 with a task in the details": http(
        {"error": {"message": "slow", "details": {"job": {"task_id": "t1"}}}}, "Retry-After: 0", status="429 No"
    ),
    "a 429 with a task in a list": http(
        {"error": {"message": "slow"}, "results": [{"task_id": "t1"}]}, "Retry-After: 0", status="429 No"
    ),
    "a 400 with a poll_url": http({"error": {"message": "no"}, "poll_url": "/v1/tasks/t1"}, status="400 No"),
}


@SENDS
async def test_refusal_that_carries_a_task_is_unknown_and_can_be_resumed(server, send):
    """It is not sent again, and the reason has the id."""
    done = http({"task_id": "t1", "status": "completed", "data": [{"url": LINK}]})
    for case, response in SOLD.items():
        server.play(response, gets=[done])
        async with server.connect() as session:
            with pytest.raises(SubmissionUnknown) as caught:
                await send(session)
            assert server.asked == ["POST"], case
        task_id = re.search(r"task '(\w+)'", str(caught.value))[1]
        async with server.connect() as other:  # no 429 pauses it
            assert (await other.task(task_id))[0].url == LINK, case


def failure(status, **error):
    return http({"error": {"message": "no", **error}}, status=f"{status} No")


UNKNOWN = {
    "a 429 with data": http({"error": {"message": "slow"}, "data": [{"url": LINK}]}, status="429 No"),
    "a 500 of a gateway": failure(500, code=500),
    "a 500 without a code": failure(500, type="server_error", code=None),
    "a 502 of a gateway": failure(502, code="502", type="upstream_error"),
    "a 503 that calls itself retryable": failure(503, retryable=True),
    "a 503 with a code of its own": failure(503, retryable=True, code="busy"),
    "a 408 of a gateway": failure(408, code="408", type="timeout_error"),
    "a 499 of a gateway": failure(499, code="client_closed"),
    "a 504 with a code of a 4xx": failure(504, code="rate_limit_exceeded"),
    "a 500 of a framework": http({"detail": "Internal Server Error"}, status="500 No"),
    "a 502 in text": http({"error": "bad gateway"}, status="502 No"),
    "a 413 in HTML": http(b"<html>413 Request Entity Too Large", status="413 No", kind="text/html"),
    "a 404 of a framework": http({"detail": "Not Found"}, status="404 No"),
    "a 404 in HTML": http(b"<html>404", status="404 No", kind="text/html"),
    "a 405 of a framework": http({"detail": "Method Not Allowed"}, "Allow: GET", status="405 No"),
    "a 405 without a body": http(b"", "Allow: GET", status="405 No"),
    "a 301": http(b"", "Location: /v2/images/generations", status="301 Moved"),
    "a 301 in the service's shape": http({"error": {"message": "moved"}}, "Location: /v2", status="301 Moved"),
    "a 429 in HTML": http(b"<html>429", "Retry-After: 0", status="429 No", kind="text/html"),
}


@SENDS
async def test_response_of_a_gateway_is_unknown_and_not_repeated(server, send):
    for case, response in UNKNOWN.items():
        server.play(response)
        async with server.connect() as session:
            with pytest.raises(SubmissionUnknown):
                await send(session)
        assert server.asked == ["POST"], case


@SENDS
async def test_refusal_of_the_service_is_raised(server, session, send):
    for refusal, error in [
        (failure(500, code="server_error"), ServerError),
        (failure(502, code="upstream_error"), ServerError),
        (failure(503, code="all_channels_failed", retryable=False), ServerError),
        (failure(504, code="timeout_error"), ServerError),
        (failure(400, code="anything"), BadRequest),
        (failure(400, code=400), BadRequest),
    ]:
        server.play(refusal)
        with pytest.raises(error):
            await send(session)
        assert session.unknown_submissions == ()


async def test_503_with_a_documented_code_that_is_retryable_is_sent_again(server, session):
    busy = failure(503, code="all_channels_failed", retryable=True)
    server.posts = [busy, busy, http({"data": [{"url": LINK}]})]
    assert (await (await submit(session)))[0].url == LINK
    assert server.asked == ["POST"] * 3


async def test_error_event_of_a_gateway_is_unknown(server, session):
    """A gateway does not know whether the job continues."""
    gateways = {"error": {"message": "no", "code": 502}}, {"error": "no"}, {"detail": "no"}, b"upstream reset", {}
    for number, data in enumerate(gateways, 1):
        server.play(http(event(data, "error"), kind="text/event-stream"))
        with pytest.raises(SubmissionUnknown, match="not the service's own"):
            await stream(session)
        assert session.submission_counts.unknown == number


async def test_error_event_of_the_service_is_a_failure(server, session):
    fault = {"type": "error", "error": {"message": "no", "code": "moderation_blocked"}}
    server.posts = [http(event(fault, "error"), kind="text/event-stream")]
    with pytest.raises(TaskFailed, match="no"):
        await stream(session)
    assert session.submission_counts.unknown == 0


async def test_error_event_after_a_picture_leaves_what_is_finished(server, session):
    for code in 502, "late":
        data = {"error": {"message": "no", "code": code}}
        server.play(http(event({"url": LINK}) + event(data, "error"), kind="text/event-stream"))
        async with session.stream("a cat", model="gpt-image-2", n=2) as pictures:
            assert [picture.url async for picture in pictures] == [LINK]
            assert len(pictures.images) == 1


# A 429 of any shape (law 4)


async def models(session):
    await session.models()


@pytest.mark.parametrize("send", [submit, stream, models])
async def test_429_of_any_shape_pauses_every_request(server, send):
    pauses = [(["Retry-After: 30"], 30), (["X-RateLimit-Reset: 20"], 20), ([], 1)]
    bodies = [
        ({"error": {"message": "slow", "code": "rate_limit_exceeded"}}, "application/json"),
        ({"error": {"message": "slow"}, "task_id": "t1"}, "application/json"),
        ({"detail": "slow"}, "application/json"),
        (b"<html>429 Too Many Requests", "text/html"),
        (b"event: error\ndata: slow\n\n", "text/event-stream"),
        (b"", "text/plain"),
    ]
    for (head, pause_s), (body, kind) in product(pauses, bodies):
        response = http(body, *head, status="429 No", kind=kind)
        server.play(response, gets=[response])
        began_at = asyncio.get_running_loop().time()
        async with server.connect(retry=RetryPolicy(max_elapsed_s=0)) as session:
            with suppress(Exception):
                await send(session)
            paused_until = session._engine.rate_limiter.budget.paused_until
        assert began_at + 0.8 * pause_s < paused_until, (head, body)
        assert paused_until <= asyncio.get_running_loop().time() + pause_s, (head, body)
        assert len(server.asked) == 1


# Bounded steps (law 7)


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
async def test_junk_after_a_compressed_response_is_not_decompressed(server, session, coding, monkeypatch):
    """Otherwise it would be copied with every piece."""
    fed = []
    unpack = Unpacker._unpack
    monkeypatch.setattr(Unpacker, "_unpack", lambda self, *args: fed.append(len(args[1])) or unpack(self, *args))
    body = orjson.dumps({"data": [{"url": LINK}]})
    packed = gzip.compress(body) if coding == "gzip" else zlib.compress(body)
    server.posts = [http(packed + b"junk" * 1_000_000, f"Content-Encoding: {coding}")]
    assert (await (await submit(session)))[0].url == LINK
    assert len(fed) <= 2


@pytest.mark.parametrize("send", [submit, stream])
async def test_response_with_too_many_values_is_not_parsed(server, session, send, monkeypatch):
    """Parsing a million values takes a second, in a thread as well."""
    parsed = []
    monkeypatch.setattr("lemon_async._formats.json_documents.orjson.loads", lambda content: parsed.append(len(content)))
    for unit in b"[],", b"{},", b"0,", b'"",', b'{"a":0},':
        body = b"[" + unit * (900_000 // len(unit)) + b"0]"
        server.play(http(event(body), kind="text/event-stream") if send is stream else http(body))
        with pytest.raises(SubmissionUnknown):
            await send(session)
    assert parsed == []


@pytest.mark.parametrize("is_quoted", [False, True])
def test_document_is_masked_in_a_few_steps_whatever_its_size(is_quoted):
    """The mask is applied to the text, not to each value."""
    asked = []
    body = b"[" + b'"a\\n",' * 10_000 + (b'"sk-0123456789"]' if is_quoted else b'""]')

    def mask(text):
        asked.append(len(text))
        return text.replace("sk-0123456789", "***")

    assert len(read_json(body, mask)) == 10_001
    assert len(asked) == 1


READ_ALL = """
import sys
from lemon_async import LemonSession
from lemon_async._api.job_responses import read_poll, read_submission
from lemon_async._api.response import Response

before = set(sys.modules)
bodies = [
    b"", b"{", b"[]", b"{}", b"<html><title>502 &amp; more</title></html>", b"\\xff", b"\\xef\\xbb\\xbf{}",
    b'{"a": NaN}', b'{"a": "\\ud800"}', b'{"error": {"message": "no", "code": "async_task_not_found"}}',
]
for status in (101, 200, 204, 302, 400, 401, 404, 429, 502, 503):
    for body in bodies:
        response = Response(status, {"retry-after": "Fri, 31 Dec 1999 23:59:59 GMT"}, body)
        str(read_submission(response)), str(read_poll(response, "ldtask_1"))
print(*set(sys.modules) - before)
"""


def test_reading_a_response_loads_no_module():
    """Without a free file descriptor that would fail: what was sold would not be reported, and all polling end."""
    run = subprocess.run([sys.executable, "-c", READ_ALL], capture_output=True, text=True, check=True)
    assert run.stdout.split() == []
