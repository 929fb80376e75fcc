"""Laws 1, 2 and 5 on connections that a server keeps open, breaks or closes, or on which it responds twice.

The server below writes HTTP by hand. It keeps every connection open, whatever the client requests, and sends additional
bytes on request of a test.
"""

import asyncio
import base64
import io
import random
from contextlib import suppress
from itertools import product

import attrs
import orjson
import pytest
from PIL import Image

from lemon_async import LemonSession, PollPolicy, RetryPolicy, SubmissionUnknown, Timeouts, TransportError
from servers import read_request

QUICK = PollPolicy(min_gap_s=0.001, max_gap_s=0.002, deadline_s=60)
PATIENT = RetryPolicy(max_elapsed_s=20, first_backoff_s=0.001, max_backoff_s=0.002)
TIMINGS = ("joined", "apart", "idle, unread", "idle, read")


def http(content, status="200 OK", kind="application/json", **headers):
    """Build a response with a length, which leaves the connection open."""
    body = content if isinstance(content, bytes) else orjson.dumps(content)
    extra = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n{extra}\r\n"
    return head.encode() + body


def task(name, status="pending", data=()):
    return {"created": 1, "id": name, "task_id": name, "status": status, "data": list(data)}


STALE = {
    "429": http({"error": {"message": "slow down", "type": "rate_limit_error"}}, "429 Too Many", Retry_After=0),
    "a task": http(task("dog", "completed", [{"url": "https://example.com/dog.png"}])),
    "a picture": http(b"\x89PNG\r\n\x1a\n" + bytes(100), kind="image/png"),
}


@attrs.define(eq=False)
class Service:
    """A service whose job number N is a picture of N + 1 by 2 pixels.

    Attributes:
        picture: Makes the file of a picture.
        surplus: Bytes to send in addition to each response, by the beginning of the path.
        is_apart: Whether they are sent in a separate segment.
        closes_after_s: Seconds after which the server closes a connection on which it has responded.
        sold: Number of paid requests that arrived, by prompt.
    """

    picture: object
    surplus: dict = attrs.field(factory=dict)
    is_apart: bool = False
    closes_after_s: float | None = None
    sold: dict = attrs.field(factory=dict)
    origin: str = ""
    _writers: set = attrs.field(factory=set)

    async def serve(self, reader, writer):
        self._writers.add(writer)
        try:
            while True:
                head, body = await read_request(reader)
                path = head.split(" ")[1]
                surplus = next((extra for start, extra in self.surplus.items() if path.startswith(start)), b"")
                response = self.respond(path, body)
                for part in (response, surplus) if self.is_apart else (response + surplus,):
                    writer.write(part)
                if self.closes_after_s is not None:
                    asyncio.get_running_loop().call_later(self.closes_after_s, writer.close)
        finally:
            self._writers.discard(writer)

    def respond(self, path, body):
        if path == "/v1/images/generations":
            prompt = orjson.loads(body)["prompt"]
            self.sold[prompt] = self.sold.get(prompt, 0) + 1
            return http(task(f"job-{prompt}"))
        number = path.rpartition("-")[2]
        if path.startswith("/v1/tasks/"):
            return http(task(f"job-{number}", "completed", [{"url": f"{self.origin}/picture-{number}"}]))
        return http(self.picture((int(number) + 1, 2)), kind="image/png")

    async def send_on_idle(self, extra, *, is_read):
        """Send bytes on every open connection; with `is_read`, wait until the client's event loop has read them."""
        for writer in self._writers:
            writer.write(extra)
        for _ in range(5 if is_read else 0):
            await asyncio.sleep(0)


@pytest.fixture
async def service(picture, listen):
    made = Service(picture)
    made.origin = await listen(made.serve)
    return made


@pytest.fixture
async def session(service):
    options = {"polling": QUICK, "retry": PATIENT, "requests_per_minute": 60_000}
    async with LemonSession("sk-x", base_url=service.origin, **options) as opened:
        yield opened


async def make(session, number):
    """Generate picture `number`, and return its width."""
    images = await session.generate(str(number), model="flux-pro")
    await images[0].read()
    return images[0].size[0]


@pytest.mark.parametrize("path", ["/v1/images", "/v1/tasks", "/picture"])
async def test_response_that_is_older_than_the_request_is_never_read(service, session, path):
    """A surplus response on any connection neither sells a job twice nor gives one job the picture of another."""
    for round_number, (timing, stale) in enumerate(product(TIMINGS, STALE.values())):
        service.is_apart = timing == "apart"
        service.surplus = {} if timing.startswith("idle") else {path: stale}
        for number in range(2 * round_number, 2 * round_number + 2):
            assert await make(session, number) == number + 1, timing
            if timing.startswith("idle"):
                await service.send_on_idle(stale, is_read=timing == "idle, read")
    assert set(service.sold.values()) == {1}
    assert len(service.sold) == 2 * len(TIMINGS) * len(STALE)


async def test_cut_and_stale_responses_at_random_change_nothing(service, session):
    """Responses are cut, stale bytes sent at any time: each job is accepted once and gets its own picture."""
    chance = random.Random(11)
    for number in range(80):
        stale = chance.choice(list(STALE.values()))
        extra = stale[: chance.randint(1, len(stale))]
        timing = chance.choice(TIMINGS)
        service.is_apart = timing == "apart"
        service.surplus = (
            {} if timing.startswith("idle") else {chance.choice(["/v1/images", "/v1/tasks", "/pic"]): extra}
        )
        assert await make(session, number) == number + 1
        if timing.startswith("idle"):
            await service.send_on_idle(extra, is_read=timing == "idle, read")
    assert set(service.sold.values()) == {1}
    assert len(service.sold) == 80


