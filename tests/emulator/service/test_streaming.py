"""Streams send previews and pictures as they are due, and faults break them like other responses."""

import asyncio
import base64
import io
import json

import aiohttp
import pytest
from aiohttp import FormData
from attrs import frozen
from PIL import Image, ImageChops, ImageStat

from lemon_async.emulator import (
    Answer,
    Blackhole,
    Cut,
    Drip,
    Emulator,
    Fail,
    Garbage,
    HalfClose,
    Latency,
    Reset,
    Result,
    Status,
    Stuck,
)
from lemon_async.emulator.clock import Clock
from lemon_async.emulator.pictures.renderer import Renderer
from lemon_async.emulator.service.job_spec import parse_job
from lemon_async.emulator.service.store import Store
from lemon_async.emulator.service.streaming import ImageStream

GENERATIONS, EDITS = "/v1/images/generations", "/v1/images/edits"
FIELDS = {"model": "gpt-image-2", "prompt": "a cat", "size": "1024x640", "stream": True}


@frozen
class Event:
    """One event: its name and its parsed `data`."""

    name: str
    data: dict

    @property
    def picture(self):
        image = Image.open(io.BytesIO(base64.b64decode(self.data["b64_json"])))
        image.load()
        return image


def events_in(raw):
    """Parse a stream; every event is two lines and an empty one."""
    assert not raw or raw.endswith(b"\n\n")
    for block in raw.split(b"\n\n")[:-1]:
        name, data = block.split(b"\n")
        yield Event(name.removeprefix(b"event: ").decode(), json.loads(data.removeprefix(b"data: ")))


@pytest.fixture
def stream(client):
    """How to request a stream and read it to its end."""

    async def ask(**fields):
        answer = await client.ask("POST", GENERATIONS, json={**FIELDS, **fields})
        assert answer.status == 200, answer.raw
        assert answer.headers["Content-Type"] == "text/event-stream"
        return list(events_in(answer.raw))

    return ask


def post(http, emu, **fields):
    """Request a stream; the caller reads it."""
    headers = {"Authorization": f"Bearer {emu.api_key}"}
    timeout = aiohttp.ClientTimeout(total=60)
    # The buffer holds an event: lines are read in one piece.
    options = {"headers": headers, "timeout": timeout, "read_bufsize": 2**24}
    return http.post(emu.base_url + GENERATIONS, json={**FIELDS, **fields}, **options)


def png(size=(64, 64), mode="RGBA"):
    """Return a picture as bytes."""
    file = io.BytesIO()
    Image.new(mode, size, "red").save(file, "png")
    return file.getvalue()


# The events


async def test_stream_without_previews_is_one_picture(stream):
    """The event has the fields of OpenAI's image streaming."""
    (event,) = await stream()
    assert event.name == "image_generation.completed"
    assert event.picture.size == (1024, 640)
    assert set(event.data) == {
        "type",
        "created_at",
        "size",
        "quality",
        "background",
        "output_format",
        "b64_json",
        "usage",
    }


async def test_events_repeat_the_requested_fields(stream):
    """Previews have the format of the picture."""
    fields = {"quality": "low", "background": "transparent", "output_format": "webp", "size": "640x1024"}
    for event in await stream(partial_images=1, **fields):
        assert {name: event.data[name] for name in fields} == fields
        assert event.picture.format == "WEBP"
        assert event.data["type"] == event.name


async def test_previews_come_before_the_picture(stream):
    """At most three, numbered from 0; only the picture has usage."""
    for count in (1, 2, 3):
        *previews, last = await stream(partial_images=count)
        assert {event.name for event in previews} == {"image_generation.partial_image"}
        assert [event.data["partial_image_index"] for event in previews] == list(range(count))
        assert last.name == "image_generation.completed"
        assert not any("usage" in event.data for event in previews)


async def test_previews_are_the_picture_and_get_sharper(stream):
    """Each one is closer to the result."""
    *previews, last = (event.picture.convert("RGB") for event in await stream(partial_images=3))
    blurs = [sum(ImageStat.Stat(ImageChops.difference(preview, last)).mean) for preview in previews]
    assert blurs == sorted(blurs, reverse=True)
    assert 0 < blurs[2] < blurs[1] < blurs[0] < 60
    assert {preview.size for preview in previews} == {last.size}


async def test_streamed_picture_is_the_one_that_is_answered_inline(client, stream):
    (event,) = await stream()
    answer = await client.ask("POST", GENERATIONS, json={**FIELDS, "stream": False, "response_format": "b64_json"})
    assert answer.json["data"][0]["b64_json"] == event.data["b64_json"]


