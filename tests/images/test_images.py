"""`Images` are a sequence, and are read, saved and displayed together."""

import copy
import pickle
from types import SimpleNamespace

import pytest

from lemon_async import ContractError, DownloadError, SaveError
from lemon_async._api.job_responses import pack
from lemon_async._images.atomic_file import AtomicFile
from lemon_async._images.images import Images
from lemon_async.emulator import Result, Status
from lemon_async.errors import PartialSaveError, SessionError
from lemon_async.types import Billing, ImageData, Inline, TaskSnapshot

NO_LINKS = SimpleNamespace(downloads=SimpleNamespace(total_s=60.0), emitter=None)


def snapshot_of(*entries, **facts):
    return pack(TaskSnapshot(status="completed", images=entries, **facts))


def test_images_are_a_sequence_with_what_the_service_said_of_the_job():
    billing = Billing(transaction_id="txn_1", usage={"total_tokens": 7})
    data = tuple(ImageData(url=f"https://cdn.test/{number}.png") for number in range(3))
    images = Images(snapshot_of(*data, task_id="ldtask_1", created=5, billing=billing, model="flux-pro"), NO_LINKS)
    assert (images.created, images.usage, images.billing) == (5, {"total_tokens": 7}, billing)
    assert (images.task_id, images.model, images.prompt, images.seconds) == ("ldtask_1", "flux-pro", None, None)
    assert [image.data for image in images] == list(data)
    assert [image.index for image in images] == [0, 1, 2]
    assert len(images) == 3
    assert images[-1] is images[2]
    assert images[:2] == (images[0], images[1])
    assert images[1] in images
    assert next(reversed(images)) is images[2]
    assert repr(images) == f"<Images [{images[0]!r}, {images[1]!r}, {images[2]!r}]>"


async def test_images_know_what_was_asked_for(connect):
    async with connect() as session:
        images = await session.generate("a cat", model="flux-pro", n=2)
        assert (images.prompt, images.model, images[1].prompt) == ("a cat", "flux-pro", "a cat")
        assert images.seconds > 0


@pytest.mark.parametrize("copied", [pickle.dumps, copy.deepcopy])
async def test_images_are_not_pickled_whether_or_not_they_were_looked_at(connect, copied):
    async with connect() as session:
        images = await session.generate("a cat", model="flux-pro")
        for _ in range(2):
            with pytest.raises(TypeError, match=r"to their session|to its session"):
                copied(images)
            assert len([*images]) == 1
        assert copy.copy(images)[0] is images[0]


async def test_all_are_saved_under_names_of_their_own(connect, tmp_path):
    async with connect() as session:
        images = await session.generate("A white cat, on a windowsill", model="flux-pro", n=3)
        paths = await images.save(tmp_path / "out")
    assert [path.name for path in paths] == [f"{index}-a-white-cat-on-a-windowsill.png" for index in range(3)]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths)


async def test_nothing_that_was_paid_for_is_replaced_unless_asked(connect, tmp_path):
    """The same prompt twice, or a template without an index, gives two pictures."""
    async with connect() as session:
        for _ in range(2):
            images = await session.generate("a cat", model="dall-e-2", n=2, size="256x256")
            await images.save(tmp_path)
        assert {path.name for path in tmp_path.iterdir()} == {
            "0-a-cat.png", "0-a-cat-2.png", "1-a-cat.png", "1-a-cat-2.png",
        }  # fmt: skip
        paths = await images.save(tmp_path / "same", "{width}-{format}", replace=True)
        assert [path.name for path in paths] == ["256-png.png", "256-png-2.png"]  # in their order
        assert await images.save(tmp_path / "same", "{width}-{format}", replace=True) == paths


async def test_values_override_fields_and_the_index_continues(connect, tmp_path):
    """The pictures of several responses are numbered consecutively."""
    async with connect() as session:
        images = await session.generate("a cat", model="dall-e-2", n=2, size="256x256")
        paths = await images.save(tmp_path, "{index:03}-{slug}-{model}", values={"index": 7, "slug": "No. 1/2"})
    assert [path.name for path in paths] == ["007-no-1-2-dall-e-2.png", "008-no-1-2-dall-e-2.png"]


def test_folder_and_name_are_validated_before_there_are_pictures():
    assert Images.validate("out", "{index:03}-{slug}") == ()
    assert [problem.field for problem in Images.validate("a\0b", "{what}")] == ["folder", "name"]
    assert Images.validate("out", "{key}", fields=["key"]) == ()


@pytest.mark.parametrize(
    ("folder", "name", "field"),
    [
        ("out", "{what}", "name"),
        ("out", "a//{index}", "name"),
        ("out", "{width:c}", "name"),
        ("a\0b", "{index}", "folder"),
    ],
)
async def test_names_that_cannot_be_are_refused_before_anything_is_fetched(connect, emulator, folder, name, field):
    async with connect() as session:
        images = await session.generate("a cat", model="dall-e-3")
        with pytest.raises(ContractError, match=f"{field}: "):
            await images.save(folder, name)
    assert not any(request.route == "cdn" for request in emulator.requests)


