"""Streams yield previews, then the result."""

import asyncio
import base64
import gzip

import orjson
import pytest

from lemon_async import ContractError, LemonSession, PartialImage, RetryPolicy, TransportError
from lemon_async.emulator import Body, Status
from lemon_async.errors import BadRequest, SessionError

MODEL = "gpt-image-2"


async def read_all(stream):
    return [picture async for picture in stream]


def event(name, **fields):
    return f"event: {name}\r\n".encode() + b"data: " + orjson.dumps({"type": name, **fields}) + b"\r\n\r\n"


# To the end


@pytest.mark.parametrize("previews", [0, 1, 3])
async def test_previews_come_first_and_then_the_picture(connect, emulator, tiny, previews):
    async with connect() as session:
        async with session.stream(tiny, partial_images=previews) as stream:
            pictures = await read_all(stream)
            assert [type(picture).__name__ for picture in pictures] == ["PartialImage"] * previews + ["Image"]
            assert [picture.index for picture in pictures[:-1]] == list(range(previews))
            assert [await picture.read() for picture in stream.images] == [await pictures[-1].read()]
            assert repr(stream) == f"<ImageStream over, {previews} previews, 1 pictures>"
        assert session.unknown_submissions == ()
        assert (session.submission_counts.sold, session.submission_counts.settled) == (1, 1)
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
        with pytest.raises(SessionError, match="the stream has not been read to its end"):
            _ = stream.images
        assert repr(stream) == "<ImageStream open, 0 previews, 0 pictures>"
        await read_all(stream)
        assert stream.images.usage["total_tokens"] > 0
        assert stream.images.billing.usage is stream.images.usage
        assert float(stream.images.billing.headers["x-lemondata-estimated-cost-usd"]) > 0
        assert stream.images.created > 1_700_000_000
        assert stream.images.task_id is None


async def test_usage_of_several_pictures_is_summed_with_its_details_and_no_deeper(streaming, final):
    deep = orjson.Fragment(b'{"a":' * 900 + b"1" + b"}" * 900)
    usage = {"total_tokens": 2, "details": {"text": 1}, "deep": deep, "odd": "x"}
    pieces = [final(usage=usage), final(usage=usage)]
    async with await streaming(*pieces) as session, session.stream("a cat", model=MODEL, n=2) as stream:
        await read_all(stream)
        assert stream.images.usage["total_tokens"] == 4
        assert stream.images.usage["details"] == {"text": 2}
        assert stream.images.usage["odd"] == "x"


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


async def test_fewer_pictures_than_requested_are_returned(streaming, final, preview):
    """A stream that ends in order is complete, even with fewer pictures."""
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
        assert (
            session.submission_counts.sold,
            session.submission_counts.settled,
            session.submission_counts.unknown,
        ) == (1, 1, 0)


async def test_comments_and_events_of_tomorrow_are_passed_over(streaming, final, preview):
    pieces = [b": keep-alive\n\n", event("image_generation.started", step=1), preview(), b"data: [DONE]\n\n", final()]
    async with await streaming(*pieces) as session, session.stream("a cat", model=MODEL) as stream:
        assert len(await read_all(stream)) == 2


@pytest.mark.parametrize("piece_bytes", [1, 7, 1000])
async def test_pieces_begin_and_end_anywhere(streaming, final, preview, piece_bytes):
    content = preview(0) + preview(1) + final()
    pieces = [content[at : at + piece_bytes] for at in range(0, len(content), piece_bytes)]
    async with await streaming(*pieces) as session, session.stream("a cat", model=MODEL) as stream:
        assert [getattr(picture, "index", None) for picture in await read_all(stream)] == [0, 1, 0]


@pytest.mark.parametrize("size", [1_000, 2_000_000])
async def test_picture_of_megabytes_is_decoded_as_it_comes(streaming, size):
    """Its base64 is one line of the stream, and never parsed in one step."""
    text = base64.b64encode(bytes(size)).decode()
    long = event("image_generation.completed", b64_json=text)
    async with await streaming(long) as session, session.stream("a cat", model=MODEL) as stream:
        (picture,) = await read_all(stream)
        assert picture.data.content() == bytes(size)


