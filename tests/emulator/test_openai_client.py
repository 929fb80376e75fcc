"""The official OpenAI SDK works with the emulator; only its base URL and key are set."""

import base64
import io
from importlib import import_module

import pytest
from PIL import Image

from lemon_async.emulator import Emulator, Fail, Status
from lemon_async.emulator.service.model_families import MODEL_IDS


@pytest.fixture(scope="session")
def sdk():
    """The SDK, which takes long to import: only workers that run its tests do."""
    return import_module("openai")


@pytest.fixture
async def openai(emu, sdk):
    async with sdk.AsyncOpenAI(base_url=f"{emu.base_url}/v1", api_key=emu.api_key, timeout=60, max_retries=0) as client:
        yield client


def decoded(image):
    """Decode the picture of an image or an event."""
    picture = Image.open(io.BytesIO(base64.b64decode(image.b64_json)))
    picture.load()
    return picture


def png(*, colour=(200, 30, 30, 255), size=(64, 64)):
    """Return a picture file as the SDK takes it: name, bytes, type."""
    file = io.BytesIO()
    Image.new("RGBA", size, colour).save(file, "png")
    return ("picture.png", file.getvalue(), "image/png")


# Generations


async def test_generate_returns_links(client, openai):
    answer = await openai.images.generate(model="dall-e-3", prompt="a cat", size="1024x1024", quality="hd")
    assert answer.data[0].revised_prompt == "a cat"
    assert (await client.get(answer.data[0].url)).status == 200


async def test_generate_returns_base64_and_usage(openai):
    answer = await openai.images.generate(
        model="gpt-image-2", prompt="a cat", n=2, size="1024x640", response_format="b64_json"
    )
    assert [decoded(image).size for image in answer.data] == [(1024, 640)] * 2
    assert answer.usage.total_tokens == answer.usage.input_tokens + answer.usage.output_tokens
    assert answer.usage.output_tokens_details.image_tokens == answer.usage.output_tokens


async def test_generate_streams_previews(openai):
    stream = await openai.images.generate(
        model="gpt-image-2", prompt="a cat", size="1024x640", quality="low", stream=True, partial_images=2
    )
    *previews, last = [event async for event in stream]
    assert [event.partial_image_index for event in previews] == [0, 1]
    assert {event.type for event in previews} == {"image_generation.partial_image"}
    assert (last.type, last.quality, last.output_format) == ("image_generation.completed", "low", "png")
    assert {decoded(event).size for event in (*previews, last)} == {(1024, 640)}
    assert last.usage.input_tokens_details.image_tokens == 0


async def test_stream_that_fails_raises(emu, openai, sdk):
    emu.fault("submit", Fail({"code": "content_policy", "message": "no"}))
    stream = await openai.images.generate(model="gpt-image-2", prompt="a cat", stream=True)
    with pytest.raises(sdk.APIError, match="no") as caught:
        _ = [event async for event in stream]
    assert caught.value.code == "content_policy"


async def test_task_can_be_read_and_polled(openai):
    """The SDK does not know tasks, but its models keep unknown fields, and `get` takes any path."""
    task = await openai.images.generate(model="flux-pro", prompt="a cat", extra_body={"aspect_ratio": "16:9"})
    assert (task.status, task.data[0].url) == ("pending", "")
    snapshot = await openai.get(task.poll_url.removeprefix("/v1"), cast_to=dict)
    assert snapshot["status"] == "completed"


# Edits and variations


async def test_edit_of_one_image(openai):
    answer = await openai.images.edit(image=png(), prompt="a hat", model="gpt-image-2", response_format="b64_json")
    assert decoded(answer.data[0]).size == (64, 64)


async def test_edit_of_many_images(openai):
    answer = await openai.images.edit(
        image=[png(), png(colour=(0, 200, 0, 255))], prompt="both", model="gpt-image-2", n=2
    )
    assert len(answer.data) == 2
    assert answer.usage.input_tokens_details.image_tokens > 0


async def test_edit_with_a_mask_keeps_the_rest(openai):
    mask = Image.new("RGBA", (64, 64), (0, 0, 0, 255))
    mask.paste((0, 0, 0, 0), (0, 0, 32, 64))
    file = io.BytesIO()
    mask.save(file, "png")
    answer = await openai.images.edit(
        image=png(), mask=("mask.png", file.getvalue()), prompt="a hat", model="gpt-image-2", response_format="b64_json"
    )
    picture = decoded(answer.data[0]).convert("RGB")
    assert picture.getpixel((48, 32)) == (200, 30, 30)
    assert picture.getpixel((8, 32)) != (200, 30, 30)


async def test_edit_streams_previews(openai):
    stream = await openai.images.edit(
        image=png(), prompt="a hat", model="gpt-image-2", stream=True, partial_images=1, output_format="webp"
    )
    events = [event async for event in stream]
    assert [event.type for event in events] == ["image_edit.partial_image", "image_edit.completed"]
    assert {decoded(event).format for event in events} == {"WEBP"}


