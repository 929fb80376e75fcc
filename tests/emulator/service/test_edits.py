"""Every rule of edits and variations, from both sides; "Edit image"."""

import pytest

from lemon_async.emulator import Emulator, Fail, Latency, Reset, Result, Script, Status
from lemon_async.emulator.pictures.picture import Blob, SourceImage
from lemon_async.emulator.service.edits import _check_mask, _scaled_down
from lemon_async.emulator.service.messages import MAX_FILE_BYTES
from lemon_async.emulator.service.model_families import FAMILIES
from lemon_async.emulator.service_errors import ServiceError

VARIATIONS = "/v1/images/variations"
GPT = {"model": "gpt-image-2"}
BAD = "invalid_request_error"


def refused(answer):
    """Return status, code and `param` of an error reply."""
    return answer.status, answer.json["error"]["code"], answer.json["error"].get("param")


@pytest.fixture
def clear(picture):
    """Return a PNG that is fully transparent."""
    return picture(mode="RGBA")


# Fields


async def test_default_model_of_edits_is_dall_e_2(emu, client, clear):
    """The server default; API.md, section 4."""
    assert (await client.edit("p", clear)).status == 200
    assert emu.ledger.entries[0].model == "dall-e-2"


async def test_edit_is_logged_under_its_own_route(emu, client, clear):
    """Variations are edits, too."""
    await client.edit("p", clear)
    await client.send_form(VARIATIONS, [("image", clear)])
    assert [seen.route for seen in emu.requests] == ["edit", "edit"]


async def test_prompt_count_and_size_are_checked_as_in_generations(emu, client, clear):
    """Sizes are those of the family."""
    for fields, param in [
        *(({"prompt": prompt}, "prompt") for prompt in (None, "", " ", "x" * 4001)),
        *(({"n": n}, "n") for n in (0, 11)),
        ({"size": "640x640"}, "size"),
        ({"size": "1000x1000", **GPT}, "size"),
        ({"size": "1024x1024", "model": "grok-imagine-image"}, "size"),
    ]:
        prompt = fields.pop("prompt", "p")
        assert refused(await client.edit(prompt, clear, **fields)) == (400, BAD, param)
    assert not emu.ledger.sold
    for fields in ({"n": 10}, {"size": "512x512"}, {"size": "auto", **GPT}):
        answer = await client.edit("p", clear, **fields)
        assert len(answer.json["data"]) == fields.get("n", 1)


async def test_misspelt_model_is_not_found(client, clear):
    """As in generations."""
    assert refused(await client.edit("p", clear, model="gpt-image-9")) == (400, "model_not_found", "model")


async def test_models_that_cannot_edit_are_refused(client, clear):
    """The error names the model."""
    for model in ("dall-e-3", "gemini-2.0-flash-preview-image-generation"):
        assert refused(await client.edit("p", clear, model=model)) == (400, BAD, "model")


async def test_all_other_families_edit(client, clear):
    """The documentation excludes only two."""
    models = [family.ids[0] for family in FAMILIES if family.name not in {"DALL-E 3", "Gemini 2.0 Flash"}]
    answers = [await client.edit("p", clear, model=model) for model in models]
    assert {answer.status for answer in answers} == {200}


async def test_input_fidelity_is_removed_for_gpt_image_2_only(client, clear):
    """Other models do not have the field."""
    assert (await client.edit("p", clear, input_fidelity="high", **GPT)).status == 200
    assert (await client.edit("p", clear, input_fidelity="high")).status == 400


async def test_all_invalid_fields_are_reported_together(client):
    """In the order of validation."""
    answer = await client.edit_json(prompt=None, n=0, model="dall-e-2", images=[])
    assert [row["field"] for row in answer.json["validation_errors"]] == ["prompt", "images", "n"]


# Uploaded sources


async def test_edit_without_an_image_is_refused(client):
    """A prompt alone is a generation."""
    assert refused(await client.edit("p", **GPT)) == (400, BAD, "image")


