"""Pictures that come one by one: previews, then the result, and what a break in between means for the money."""

import asyncio
import base64
import logging

import orjson
import pytest

from lemon_async import (
    BadRequest,
    ContractError,
    EditRequest,
    GenerateRequest,
    LemonSession,
    PartialImage,
    PollPolicy,
    RetryPolicy,
    SessionMisuse,
    SubmissionUnknown,
    TaskFailed,
    Timeouts,
    TransportError,
)
from lemon_async.emulator import Blackhole, Body, Cut, Drip, Fail, Garbage, HalfClose, Reset, Status, Stuck

MODEL = "gpt-image-2"


@pytest.fixture
def tiny(picture):
    """A request whose pictures are quickly drawn: as large as the one it starts from."""
    return EditRequest("a hat", image=picture(mode="RGB"), model=MODEL)


async def read_all(stream):
    return [picture async for picture in stream]


async def seen(stream):
    """Read a stream to its end, or to what breaks it."""
    pictures = []
    try:
        async for picture in stream:
            pictures.append(picture)  # noqa: PERF401 - kept when it breaks
    except Exception as error:  # noqa: BLE001 - the class is what the test looks at
        return pictures, error
    return pictures, None


def event(name, **fields):
    return f"event: {name}\r\n".encode() + b"data: " + orjson.dumps({"type": name, **fields}) + b"\r\n\r\n"


@pytest.fixture
def preview(png):
    text = base64.b64encode(png).decode()
    return lambda index=0: event("image_generation.partial_image", b64_json=text, partial_image_index=index)


@pytest.fixture
def final(png):
    text = base64.b64encode(png).decode()
    return lambda **fields: event("image_generation.completed", b64_json=text, **fields)


@pytest.fixture
def streaming(serve):
    """Open sessions on a server that sends these pieces as events; `None` breaks the connection off."""

    async def open_session(*pieces, is_chunked=True, **options):
        async def answer(_reader, writer):
            head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nX-Request-Id: req_1\r\n"
            writer.write(head + (b"Transfer-Encoding: chunked\r\n\r\n" if is_chunked else b"\r\n"))
            for piece in pieces:
                if piece is None:
                    writer.transport.abort()
                    return
                writer.write(b"%x\r\n%s\r\n" % (len(piece), piece) if is_chunked else piece)
                await writer.drain()
            writer.write(b"0\r\n\r\n" if is_chunked else b"")
            await writer.drain()

        server = await serve(answer)
        return LemonSession("sk-x", base_url=server.origin, retry=RetryPolicy(max_elapsed_s=0), **options)

    return open_session


# To the end


@pytest.mark.parametrize("previews", [0, 1, 3])
async def test_previews_come_first_and_then_the_picture(connect, emulator, tiny, previews):
    async with connect() as session:
        async with session.stream(tiny, partial_images=previews) as stream:
            pictures = await read_all(stream)
            assert [type(picture).__name__ for picture in pictures] == ["PartialImage"] * previews + ["Image"]
            assert [picture.index for picture in pictures[:-1]] == list(range(previews))
            assert [await picture.read() for picture in stream.images] == [await pictures[-1].read()]
            assert repr(stream) == f"<ImageStream over, {previews + 1} pictures, 1 of them finished>"
        assert session.unknown_submissions == ()
        assert (session.spent.sold, session.spent.settled) == (1, 1)
    assert stream.request.partial_images == previews
    assert emulator.ledger.settled == {"a hat": 1}


async def test_prompt_streams_as_well_as_a_request(connect, emulator):
    """The generation's own events, drawn in full size."""
    async with connect() as session, session.stream("a cat", model=MODEL, size="1024x640", partial_images=1) as stream:
        first, last = await read_all(stream)
        assert isinstance(first, PartialImage)
        await last.read()
        assert last.size == (1024, 640)
    assert emulator.ledger.sold == {"a cat": 1}


async def test_result_of_a_stream_says_of_the_job_what_any_other_does(connect, tiny):
    async with connect() as session, session.stream(tiny) as stream:
        with pytest.raises(SessionMisuse, match="the stream has not been read to its end"):
            _ = stream.images
        assert repr(stream) == "<ImageStream open, 0 pictures, 0 of them finished>"
        await read_all(stream)
        assert stream.images.usage["total_tokens"] > 0
        assert stream.images.billing.usage is stream.images.usage
        assert float(stream.images.billing.headers["x-lemondata-estimated-cost-usd"]) > 0
        assert stream.images.created > 1_700_000_000
        assert stream.images.task_id is None