@pytest.mark.parametrize("piece_bytes", [7, 10_000])
async def test_compressed_stream_is_decompressed(streaming, preview, final, piece_bytes):
    """Compression was not requested, but the pictures are paid for."""
    content = gzip.compress(preview() + final())
    pieces = [content[at : at + piece_bytes] for at in range(0, len(content), piece_bytes)]
    async with await streaming(*pieces, coding="gzip") as session, session.stream("a cat", model=MODEL) as stream:
        assert len(await read_all(stream)) == 2


# In one piece after all


async def test_inline_response_that_is_not_read_is_not_unknown(connect, emulator, tiny):
    """It is a task like any other."""
    emulator.fault("edit", Body(b'{"task_id": "ldtask_1", "status": "pending"}', "application/json"))
    async with connect() as session:
        async with session.stream(tiny):
            pass
        assert (session.submission_counts.sold, session.submission_counts.unknown) == (1, 0)
        assert [task.id for task in session.pending] == ["ldtask_1"]


async def test_service_that_answers_with_pictures_at_once_delivers_them(connect, emulator, png, tiny):
    content = orjson.dumps({"created": 7, "data": [{"b64_json": base64.b64encode(png).decode()}]})
    emulator.fault("edit", Body(content, "application/json"))
    async with connect() as session:
        async with session.stream(tiny) as stream:
            (picture,) = await read_all(stream)
            assert await picture.read() == png
            assert stream.images.created == 7
        assert (
            session.submission_counts.sold,
            session.submission_counts.settled,
            session.submission_counts.unknown,
        ) == (1, 1, 0)


async def test_service_that_answers_with_a_task_is_polled(connect, emulator):
    """As for a future model that is always asynchronous: the stream waits as `await task` does."""
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
        assert session.submission_counts.settled == 1


async def test_task_of_a_stream_that_is_left_stays_in_pending(connect, emulator):
    """Its id is known, so nothing is unknown."""
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
        assert session.submission_counts.unknown == session.submission_counts.sold == 0


async def test_refusal_that_invites_is_followed_by_a_stream(connect, emulator, tiny):
    emulator.fault("edit", Status(429, headers={"Retry-After": "0.01"}), times=2)
    retry = RetryPolicy(max_elapsed_s=20, first_backoff_s=0.001)
    async with connect(retry=retry) as session, session.stream(tiny) as stream:
        await read_all(stream)
    assert emulator.ledger.sold == {"a hat": 1}


async def test_closed_session_opens_no_stream(connect, emulator, tiny):
    async with connect() as session:
        pass
    with pytest.raises(SessionError, match="the session is closed"):
        async with session.stream(tiny):
            pytest.fail("entered")
    assert emulator.requests == []


async def test_service_that_is_not_there_sells_nothing(tiny):
    async with LemonSession("sk-x", base_url="http://127.0.0.1:9", retry=RetryPolicy(max_elapsed_s=0)) as session:
        with pytest.raises(TransportError, match="nothing was sold"):
            async with session.stream(tiny):
                pytest.fail("entered")


async def test_finished_picture_of_the_stream_is_the_one_in_images(connect, tmp_path):
    """One that was saved on arrival is read from its file; previews stay in memory while an error may need them."""
    async with connect() as session:
        async with session.stream("a cat", model="gpt-image-2", partial_images=1) as stream:
            preview = await anext(stream)
            await preview.save(tmp_path / "0.png")
            assert stream._delivered.partial[0].content() == await preview.read()
            picture = await anext(stream)
            await picture.save(tmp_path / "1.png")
        assert stream.images[0] is picture
        assert await stream.images[0].read() == (tmp_path / "1.png").read_bytes()
    assert [entry.inline.content for entry in (*stream._delivered.partial, *stream._delivered.finished)] == [None, None]
