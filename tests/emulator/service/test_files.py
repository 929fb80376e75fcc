"""Uploaded files belong to a key and a model, are listed in pages and expire."""

import pytest

from lemon_async.emulator import Emulator

FILES = "/v1/files"
BAD = "invalid_request_error"


def refused(answer):
    """Return status, code and `param` of an error reply."""
    return answer.status, answer.json["error"]["code"], answer.json["error"].get("param")


async def ids(client, query="", **options):
    """List files and return their ids."""
    listed = (await client.ask("GET", FILES + query, **options)).json
    return [file["id"] for file in listed["data"]]


async def test_upload_returns_a_file_object(client, picture):
    """OpenAI's, without an expiry."""
    raw = picture()
    file = (await client.upload(raw)).json
    assert file.pop("id").startswith("file-")
    assert file.pop("created_at") > 1_700_000_000
    assert file == {
        "object": "file",
        "bytes": len(raw),
        "filename": "picture.png",
        "purpose": "vision",
        "status": "processed",
    }


async def test_uploads_are_logged_under_their_route_and_cost_nothing(emu, client, picture):
    """The route is `files`."""
    await client.upload(picture())
    assert emu.requests[-1].route == "files"
    assert not emu.ledger.sold


async def test_purpose_is_vision_or_user_data(client, picture):
    """It is required."""
    for purpose in ("vision", "user_data"):
        assert (await client.upload(picture(), purpose=purpose)).status == 200
    for purpose in ("batch", None):
        assert refused(await client.upload(picture(), purpose=purpose)) == (400, BAD, "purpose")


async def test_upload_without_a_file_is_refused(client):
    """The error names the field."""
    assert refused(await client.upload(None)) == (400, BAD, "file")


async def test_file_is_downloaded_unchanged(client, picture):
    """With the content type of its format."""
    for kind in ("PNG", "JPEG", "WEBP"):
        raw = picture(kind=kind)
        file_id = (await client.upload(raw)).json["id"]
        content = await client.ask("GET", f"{FILES}/{file_id}/content")
        assert (content.raw, content.headers["Content-Type"]) == (raw, f"image/{kind.lower()}")


async def test_file_that_is_not_a_picture_is_refused(client, picture):
    """Also pictures in formats that no model accepts."""
    assert refused(await client.upload(b"%PDF")) == (400, BAD, "file")
    assert refused(await client.upload(picture(kind="GIF"))) == (400, BAD, "file")


async def test_file_is_for_a_model_that_edits(client, picture):
    """Other models are refused."""
    assert (await client.upload(picture(), model="flux-pro")).status == 200
    assert refused(await client.upload(picture(), model="nope")) == (400, "model_not_found", "model")
    assert refused(await client.upload(picture(), model="dall-e-3")) == (400, BAD, "model")


async def test_file_is_shown_until_it_is_deleted(client, picture):
    """Then it is 404 for every endpoint."""
    file = (await client.upload(picture())).json
    path = f"{FILES}/{file['id']}"
    assert (await client.ask("GET", path)).json == file
    assert (await client.ask("DELETE", path)).json == {"id": file["id"], "object": "file", "deleted": True}
    for method, line in (("GET", path), ("DELETE", path), ("GET", f"{path}/content")):
        answer = await client.ask(method, line)
        assert refused(answer) == (404, "file_not_found", "id")
        assert answer.json["error"]["message"] == f"No such File object: {file['id']}"


async def test_file_of_another_key_is_not_found(emu, client, picture):
    """It is neither listed nor found."""
    file_id = (await client.upload(picture())).json["id"]
    other = emu.add_key("sk-other")
    assert (await client.ask("GET", f"{FILES}/{file_id}", key=other)).status == 404
    assert await ids(client, key=other) == []