async def test_image_that_is_text_is_refused(client):
    """The field must be a file."""
    answer = await client.send_form("/v1/images/edits", [], prompt="p", image="cat.png")
    assert refused(answer) == (400, BAD, "image")


async def test_sources_are_counted_by_family(emu, client, picture):
    """XAI accepts three, the others sixteen."""
    for model, limit in {"gpt-image-2": 16, "flux-pro": 16, "grok-imagine-image-quality": 3}.items():
        assert (await client.edit(model, *[picture()] * limit, model=model)).status == 200
        answer = await client.edit(model, *[picture()] * (limit + 1), model=model)
        assert refused(answer) == (400, "too_many_images", "image")
        assert emu.ledger.sold[model] == 1


async def test_png_jpeg_and_webp_are_accepted(client, picture):
    """By their bytes, whatever the form says."""
    for kind in ("PNG", "JPEG", "WEBP"):
        assert (await client.edit("p", picture(kind=kind), **GPT)).status == 200


async def test_source_that_is_not_a_picture_is_refused(emu, client, picture):
    """The field is numbered if there are several."""
    for raw in (b"", b"<html>", b"\x89PNG\r\n\x1a\n", b"GIF89a" + bytes(50)):
        assert refused(await client.edit("p", raw, **GPT)) == (400, BAD, "image")
        assert refused(await client.edit("p", picture(), raw, **GPT)) == (400, BAD, "image[1]")
    assert not emu.ledger.sold


async def test_dall_e_2_accepts_png_only(client, picture, clear):
    """Even with a mask."""
    answer = await client.edit("p", picture(kind="JPEG"), mask=clear)
    assert refused(answer) == (400, BAD, "image")


async def test_dall_e_2_needs_transparent_areas_or_a_mask(client, picture, clear):
    """gpt-image-2 needs neither."""
    assert refused(await client.edit("p", picture())) == (400, BAD, "image")
    assert (await client.edit("p", clear)).status == 200
    assert (await client.edit("p", picture(), mask=clear)).status == 200
    assert (await client.edit("p", picture(), **GPT)).status == 200


def test_result_of_a_large_source_is_scaled_down():
    """To an edge of at most 4096 pixels."""
    expected = {(1, 1): (1, 1), (4096, 100): (4096, 100), (8192, 100): (4096, 50), (5000, 1): (4096, 1)}
    assert {size: _scaled_down(*size) for size in expected} == expected


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
    """The message gives both sizes."""
    answer = await client.edit("p", picture(), mask=picture(**{"mode": "RGBA", **mask}), **GPT)
    assert refused(answer) == (400, BAD, "mask")
    assert answer.json["error"]["message"] == message


async def test_every_kind_of_transparency_makes_a_mask(client, picture):
    """Alpha channels and transparent palette entries."""
    for mask in ({"mode": "RGBA"}, {"mode": "LA"}, {"mode": "P", "transparency": 0}):
        assert (await client.edit("p", picture(), mask=picture(**mask), **GPT)).status == 200


async def test_mask_has_the_size_of_the_first_image(client, picture, clear):
    """Other images may differ."""
    assert (await client.edit("p", picture(), picture((8, 8)), mask=clear, **GPT)).status == 200
    assert (await client.edit("p", picture((8, 8)), picture(), mask=clear, **GPT)).status == 400


def test_mask_is_smaller_than_50_mebibytes():
    """Images may have exactly 50."""

    def mask(size_bytes):
        return SourceImage(Blob("", size_bytes, ""), "png", 1, 1, has_alpha=True)

    _check_mask(mask(MAX_FILE_BYTES - 1), mask(1))
    with pytest.raises(ServiceError) as error:
        _check_mask(mask(MAX_FILE_BYTES), mask(1))
    assert (error.value.status, error.value.param) == (413, "mask")


async def test_mask_needs_a_form(client):
    """JSON has no way to send one."""
    answer = await client.edit_json(image_url="http://pictures.example/a.png", mask="x")
    assert refused(answer) == (400, BAD, "mask")