async def test_every_picture_has_its_event_and_usage_adds_up(client, stream):
    """The sum is the usage of the inline response."""
    events = await stream(n=3)
    inline = await client.ask("POST", GENERATIONS, json={**FIELDS, "stream": False, "n": 3})
    assert [event.name for event in events] == ["image_generation.completed"] * 3
    assert len({event.data["b64_json"] for event in events}) == 3
    for name in ("input_tokens", "output_tokens", "total_tokens"):
        assert sum(event.data["usage"][name] for event in events) == inline.json["usage"][name]


@pytest.mark.parametrize("is_form", [True, False])
async def test_edits_are_streamed(emu, client, is_form):
    """From a form with text fields, and from JSON with an uploaded file."""
    if is_form:
        form = FormData({"model": "gpt-image-2", "prompt": "p", "stream": "true", "partial_images": "2"})
        form.add_field("image", png(), filename="a.png")
        answer = await client.ask("POST", EDITS, data=form)
    else:
        form = FormData({"purpose": "vision"})
        form.add_field("file", png(), filename="a.png")
        sent = await client.ask("POST", "/v1/files", data=form)
        body = {**FIELDS, "partial_images": 2, "images": [{"file_id": sent.json["id"]}]}
        answer = await client.ask("POST", EDITS, json=body)
    events = list(events_in(answer.raw))
    assert [event.name for event in events] == ["image_edit.partial_image"] * 2 + ["image_edit.completed"]
    assert events[-1].data["usage"]["input_tokens_details"]["image_tokens"] > 0
    assert emu.ledger.settled.total() == 1


# Refusals


async def test_invalid_stream_is_refused_and_not_reserved(emu, client):
    """Only gpt-image-2 streams, and not as a task."""
    for fields, param in [
        ({"model": "dall-e-3", "size": "1024x1024"}, "stream"),
        ({"model": "flux-pro"}, "stream"),
        ({"async": True}, "stream"),
        ({"stream": "yes"}, "stream"),
        ({"partial_images": 4}, "partial_images"),
        ({"partial_images": True}, "partial_images"),
    ]:
        answer = await client.ask("POST", GENERATIONS, json={**FIELDS, **fields})
        assert (answer.status, answer.json["error"]["param"]) == (400, param), fields
    assert not emu.ledger.sold


async def test_previews_without_a_stream_are_ignored(client):
    """`partial_images` alone does not stream."""
    answer = await client.ask("POST", GENERATIONS, json={**FIELDS, "stream": False, "partial_images": 3})
    assert set(answer.json) == {"created", "data", "usage"}


# Time


def test_previews_are_spread_evenly_over_the_job():
    store, clock = Store(seed=1, durations=10.0), Clock()
    task = store.accept(parse_job({**FIELDS, "partial_images": 3}), key="k", now=100.0, created=0)
    quarter = (task.done_at - 100.0) / 4
    stream = ImageStream(task, (), Renderer(), clock)
    assert list(stream.preview_times()) == pytest.approx([100.0 + part * quarter for part in (1, 2, 3)])


async def test_no_event_is_sent_before_it_is_due(http):
    """Neither the preview nor the picture."""
    accepted = []
    async with Emulator(durations=30.0, speed=100) as emu:
        emu._store.on_change = accepted.append
        async with post(http, emu, partial_images=1, output_format="jpeg") as answer:
            task = accepted[0]
            received = [emu.now() async for line in answer.content if line.startswith(b"event")]
        assert received[0] >= (task.born_at + task.done_at) / 2
        assert received[1] >= task.done_at
        assert emu.ledger.settled == {"a cat": 1}


async def test_stream_is_reserved_when_accepted_even_if_the_client_leaves(http, until):
    """The head arrives long before the first preview is due."""
    async with Emulator(durations=1000.0) as emu:
        async with post(http, emu, partial_images=3) as answer:
            assert answer.headers["Transfer-Encoding"] == "chunked"
            assert emu.ledger.open == {"a cat"}
            answer.close()
        await until(lambda: emu.connections == 0)
        assert emu.ledger.sold == {"a cat": 1}


async def test_handler_ends_with_its_connection(http, until):
    """Nothing is drawn for a client that has left."""
    async with Emulator(durations=1000.0) as emu:
        before = asyncio.all_tasks()
        async with post(http, emu) as answer:
            assert len(asyncio.all_tasks()) > len(before)
            answer.close()
        await until(lambda: asyncio.all_tasks() <= before)


