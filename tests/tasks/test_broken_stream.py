"""A stream that breaks off, fails or is left early yields what had arrived, and reports what may be billed."""

import asyncio
import gzip
import logging

import aiohttp
import orjson
import pytest

from lemon_async import GenerateRequest, PartialImage, PollPolicy, SubmissionUnknown, Timeouts, TransportError
from lemon_async._http import connections
from lemon_async.emulator import Blackhole, Body, Cut, Drip, Fail, Garbage, HalfClose, Reset, Status, Stuck
from lemon_async.errors import TaskFailed

MODEL = "gpt-image-2"


async def read_all(stream):
    return [picture async for picture in stream]


def event(name, **fields):
    return f"event: {name}\n".encode() + b"data: " + orjson.dumps({"type": name, **fields}) + b"\n\n"


def contents(entries):
    """Return the bytes of pictures, as the service sent them."""
    return [entry.content() for entry in entries]


async def seen(stream):
    """Read a stream to its end, or to what breaks it."""
    pictures = []
    try:
        async for picture in stream:
            pictures.append(picture)  # noqa: PERF401 - kept when it breaks
    except Exception as error:  # noqa: BLE001 - the class is what the test looks at
        return pictures, error
    return pictures, None


# Broken off


@pytest.mark.parametrize(
    "action",
    [
        Reset("request_body"),
        Reset("request_end"),
        Reset("response_head"),
        HalfClose("response_head"),
        Garbage(),
        Status(502, "html"),
        Status(200, "truncated"),
        Body(b"data: {}\n\n", "text/plain"),
    ],
    ids=str,
)
async def test_stream_that_does_not_begin_is_in_doubt(connect, emulator, tiny, action):
    emulator.fault("edit", action)
    async with connect() as session:
        with pytest.raises(SubmissionUnknown) as caught:
            async with session.stream(tiny, partial_images=2):
                pytest.fail("entered")
        assert caught.value.partial_images == ()
        assert session.unknown_submissions[0].fingerprint == caught.value.fingerprint


@pytest.mark.parametrize("action", [Reset("response_body"), Cut(4000), HalfClose("response_body")], ids=str)
async def test_stream_of_the_emulator_that_breaks_off_is_in_doubt(connect, emulator, tiny, action):
    emulator.fault("edit", action)
    async with connect() as session:
        async with session.stream(tiny, partial_images=3, n=3) as stream:
            pictures, error = await seen(stream)
        assert isinstance(error, SubmissionUnknown)
        assert contents(error.partial_images + error.images) == contents(picture.data for picture in pictures)
        assert (session.submission_counts.sold, session.submission_counts.unknown) == (0, 1)


@pytest.mark.parametrize("complete", range(5))
@pytest.mark.parametrize("half", [0, 0.5])
async def test_stream_cut_at_any_point_yields_what_had_arrived(streaming, preview, final, complete, half):
    """Of two previews and two pictures, those before the cut are yielded."""
    events = [preview(0), preview(1), final(), final()]
    rest = events[complete][: int(len(events[complete]) * half)] if complete < 4 else b""
    pieces = [*events[:complete], *([rest] if rest else []), None]
    async with await streaming(*pieces) as session:
        async with session.stream("a cat", model=MODEL, n=2) as stream:
            pictures, error = await seen(stream)
        assert len(pictures) == complete
        if complete == 4:  # all of it was there
            assert error is None
            assert len(stream.images) == 2
            return
        assert isinstance(error, SubmissionUnknown)
        previews = [picture.data for picture in pictures if isinstance(picture, PartialImage)]
        assert contents(error.partial_images) == contents(previews)
        assert contents(error.images) == contents(picture.data for picture in pictures[len(previews) :])
        assert error.request == GenerateRequest("a cat", model=MODEL, n=2)
        assert [kept.partial_images for kept in session.unknown_submissions] == [error.partial_images]
        with pytest.raises(SubmissionUnknown) as caught:
            _ = stream.images
        assert caught.value.images == error.images
        with pytest.raises(SubmissionUnknown):
            await anext(stream)


@pytest.mark.parametrize("is_chunked", [True, False])
@pytest.mark.parametrize("previews", [0, 2])
async def test_orderly_end_without_a_picture_is_in_doubt(streaming, preview, previews, is_chunked):
    pieces = [preview(index) for index in range(previews)]
    async with await streaming(*pieces, is_chunked=is_chunked) as session:
        async with session.stream("a cat", model=MODEL) as stream:
            pictures, error = await seen(stream)
        assert isinstance(error, SubmissionUnknown)
        assert error.reason == "the stream ended without a finished picture"
        assert len(error.partial_images) == len(pictures) == previews
        assert session.submission_counts.unknown == 1


