"""Stored files and models."""

import gzip
import io

import orjson
import pytest

from lemon_async import ApiError, ContractError, LemonSession, RetryPolicy, SaveError
from lemon_async._api.models_and_files import MAX_ENTRIES
from lemon_async._uploads.stored_files import Files
from lemon_async.emulator import Body, Status
from lemon_async.errors import BadRequest, NotFound, SessionError
from lemon_async.types import StoredFile

ODD_IDS = ["", "..", ".", "a b", "a\r\nb", "é", "a/../b", "%2e%2e", "x" * 600]


# Files


async def test_file_is_uploaded_listed_read_and_deleted(connect, picture, tmp_path):
    path = tmp_path / "cat.png"
    path.write_bytes(picture())
    async with connect() as session:
        stored = await session.files.upload(path)
        assert (stored.filename, stored.purpose, stored.status) == ("cat.png", "vision", "processed")
        assert (stored.size_bytes, stored.model) == (len(picture()), "gpt-image-2")
        assert stored.raw["object"] == "file"
        assert await session.files.content(stored) == picture()
        assert (await session.files.get(stored.id)).created_at == stored.created_at
        assert [file.id for file in await session.files.list()] == [stored.id]
        await session.files.delete(stored)
        assert await session.files.list() == ()
        for gone in (session.files.get(stored), session.files.content(stored), session.files.delete(stored)):
            with pytest.raises(NotFound, match="file_not_found"):
                await gone


async def test_stored_file_belongs_to_its_model(connect, emulator, picture):
    async with connect() as session:
        stored = await session.files.upload(picture(), purpose="user_data", model="flux-pro")
        assert (stored.purpose, stored.model) == ("user_data", "flux-pro")
        images = await session.edit("a hat", image=stored, model=stored.model)
        assert len(images) == 1
        with pytest.raises(
            ContractError, match=r"image\[0\]: was uploaded for flux-pro, and a file is bound to its model"
        ):
            await session.edit("a hat", image=stored, model="gpt-image-2")


async def test_file_is_named_after_the_last_part_of_its_path_or_after_its_bytes(connect, picture, tmp_path):
    """Folders are private to the caller."""
    path = tmp_path / "cat.png"
    path.write_bytes(picture(mode="RGB", kind="JPEG"))
    anonymous = io.BytesIO(picture(mode="RGB", kind="WEBP"))
    async with connect() as session:
        with path.open("rb") as file:
            sources = [path, str(path), file, path.read_bytes(), anonymous]
            names = [(await session.files.upload(source)).filename for source in sources]
        with open(path, "rb", closefd=True) as file, open(file.fileno(), "rb", closefd=False) as numbered:  # noqa: PTH123
            names.append((await session.files.upload(numbered)).filename)
        named = await session.files.upload(path, filename="other.jpg")
    assert names == ["cat.png", "cat.png", "cat.png", "file.jpeg", "file.webp", "file.jpeg"]
    assert named.filename == "other.jpg"


async def test_image_of_a_result_is_uploaded(connect):
    async with connect() as session:
        images = await session.generate("a cat", model="dall-e-3")
        stored = await session.files.upload(images[0])
        assert await session.files.content(stored) == await images[0].read()


@pytest.mark.parametrize(
    ("file", "options", "problems"),
    [
        (b"", {}, ["file: there are no bytes"]),
        (b"text", {}, ["file: the bytes are not a known picture"]),
        (b"GIF89a\1\0\1\0\0\0\0;", {}, ["file: is GIF; the service takes PNG, JPEG or WebP"]),
        ("missing.png", {}, ["file: cannot read 'missing.png': No such file or directory"]),
        (b"", {"purpose": "user_data"}, ["file: there are no bytes"]),
        ("missing.png", {"purpose": "user_data"}, ["file: cannot read 'missing.png': No such file or directory"]),
        (
            b"text",
            {"purpose": "fine-tune", "model": "", "filename": "a\r\nb"},
            [
                "purpose: must be one of vision, user_data, not 'fine-tune'",
                "model: must be one line of text and not empty",
                "filename: must be one line of text and not empty",
            ],
        ),
        (
            "https://a.test/1.png",
            {},
            ["file: is an address or an id: give a file or bytes to upload"],
        ),
        (
            5,
            {},
            ["file: must be a path, bytes, a binary file, an async iterable of bytes or an Image of a result, not int"],
        ),
    ],
)
async def test_bad_upload_is_refused_and_nothing_is_sent(connect, emulator, file, options, problems):
    async with connect() as session:
        with pytest.raises(ContractError) as caught:
            await session.files.upload(file, **options)
    assert [str(problem) for problem in caught.value.problems] == problems
    assert emulator.requests == []


def test_file_is_validated_without_a_session(tmp_path, picture):
    """With the same checks as `upload`."""
    (tmp_path / "cat.png").write_bytes(picture())
    (tmp_path / "cat.txt").write_text("meow")
    assert Files.validate(tmp_path / "cat.png") == Files.validate(tmp_path / "cat.txt", purpose="user_data") == ()
    assert [problem.field for problem in Files.validate(tmp_path / "cat.txt", model="")] == ["file", "model"]