async def test_several_pictures_are_all_waited_for(connect, tiny):
    async with connect() as session, session.stream(tiny, n=3, partial_images=1) as stream:
        pictures = await read_all(stream)
        assert len(pictures) == 4
        assert len(stream.images) == 3
        assert len({await image.read() for image in stream.images}) == 3


async def test_stream_that_is_read_to_its_end_has_nothing_more(connect, tiny):
    async with connect() as session, session.stream(tiny) as stream:
        await read_all(stream)
        assert await read_all(stream) == []


async def test_fewer_pictures_than_asked_are_returned(streaming, final, preview):
    """What arrived is paid for; the service's orderly end is its word that there is no more."""
    async with await streaming(preview(), final()) as session, session.stream("a cat", model=MODEL, n=2) as stream:
        assert len(await read_all(stream)) == 2
        assert len(stream.images) == 1
        assert session.unknown_submissions == ()


@pytest.mark.parametrize("after", ["error", "final", "preview"])
@pytest.mark.parametrize("is_one_piece", [True, False])
async def test_what_follows_the_last_picture_changes_nothing(streaming, final, preview, after, is_one_piece):
    """Whether it comes with the picture or after it: the first end wins, and counts once."""
    rest = {"error": event("error", error={"message": "late"}), "final": final(), "preview": preview()}[after]
    pieces = [final() + rest] if is_one_piece else [final(), rest]
    async with await streaming(*pieces) as session:
        async with session.stream("a cat", model=MODEL) as stream:
            assert len(await read_all(stream)) == 1
            assert len(stream.images) == 1
        assert (session.spent.sold, session.spent.settled, session.spent.unknown) == (1, 1, 0)


async def test_comments_and_events_of_tomorrow_are_passed_over(streaming, final, preview):
    pieces = [b": keep-alive\n\n", event("image_generation.started", step=1), preview(), b"data: [DONE]\n\n", final()]
    async with await streaming(*pieces) as session, session.stream("a cat", model=MODEL) as stream:
        assert len(await read_all(stream)) == 2


@pytest.mark.parametrize("piece_bytes", [1, 7, 1000])
async def test_pieces_begin_and_end_anywhere(streaming, final, preview, piece_bytes):
    content = preview(0) + preview(1) + final()
    pieces = [content[at : at + piece_bytes] for at in range(0, len(content), piece_bytes)]
    async with await streaming(*pieces) as session, session.stream("a cat", model=MODEL) as stream:
        assert [getattr(picture, "index", None) for picture in await read_all(stream)] == [0, 1, None]


async def test_picture_of_megabytes_is_read_beside_the_loop(streaming):
    """Its base64 is one line of the stream."""
    text = base64.b64encode(bytes(2_000_000)).decode()
    long = event("image_generation.completed", b64_json=text)
    async with await streaming(long) as session, session.stream("a cat", model=MODEL) as stream:
        (picture,) = await read_all(stream)
        assert picture.data.b64_json == text


# In one piece after all


async def test_service_that_answers_with_pictures_at_once_delivers_them(connect, emulator, png, tiny):
    content = orjson.dumps({"created": 7, "data": [{"b64_json": base64.b64encode(png).decode()}]})
    emulator.fault("edit", Body(content, "application/json"))
    async with connect() as session:
        async with session.stream(tiny) as stream:
            (picture,) = await read_all(stream)
            assert await picture.read() == png
            assert stream.images.created == 7
        assert (session.spent.sold, session.spent.settled, session.spent.unknown) == (1, 1, 0)


async def test_service_that_answers_with_a_task_is_polled(connect, emulator):
    """`async` in a model of tomorrow: the stream waits as `await task` does."""
    async with connect(check_contracts=False) as session:
        emulator.fault("submit", Body(b'{"task_id": "ldtask_1", "status": "pending"}', "application/json"))
        answer = b'{"task_id": "ldtask_1", "status": "completed", "data": [{"url": "http://127.0.0.1:1/a.png"}]}'
        emulator.fault("poll", Body(answer, "application/json"), nth=[2])
        emulator.fault("poll", Body(b'{"task_id": "ldtask_1", "status": "processing"}', "application/json"))
        async with session.stream("a cat", model="flux-pro") as stream:
            assert len(session.pending) == 1
            (picture,) = await read_all(stream)
            assert picture.url == "http://127.0.0.1:1/a.png"
            assert stream.images.task_id == "ldtask_1"
        assert session.spent.settled == 1