@pytest.mark.parametrize(
    ("coding", "content", "words"),
    [
        ("br", b"?", "the content coding 'br'"),
        ("gzip", b"data: no gzip", "a compressed body that is damaged"),
        ("gzip", gzip.compress(bytes(501), mtime=0), "a compressed body that holds too many bytes"),
        ("gzip", gzip.compress(b"data: {}", mtime=0)[:-9], "ended without a finished picture"),
    ],
)
async def test_stream_that_cannot_be_unpacked_is_in_doubt(streaming, coding, content, words, monkeypatch):
    monkeypatch.setattr("lemon_async._http.attempt.Unpacker.__init__.__defaults__", (500,))
    async with await streaming(content, coding=coding) as session, session.stream("a cat", model=MODEL) as stream:
        with pytest.raises(SubmissionUnknown, match=words):
            await read_all(stream)
        assert session.submission_counts.unknown == 1


async def test_last_event_without_a_blank_line_counts(streaming, final):
    session = await streaming(final()[:-2], is_chunked=False)
    async with session, session.stream("a cat", model=MODEL) as stream:
        assert len(await read_all(stream)) == 1


async def test_stream_longer_than_any_that_makes_sense_is_in_doubt(streaming, preview, monkeypatch):
    monkeypatch.setattr("lemon_async._api.stream_events.EventSplitter.__init__.__defaults__", (500,))
    async with await streaming(preview(), preview(), preview(), preview()) as session:
        async with session.stream("a cat", model=MODEL) as stream:
            _, error = await seen(stream)
        assert isinstance(error, SubmissionUnknown)
        assert error.reason == "a stream of more than 500 bytes"
        assert session.submission_counts.unknown == 1


@pytest.mark.parametrize("action", [Drip(bytes_per_s=1000), Blackhole()], ids=str)
async def test_stream_that_never_ends_ends_in_time(connect, emulator, tiny, action):
    emulator.fault("edit", action)
    error = None
    async with connect(timeouts=Timeouts(submit_s=0.3)) as session, asyncio.timeout(60):
        while not isinstance(error, SubmissionUnknown):  # a busy machine may not have sent it in time
            assert not emulator.ledger.sold
            with pytest.raises((SubmissionUnknown, TransportError), match=r"no response within 0\.3 s") as caught:
                async with session.stream(tiny) as stream:
                    await read_all(stream)
            error = caught.value


# Given up


@pytest.mark.parametrize(
    ("error", "words"),
    [
        ("out of paint", r"failed: out of paint"),
        ({"code": "no_paint", "message": "out of paint"}, r"failed: out of paint \(no_paint\)"),
        (None, "failed: "),
    ],
)
async def test_job_that_the_service_gives_up_is_a_failed_task(connect, emulator, tiny, error, words):
    """The status is 200; an event reports the failure, and the job is refunded."""
    emulator.fault("edit", Fail(error))
    async with connect() as session:
        async with session.stream(tiny, partial_images=2) as stream:
            pictures, failure = await seen(stream)
        assert isinstance(failure, TaskFailed)
        assert len(pictures) == 2
        with pytest.raises(TaskFailed, match=words):
            raise failure
        assert failure.request_id.startswith("req_")
        assert failure.headers["x-request-id"] == failure.request_id
        assert session.unknown_submissions == ()
        assert (session.submission_counts.sold, session.submission_counts.released) == (1, 1)
    assert emulator.ledger.released == {"a hat": 1}


async def test_error_after_a_finished_picture_leaves_that_picture(streaming, final, caplog):
    """The result has fewer pictures than requested, and the log says why."""
    pieces = [final(), event("error", error={"message": "out of paint"})]
    async with await streaming(*pieces) as session:
        async with session.stream("a cat", model=MODEL, n=2) as stream:
            assert len(await read_all(stream)) == 1
            assert len(stream.images) == 1
        spent = session.submission_counts
        assert (spent.sold, spent.settled, spent.released, spent.unknown) == (1, 1, 0, 0)
    assert "out of paint" in caplog.text


# Left


async def test_stream_that_is_left_early_is_kept_as_unknown(connect, emulator, tiny, caplog):
    """No error is raised, so the session keeps it and a warning is logged."""
    emulator.fault("edit", Stuck())
    async with connect() as session:
        async with session.stream(tiny, partial_images=2) as stream:
            picture = await anext(stream)
        (kept,) = session.unknown_submissions
        assert kept.reason == "the stream was left before its end"
        assert contents(kept.partial_images) == contents([picture.data])
        assert repr(stream) == "<ImageStream over, 1 previews, 0 pictures>"
        assert (session.submission_counts.sold, session.submission_counts.unknown) == (0, 1)
    assert "the stream was left before its end" in caplog.text


async def test_stream_that_is_not_read_at_all_leaves_a_doubt(connect, emulator, tiny):
    async with connect() as session:
        async with session.stream(tiny):
            pass
        assert len(session.unknown_submissions) == 1
    assert emulator.ledger.sold == {"a hat": 1}