async def test_file_is_saved_whole_under_a_free_name_or_not_at_all(connect, picture, tmp_path):
    async with connect() as session:
        stored = await session.files.upload(picture())
        paths = [await session.files.save(stored, tmp_path / "new" / "cat", replace=False) for _ in range(2)]
        paths.append(await session.files.save(stored, tmp_path / "new" / "cat-2.png"))
        assert [path.name for path in paths] == ["cat.png", "cat-2.png", "cat-2.png"]
        with pytest.raises(SaveError, match="could not save"):
            await session.files.save(stored, tmp_path / "new" / "cat.png" / "cat.png")
    assert {path.name: path.read_bytes() for path in (tmp_path / "new").iterdir()} == dict.fromkeys(
        ["cat.png", "cat-2.png"], picture()
    )


async def test_anything_is_uploaded_as_user_data(serve, http_ok):
    server = await serve(http_ok(b'{"id": "file-1"}'))
    async with LemonSession("sk-x", base_url=server.origin) as session:
        stored = await session.files.upload(b"text", purpose="user_data")
    assert stored == StoredFile("file-1", model="gpt-image-2")
    assert b'filename="file"' in server.bodies[0]
    assert b"application/octet-stream" in server.bodies[0]


async def test_file_that_is_too_large_is_not_sent(connect, emulator, monkeypatch, picture):
    monkeypatch.setattr("lemon_async._uploads.stored_files.MAX_SOURCE_BYTES", 50)
    monkeypatch.setattr("lemon_async._api.source_rules.MAX_SOURCE_BYTES", 50)
    async with connect() as session:
        with pytest.raises(ContractError, match="file: has more than the 50 bytes that are taken"):
            await session.files.upload(io.BytesIO(picture()))
        with pytest.raises(ContractError, match=r"file: has [0-9]+ bytes; at most 50 are taken"):
            await session.files.upload(picture())
    assert emulator.requests == []


async def test_refusal_of_the_service_is_raised(connect, picture):
    async with connect() as session:
        with pytest.raises(BadRequest, match="model_not_found"):
            await session.files.upload(picture(), model="no-such-model")


async def test_files_come_page_by_page_and_each_once(serve, http_ok):
    pages = [
        {"data": [{"id": "file-1"}, {"id": "file-2"}], "has_more": True},
        {"data": [{"id": "file-2"}, {"id": "file-3"}], "has_more": True},
        {"data": [{"id": "file-4"}, {"no": "id"}], "has_more": False},
    ]
    server = await serve(*(http_ok(orjson.dumps(page)) for page in pages))
    async with LemonSession("sk-x", base_url=server.origin) as session:
        files = await session.files.list(purpose="vision")
    assert [file.id for file in files] == ["file-1", "file-2", "file-3", "file-4"]
    assert [head.split(" ")[1] for head in server.heads] == [
        "/v1/files?purpose=vision",
        "/v1/files?purpose=vision&after=file-2",
        "/v1/files?purpose=vision&after=file-3",
    ]


@pytest.mark.parametrize(
    "page", [{"data": [{"id": "file-1"}], "has_more": True}, {"data": [], "has_more": True}], ids=str
)
async def test_list_that_never_ends_ends(serve, http_ok, page):
    """A page without new files is the last one."""
    server = await serve(http_ok(orjson.dumps(page)))
    async with LemonSession("sk-x", base_url=server.origin) as session:
        assert len(await session.files.list()) == len(page["data"])
    assert len(server.heads) <= 2


async def test_page_that_is_too_long_continues_with_the_next_one(serve, http_ok):
    """Entries over the limit of a page are requested, even if the service says that there are no more."""
    names = [{"id": f"file-{number}"} for number in range(MAX_ENTRIES + 5)]
    pages = [http_ok(orjson.dumps({"data": page, "has_more": False})) for page in (names, names[MAX_ENTRIES:])]
    server = await serve(*pages)
    async with LemonSession("sk-x", base_url=server.origin) as session:
        assert [file.id for file in await session.files.list()] == [name["id"] for name in names]
    assert f"after=file-{MAX_ENTRIES - 1} " in server.heads[1]


async def test_list_of_always_new_files_is_bounded(serve, http_ok, monkeypatch):
    monkeypatch.setattr("lemon_async._uploads.stored_files._MOST_PAGES", 3)
    pages = [http_ok(b'{"data": [{"id": "file-%d"}], "has_more": true}' % number) for number in range(5)]
    server = await serve(*pages)
    async with LemonSession("sk-x", base_url=server.origin) as session:
        assert len(await session.files.list()) == 3


async def test_page_is_requested_again_after_a_fault(connect, emulator, picture):
    async with connect(retry=RetryPolicy(max_elapsed_s=20, first_backoff_s=0.001)) as session:
        await session.files.upload(picture())
        emulator.fault("files", Status(502, "html"), times=2)
        assert len(await session.files.list(purpose="vision")) == 1
        assert await session.files.list(purpose="user_data") == ()