async def test_second_mask_is_refused(client, picture, clear):
    """There is one hole per edit."""
    files = [("image", picture()), ("mask", clear), ("mask", clear)]
    assert (await client.send_form("/v1/images/edits", files, prompt="p")).json["error"]["param"] == "mask"


# Other sources


NOT_ONE_SOURCE = [
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
]


async def test_json_names_its_sources_in_exactly_one_way(client):
    """In `image_url`, `image_urls` or `images`."""
    for fields, param in NOT_ONE_SOURCE:
        assert refused(await client.edit_json(**fields)) == (400, BAD, param), fields


async def test_remote_source_is_refused_unless_fetching_is_enabled(client):
    """The message says how to enable it."""
    url = "http://pictures.example/a.png"
    for fields, param in [
        ({"image_url": url}, "image_url"),
        ({"image_urls": [url]}, "image_urls[0]"),
        ({"images": [{"image_url": url}]}, "images[0].image_url"),
    ]:
        answer = await client.edit_json(**fields)
        assert refused(answer) == (400, BAD, param)
        assert "Emulator(fetch_remote=True)" in answer.json["error"]["message"]


async def test_too_many_remote_sources_are_refused_before_they_are_fetched(client):
    """Counting is free."""
    answer = await client.edit_json(model="grok-imagine-image", image_urls=["a"] * 4)
    assert refused(answer) == (400, "too_many_images", "image_urls")


async def test_uploaded_file_is_a_source_for_its_key_and_model(emu, client, picture):
    """Files are bound to the model named in the upload."""
    file_id = (await client.upload(picture())).json["id"]
    images = [{"file_id": file_id}]
    assert (await client.edit_json(images=images)).status == 200
    other_model = await client.edit_json(images=images, model="flux-pro")
    assert refused(other_model) == (400, BAD, "images[0].file_id")
    other_key = await client.edit_json(images=images, key=emu.add_key("sk-other"))
    assert refused(other_key) == (404, "file_not_found", "images[0].file_id")


# Responses, billing and faults


async def test_edit_is_sold_once_under_its_user_or_prompt(emu, client, clear):
    """The ledger names jobs as in generations."""
    await client.edit("p", clear, user="row 1")
    await client.edit("p", clear)
    assert emu.ledger.sold == {"row 1": 1, "p": 1}
    assert emu.ledger.settled == emu.ledger.sold


async def test_refused_edit_is_not_sold(emu, client):
    """Nothing is reserved."""
    await client.edit("p", b"no picture")
    assert not emu.ledger.sold


async def test_usage_counts_the_tokens_of_the_sources(client, picture):
    """More sources cost more."""
    one, two = [await client.edit("p", *[picture((512, 512))] * count, **GPT) for count in (1, 2)]
    tokens = [answer.json["usage"]["input_tokens_details"]["image_tokens"] for answer in (one, two)]
    assert tokens[1] == 2 * tokens[0] > 0
    assert float(two.headers["x-lemondata-cost-usd"]) > float(one.headers["x-lemondata-cost-usd"])


async def test_edit_as_a_task_is_polled_like_any_other(emu, client, clear, pixels):
    """It is settled once."""
    for fields in ({"model": "flux-pro"}, {**GPT, "async": True}):
        task = await client.edit(fields["model"], clear, **fields)
        assert (task.json["status"], task.json["data"][0]["url"]) == ("pending", "")
        done = await client.poll(task)
        assert (done.json["status"], done.json["billing_transaction_id"][:4]) == ("completed", "txn_")
        assert pixels((await client.get(done.json["data"][0]["url"])).raw).size == (16, 16)
        assert emu.ledger.settled[fields["model"]] == 1


async def test_edit_survives_a_restart(emu, client, clear):
    """Its sources are kept."""
    task = await client.edit("p", clear, model="flux-pro")
    await emu.restart()
    url = (await client.poll(task)).json["data"][0]["url"]
    assert (await client.get(url)).status == 200


