"""One test per rule of edits and variations, each on the side that is refused and on the one that is not."""

import pytest

from lemon_async.emulator import Emulator, Fail, Latency, Reset, Result, Script, Status
from lemon_async.emulator.pictures.picture import Blob, SourceImage
from lemon_async.emulator.service.edits import _check_mask, _scaled_down
from lemon_async.emulator.service.messages import MAX_FILE_BYTES
from lemon_async.emulator.service.model_families import FAMILIES
from lemon_async.emulator.service_errors import ServiceError

VARIATIONS = "/v1/images/variations"
GPT = {"model": "gpt-image-2"}


def refused(answer):
    return answer.status, answer.json["error"]["code"], answer.json["error"].get("param")


@pytest.fixture
def clear(picture):
    """A PNG that is transparent all over."""
    return picture(mode="RGBA")


# What is asked


async def test_edit_without_a_model_is_one_of_dall_e_2(emu, client, clear):
    assert (await client.edit("p", clear)).status == 200
    assert emu.ledger.entries[0].model == "dall-e-2"


async def test_edit_is_logged_under_its_own_route(emu, client, clear):
    await client.edit("p", clear)
    await client.send_form(VARIATIONS, [("image", clear)])
    assert [seen.route for seen in emu.requests] == ["edit", "edit"]


@pytest.mark.parametrize("prompt", [None, "", " ", "x" * 4001])
async def test_edit_needs_a_prompt(client, clear, prompt):
    assert refused(await client.edit(prompt, clear)) == (400, "invalid_request_error", "prompt")


@pytest.mark.parametrize(("n", "status"), [(0, 400), (1, 200), (10, 200), (11, 400)])
async def test_edit_makes_one_to_ten_pictures(client, clear, n, status):
    answer = await client.edit("p", clear, n=n)
    assert answer.status == status
    assert status == 400 or len(answer.json["data"]) == n


@pytest.mark.parametrize(
    ("model", "size", "status"),
    [
        ("dall-e-2", "512x512", 200),
        ("dall-e-2", "640x640", 400),
        ("gpt-image-2", "auto", 200),
        ("gpt-image-2", "1000x1000", 400),
        ("grok-imagine-image", "1024x1024", 400),
    ],
)
async def test_size_is_that_of_the_family(client, clear, model, size, status):
    answer = await client.edit("p", clear, model=model, size=size)
    assert answer.status == status
    assert status == 200 or answer.json["error"]["param"] == "size"


async def test_misspelt_model_is_not_found(client, clear):
    assert refused(await client.edit("p", clear, model="gpt-image-9")) == (400, "model_not_found", "model")


@pytest.mark.parametrize("model", ["dall-e-3", "gemini-2.0-flash-preview-image-generation"])
async def test_some_models_cannot_edit(client, clear, model):
    assert refused(await client.edit("p", clear, model=model)) == (400, "invalid_request_error", "model")


async def test_all_other_families_edit(client, clear):
    models = [family.ids[0] for family in FAMILIES if family.name not in {"DALL-E 3", "Gemini 2.0 Flash"}]
    answers = [await client.edit("p", clear, model=model) for model in models]
    assert {answer.status for answer in answers} == {200}


async def test_input_fidelity_is_removed_for_gpt_image_2_only(client, clear):
    assert (await client.edit("p", clear, input_fidelity="high", **GPT)).status == 200
    assert (await client.edit("p", clear, input_fidelity="high")).status == 400


async def test_all_bad_fields_are_told_at_once(client):
    answer = await client.edit_json(prompt=None, n=0, model="dall-e-2", images=[])
    assert [row["field"] for row in answer.json["validation_errors"]] == ["prompt", "images", "n"]


# Sources of a form


async def test_edit_without_an_image_is_refused(client):
    assert refused(await client.edit("p", **GPT)) == (400, "invalid_request_error", "image")


async def test_image_that_is_text_is_refused(client):
    answer = await client.send_form("/v1/images/edits", [], prompt="p", image="cat.png")
    assert refused(answer) == (400, "invalid_request_error", "image")


@pytest.mark.parametrize(("model", "most"), [("gpt-image-2", 16), ("flux-pro", 16), ("grok-imagine-image-quality", 3)])
async def test_sources_are_counted_by_family(emu, client, picture, model, most):
    assert (await client.edit("p", *[picture()] * most, model=model)).status == 200
    answer = await client.edit("p", *[picture()] * (most + 1), model=model)
    assert refused(answer) == (400, "too_many_images", "image")
    assert emu.ledger.sold == {"p": 1}


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
async def test_three_formats_are_sources(client, picture, kind):
    assert (await client.edit("p", picture(kind=kind), **GPT)).status == 200