async def test_edit_of_an_uploaded_file(openai):
    file = await openai.files.create(file=png(), purpose="vision")
    body = {"prompt": "a hat", "model": "gpt-image-2", "images": [{"file_id": file.id}]}
    answer = await openai.post("/images/edits", body=body, cast_to=dict)
    assert answer["data"][0]["url"]


@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")  # variations are, in the SDK
async def test_variation(openai):
    answer = await openai.images.create_variation(image=png(), n=2, size="256x256", response_format="b64_json")
    assert [decoded(image).size for image in answer.data] == [(256, 256)] * 2


# Files and models


async def test_files_are_created_read_and_deleted(openai, sdk):
    sent = [
        await openai.files.create(file=png(colour=(n, 0, 0, 255)), purpose=purpose)
        for n, purpose in enumerate(["vision", "user_data", "vision"])
    ]
    first = sent[0]
    assert (first.object, first.purpose, first.status, first.filename) == ("file", "vision", "processed", "picture.png")
    assert (await openai.files.retrieve(first.id)) == first
    content = await openai.files.content(first.id)
    assert content.read() == png(colour=(0, 0, 0, 255))[1]
    assert first.bytes == len(content.read())
    assert (await openai.files.delete(first.id)).deleted
    with pytest.raises(sdk.NotFoundError, match="No such File object"):
        await openai.files.retrieve(first.id)


async def test_files_are_listed_page_by_page(openai):
    sent = [(await openai.files.create(file=png(), purpose="vision")).id for _ in range(5)]
    page = await openai.files.list(limit=2, order="asc")
    assert page.has_next_page()
    assert [file.id for file in page.data] == sent[:2]
    assert [file.id async for file in openai.files.list(limit=2)] == sent[::-1]
    assert [file async for file in openai.files.list(purpose="user_data")] == []


async def test_models_are_listed_and_retrieved(openai):
    assert {model.id async for model in openai.models.list()} == set(MODEL_IDS)
    model = await openai.models.retrieve("gpt-image-2")
    assert (model.object, model.owned_by) == ("model", "openai")
    assert "stream" in model.lemondata["capability_flags"]


async def test_file_with_an_expiry(openai):
    policy = {"anchor": "created_at", "seconds": 3600}
    file = await openai.files.create(file=png(), purpose="vision", expires_after=policy)
    assert file.expires_at == file.created_at + 3600


# Errors


async def test_wrong_key_is_an_authentication_error(emu, sdk):
    async with sdk.AsyncOpenAI(base_url=f"{emu.base_url}/v1", api_key="sk-wrong", timeout=60) as other:
        with pytest.raises(sdk.AuthenticationError, match="Invalid API key") as caught:
            await other.models.list()
    assert (caught.value.code, caught.value.type, caught.value.param) == ("invalid_api_key", "invalid_api_key", None)


async def test_bad_request_names_the_field(emu, openai, sdk):
    with pytest.raises(sdk.BadRequestError, match="quality") as caught:
        await openai.images.generate(model="gpt-image-2", prompt="p", quality="hd")
    assert (caught.value.param, caught.value.type) == ("quality", "invalid_request_error")
    with pytest.raises(sdk.BadRequestError, match="stream"):
        await openai.images.generate(model="dall-e-3", prompt="p", stream=True)
    assert not emu.ledger.sold


async def test_unknown_model_and_file_are_not_found(openai, sdk):
    with pytest.raises(sdk.NotFoundError) as caught:
        await openai.models.retrieve("no-such-model")
    assert caught.value.code == "model_not_found"
    with pytest.raises(sdk.NotFoundError):
        await openai.files.content("file-none")


async def test_too_many_requests_are_a_rate_limit_error(sdk):
    async with (
        Emulator(requests_per_minute=1) as emu,
        sdk.AsyncOpenAI(base_url=f"{emu.base_url}/v1", api_key=emu.api_key, timeout=60, max_retries=0) as openai,
    ):
        await openai.models.list()
        with pytest.raises(sdk.RateLimitError) as caught:
            await openai.models.list()
    assert 1 <= int(caught.value.response.headers["Retry-After"]) <= 60
    assert caught.value.request_id == "req_00000002"


async def test_failed_job_is_a_server_error(emu, openai, sdk):
    emu.fault("submit", Fail("boom"))
    with pytest.raises(sdk.InternalServerError, match="boom") as caught:
        await openai.images.generate(model="dall-e-3", prompt="p")
    assert caught.value.status_code == 502


async def test_rate_limited_request_is_retried_by_the_sdk_and_sold_once(emu, sdk):
    emu.fault("submit", Status(429, headers={"retry-after-ms": "1"}), times=1)
    async with sdk.AsyncOpenAI(base_url=f"{emu.base_url}/v1", api_key=emu.api_key, timeout=60, max_retries=1) as openai:
        await openai.images.generate(model="dall-e-3", prompt="a cat")
    assert emu.ledger.sold == {"a cat": 1}