async def test_file_of_another_key_is_not_found(connect, emulator, picture):
    async with connect() as session:
        stored = await session.files.upload(picture())
    other = emulator.add_key("sk-other")
    async with LemonSession(other, base_url=emulator.base_url) as other_session:
        for use in (other_session.files.get, other_session.files.content, other_session.files.delete):
            with pytest.raises(NotFound):
                await use(stored)
        with pytest.raises(NotFound):
            await other_session.edit("a hat", image=stored, model="gpt-image-2")
        assert other_session.submission_counts.sold == 0
    async with connect() as session:
        assert await session.files.content(stored) == picture()


@pytest.mark.parametrize("word", [*ODD_IDS, None, 5], ids=repr)
async def test_id_that_cannot_be_one_is_refused_before_it_is_sent(connect, emulator, word):
    """An id never changes the path of the request."""
    async with connect() as session:
        for use in (session.files.get, session.files.content, session.files.delete, session.model):
            with pytest.raises(ContractError, match="cannot be an id"):
                await use(word)
    assert emulator.requests == []


@pytest.mark.parametrize("word", ["a?b=c", "a#b", "a%2Fb", "a&b", "a;b"])
async def test_odd_id_is_one_segment_of_the_path(serve, http_ok, word):
    server = await serve(http_ok(b"{}", status="404 Not Found"))
    async with LemonSession("sk-x", base_url=server.origin) as session:
        with pytest.raises(NotFound):
            await session.files.get(word)
    path = server.heads[0].split(" ")[1]
    assert path.startswith("/v1/files/a%")
    assert path.count("/") == 3
    assert not set("?#&;") & set(path)


async def test_content_is_returned_unchanged_and_a_refusal_is_not_content(connect, emulator, picture):
    async with connect() as session:
        stored = await session.files.upload(picture())
        emulator.fault("files", Body(b"\0\1\2", "application/octet-stream"), times=1)
        assert await session.files.content(stored) == b"\0\1\2"
        emulator.fault("files", Status(404, "html"))
        with pytest.raises(NotFound):
            await session.files.content(stored)


async def test_content_that_a_gateway_packs_is_unpacked_or_an_error(serve, http_ok):
    packed = gzip.compress(b"\0\1\2" * 100)
    for body, content in ((packed, b"\0\1\2" * 100), (packed[:-9], None)):
        server = await serve(http_ok(body, Content_Encoding="gzip"))
        async with LemonSession("sk-x", base_url=server.origin) as session:
            if content is not None:
                assert await session.files.content("file-1") == content
            else:
                with pytest.raises(ApiError, match="a compressed body that is cut off"):
                    await session.files.content("file-1")


# Models


async def test_model_keeps_fields_that_this_version_does_not_know(serve, http_ok):
    card = {
        "id": "nova-9",
        "object": "model",
        "created": 5,
        "owned_by": "nova",
        "tier": "gold",
        "lemondata": {"category": "image", "pricing_unit": "per_image", "moon_phase": [1, {"deep": True}]},
    }
    server = await serve(http_ok(orjson.dumps(card)), http_ok(orjson.dumps({"object": "list", "data": [card]})))
    async with LemonSession("sk-x", base_url=server.origin) as session:
        one, (same,) = await session.model("nova-9"), await session.models()
    for model in (one, same):
        assert (model.id, model.created, model.owned_by) == ("nova-9", 5, "nova")
        assert (model.category, model.pricing_unit, model.supported_operations) == ("image", "per_image", ())
        assert model.lemondata == card["lemondata"]
        assert model.raw == card


async def test_models_are_filtered_by_the_service(connect, emulator):
    async with connect() as session:
        everything = await session.models()
        shortlist = await session.models(recommended_for="image")
        assert [model.preference["preferred_rank"] for model in shortlist] == list(range(1, len(shortlist) + 1))
        assert {model.owned_by for model in await session.models(provider="bfl")} == {"bfl"}
        assert await session.models(category="image") == everything
        assert 0 < len(await session.models(tag="edit", provider="openai")) < len(everything)
        assert await session.models(recommended_for="video") == ()
    assert emulator.requests[0].path == "/v1/models"


async def test_model_has_its_operations_and_an_unknown_one_suggests_others(connect):
    async with connect() as session:
        model = await session.model("gpt-image-2")
        assert "edit" in model.supported_operations
        with pytest.raises(NotFound, match="model_not_found") as caught:
            await session.model("gpt-image-3")
    assert caught.value.did_you_mean == "gpt-image-2"


async def test_closed_session_refuses_files_and_models(connect, emulator, picture):
    async with connect() as session:
        pass
    uses = [
        session.files.upload(picture()),
        session.files.list(),
        session.files.get("file-1"),
        session.files.content("file-1"),
        session.files.delete("file-1"),
        session.models(),
        session.model("flux-pro"),
    ]
    for use in uses:
        with pytest.raises(SessionError, match="the session is closed"):
            await use
    assert emulator.requests == []