@pytest.mark.parametrize("raw", [b"", b"<html>", b"\x89PNG\r\n\x1a\n", b"GIF89a" + bytes(50)])
async def test_source_that_is_no_picture_is_refused(emu, client, picture, raw):
    assert refused(await client.edit("p", raw, **GPT)) == (400, "invalid_request_error", "image")
    assert refused(await client.edit("p", picture(), raw, **GPT)) == (400, "invalid_request_error", "image[1]")
    assert not emu.ledger.sold


async def test_dall_e_2_takes_png_only(client, picture, clear):
    answer = await client.edit("p", picture(kind="JPEG"), mask=clear)
    assert refused(answer) == (400, "invalid_request_error", "image")


async def test_dall_e_2_needs_transparent_areas_or_a_mask(client, picture, clear):
    assert refused(await client.edit("p", picture())) == (400, "invalid_request_error", "image")
    assert (await client.edit("p", clear)).status == 200
    assert (await client.edit("p", picture(), mask=clear)).status == 200
    assert (await client.edit("p", picture(), **GPT)).status == 200


@pytest.mark.parametrize(
    ("size", "fitted"),
    [((1, 1), (1, 1)), ((4096, 100), (4096, 100)), ((8192, 100), (4096, 50)), ((5000, 1), (4096, 1))],
)
def test_result_of_a_huge_source_is_scaled_down(size, fitted):
    assert _scaled_down(*size) == fitted


# The mask


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        ({"kind": "WEBP"}, "mask: must be a PNG"),
        ({"size": (16, 17)}, "mask: must have the size of the image, 16x16; got 16x17"),
        ({"mode": "RGB"}, "mask: must have an alpha channel, whose transparent areas are edited"),
        ({"mode": "L"}, "mask: must have an alpha channel, whose transparent areas are edited"),
    ],
)
async def test_mask_that_cannot_be_used_is_refused(client, picture, mask, message):
    answer = await client.edit("p", picture(), mask=picture(**{"mode": "RGBA", **mask}), **GPT)
    assert refused(answer) == (400, "invalid_request_error", "mask")
    assert answer.json["error"]["message"] == message


@pytest.mark.parametrize("mask", [{"mode": "RGBA"}, {"mode": "LA"}, {"mode": "P", "transparency": 0}])
async def test_each_way_of_being_transparent_makes_a_mask(client, picture, mask):
    assert (await client.edit("p", picture(), mask=picture(**mask), **GPT)).status == 200


async def test_mask_has_the_size_of_the_first_image(client, picture, clear):
    assert (await client.edit("p", picture(), picture((8, 8)), mask=clear, **GPT)).status == 200
    assert (await client.edit("p", picture((8, 8)), picture(), mask=clear, **GPT)).status == 400


def test_mask_is_smaller_than_50_mebibytes():
    def mask(size_bytes):
        return SourceImage(Blob("", size_bytes, ""), "png", 1, 1, has_alpha=True)

    _check_mask(mask(MAX_FILE_BYTES - 1), mask(1))
    with pytest.raises(ServiceError) as error:
        _check_mask(mask(MAX_FILE_BYTES), mask(1))
    assert (error.value.status, error.value.param) == (413, "mask")


async def test_mask_goes_with_forms_only(client):
    answer = await client.edit_json(image_url="http://pictures.example/a.png", mask="x")
    assert refused(answer) == (400, "invalid_request_error", "mask")


async def test_second_mask_is_refused(client, picture, clear):
    files = [("image", picture()), ("mask", clear), ("mask", clear)]
    assert (await client.send_form("/v1/images/edits", files, prompt="p")).json["error"]["param"] == "mask"