async def test_edit_whose_sources_were_deleted_is_gone(emu, client, clear):
    """`aclose()` deletes them."""
    task = await client.edit("p", clear, model="flux-pro")
    await emu.aclose()
    await emu.start()
    url = (await client.poll(task)).json["data"][0]["url"]
    assert (await client.get(url)).status == 410


async def test_task_of_an_edit_is_cancelled_if_tasks_can_be(client_of, clear):
    """With the errors of API.md, section 3."""
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
    """dall-e-2 is inline only."""
    assert refused(await client.edit("p", clear, **{"async": True})) == (400, BAD, "async")


async def test_base64_answer_holds_the_file(client, clear):
    """Instead of a link."""
    answer = await client.edit("p", clear, response_format="b64_json")
    assert set(answer.json["data"][0]) == {"b64_json", "revised_prompt"}


async def test_faults_of_the_edit_route_leave_generations_alone(emu, client, clear):
    """They match by model and prompt."""
    emu.fault("edit", Status(502), model="dall-e-2", prompt="h.t")
    assert (await client.submit("hat", model="dall-e-2")).status == 200
    assert (await client.edit("hat", clear)).status == 502
    assert (await client.edit("cap", clear)).status == 200
    assert emu.ledger.sold == {"hat": 1, "cap": 1}


async def test_faulted_edit_is_billed_as_the_fault_says(emu, client, clear):
    """By default a 502 is not billed."""
    for bill, sold in ((True, 1), (False, 0), (None, 0)):
        emu.fault("edit", Status(502), bill=bill, times=1)
        assert (await client.edit(str(bill), clear)).status == 502
        assert emu.ledger.sold[str(bill)] == sold


async def test_broken_edit_is_billed_if_it_arrived_completely(emu, client, clear):
    """A break in the middle of the body is not billed."""
    for at, sold in (("request_body", 0), ("request_end", 1), ("response_head", 1)):
        emu.fault("edit", Reset(at), times=1)
        with pytest.raises(OSError):
            await client.edit(at, clear)
        assert emu.ledger.sold[at] == sold


async def test_unbilled_latency_ends_with_a_refusal(emu, client, clear):
    """A response 200 would be billed."""
    emu.fault("edit", Latency(0), bill=False)
    assert (await client.edit("p", clear)).status == 502
    assert not emu.ledger.sold


async def test_tasks_of_edits_follow_scripts(emu, client, clear):
    """As those of generations."""
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
    """Each one differs from its source."""
    answer = await client.send_form(VARIATIONS, [("image", picture())], n="2", user="u")
    assert [set(image) for image in answer.json["data"]] == [{"url"}] * 2
    files = [await client.get(image["url"]) for image in answer.json["data"]]
    assert {pixels(file.raw).size for file in files} == {(16, 16)}
    assert len({picture(), *(file.raw for file in files)}) == 3
    assert emu.ledger.sold == {"u": 1}


async def test_variation_without_a_user_is_named_variation_in_the_ledger(emu, client, picture):
    """It has no prompt to be named after."""
    await client.send_form(VARIATIONS, [("image", picture())], size="256x256", response_format="b64_json")
    assert emu.ledger.sold == {"variation": 1}


async def test_variation_needs_dall_e_2_and_one_square_png(client, picture):
    """Each rule names its field."""
    for model in ("gpt-image-2", "dall-e-3"):
        answer = await client.send_form(VARIATIONS, [("image", picture())], model=model)
        assert refused(answer) == (400, BAD, "model")
    for files in ([], [picture()] * 2, [picture(kind="JPEG")], [picture(size=(16, 17))]):
        answer = await client.send_form(VARIATIONS, [("image", file) for file in files], n="1")
        assert refused(answer) == (400, BAD, "image")


async def test_variation_accepts_less_than_four_mebibytes(client, picture):
    """The limit itself is refused."""
    files = [picture(pad_to=size_bytes) for size_bytes in (2**22 - 1, 2**22)]
    fits, exceeds = [await client.send_form(VARIATIONS, [("image", file)]) for file in files]
    assert fits.status == 200
    assert refused(exceeds) == (413, "payload_too_large", "image")
