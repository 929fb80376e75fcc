"""Law 3. A key that a server quotes back, in whatever form, appears in no error, log or repr of the library."""

import asyncio
import gc
import gzip
import logging
import pickle
import re
import traceback
import zlib

import attrs
import orjson
import pytest

from lemon_async import LemonError, LemonSession, PollPolicy, RetryPolicy, SubmissionUnknown, Timeouts
from lemon_async.errors import TaskFailed
from servers import read_request

CANARY = "sk-Zwq7-0123456789abcdef"
ESCAPED = "\\u0073k" + CANARY[2:]
# A part of the key in any case: half a key is too much, and its first letter may be an escape.
QUOTE = re.compile("k-Zwq7", re.IGNORECASE)

FAULT = {
    **dict.fromkeys(["message", "code", "type", "param", "hint", "did_you_mean", "request_id"], f"not {CANARY}!"),
    "suggestions": [{"id": CANARY}],
    "alternatives": [{CANARY: CANARY, "nested": [[{CANARY: [CANARY]}]]}],
    "upstream": {CANARY: {CANARY: CANARY}},
}
REFUSAL = orjson.dumps({"error": FAULT, "validation_errors": [{CANARY: CANARY, "field": CANARY, "message": CANARY}]})
FAILED = orjson.dumps(
    {"task_id": "t1", "status": "failed", "error": FAULT, "model": CANARY, "usage": {CANARY: CANARY}, "id": CANARY}
)
PAGE = f"<html><title>Busy</title><p>{CANARY}".encode()


def http(body=b"", *head, status="200 OK", kind="application/json", length=None):
    lines = [f"HTTP/1.1 {status}", f"Content-Type: {kind}", f"Content-Length: {length or len(body)}", *head]
    return "\r\n".join([*lines, "Connection: close", "", ""]).encode() + body


def escaped(body):
    return body.replace(CANARY.encode(), ESCAPED.encode())


def events(*lines):
    return http("\n".join([*lines, "", ""]).encode(), kind="text/event-stream")


def packed_events(text, *, damage=b""):
    """A gzip stream that stores its text uncompressed."""
    content = gzip.compress(text.encode(), compresslevel=0)
    return http(content[:-8] + damage + content[-8:], "Content-Encoding: gzip", kind="text/event-stream")