# Sources elsewhere


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({}, "image_url"),
        ({"image_url": 1}, "image_url"),
        ({"image_url": "a", "image_urls": ["b"]}, "image_urls"),
        ({"image_urls": "a"}, "image_urls"),
        ({"image_urls": []}, "image_urls"),
        ({"image_urls": ["a", 1]}, "image_urls[1]"),
        ({"images": {}}, "images"),
        ({"images": ["a"]}, "images[0]"),
        ({"images": [{}]}, "images[0]"),
        ({"images": [{"file_id": 1}]}, "images[0]"),
        ({"images": [{"image_url": "a", "file_id": "b"}]}, "images[0]"),
    ],
)
async def test_json_names_its_sources_in_exactly_one_way(client, fields, param):
    assert refused(await client.edit_json(**fields)) == (400, "invalid_request_error", param)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"image_url": "http://pictures.example/a.png"}, "image_url"),
        ({"image_urls": ["http://pictures.example/a.png"]}, "image_urls[0]"),
        ({"images": [{"image_url": "http://pictures.example/a.png"}]}, "images[0].image_url"),
    ],
)
async def test_remote_source_is_refused_unless_fetching_is_on(client, fields, param):
    answer = await client.edit_json(**fields)
    assert refused(answer) == (400, "invalid_request_error", param)
    assert "Emulator(fetch_remote=True)" in answer.json["error"]["message"]


async def test_too_many_remote_sources_are_refused_before_they_are_fetched(client):
    answer = await client.edit_json(model="grok-imagine-image", image_urls=["a"] * 4)
    assert refused(answer) == (400, "too_many_images", "image_urls")


async def test_uploaded_file_is_a_source_for_its_key_and_model(emu, client, picture):
    file_id = (await client.upload(picture())).json["id"]
    images = [{"file_id": file_id}]
    assert (await client.edit_json(images=images)).status == 200
    other_model = await client.edit_json(images=images, model="flux-pro")
    assert refused(other_model) == (400, "invalid_request_error", "images[0].file_id")
    other_key = await client.edit_json(images=images, key=emu.add_key("sk-other"))
    assert refused(other_key) == (404, "file_not_found", "images[0].file_id")


# Answers, money and faults


async def test_edit_is_sold_once_under_its_user_or_prompt(emu, client, clear):
    await client.edit("p", clear, user="row 1")
    await client.edit("p", clear)
    assert emu.ledger.sold == {"row 1": 1, "p": 1}
    assert emu.ledger.settled == emu.ledger.sold


async def test_refused_edit_is_not_sold(emu, client):
    await client.edit("p", b"no picture")
    assert not emu.ledger.sold


async def test_usage_counts_the_tokens_of_the_sources(client, picture):
    one, two = [await client.edit("p", *[picture((512, 512))] * count, **GPT) for count in (1, 2)]
    tokens = [answer.json["usage"]["input_tokens_details"]["image_tokens"] for answer in (one, two)]
    assert tokens[1] == 2 * tokens[0] > 0
    assert float(two.headers["x-lemondata-cost-usd"]) > float(one.headers["x-lemondata-cost-usd"])


@pytest.mark.parametrize("fields", [{"model": "flux-pro"}, {**GPT, "async": True}])
async def test_edit_as_a_task_is_polled_like_any_other(emu, client, clear, pixels, fields):
    task = await client.edit("p", clear, **fields)
    assert (task.json["status"], task.json["data"][0]["url"]) == ("pending", "")
    done = await client.poll(task)
    assert (done.json["status"], done.json["billing_transaction_id"][:4]) == ("completed", "txn_")
    assert pixels((await client.get(done.json["data"][0]["url"])).raw).size == (16, 16)
    assert emu.ledger.settled == {"p": 1}


async def test_edit_survives_a_restart(emu, client, clear):
    task = await client.edit("p", clear, model="flux-pro")
    await emu.restart()
    url = (await client.poll(task)).json["data"][0]["url"]
    assert (await client.get(url)).status == 200


async def test_edit_whose_sources_went_with_the_emulator_is_gone(emu, client, clear):
    task = await client.edit("p", clear, model="flux-pro")
    await emu.aclose()
    await emu.start()
    url = (await client.poll(task)).json["data"][0]["url"]
    assert (await client.get(url)).status == 410


async def test_task_of_an_edit_is_cancelled_where_tasks_can_be(client_of, clear):
    async with Emulator(cancellable=True) as able, Emulator() as plain:
        task = await client_of(plain).edit("p", clear, model="flux-pro")
        refusal = await client_of(plain).ask("DELETE", f"/v1/tasks/{task.json['task_id']}")
        assert refused(refusal) == (400, "unsupported_task_cancel", None)
        client = client_of(able)
        task = await client.edit("p", clear, model="flux-pro")
        line = ("DELETE", f"/v1/tasks/{task.json['task_id']}")
        assert (await client.ask(*line, key=able.add_key("sk-other"))).status == 403
        assert (await client.ask(*line)).json["cancelled"] is True
        assert refused(await client.ask(*line)) == (409, "task_not_cancellable", None)
        assert able.ledger.released == {"p": 1}