async def test_task_of_a_stream_that_is_left_stays_in_pending(connect, emulator):
    """It is known by its id, so nothing is in doubt."""
    emulator.fault("submit", Body(b'{"task_id": "ldtask_1", "status": "pending"}', "application/json"))
    emulator.fault("poll", Body(b'{"task_id": "ldtask_1", "status": "processing"}', "application/json"))
    async with connect(check_contracts=False) as session:
        async with session.stream("a cat", model="flux-pro") as stream:
            reading = asyncio.create_task(read_all(stream))
            await asyncio.sleep(0.01)
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
        assert [task.id for task in session.pending] == ["ldtask_1"]
        assert session.unknown_submissions == ()


# Not begun


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"model": "dall-e-3"}, "model: DALL-E 3 does not stream"),
        ({"model": MODEL, "async_": True}, "async: is the opposite of a stream"),
        ({"model": MODEL, "partial_images": 4}, "partial_images: must be a whole number from 0 to 3"),
    ],
)
async def test_request_that_cannot_stream_is_refused_before_it_is_sent(connect, emulator, fields, fault):
    async with connect() as session:
        with pytest.raises(ContractError, match=fault):
            async with session.stream("a cat", **fields):
                pytest.fail("entered")
    assert emulator.requests == []


async def test_refusal_of_the_service_is_raised_on_entering(connect, emulator, tiny):
    emulator.fault("edit", Status(400, code="content_policy"))
    async with connect() as session:
        with pytest.raises(BadRequest, match="content_policy"):
            async with session.stream(tiny):
                pytest.fail("entered")
        assert session.spent.unknown == session.spent.sold == 0


async def test_refusal_that_invites_is_followed_by_a_stream(connect, emulator, tiny):
    emulator.fault("edit", Status(429, headers={"Retry-After": "0.01"}), times=2)
    retry = RetryPolicy(max_elapsed_s=5, first_backoff_s=0.001)
    async with connect(retry=retry) as session, session.stream(tiny) as stream:
        await read_all(stream)
    assert emulator.ledger.sold == {"a hat": 1}


async def test_closed_session_opens_no_stream(connect, emulator, tiny):
    async with connect() as session:
        pass
    with pytest.raises(SessionMisuse, match="the session is closed"):
        async with session.stream(tiny):
            pytest.fail("entered")
    assert emulator.requests == []


async def test_service_that_is_not_there_sells_nothing(tiny):
    async with LemonSession("sk-x", base_url="http://127.0.0.1:9", retry=RetryPolicy(max_elapsed_s=0)) as session:
        with pytest.raises(TransportError, match="nothing was sold"):
            async with session.stream(tiny):
                pytest.fail("entered")


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
        assert error.partial_images == tuple(picture.data for picture in pictures)
        assert (session.spent.sold, session.spent.unknown) == (0, 1)


@pytest.mark.parametrize("complete", range(5))
@pytest.mark.parametrize("half", [0, 0.5])
async def test_stream_cut_at_any_point_hands_out_what_had_arrived(streaming, preview, final, complete, half):
    """Two previews and two pictures, of which a part came; the last one is cut."""
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
        assert error.partial_images == tuple(picture.data for picture in pictures)
        assert error.request == GenerateRequest("a cat", model=MODEL, n=2)
        assert [doubt.partial_images for doubt in session.unknown_submissions] == [error.partial_images]
        with pytest.raises(SessionMisuse):
            _ = stream.images


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
        assert session.spent.unknown == 1


async def test_last_event_without_a_blank_line_counts(streaming, final):
    session = await streaming(final()[:-2], is_chunked=False)
    async with session, session.stream("a cat", model=MODEL) as stream:
        assert len(await read_all(stream)) == 1


