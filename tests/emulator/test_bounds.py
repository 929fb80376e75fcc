"""What a hostile request may cost: each of these is cheap to send, and must be cheap to refuse."""

import pytest

from lemon_async.emulator.service.edits import MAX_SOURCES, _json_refs
from lemon_async.emulator.service.messages import Call
from lemon_async.emulator.service.model_families import family_of
from lemon_async.emulator.service_errors import MAX_FIELD_ERRORS

LONG = "m" * 10**5


def refused(answer):
    return answer.status, answer.json["error"]["code"], answer.json["error"].get("param")


@pytest.mark.parametrize("name", ["images", "image_urls"])
@pytest.mark.parametrize("entry", [0, "https://pictures.example/a.png"])
async def test_too_many_sources_are_counted_before_they_are_looked_at(client, name, entry):
    answer = await client.edit_json(**{name: [entry] * 20_000})
    assert refused(answer) == (400, "too_many_images", name)
    assert answer.json["error"]["message"] == "gpt-image-2 takes at most 16 source images; got 20000"
    assert len(answer.raw) < 300


async def test_as_many_sources_as_allowed_are_looked_at(client):
    answer = await client.edit_json(images=[0] * 16)
    assert len(answer.json["validation_errors"]) == 16


class Counted(list):
    """A list that tells how many of its entries were taken out."""

    taken = 0

    def __getitem__(self, index):
        part = super().__getitem__(index)
        self.taken += len(part)
        return part

    def __iter__(self):
        raise AssertionError("all entries are looked at")


def test_sources_of_an_unknown_model_are_not_all_looked_at():
    """It is refused anyhow, but by its name."""
    images = Counted([0] * 1000)
    _json_refs(Call("edit", "edit", body={"model": "no-such-model", "images": images}), [])
    assert images.taken == MAX_SOURCES == family_of("gpt-image-2").max_sources


async def test_unknown_model_with_too_many_sources_is_not_found(client):
    answer = await client.edit_json(model="no-such-model", images=[0] * 1000)
    assert refused(answer) == (400, "model_not_found", "model")


async def test_long_list_of_complaints_is_cut(client):
    wrong = dict.fromkeys(("n", "size", "quality", "background", "style", "moderation"), "?")
    answer = await client.edit_json(images=[0] * 16, **wrong)
    assert len(answer.json["validation_errors"]) == MAX_FIELD_ERRORS + 1
    assert answer.json["validation_errors"][-1]["message"] == "2 more are not listed"


# What is quoted


@pytest.mark.parametrize(
    "fields",
    [
        {"model": LONG, "image_url": "x"},
        {"model": "flux-" + LONG, "image_urls": ["x"] * 17},
        {"images": [{"file_id": LONG}]},
    ],
)
async def test_long_value_of_an_edit_is_quoted_in_part(client, fields):
    answer = await client.edit_json(**fields)
    assert answer.status in {400, 404}
    assert "…" in answer.json["error"]["message"]
    assert len(answer.raw) < 500


async def test_long_model_of_a_generation_is_quoted_in_part(client):
    answer = await client.submit(model=LONG)
    assert answer.json["error"]["message"] == f"The model '{'m' * 79}…' does not exist."


@pytest.mark.parametrize(("path", "name"), [("/v1/images/variations", "image"), ("/v1/files", "file")])
async def test_long_model_of_an_upload_is_quoted_in_part(client, picture, path, name):
    answer = await client.send_form(path, [(name, picture())], model=LONG[:60_000], purpose="vision")
    assert refused(answer) == (400, "model_not_found", "model")
    assert len(answer.raw) < 500


async def test_long_model_of_a_task_that_cannot_be_cancelled_is_quoted_in_part(client):
    task = await client.submit(model=f"flux-{LONG}")
    answer = await client.ask("DELETE", f"/v1/tasks/{task.json['task_id']}")
    assert answer.json["error"]["code"] == "unsupported_task_cancel"
    assert len(answer.raw) < 300


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", f"/v1/models/{LONG[:5000]}"),
        ("GET", f"/v1/files/{LONG[:5000]}"),
        ("GET", f"/v1/files?after={LONG[:5000]}"),
        ("GET", f"/{LONG[:5000]}"),
        ("PUT", f"/v1/files/{LONG[:5000]}"),
    ],
)
async def test_long_address_is_quoted_in_part(client, method, path):
    answer = await client.ask(method, path)
    assert answer.status in {400, 404, 405}
    assert "…" in answer.json["error"]["message"]
    assert len(answer.raw) < 500


# What is nested


@pytest.mark.parametrize("fields", ['"prompt": "p", "model": {}', '"model": "dall-e-3", "prompt": {}'])
@pytest.mark.parametrize("nest", ["[" * 1000 + "]" * 1000, '{"a":' * 1000 + "0" + "}" * 1000])
async def test_deeply_nested_value_is_refused_like_any_other(client, fields, nest):
    body = "{" + fields.replace("{}", nest) + "}"
    answer = await client.ask("POST", "/v1/images/generations", data=body.encode())
    assert (answer.status, answer.json["error"]["type"]) == (400, "invalid_request_error")