async def test_async_is_refused_where_generations_refuse_it(client, clear):
    assert refused(await client.edit("p", clear, **{"async": True})) == (400, "invalid_request_error", "async")


async def test_base64_answer_holds_the_file(client, clear):
    answer = await client.edit("p", clear, response_format="b64_json")
    assert set(answer.json["data"][0]) == {"b64_json", "revised_prompt"}


async def test_faults_of_the_edit_route_leave_generations_alone(emu, client, clear):
    emu.fault("edit", Status(502), model="dall-e-2", prompt="h.t")
    assert (await client.submit("hat", model="dall-e-2")).status == 200
    assert (await client.edit("hat", clear)).status == 502
    assert (await client.edit("cap", clear)).status == 200
    assert emu.ledger.sold == {"hat": 1, "cap": 1}


@pytest.mark.parametrize(("bill", "sold"), [(True, 1), (False, 0), (None, 0)])
async def test_faulted_edit_is_sold_as_the_fault_says(emu, client, clear, bill, sold):
    emu.fault("edit", Status(502), bill=bill)
    assert (await client.edit("p", clear)).status == 502
    assert emu.ledger.sold.total() == sold


@pytest.mark.parametrize(("at", "sold"), [("request_body", 0), ("request_end", 1), ("response_head", 1)])
async def test_broken_edit_is_sold_by_where_it_breaks(emu, client, clear, at, sold):
    emu.fault("edit", Reset(at))
    with pytest.raises(OSError):
        await client.edit("p", clear)
    assert emu.ledger.sold.total() == sold


async def test_unbilled_latency_carries_a_refusal(emu, client, clear):
    emu.fault("edit", Latency(0), bill=False)
    assert (await client.edit("p", clear)).status == 502
    assert not emu.ledger.sold


async def test_tasks_of_edits_follow_scripts(emu, client, clear):
    emu.fault("edit", Script(("weird", "completed")), Result([{"url": "x"}]), nth=[1])
    emu.fault("edit", Fail("no"), nth=[2])
    scripted = await client.edit("p", clear, model="flux-pro")
    assert (await client.poll(scripted)).json["status"] == "weird"
    assert (await client.poll(scripted)).json["data"] == [{"url": "x"}]
    failed = await client.poll(await client.edit("p", clear, model="flux-pro"))
    assert (failed.json["status"], failed.json["error"]) == ("failed", "no")
    assert emu.ledger.released == {"p": 1}


# Variations


async def test_variation_is_a_picture_of_the_same_size_without_a_prompt(emu, client, picture, pixels):
    answer = await client.send_form(VARIATIONS, [("image", picture())], n="2", user="u")
    assert [set(image) for image in answer.json["data"]] == [{"url"}] * 2
    files = [await client.get(image["url"]) for image in answer.json["data"]]
    assert {pixels(file.raw).size for file in files} == {(16, 16)}
    assert len({picture(), *(file.raw for file in files)}) == 3
    assert emu.ledger.sold == {"u": 1}


async def test_variation_without_a_user_is_sold_as_such(emu, client, picture):
    await client.send_form(VARIATIONS, [("image", picture())], size="256x256", response_format="b64_json")
    assert emu.ledger.sold == {"variation": 1}


@pytest.mark.parametrize("model", ["gpt-image-2", "dall-e-3"])
async def test_only_dall_e_2_varies(client, picture, model):
    answer = await client.send_form(VARIATIONS, [("image", picture())], model=model)
    assert refused(answer) == (400, "invalid_request_error", "model")


@pytest.mark.parametrize("image", [{"kind": "JPEG"}, {"size": (16, 17)}])
async def test_variation_takes_a_square_png(client, picture, image):
    answer = await client.send_form(VARIATIONS, [("image", picture(**image))])
    assert refused(answer) == (400, "invalid_request_error", "image")


@pytest.mark.parametrize(("size_bytes", "status"), [(2**22 - 1, 200), (2**22, 413)])
async def test_variation_takes_less_than_four_mebibytes(client, picture, size_bytes, status):
    answer = await client.send_form(VARIATIONS, [("image", picture(pad_to=size_bytes))])
    assert answer.status == status
    assert status == 200 or answer.json["error"]["param"] == "image"


@pytest.mark.parametrize("count", [0, 2])
async def test_variation_starts_from_one_picture(client, picture, count):
    answer = await client.send_form(VARIATIONS, [("image", picture())] * count, n="1")
    assert refused(answer) == (400, "invalid_request_error", "image")