# Responses of the server, which closes the connection after them.
QUOTES = {
    "refusal": http(REFUSAL, status="401 No"),
    "refusal in gzip": http(gzip.compress(REFUSAL), "Content-Encoding: gzip", status="401 No"),
    "refusal in deflate": http(zlib.compress(REFUSAL), "Content-Encoding: deflate", status="500 No"),
    "refusal with escapes": http(escaped(REFUSAL), status="403 No"),
    "refusal with escapes in gzip": http(gzip.compress(escaped(REFUSAL)), "Content-Encoding: gzip", status="401 No"),
    "refusal without words": http(escaped(orjson.dumps({"detail": CANARY})), status="400 No"),
    "refusal as a problem": http(REFUSAL, status="422 No", kind="application/problem+json"),
    "refusal in HTML": http(f"<title>no {CANARY}</title>".encode(), status="502 No", kind="text/html"),
    "failed job": http(FAILED),
    "failed job as text": http(FAILED, kind="text/plain"),
    "failed job as a problem": http(FAILED, kind="application/problem+json"),
    "failed job with escapes": http(escaped(FAILED)),
    "failed job in gzip": http(gzip.compress(FAILED), "Content-Encoding: gzip"),
    "failed job in a large answer": http(FAILED + b" " * 300_000),
    "shapeless answer": http(orjson.dumps({CANARY: CANARY})),
    "shapeless answer with escapes": http(escaped(orjson.dumps([CANARY]))),
    "page": http(PAGE.replace(b"<title>Busy</title>", b""), kind="text/html"),
    "page as JSON": http(PAGE.replace(b"<title>Busy</title>", b"")),
    "page with entities": http(f"<html>&#115;{CANARY[1:]}".encode(), kind="text/html"),
    "text": http(f"no {CANARY}".encode(), kind="text/plain"),
    "text that is cut within the key": http(f"{'x' * 145} {CANARY}".encode(), kind="text/plain"),
    "text whose beginning ends within the key": http(f"{' ' * 4080}{CANARY} {'x' * 9000}".encode(), kind="text/plain"),
    "half of JSON": http(REFUSAL[: REFUSAL.index(CANARY.encode()) + len(CANARY) + 5]),
    "half of JSON with escapes": http(escaped(FAILED)[:-5]),
    "half of gzip": http(gzip.compress(REFUSAL)[:-9], "Content-Encoding: gzip"),
    "content coding": http(FAILED, f"Content-Encoding: {CANARY}"),
    "content type": http(PAGE, kind=CANARY),
    "body that breaks off": http(REFUSAL, f"X-Echo: {CANARY}", length=9999),
    "header": http(REFUSAL, f"X-Request-Id: {CANARY}", f"Retry-After: {CANARY}", status="401 No"),
    "name of a header": http(REFUSAL, f"X-{CANARY}: y", f"X-{CANARY.upper()}: y", f"X-{CANARY.lower()}: y"),
    "name of a header of a failed job": http(FAILED, f"X-{CANARY}: {CANARY}"),
    "cookie": http(REFUSAL, f"Set-Cookie: {{{CANARY}}}={CANARY}", status="401 No"),
    "redirect": http(b"", f"Location: /{CANARY}", status="302 Found"),
    "reason": http(REFUSAL, status=f"401 {CANARY}"),
    "reason of a broken body": http(REFUSAL, status=f"200 {CANARY}", length=9999),
    "no status line": f"{CANARY}\r\n\r\n".encode(),
    "no status": f"HTTP/1.1 {CANARY}\r\n\r\n".encode(),
    "no version": f"HTTP/{CANARY} 200 OK\r\n\r\n".encode(),
    "header without a colon": http(REFUSAL, CANARY),
    "header with an odd name": http(REFUSAL, f"X {CANARY}: y"),
    "header with an odd value": http(REFUSAL, f"X-Odd: \0{CANARY}"),
    "header that is too long": http(REFUSAL, f"X-Long: {CANARY * 2000}"),
    "name that is too long": http(REFUSAL, f"{CANARY * 2000}: y"),
    "length that is no number": http(REFUSAL, length=CANARY),
    "chunk that is no number": f"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{CANARY}\r\n".encode(),
    "coding that is none": f"HTTP/1.1 200 OK\r\nTransfer-Encoding: {CANARY}\r\n\r\n{CANARY}".encode(),
    "half of a head": f"HTTP/1.1 200 OK\r\nX-Echo: {CANARY}\r\nX-".encode(),
    "two answers": http() + f"HTTP/1.1 {CANARY} {CANARY}\r\n\r\n".encode(),
}
STREAMS = {
    "error": events("event: error", f"data: {orjson.dumps({'error': FAULT}).decode()}"),
    "error with escapes": events("event: error", f'data: {{"error": {{"message": "{ESCAPED}", "code": "{ESCAPED}"}}}}'),
    "error in text": events("event: error", f"data: no {CANARY}"),
    "error in half of JSON": events("event: error", f'data: {{"error": "{ESCAPED}'),
    "name": events(f"event: {CANARY}", "data: {}", "", "event: error", "data: no"),
    "name in the data": events(f'data: {{"type": "{ESCAPED}"}}', "", "event: error", f"data: {CANARY}"),
    "nothing that counts": events(f"data: {CANARY}", f": {CANARY}", f"{CANARY}: {CANARY}"),
    "packed": packed_events(f"event: error\ndata: {CANARY}\n\n"),
    "packed with damage": packed_events(f"data: {CANARY}\n\n", damage=b"x"),
    "no packing": http(CANARY.encode(), "Content-Encoding: gzip", kind="text/event-stream"),
    "packing that is none": http(CANARY.encode(), f"Content-Encoding: {CANARY}", kind="text/event-stream"),
    "half of an event": events("event: error", f"data: {CANARY}").replace(b"Content-Length: ", b"Content-Length: 9"),
}


def all_errors(error):
    """Return an exception and all its causes and contexts."""
    errors = [error]
    for seen in errors:
        errors += [e for e in (seen.__cause__, seen.__context__) if e is not None and e not in errors]
    return errors


def shown(error):
    """Return every text form of an error and of its causes: messages, reprs, tracebacks, pickles."""
    for seen in all_errors(error):
        yield from (str(seen), repr(seen), repr(seen.args), repr(vars(seen)))
        yield "".join(traceback.TracebackException.from_exception(seen, capture_locals=True).format())
        yield repr(pickle.dumps(seen)) if isinstance(seen, LemonError) else ""


@attrs.define
class Quoting:
    """A server with one response for every request, and optionally another for the first."""

    answer: bytes = attrs.field(default=b"", repr=False)
    first: bytes | None = attrs.field(default=None, repr=False)
    is_open: bool = False
    origin: str = ""
    asked: asyncio.Event = attrs.field(factory=asyncio.Event)

    async def serve(self, reader, writer):
        await read_request(reader)
        writer.write(self.answer if self.first is None else self.first)
        self.first = None
        await writer.drain()
        self.asked.set()
        if self.is_open:
            await reader.read()


@pytest.fixture
async def quoting(listen):
    """A server that quotes the key."""
    quoter = Quoting()
    quoter.origin = await listen(quoter.serve)
    return quoter


