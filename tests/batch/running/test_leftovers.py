"""What a kill leaves in the folder of pictures is removed by the next run of the same journal, and by no other."""

import os
import shutil

import pytest

from batches import batch_of, rows, run_batch
from journals import new_rows
from lemon_async.batch import State, open_journal
from lemon_async.batch.running.leftovers import remove_leftovers
from lemon_async.emulator import Drip
from maps import until


@pytest.fixture
async def journal(tmp_path):
    async with open_journal(tmp_path / "run.db", create=True) as opened:
        await opened.add(new_rows(2))
        yield opened


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


def leave(folder, mark, *, is_old=True):
    """Leave a hidden file; return its path."""
    path = folder / f".lemon-async.{mark}{'0' * 16}.part"
    path.write_bytes(b"half a picture")
    if is_old:
        os.utime(path, (1, 1))
    return path


async def test_only_old_files_of_the_journal_are_removed(journal, folder, tmp_path):
    template = f"{folder}/{{key}}"
    mark = await remove_leftovers(journal, template)
    own = leave(folder, f"{mark}.")
    others = [leave(folder, "f" * 16 + "."), leave(folder, ""), leave(folder, f"{mark}.1", is_old=False)]
    (folder / f"{mark}.png").write_bytes(b"a picture")
    assert await remove_leftovers(journal, template) == mark
    assert not own.exists()
    assert all(path.exists() for path in (*others, folder / f"{mark}.png"))
    async with open_journal(tmp_path / "other.db", create=True) as other:
        assert await remove_leftovers(other, template) != mark


async def test_file_that_was_just_written_is_left_alone(journal, folder):
    """It may be of a run in this process."""
    mark = await remove_leftovers(journal, f"{folder}/{{key}}")
    new = leave(folder, f"{mark}.", is_old=False)
    await remove_leftovers(journal, f"{folder}/{{key}}")
    assert new.exists()


async def test_nothing_is_removed_beside_another_run(journal, folder):
    """Several batches of a process may share an open journal."""
    mark = await remove_leftovers(journal, f"{folder}/{{key}}")
    path = leave(folder, f"{mark}.")
    await journal.claim("another", State.NEW)
    await remove_leftovers(journal, f"{folder}/{{key}}")
    assert path.exists()


async def test_folder_that_is_missing_has_no_leftovers(journal, tmp_path):
    assert await remove_leftovers(journal, f"{tmp_path}/none/{{key}}")


async def test_a_copy_of_a_journal_has_a_mark_of_its_own(folder, tmp_path):
    """Both may be in use."""
    marks = set()
    for name in ("run.db", "copy.db"):
        async with open_journal(tmp_path / name, create=True) as journal:
            marks.add(await remove_leftovers(journal, f"{folder}/{{key}}"))
        if name == "run.db":
            shutil.copy(tmp_path / "run.db", tmp_path / "copy.db")
    assert len(marks) == 2


async def test_shared_journal_has_no_mark(postgres, folder):
    """Another process may begin a run at any moment."""
    async with open_journal(postgres.new_journal(), create=True) as journal:
        assert await remove_leftovers(journal, f"{folder}/{{key}}") == ""


async def test_next_run_removes_what_a_kill_has_left(connect, emulator, tmp_path):
    """The hidden files of a batch have its mark."""
    emulator.fault("cdn", Drip(1000), times=1)
    out = tmp_path / "out"
    async with connect() as session:
        async with batch_of(session, tmp_path, rows(1)):
            await until(lambda: out.exists() and [*out.glob(".*.part")])
            (part,) = out.glob(".*.part")
        part.write_bytes(b"as after a kill")
        os.utime(part, (1, 1))
        run = await run_batch(session, tmp_path)  # leaving the first one has saved the picture
    assert (run.error, run.counts) == (None, {"done": 1})
    assert [path.name for path in out.iterdir()] == ["r0.png"]