async def test_connection_serves_again_after_a_stream(emu, client, stream):
    """Streams are chunked, so they do not end the connection."""
    await stream()
    await stream()
    assert (await client.submit()).status == 200
    assert emu.connections == 1


# Faults


async def test_failed_job_ends_with_an_error_event_and_is_released(emu, stream):
    emu.fault("submit", Fail({"code": "content_policy", "message": "no"}), nth=[1])
    emu.fault("submit", Fail("boom"), nth=[2])
    emu.fault("submit", Fail(None), nth=[3])
    *previews, event = await stream(partial_images=2)
    assert len(previews) == 2
    assert (event.name, event.data["type"]) == ("error", "error")
    assert (event.data["error"]["code"], event.data["error"]["message"]) == ("content_policy", "no")
    (event,) = await stream()
    assert (event.data["error"]["code"], event.data["error"]["message"]) == ("upstream_error", "boom")
    (event,) = await stream()
    assert event.data["error"]["message"] == "The upstream provider failed."
    assert emu.ledger.released == {"a cat": 3}


async def test_scripted_results_and_answers_reach_the_events(emu, stream):
    """`Answer` changes the pictures and not the previews."""
    emu.fault("submit", Answer(usage=None, extra=1), nth=[1])
    emu.fault("submit", Result([{"b64_json": ""}, "weird"]), nth=[2])
    preview, event = await stream(partial_images=1)
    assert "extra" not in preview.data
    assert event.data["extra"] == 1
    assert "usage" not in event.data
    first, second = await stream()
    assert (first.name, first.data["b64_json"]) == ("image_generation.completed", "")
    assert second.data == "weird"


async def test_stuck_stream_sends_its_previews_and_nothing_more(emu, http):
    emu.fault("submit", Stuck())
    received = b""
    async with post(http, emu, partial_images=1) as answer:
        while not received.endswith(b"\n\n"):
            received += await answer.content.readany()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(answer.content.readany(), 0.03)
    assert [event.name for event in events_in(received)] == ["image_generation.partial_image"]
    assert emu.ledger.open == {"a cat"}


async def test_refusals_and_latency_work_on_streams(emu, client, stream):
    """A refusal is JSON."""
    emu.fault("submit", Status(503, error={"retryable": True}), nth=[1])
    emu.fault("submit", Latency(5), nth=[2])
    answer = await client.ask("POST", GENERATIONS, json=FIELDS)
    assert (answer.status, answer.json["error"]["retryable"]) == (503, True)
    assert len(await stream()) == 1


async def raw_stream(submit_bytes, wire, **fields):
    return await wire(submit_bytes(json.dumps({**FIELDS, "partial_images": 2, **fields}).encode()))


async def test_cut_stream_ends_after_so_many_bytes(emu, wire, submit_bytes):
    """The job is sold."""
    emu.fault("submit", Cut(1000))
    raw = await raw_stream(submit_bytes, wire)
    assert raw.is_reset
    assert len(raw.body) == 1000
    assert raw.body.startswith(b"event: image_generation.partial_image\ndata: {")
    assert emu.ledger.sold == {"a cat": 1}


@pytest.mark.parametrize("do", [Reset("response_body"), HalfClose("response_body")])
async def test_broken_stream_ends_in_its_middle(emu, wire, submit_bytes, do):
    emu.fault("submit", do)
    raw = await raw_stream(submit_bytes, wire)
    assert raw.is_reset == isinstance(do, Reset)
    assert b"text/event-stream" in raw.head
    assert raw.body.count(b"event: ") in {1, 2}
    assert not raw.body.endswith(b"\n\n")


async def test_dripping_stream_is_whole_in_the_end(emu, wire, submit_bytes):
    """Only its pace changes."""
    emu.fault("submit", Drip(40e6))
    raw = await raw_stream(submit_bytes, wire)
    assert len(list(events_in(raw.body))) == 3


@pytest.mark.parametrize("do", [Garbage(), Reset("request_end"), Reset("response_head")])
async def test_stream_without_a_response_is_reserved(emu, http, do):
    emu.fault("submit", do)
    with pytest.raises(aiohttp.ClientError):
        await post(http, emu)
    assert emu.ledger.sold == {"a cat": 1}


async def test_stream_that_never_begins_is_reserved(emu, http, hang_up):
    emu.fault("submit", Blackhole())
    await hang_up(post(http, emu), lambda: emu.ledger.sold)
    assert emu.ledger.sold == {"a cat": 1}