async def test_list_is_newest_first_and_can_be_reversed_filtered_and_paged(client, picture):
    """As in OpenAI's API."""
    first, second, third = [
        (await client.upload(picture(), purpose=purpose)).json["id"] for purpose in ("vision", "user_data", "vision")
    ]
    assert await ids(client) == [third, second, first]
    assert await ids(client, "?order=asc") == [first, second, third]
    assert await ids(client, "?purpose=vision") == [third, first]
    assert await ids(client, "?purpose=batch") == []
    page = (await client.ask("GET", f"{FILES}?limit=1&after={third}")).json
    assert [file["id"] for file in page["data"]] == [second]
    assert (page["has_more"], page["first_id"], page["last_id"]) == (True, second, second)
    assert (await client.ask("GET", f"{FILES}?limit=2&after={third}")).json["has_more"] is False


async def test_empty_list_has_no_first_and_last_id(client):
    """The ids are null."""
    assert (await client.ask("GET", FILES)).json == {
        "object": "list",
        "data": [],
        "has_more": False,
        "first_id": None,
        "last_id": None,
    }


async def test_invalid_query_is_refused(client):
    """The error names the parameter."""
    for query in ("limit=0", "limit=10001", "limit=x", "order=up", "after=x"):
        assert refused(await client.ask("GET", f"{FILES}?{query}")) == (400, BAD, query.partition("=")[0])


# Expiry


SOON = {"expires_after[anchor]": "created_at", "expires_after[seconds]": "3600"}


async def test_file_says_when_it_expires(client, picture):
    """From an hour to 30 days after it was created."""
    for seconds in (3600, 2_592_000):
        file = (await client.upload(picture(), **SOON | {"expires_after[seconds]": str(seconds)})).json
        assert file["expires_at"] == file["created_at"] + seconds
        assert (await client.ask("GET", f"{FILES}/{file['id']}")).json == file


async def test_invalid_expiry_is_refused(client, picture):
    """Anchor and seconds need each other; nothing is stored."""
    for name, values in {
        "expires_after[seconds]": ["3599", "2592001", "an hour", None],
        "expires_after[anchor]": ["last_active_at", None],
    }.items():
        for value in values:
            answer = await client.upload(picture(), **SOON | {name: value})
            assert refused(answer) == (400, BAD, name), value
    assert await ids(client) == []


async def test_file_expires_on_the_clock_of_the_emulator(client_of, picture, until):
    """An expired file is gone for every endpoint, and so are its bytes."""
    async with Emulator(speed=200_000, durations=0) as emu:
        client = client_of(emu)
        kept, expiring = [(await client.upload(picture(colour=n), **expiry)).json for n, expiry in ((1, {}), (2, SOON))]
        sent_at = emu.now()
        await until(lambda: emu.now() > sent_at + 3601)
        path = f"{FILES}/{expiring['id']}"
        for method, line in (("GET", path), ("GET", f"{path}/content"), ("DELETE", path)):
            assert refused(await client.ask(method, line)) == (404, "file_not_found", "id")
        edit = await client.edit_json(images=[{"file_id": expiring["id"]}])
        assert refused(edit) == (404, "file_not_found", "images[0].file_id")
        assert await ids(client) == [kept["id"]]
        await until(lambda: len(emu._blobs) == 1)  # the thread that read it may hold it for a moment


async def test_edit_that_was_sold_survives_the_deletion_of_its_file(client, picture, pixels):
    """The task keeps its sources."""
    file_id = (await client.upload(picture(), model="flux-pro")).json["id"]
    task = await client.edit_json(model="flux-pro", images=[{"file_id": file_id}])
    await client.ask("DELETE", f"{FILES}/{file_id}")
    url = (await client.poll(task)).json["data"][0]["url"]
    assert pixels((await client.get(url)).raw).size == (16, 16)


@pytest.mark.parametrize("keep_tasks", [True, False])
async def test_files_survive_a_restart_as_tasks_do(emu, client, picture, keep_tasks):
    """`keep_tasks` decides."""
    await client.upload(picture())
    await emu.restart(keep_tasks=keep_tasks)
    assert len(await ids(client)) == keep_tasks


async def test_files_are_deleted_with_the_emulator(emu, client, picture):
    """`aclose()` deletes them."""
    await client.upload(picture())
    await emu.aclose()
    await emu.start()
    assert await ids(client) == []
