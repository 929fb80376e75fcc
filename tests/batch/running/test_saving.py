"""Pictures of rows: where they go, what the journal says of them, and which files of earlier runs are adopted."""

import asyncio
import hashlib
import os
from pathlib import Path

import attrs
import pytest

from lemon_async._images.atomic_file import alternatives, write_file
from lemon_async.batch.records import JournalRow, SavedPicture
from lemon_async.batch.running.job import Job
from lemon_async.batch.running.saving import Saver, split_template
from lemon_async.batch.states import State
from saved_rows import picture

TEMPLATES = [
    ("{key}", (".", "{key}")),
    ("out/{key}", ("out", "{key}")),
    ("/a/b/{shelf}/{key}", ("/a/b", "{shelf}/{key}")),
    ("/{key}", ("/", "{key}")),
    ("a-{shelf}/b/{key}", (".", "a-{shelf}/b/{key}")),
    ("../out/cat", ("../out", "cat")),
    ("cat", (".", "cat")),
]


def test_the_part_without_fields_is_the_folder():
    for template, parts in TEMPLATES:
        assert split_template(template) == parts


@attrs.define
class Pictures:
    """Pictures of a job that save themselves as `Images` does."""

    contents: list
    values: dict = attrs.field(factory=dict)
    model: str = "flux-pro"
    task_id: str = "t1"

    async def save(self, folder, name, *, values):
        self.values = dict(values)
        wanted = Path(folder, name.format(**values) + ".png")
        return tuple(_save(wanted, content, number) for number, content in enumerate(self.contents, 1))


def _save(wanted, content, first):
    path = next(path for path in alternatives(wanted, first) if not path.exists())
    return write_file(path, content)


def job_of(key="a", *, columns=b"", token="token", **facts):
    request = b'{"operation":"generate","prompt":"p"}'
    row = JournalRow(number=0, key=key, state=State.SOLD, request=request, columns=columns, task=token)
    return attrs.evolve(Job.of(row), **facts)


@pytest.fixture
def saver(tmp_path):
    owners = {}

    async def owner_of(path):
        return owners.get(path)

    made = Saver(str(tmp_path / "{key}"), tmp_path, owner_of, settle_s=0)
    return made, owners


def leave(path, content, *, is_old=True):
    """Write the file of an earlier run."""
    path.write_bytes(content)
    if is_old:
        os.utime(path, (1, 1))


async def test_files_are_described_by_path_size_and_digest(saver, tmp_path):
    content = picture()
    saved = await saver[0].save(Pictures([content, content]), job_of())
    digest = hashlib.sha256(content).hexdigest()
    assert saved.paths == (tmp_path / "a.png", tmp_path / "a-2.png")
    assert saved.pictures == tuple(SavedPicture(name, len(content), digest) for name in ("a.png", "a-2.png"))


async def test_paths_outside_the_journals_folder_are_absolute(tmp_path):
    saver = Saver(str(tmp_path / "out" / "{key}"), tmp_path / "journals", lambda path: None)
    saved = await saver.save(Pictures([b"x"]), job_of(token=None))
    assert saved.pictures[0].path == str(tmp_path / "out" / "a.png")


async def test_columns_are_values_unless_the_library_has_that_field(saver):
    pictures = Pictures([b"x"])
    await saver[0].save(pictures, job_of(columns=b'{"shelf":"A","index":"7","key":"other"}'))
    assert pictures.values == {"shelf": "A", "key": "a", "slug": "p", "model": "dall-e-3"}