async def test_stream_longer_than_any_that_makes_sense_is_in_doubt(streaming, preview, monkeypatch):
    monkeypatch.setattr("lemon_async.api.events.EventSplitter.__init__.__defaults__", (500,))
    async with await streaming(preview(), preview(), preview(), preview()) as session:
        async with session.stream("a cat", model=MODEL) as stream:
            _, error = await seen(stream)
        assert isinstance(error, SubmissionUnknown)
        assert error.reason == "a stream of more than 500 bytes"
        assert session.spent.unknown == 1


@pytest.mark.parametrize("action", [Drip(bytes_per_s=1000), Blackhole()], ids=str)
async def test_stream_that_never_ends_ends_in_time(connect, emulator, tiny, action):
    emulator.fault("edit", action)
    async with connect(timeouts=Timeouts(submit_s=0.1)) as session, asyncio.timeout(3):
        with pytest.raises(SubmissionUnknown, match=r"no answer within 0\.1 s"):
            async with session.stream(tiny) as stream:
                await read_all(stream)


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
    """The status 200 has long been sent; the event tells, and the money comes back."""
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
        assert (session.spent.sold, session.spent.released) == (1, 1)
    assert emulator.ledger.released == {"a hat": 1}


# Left


async def test_stream_that_is_left_early_leaves_a_doubt(connect, emulator, tiny, caplog):
    """Who leaves is not told by an error, so the session keeps it and the log says it."""
    emulator.fault("edit", Stuck())
    async with connect() as session:
        async with session.stream(tiny, partial_images=2) as stream:
            picture = await anext(stream)
        (doubt,) = session.unknown_submissions
        assert doubt.reason == "the stream was left before its end"
        assert doubt.partial_images == (picture.data,)
        assert repr(stream) == "<ImageStream over, 1 pictures, 0 of them finished>"
        assert (session.spent.sold, session.spent.unknown) == (0, 1)
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
        (doubt,) = session.unknown_submissions
        assert isinstance(caught.value.__cause__, SubmissionUnknown)
        assert len(doubt.partial_images) == len(caught.value.__cause__.partial_images) == 1
        assert session.spent.unknown == 1
    assert "its fate is unknown" in caplog.text


async def test_timeout_of_the_caller_around_one_picture_breaks_the_stream_off(connect, emulator, tiny):
    """As its docstring says: there is no way back into a stream."""
    emulator.fault("edit", Stuck())
    async with connect() as session:
        async with session.stream(tiny) as stream:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(anext(stream), 0.02)
            assert await read_all(stream) == []
        assert session.spent.unknown == 1


async def test_stream_that_another_coroutine_still_reads_can_be_left(connect, emulator, tiny):
    """The reader hears of the end, and the doubt is kept once."""
    emulator.fault("edit", Stuck())
    async with connect() as session:
        async with session.stream(tiny) as stream:
            reading = asyncio.create_task(seen(stream))
            await asyncio.sleep(0.01)
        async with asyncio.timeout(5):
            _, error = await reading
        assert error is None or isinstance(error, SubmissionUnknown)
        assert session.spent.unknown == len(session.unknown_submissions) == 1


async def test_session_closed_in_the_middle_ends_the_stream_in_doubt(connect, emulator, tiny):
    emulator.fault("edit", Stuck())
    async with connect() as session:
        async with session.stream(tiny, partial_images=1) as stream:
            await anext(stream)
            reading = asyncio.create_task(seen(stream))
            await asyncio.sleep(0.01)
            await session.aclose()
            async with asyncio.timeout(5):
                _, error = await reading
        assert isinstance(error, SubmissionUnknown)
        assert len(error.partial_images) == 1
        assert session.spent.unknown == 1
    async with asyncio.timeout(5):
        while emulator.connections:
            await asyncio.sleep(0.001)


async def test_stream_takes_one_of_the_places_for_paid_requests(connect, emulator, tiny):
    emulator.fault("edit", Stuck())
    async with connect(max_submits=1, polling=PollPolicy(min_gap_s=20, max_gap_s=20)) as session:
        async with session.stream(tiny):
            waiting = asyncio.create_task(session.submit("a cat", model="flux-pro"))
            await asyncio.sleep(0.02)
            assert "1 submits" in repr(session)
            assert not any(request.route == "submit" for request in emulator.requests)
        await waiting
        assert "0 submits" in repr(session)