async def test_server_that_closes_soon_after_its_response_leaves_no_unknown_outcome(service, session):
    """A paid request never meets a connection that the server is about to close."""
    service.closes_after_s = 0.004
    await asyncio.gather(*(session.submit(str(number), model="flux-pro") for number in range(100)))
    assert session.unknown_submissions == ()
    assert set(service.sold.values()) == {1}


async def test_server_that_sends_data_before_the_request_is_sent_nothing():
    """Bytes on a new connection are not a response to a request that has not been sent."""
    for greeting in STALE["429"], STALE["a task"], b"HTTP/1.1 4", b"220 mail.example ESMTP\r\n":
        requests = []

        class Greeter(asyncio.Protocol):
            def connection_made(self, transport, greeting=greeting):
                transport.write(greeting)

            def data_received(self, data, requests=requests):
                requests.append(data)

        server = await asyncio.get_running_loop().create_server(Greeter, "127.0.0.1", 0)
        origin = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with server, LemonSession("sk-x", base_url=origin, retry=RetryPolicy(max_elapsed_s=0)) as session:
            with pytest.raises(TransportError, match="sent data before the request") as caught:
                await session.submit("a cat")
        assert not caught.value.was_sent
        assert requests == []


# Answers that stop


@pytest.fixture
def connect_to(listen):
    """Open sessions on a server that responds to every request with these bytes, followed by an action."""

    async def open_session(*pieces, then="hang", **timeouts):
        async def serve(reader, writer):
            await reader.readuntil(b"\r\n\r\n")
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
            if then == "hang":
                await asyncio.Event().wait()

        options = {"retry": RetryPolicy(max_elapsed_s=0), "timeouts": Timeouts(**timeouts)}
        return LemonSession("sk-x", base_url=await listen(serve), **options)

    return open_session


CHUNKED = b"HTTP/1.1 200 OK\r\nContent-Type: %s\r\nTransfer-Encoding: chunked\r\n\r\n"


def chunk(content):
    return b"%x\r\n%b\r\n" % (len(content), content)


@pytest.mark.parametrize("pieces", [(), (b"HTTP/1.1 200",), (CHUNKED % b"application/json", b'5\r\n{"cre')])
async def test_response_that_stops_ends_at_the_deadline_of_its_request(connect_to, pieces):
    """Wherever a response stops, `submit_s` ends a paid request and `request_s` any other."""
    async with asyncio.timeout(60), await connect_to(*pieces, submit_s=0.4, request_s=0.4) as session:
        error = None
        while not isinstance(error, SubmissionUnknown):  # a busy machine may not have sent it in time
            with pytest.raises((SubmissionUnknown, TransportError), match="no response within") as caught:
                await session.submit("a cat")
            error = caught.value
        with pytest.raises(TransportError, match="no response within"):
            await session.models()


@pytest.mark.parametrize("then", ["break", "hang"])
async def test_response_that_is_complete_but_for_its_last_chunk_is_read(connect_to, then):
    """JSON shows by itself that it is complete: an accepted task is not lost with the last chunk."""
    pieces = (CHUNKED % b"application/json", chunk(orjson.dumps(task("job-1"))))
    async with asyncio.timeout(60), await connect_to(*pieces, then=then, submit_s=0.4) as session:
        accepted = None
        while accepted is None:
            with suppress(SubmissionUnknown, TransportError):  # a busy machine may take longer than `submit_s`
                accepted = await session.submit("a cat")
        assert accepted.id == "job-1"


async def test_response_of_which_a_part_is_missing_is_still_unknown(connect_to):
    """A task id in half a document is not trusted."""
    whole = orjson.dumps(task("job-1"))
    async with await connect_to(CHUNKED % b"application/json", chunk(whole[:-1]), then="break") as session:
        with pytest.raises(SubmissionUnknown, match="broke off"):
            await session.submit("a cat")


async def test_finished_picture_that_arrived_before_the_break_is_yielded(connect_to, picture, tmp_path):
    """A slow reader of a stream gets all that had arrived before the connection broke.

    The picture is too large for the read that brings the preview.
    """
    preview = base64.b64encode(picture((3, 2))).decode()
    final = base64.b64encode(picture((5, 2), pad_to=30_000)).decode()
    events = [
        {"type": "image_generation.partial_image", "b64_json": preview, "partial_image_index": 0},
        {"type": "image_generation.completed", "b64_json": final},
    ]
    pieces = [chunk(b"data: %b\n\n" % orjson.dumps(event)) for event in events]
    session = await connect_to(CHUNKED % b"text/event-stream", *pieces, then="break")
    async with session, session.stream("a cat", model="gpt-image-2", n=1, partial_images=1) as stream:
        await anext(stream)
        for _ in range(20):  # the end of the connection is seen before the next picture is asked for
            await asyncio.sleep(0)
        path = await (await anext(stream)).save(tmp_path / "cat.png")
        assert Image.open(io.BytesIO(path.read_bytes())).size == (5, 2)
    assert session.unknown_submissions == ()