async def test_an_identical_file_of_an_earlier_run_is_adopted(saver, tmp_path):
    """The new file is removed."""
    leave(tmp_path / "a.png", b"one")
    leave(tmp_path / "a-2.png", b"two")
    saved = await saver[0].save(Pictures([b"one", b"two"]), job_of())
    assert saved.paths == (tmp_path / "a.png", tmp_path / "a-2.png")
    assert [entry.path for entry in saved.pictures] == ["a.png", "a-2.png"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a-2.png", "a.png"]


async def test_a_file_of_a_process_that_died_during_this_run_is_adopted(saver, tmp_path):
    """Unless its owner is about to record it."""
    for owners, kept in (({"a.png": "b"}, "a-2.png"), ({}, "a.png")):
        leave(tmp_path / "a.png", b"one", is_old=False)
        job = job_of()
        asyncio.get_running_loop().call_soon(saver[1].update, owners)
        saved = await saver[0].save(Pictures([b"one"]), job)
        assert saved.paths == (tmp_path / kept,)
        saver[1].clear()
        for path in tmp_path.iterdir():
            path.unlink()


KEPT = [
    ({"content": b"other"}, {}, {}),
    ({"content": b"one", "is_old": False}, {}, {"taken_ns": 0}),
    ({"content": b"one"}, {"a.png": "b"}, {}),
    ({"content": b"one"}, {}, {"token": None}),
]


@pytest.mark.parametrize(("file", "owned", "row"), KEPT, ids=["other content", "of this run", "of a row", "new row"])
async def test_other_files_are_left_alone(file, owned, row, saver, tmp_path):
    leave(tmp_path / "a.png", **file)
    saver[1].update(owned)
    saved = await saver[0].save(Pictures([b"one"]), job_of(**row))
    assert saved.paths == (tmp_path / "a-2.png",)
    assert (tmp_path / "a.png").read_bytes() == file["content"]


async def test_a_file_is_adopted_once(saver, tmp_path):
    """Pictures of one row may be identical."""
    leave(tmp_path / "a.png", b"one")
    saved = await saver[0].save(Pictures([b"one", b"one"]), job_of())
    assert len(set(saved.paths)) == 2


async def test_copies_of_an_adopted_file_are_removed(saver, tmp_path):
    """A run that was killed between saving a file and adopting an earlier one has left both."""
    leave(tmp_path / "a.png", b"one")
    leave(tmp_path / "a-2.png", b"one")
    saved = await saver[0].save(Pictures([b"one"]), job_of())
    assert saved.paths == (tmp_path / "a.png",)
    assert list(tmp_path.iterdir()) == [tmp_path / "a.png"]


async def test_provenance_is_written_before_the_digest_is_taken(tmp_path):
    saver = Saver(str(tmp_path / "{key}"), tmp_path, lambda path: None, has_provenance=True)
    saved = await saver.save(Pictures([picture()]), job_of(token=None))
    content = (tmp_path / "a.png").read_bytes()
    assert b"flux-pro" in content
    assert saved.pictures[0].sha256 == hashlib.sha256(content).hexdigest()


async def test_sidecar_goes_with_its_picture(tmp_path):
    """An adopted picture gets the sidecar that the killed run may not have written; that of its copy is removed."""

    async def owner_of(_path):
        return None

    content = picture("GIF")
    leave(tmp_path / "a.png", content)
    saver = Saver(str(tmp_path / "{key}"), tmp_path, owner_of, has_provenance=True)
    saved = await saver.save(Pictures([content]), job_of())
    assert saved.paths == (tmp_path / "a.png",)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "a.png.xmp"]


async def test_a_journal_without_a_folder_has_absolute_paths(tmp_path):
    saver = Saver(str(tmp_path / "{key}"), None, lambda path: None)
    saved = await saver.save(Pictures([b"x"]), job_of(token=None))
    assert saved.pictures[0].path == str(tmp_path / "a.png")


async def test_files_of_a_row_that_another_run_has_finished_are_removed(saver, tmp_path):
    """Unless that run has adopted them."""
    made, owners = saver
    saved = await made.save(Pictures([b"one", b"two"]), job_of())
    owners["a-2.png"] = "a"
    await made.discard(saved)
    assert [path.name for path in tmp_path.iterdir()] == ["a-2.png"]
