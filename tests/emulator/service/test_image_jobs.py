"""Paid jobs respond inline or with a task, and their links serve the pictures."""

import base64
import io

import pytest
from PIL import Image

from lemon_async.emulator import Answer, Emulator, Fail, Result, Script, Stuck
from lemon_async.emulator.clock import Clock
from lemon_async.emulator.pictures.blob_store import BlobStore
from lemon_async.emulator.pictures.renderer import Renderer
from lemon_async.emulator.service.files import Files
from lemon_async.emulator.service.image_jobs import COST_HEADER, ESTIMATE_HEADER, ImageJobs
from lemon_async.emulator.service.job_spec import MAX_FETCHED_BYTES
from lemon_async.emulator.service.messages import Call
from lemon_async.emulator.service.store import Store

GENERATIONS = "/v1/images/generations"


def decoded(raw):
    """Decode a picture."""
    image = Image.open(io.BytesIO(raw))
    image.load()
    return image


# Inline


async def test_inline_response_holds_links_that_download(client):
    """One picture per link, all different."""
    answer = await client.submit("a cat", model="dall-e-2", n=3, size="256x256")
    assert answer.status == 200
    assert set(answer.json) == {"created", "data"}
    files = [await client.get(image["url"]) for image in answer.json["data"]]
    assert {(file.status, file.headers["Content-Type"]) for file in files} == {(200, "image/png")}
    assert {decoded(file.raw).size for file in files} == {(256, 256)}
    assert len({file.raw for file in files}) == 3
    assert int(files[0].headers["Content-Length"]) == len(files[0].raw)


async def test_inline_base64_is_the_file_itself(client):
    """Instead of a link."""
    answer = await client.submit(model="dall-e-3", response_format="b64_json", size="1792x1024")
    (image,) = answer.json["data"]
    assert set(image) == {"b64_json", "revised_prompt"}
    assert decoded(base64.b64decode(image["b64_json"])).size == (1792, 1024)


async def test_output_format_is_that_of_the_file(client):
    """The link ends in its extension."""
    for format_, extension in {"png": "png", "jpeg": "jpg", "webp": "webp"}.items():
        answer = await client.submit(model="gpt-image-2", output_format=format_, size="1024x640")
        url = answer.json["data"][0]["url"]
        assert url.endswith(f".{extension}")
        file = await client.get(url)
        assert file.headers["Content-Type"] == f"image/{format_}"
        assert decoded(file.raw).format.lower() == format_


async def test_token_priced_response_has_usage_and_cost(client):
    """The cost is in a header."""
    answer = await client.submit(model="gpt-image-2")
    assert answer.json["usage"]["total_tokens"] > 1000
    assert float(answer.headers[COST_HEADER]) > 0


async def test_inline_job_is_reserved_then_settled(emu, client):
    """It has no task id."""
    await client.submit("a cat", user="row 1")
    assert [(e.kind, e.job, e.task_id) for e in emu.ledger.entries] == [
        ("reserve", "row 1", None),
        ("settle", "row 1", None),
    ]


async def test_inline_response_takes_as_long_as_the_job(client_of):
    """As long as the job, in emulated seconds."""
    async with Emulator(durations=30, speed=1000) as emu:
        client = client_of(emu)
        await client.submit()
        assert emu.now() >= 10


async def test_failed_inline_job_is_an_upstream_error_and_released(emu, client):
    """An error object keeps its code."""
    emu.fault("submit", Fail({"code": "content_policy", "message": "no"}), nth=[1])
    emu.fault("submit", Fail("boom"), nth=[2])
    first, second = await client.submit(), await client.submit()
    assert (first.status, first.json["error"]["code"]) == (502, "content_policy")
    assert second.json["error"]["message"] == "boom"
    assert emu.ledger.released == {"a cat": 2}


async def test_scripted_result_and_fields_reach_inline_jobs(emu, client):
    """Nothing is added to a scripted result."""
    emu.fault("submit", Result([{"url": ""}]), Answer(created=None, extra=1))
    answer = await client.submit(response_format="b64_json")
    assert answer.json == {"data": [{"url": ""}], "extra": 1}


async def test_stuck_inline_job_gets_no_response(emu, client, hang_up):
    """Its reservation stays open."""
    emu.fault("submit", Stuck())
    await hang_up(client.ask("POST", GENERATIONS, json={"prompt": "p"}), lambda: emu.ledger.sold)
    assert emu.ledger.open == {"p"}


# Tasks


