"""Hostile requests are cheap to send, so they must be cheap to refuse."""

from lemon_async.emulator.service.edits import MAX_SOURCES, _json_refs
from lemon_async.emulator.service.messages import Call
from lemon_async.emulator.service.model_families import family_of
from lemon_async.emulator.service_errors import MAX_FIELD_ERRORS

LONG = "m" * 10**5


def refused(answer):
    """Return status, code and `param` of an error reply."""
    return answer.status, answer.json["error"]["code"], answer.json["error"].get("param")


# Lists


async def test_too_many_sources_are_counted_before_they_are_read(client):
    """The entries do not matter, and the reply is short."""
    for name in ("images", "image_urls"):
        for entry in (0, "https://pictures.example/a.png"):
            answer = await client.edit_json(**{name: [entry] * 20_000})
            assert refused(answer) == (400, "too_many_images", name)
            assert answer.json["error"]["message"] == "gpt-image-2 takes at most 16 source images; got 20000"
            assert len(answer.raw) < 300


async def test_as_many_sources_as_allowed_are_read(client):
    """Each one has its error."""
    answer = await client.edit_json(images=[0] * 16)
    assert len(answer.json["validation_errors"]) == 16


class CountedList(list):
    """A list that counts the entries taken by slices and cannot be iterated over."""

    taken = 0

    def __getitem__(self, index):
        part = super().__getitem__(index)
        self.taken += len(part)
        return part

    def __iter__(self):
        raise AssertionError("every entry is read")


async def test_sources_of_an_unknown_model_are_not_all_read(client):
    """It is refused by its name; how many sources it accepts is unknown."""
    images = CountedList([0] * 1000)
    _json_refs(Call("edit", "edit", body={"model": "no-such-model", "images": images}), [])
    assert images.taken == MAX_SOURCES == family_of("gpt-image-2").max_sources
    answer = await client.edit_json(model="no-such-model", images=[0] * 1000)
    assert refused(answer) == (400, "model_not_found", "model")


async def test_long_list_of_field_errors_is_truncated(client):
    """The last row counts the rest."""
    wrong = dict.fromkeys(("n", "size", "quality", "background", "style", "moderation"), "?")
    answer = await client.edit_json(images=[0] * 16, **wrong)
    assert len(answer.json["validation_errors"]) == MAX_FIELD_ERRORS + 1
    assert answer.json["validation_errors"][-1]["message"] == "2 more are not listed"


# Quotes


async def test_long_values_are_quoted_in_part(client, picture):
    """Models, file ids and paths, wherever a message repeats them."""
    task = await client.submit(model=f"flux-{LONG}")
    answers = [
        await client.submit(model=LONG),
        await client.edit_json(model=LONG, image_url="x"),
        await client.edit_json(model="flux-" + LONG, image_urls=["x"] * 17),
        await client.edit_json(images=[{"file_id": LONG}]),
        await client.send_form("/v1/images/variations", [("image", picture())], model=LONG[:60_000]),
        await client.send_form("/v1/files", [("file", picture())], model=LONG[:60_000], purpose="vision"),
        await client.ask("DELETE", f"/v1/tasks/{task.json['task_id']}"),
        await client.ask("GET", f"/v1/models/{LONG[:5000]}"),
        await client.ask("GET", f"/v1/files/{LONG[:5000]}"),
        await client.ask("GET", f"/v1/files?after={LONG[:5000]}"),
        await client.ask("GET", f"/{LONG[:5000]}"),
        await client.ask("PUT", f"/v1/files/{LONG[:5000]}"),
    ]
    assert answers[0].json["error"]["message"] == f"The model '{'m' * 79}…' does not exist."
    for answer in answers:
        assert answer.status in {400, 404, 405}
        assert "…" in answer.json["error"]["message"]
        assert len(answer.raw) < 500


# Nesting


async def test_deeply_nested_value_is_refused_like_any_other(client):
    """Neither parsing nor quoting it overflows the stack."""
    for fields in ('"prompt": "p", "model": {}', '"model": "dall-e-3", "prompt": {}'):
        for nested in ("[" * 1000 + "]" * 1000, '{"a":' * 1000 + "0" + "}" * 1000):
            body = "{" + fields.replace("{}", nested) + "}"
            answer = await client.ask("POST", "/v1/images/generations", data=body.encode())
            assert (answer.status, answer.json["error"]["type"]) == (400, "invalid_request_error")