@pytest.fixture
def records(caplog):
    """Return all log records, those of asyncio and aiohttp included, after a garbage collection."""
    caplog.set_level(logging.DEBUG)

    def texts():
        gc.collect()
        return [f"{record.getMessage()} {vars(record)!r}" for record in caplog.records]

    return texts


async def generate(session):
    await session.generate("a cat", model="flux-pro")


async def stream(session):
    async with session.stream("a cat", model="gpt-image-2") as pictures:
        async for _ in pictures:
            pass


async def poll(session):
    await session.task("t1")


async def look(session):
    await session.files.get("f1")


async def delete(session):
    await session.files.delete("f1")


async def failure_of(use, quoting):
    """Return the error of a call, or `None` if the response suits it, and the reprs of the session."""
    options = {
        "polling": PollPolicy(min_gap_s=0.005, max_gap_s=0.01, deadline_s=0.03, lost_after_s=0),
        "retry": RetryPolicy(max_elapsed_s=0),
        "timeouts": Timeouts(submit_s=60, request_s=60),
    }
    async with LemonSession(CANARY, base_url=quoting.origin, **options) as session:
        try:
            await use(session)
        except LemonError as error:
            caught = error
        else:
            caught = None
        kept = session.unknown_submissions
        return caught, [repr(session), repr(kept), repr(pickle.dumps(kept)), repr(vars(session._engine.transport))]


def leaks(texts):
    return [text for text in texts if QUOTE.search(text)]


@pytest.mark.parametrize("use", [generate, stream, poll, look, delete])
async def test_key_in_a_response_is_in_no_error_and_no_log(quoting, records, use):
    """The key may be in any part of a response, encoded, escaped or cut, and in the response to any request."""
    for case, quoting.answer in QUOTES.items():
        error, kept = await failure_of(use, quoting)
        assert error is not None or use in {look, delete}, case  # some of these responses suit them
        assert leaks([*kept, *(shown(error) if error else ())]) == [], case
    assert leaks(records()) == []


async def test_key_in_an_event_is_in_no_error_and_no_log(quoting, records):
    """The key may be in any part of a stream of events."""
    for case, quoting.answer in STREAMS.items():
        error, kept = await failure_of(stream, quoting)
        assert isinstance(error, TaskFailed | SubmissionUnknown), case
        assert leaks([*shown(error), *kept]) == [], case
    assert leaks(records()) == []


async def fetch(session):
    session._engine.downloads._pause_s = 0.001  # retry without waiting
    images = await session.generate("a cat", model="flux-pro")
    await images[0].read()


async def test_key_in_the_response_of_a_download_is_in_no_error_and_no_log(quoting, records):
    """A link may lead to the API's own host, which knows the key."""
    link = {"url": f"{quoting.origin}/1.png", "revised_prompt": CANARY}
    for case, quoting.answer in QUOTES.items():
        quoting.first = http(orjson.dumps({"created": 1, "data": [link], "usage": {CANARY: CANARY}}))
        error, kept = await failure_of(fetch, quoting)
        assert type(error).__name__ == "DownloadError", case
        assert leaks([*shown(error), *kept]) == [], case
    assert leaks(records()) == []


@pytest.mark.parametrize("use", [generate, stream, look])
@pytest.mark.parametrize("kind", ["application/json", "text/event-stream"])
async def test_key_in_half_a_response_is_not_in_a_cancellation(quoting, records, use, kind):
    """The frames of the reader hold the bytes that had arrived."""
    quoting.is_open = True
    quoting.answer = http(PAGE, f"X-Echo: {CANARY}", status=f"200 {CANARY}", kind=kind, length=9999)
    running = asyncio.create_task(failure_of(use, quoting))
    await quoting.asked.wait()
    await asyncio.sleep(0.01)
    running.cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        await running
    assert leaks([*shown(caught.value), *records()]) == []


async def test_key_in_a_response_that_takes_too_long_is_in_no_error(quoting, records):
    """A deadline interrupts the code that holds the bytes."""
    quoting.is_open = True
    quoting.answer = http(PAGE, f"X-Echo: {CANARY}", length=9999)
    timeouts = Timeouts(submit_s=0.2)
    async with LemonSession(CANARY, base_url=quoting.origin, timeouts=timeouts) as session:
        with pytest.raises(SubmissionUnknown, match="no response within") as caught:
            await generate(session)
    assert leaks([*shown(caught.value), *records()]) == []


async def test_file_that_contains_the_key_is_returned_as_it_was_stored(quoting):
    """It is the caller's own content, not text of the service, so nothing is masked."""
    quoting.answer = http(REFUSAL)
    async with LemonSession(CANARY, base_url=quoting.origin) as session:
        assert await session.files.content("f1") == REFUSAL