async def test_error_of_the_caller_goes_on_and_leaves_a_doubt(connect, tiny):
    async with connect() as session:
        with pytest.raises(ZeroDivisionError):
            async with session.stream(tiny):
                raise ZeroDivisionError
        assert len(session.unknown_submissions) == 1


async def test_stream_that_is_cancelled_in_the_middle_leaves_a_doubt_with_what_had_come(
    connect, emulator, tiny, caplog
):
    caplog.set_level(logging.WARNING, logger="lemon_async")
    emulator.fault("edit", Stuck())
    got = asyncio.Event()

    async def consume(session):
        async with session.stream(tiny, partial_images=1) as stream:
            async for _ in stream:
                got.set()

    async with connect() as session:
        consuming = asyncio.create_task(consume(session))
        await got.wait()
        await asyncio.sleep(0.01)
        consuming.cancel()
        with pytest.raises(asyncio.CancelledError) as caught:
            await consuming
        (kept,) = session.unknown_submissions
        assert isinstance(caught.value.__cause__, SubmissionUnknown)
        assert len(kept.partial_images) == len(caught.value.__cause__.partial_images) == 1
        assert session.submission_counts.unknown == 1
    assert "its outcome is unknown" in caplog.text


@pytest.mark.parametrize("coding", [None, "gzip"])
@pytest.mark.parametrize("n", [1, 2])
async def test_picture_whose_reader_is_cancelled_as_its_last_bytes_come_is_kept(streaming, monkeypatch, n, coding):
    """There is no await between the arrival of its last bytes and storing it."""
    body = event("image_generation.completed", b64_json="QUJD" * 1000)
    body = gzip.compress(body) if coding else body
    read, left_bytes = aiohttp.StreamReader.read, [len(body)]

    async def cancelling(self, size=-1):
        piece = await read(self, size)
        left_bytes[0] -= len(piece)
        if not left_bytes[0]:
            connections._by_loop[asyncio.get_running_loop()]._left = 0  # another coroutine has used up this round
            asyncio.current_task().cancel()
        return piece

    monkeypatch.setattr(aiohttp.StreamReader, "read", cancelling)
    async with await streaming(body, coding=coding) as session:
        async with session.stream("a cat", model=MODEL, n=n) as stream:
            await asyncio.gather(asyncio.create_task(seen(stream)), return_exceptions=True)
        kept = stream.images if n == 1 else session.unknown_submissions[0].images
        assert [len(getattr(image, "data", image).inline.content) for image in kept] == [3000]
        assert (session.submission_counts.settled, session.submission_counts.unknown) == ((1, 0) if n == 1 else (0, 1))


async def test_timeout_of_the_caller_around_one_picture_ends_the_stream(connect, emulator, tiny):
    """As documented, a stream cannot be continued."""
    emulator.fault("edit", Stuck())
    async with connect() as session:
        async with session.stream(tiny) as stream:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(anext(stream), 0.02)
            assert await read_all(stream) == []
        assert session.submission_counts.unknown == 1


async def test_stream_that_another_coroutine_still_reads_can_be_left(connect, emulator, tiny):
    """The reader gets the error, which is kept once."""
    emulator.fault("edit", Stuck())
    async with connect() as session:
        async with session.stream(tiny) as stream:
            reading = asyncio.create_task(seen(stream))
            await asyncio.sleep(0.01)
        async with asyncio.timeout(60):
            _, error = await reading
        assert error is None or isinstance(error, SubmissionUnknown)
        assert session.submission_counts.unknown == len(session.unknown_submissions) == 1


async def test_session_closed_in_the_middle_ends_the_stream_in_doubt(connect, emulator, tiny):
    emulator.fault("edit", Stuck())
    async with connect() as session:
        async with session.stream(tiny, partial_images=1) as stream:
            await anext(stream)
            reading = asyncio.create_task(seen(stream))
            await asyncio.sleep(0.01)
            await session.aclose()
            async with asyncio.timeout(60):
                _, error = await reading
        assert isinstance(error, SubmissionUnknown)
        assert len(error.partial_images) == 1
        assert session.submission_counts.unknown == 1
    async with asyncio.timeout(60):
        while emulator.connections:
            await asyncio.sleep(0.001)


async def test_stream_takes_one_of_the_places_for_paid_requests(connect, emulator, tiny):
    emulator.fault("edit", Stuck())
    async with connect(max_submits=1, polling=PollPolicy(min_gap_s=1_200_000, max_gap_s=1_200_000)) as session:
        async with session.stream(tiny):
            waiting = asyncio.create_task(session.submit("a cat", model="flux-pro"))
            await asyncio.sleep(0.02)
            assert "1 submits" in repr(session)
            assert not any(request.route == "submit" for request in emulator.requests)
        await waiting
        assert "0 submits" in repr(session)