async def test_picture_that_cannot_be_saved_does_not_affect_the_others(png, tmp_path):
    """Every picture that can be saved is saved."""
    entries = (
        ImageData(inline=Inline(png)),
        ImageData(inline=Inline(None, "odd")),
        ImageData(inline=Inline(b"<html>")),
        ImageData(inline=Inline(png), url="https://cdn.test/1.png"),
    )
    with pytest.raises(PartialSaveError, match="2 of 4 pictures were not saved:\n  - could not fetch ") as caught:
        await Images(snapshot_of(*entries), NO_LINKS).save(tmp_path)
    assert caught.value.saved == {0: tmp_path / "0-image.png", 3: tmp_path / "3-image.png"}
    assert {index: error.index for index, error in caught.value.errors.items()} == {1: 1, 2: 2}
    assert {path.name for path in tmp_path.iterdir()} == {"0-image.png", "3-image.png"}


async def test_separators_of_a_template_make_folders(png, tmp_path):
    """All pictures are complete, and there are no other files."""
    images = Images(snapshot_of(*[ImageData(inline=Inline(png))] * 2, model="../up"), NO_LINKS)
    paths = await images.save(tmp_path / "new", "{model}/{index}/{format}")
    assert paths == tuple(tmp_path / f"new/up/{index}/png.png" for index in range(2))
    assert [path.read_bytes() for path in paths] == [png] * 2
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["up"]


async def test_folder_that_is_a_file_is_told_once(png, tmp_path):
    (tmp_path / "file").touch()
    images = Images(snapshot_of(ImageData(inline=Inline(png)), ImageData(inline=Inline(png))), NO_LINKS)
    with pytest.raises(SaveError, match="file': is a file, not a folder"):
        await images.save(tmp_path / "file")
    with pytest.raises(PartialSaveError, match="2 of 2") as caught:
        await images.save(tmp_path / "file" / "folder")
    assert all(isinstance(error, SaveError) for error in caught.value.errors.values())
    assert await images.read() == (png, png)


async def test_malformed_entries_of_a_real_answer_are_told_and_the_rest_is_saved(connect, emulator, tmp_path):
    emulator.fault(
        "submit", Result([{"b64_json": "not base64!"}, {"revised_prompt": "x"}, {"url": "", "b64_json": ""}])
    )
    async with connect() as session:
        images = await session.generate("a cat", model="flux-pro")
        with pytest.raises(PartialSaveError) as caught:
            await images.save(tmp_path)
    assert isinstance(caught.value.errors[0], DownloadError)
    assert "not base64" in str(caught.value.errors[0])
    assert caught.value.resume_token


async def test_read_returns_all_and_raises_the_first_error(connect, emulator):
    async with connect() as session:
        images = await session.generate("a cat", model="flux-pro", n=2)
        assert [content[:4] for content in await images.read()] == [b"\x89PNG"] * 2
        more = await session.generate("a dog", model="flux-pro", n=2)
        emulator.fault("cdn", Status(404, body="html"))
        with pytest.raises(DownloadError, match="HTTP 404"):
            await more.read()


async def test_unexpected_failure_of_one_picture_waits_for_the_others(png, tmp_path, monkeypatch):
    """It does not cancel other saves."""
    images = Images(snapshot_of(*(ImageData(inline=Inline(png)) for _ in range(3))), NO_LINKS)
    write = AtomicFile.write

    def sometimes(draft, *pieces):
        if not list(tmp_path.glob("*.png")):
            raise RuntimeError("odd")
        write(draft, *pieces)

    (tmp_path / "0-image.png").write_bytes(b"old")
    monkeypatch.setattr(AtomicFile, "write", sometimes)
    (tmp_path / "0-image.png").unlink()
    with pytest.raises(RuntimeError, match="odd"):
        await images.save(tmp_path)
    assert not list(tmp_path.glob(".lemon-async*"))


async def test_closed_session_raises_one_session_error(connect, tmp_path):
    """Not as one error for each picture."""
    async with connect() as session:
        images = await session.generate("a cat", model="flux-pro", n=2)
    with pytest.raises(SessionError):
        await images.save(tmp_path)


async def test_notebook_shows_a_grid(png):
    images = Images(
        snapshot_of(ImageData(inline=Inline(png), revised_prompt="<b>"), ImageData(inline=Inline(png))), NO_LINKS
    )
    data, _ = images._repr_mimebundle_()
    assert data["text/html"].count("<img") == 2
    assert "<b>" not in data["text/html"]