async def test_task_is_polled_at_three_addresses_with_one_response(client):
    """The page "Get image status" lists them."""
    task = await client.submit(model="flux-pro")
    assert (task.json["status"], task.json["data"][0]["url"]) == ("pending", "")
    assert task.headers[ESTIMATE_HEADER] == "0.05"
    paths = ("/v1/tasks/", f"{GENERATIONS}/", "/v1/images/")
    answers = [await client.ask("GET", path + task.json["task_id"]) for path in paths]
    assert answers[0].json["status"] == "completed"
    assert all(answer.json == answers[0].json for answer in answers)
    assert answers[0].headers[COST_HEADER] == "0.05"
    assert (await client.get(answers[0].json["data"][0]["url"])).status == 200


async def test_async_task_has_urls_whatever_the_response_format(client):
    """Base64 needs a synchronous request; API.md, section 2."""
    task = await client.submit(model="gpt-image-2", response_format="b64_json", **{"async": True})
    answer = await client.poll(task)
    assert set(answer.json["data"][0]) == {"url", "revised_prompt"}
    assert "usage" in answer.json


async def test_unfinished_task_has_a_placeholder_and_no_cost(emu, client):
    """The placeholder is an empty `url`."""
    emu.fault("submit", Script(("processing",)))
    answer = await client.poll(await client.submit(model="midjourney"))
    assert answer.json["data"] == [{"url": "", "revised_prompt": "a cat"}]
    assert COST_HEADER not in answer.headers


async def test_task_of_another_key_is_not_found(emu, client):
    """Status, code and message are those of an unknown task."""
    task = await client.submit(model="flux-pro")
    answer = await client.poll(task, key=emu.add_key("sk-other"))
    assert answer.status == 404
    assert answer.json["error"]["code"] == "async_task_not_found"
    assert answer.json["error"]["message"] == "Task not found or no longer available."


async def test_cancelling_is_refused_by_default_and_works_when_allowed(client_of):
    """Today's image models do not support it."""
    async with Emulator(cancellable=True) as able, Emulator() as plain:
        for emu, status in ((plain, 400), (able, 200), (able, 409)):
            client = client_of(emu)
            if status != 409:
                task = await client.submit(model="flux-pro")
            answer = await client.ask("DELETE", f"/v1/tasks/{task.json['task_id']}")
            assert answer.status == status
        assert (await client.poll(task)).json["cancellation_status"] == "cancelled"
        assert able.ledger.released == {"a cat": 1}


# Links


async def test_links_expire_in_real_seconds_and_are_renewed_by_a_poll(client_of):
    """An expired link is 410, an unknown one 404."""
    async with Emulator(durations=0, link_ttl_s=0.0, speed=7) as emu:
        client = client_of(emu)
        task = await client.submit(model="flux-pro")
        first = (await client.poll(task)).json["data"][0]["url"]
        assert (await client.get(first)).status == 410
        assert (await client.poll(task)).json["data"][0]["url"] != first
        assert (await client.get(emu.base_url + "/cdn/abc.png")).status == 404


async def test_speed_does_not_shorten_the_life_of_links(client_of):
    """Downloads take real time."""
    async with Emulator(durations=0, link_ttl_s=600, speed=1e6) as emu:
        client = client_of(emu)
        answer = await client.submit(model="dall-e-2", size="256x256")
        link = await client.get(answer.json["data"][0]["url"])
        assert emu.now() > 600
        assert link.status == 200


async def test_refused_request_is_not_reserved(emu, client):
    """Every invalid field is reported."""
    answer = await client.submit(model="gpt-image-2", size="1x1", n=0)
    assert answer.status == 400
    assert [row["field"] for row in answer.json["validation_errors"]] == ["size", "n"]
    assert not emu.ledger.sold


# Sources


@pytest.fixture
async def renderer():
    renderer = Renderer()
    await renderer.open()
    yield renderer
    renderer.close()


async def test_remote_sources_share_one_limit_of_bytes(picture, renderer):
    """Each fetch may read what the ones before have left."""
    raw, clock, fetched = picture(), Clock(), []

    async def fetch(url, param, left_bytes):
        fetched.append((url, param, left_bytes))
        file = io.BytesIO()
        file.write(raw)
        return file

    jobs = ImageJobs(Store(durations=0), renderer, clock, Files(BlobStore(), renderer, clock, 0), fetch)
    body = {"model": "gpt-image-2", "prompt": "p", "image_urls": ["a", "b"]}
    task = await jobs.accept(Call("edit", "edit", body=body))
    assert [source.size for source in task.spec.picture.sources] == [(16, 16)] * 2
    first, second = fetched
    assert first == ("a", "image_urls[0]", MAX_FETCHED_BYTES)
    assert second == ("b", "image_urls[1]", MAX_FETCHED_BYTES - len(raw))
