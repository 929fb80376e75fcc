"""All runs of a journal without a folder of its own write to one folder, wherever they were started."""

import threading

import pytest

from lemon_async.batch import open_journal
from lemon_async.batch.running.intake import add_rows
from lemon_async.errors import ContractError, JournalError
from saved_rows import add


@pytest.fixture
async def journal(postgres):
    async with open_journal(postgres.new_journal(), create=True) as opened:
        await add(opened, "a", columns={"shelf": "A"})
        yield opened


async def template_of(journal, save=None):
    template, _ = await add_rows(journal, None, save)
    return template


async def test_the_first_run_makes_the_template_absolute(journal, tmp_path, monkeypatch):
    """The same words mean the same folder in another working directory; others begin a new one."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    monkeypatch.chdir(tmp_path / "a")
    first = f"{tmp_path}/a/out/{{shelf}}/{{key}}"
    assert await template_of(journal, "out/{shelf}/{key}") == first
    monkeypatch.chdir(tmp_path / "b")
    for same in (None, "out/{shelf}/{key}", first):
        assert await template_of(journal, same) == first
    assert await template_of(journal, "other/{key}") == f"{tmp_path}/b/other/{{key}}"
    for same in (None, "other/{key}"):
        assert await template_of(journal, same) == f"{tmp_path}/b/other/{{key}}"
    assert [path.name for path in (tmp_path / "a" / "out").iterdir()] == [
        path.name for path in (tmp_path / "b" / "other").iterdir()
    ]


async def test_without_a_template_pictures_go_to_the_working_directory(journal, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert await template_of(journal) == f"{tmp_path}/{{key}}"


async def test_a_run_that_sees_another_folder_is_refused(journal, tmp_path):
    """As on a machine where it is not mounted: an empty folder is not enough, and no folder is made there."""
    save = f"{tmp_path}/out/{{key}}"
    await template_of(journal, save)
    (mark,) = (tmp_path / "out").iterdir()
    away = mark.rename(tmp_path / "away")
    for makes_worse in (lambda: None, (tmp_path / "out").rmdir):
        makes_worse()
        for same in (None, save):
            with pytest.raises(JournalError, match=r"the file \.lemon-async-\w{32} is missing there; mount the shared"):
                await template_of(journal, same)
    (tmp_path / "out").mkdir()
    away.rename(mark)
    await template_of(journal)


async def test_a_run_that_starts_while_another_adds_its_rows_decides(journal, tmp_path, monkeypatch):
    """The other one could take minutes to add them: it uses the folder that it then finds in the journal."""

    class Adding:
        has_waited = False

        def __getattr__(self, name):
            return getattr(journal, name)

        async def counts(self):
            if not self.has_waited:
                self.has_waited = True
                monkeypatch.chdir(tmp_path / "b")
                await template_of(journal, "out/{key}")
            return await journal.counts()

    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "a")
    assert await template_of(Adding(), "out/{key}") == await journal.read_note("save") == f"{tmp_path}/b/out/{{key}}"
    assert [*(tmp_path / "a").iterdir()] == []


async def test_a_folder_that_hangs_is_an_error(journal, tmp_path, monkeypatch):
    """As that of a file server which is gone."""
    is_back = threading.Event()
    monkeypatch.setattr("lemon_async.batch.running.shared_folder._WITHIN_S", 0.05)
    monkeypatch.setattr("lemon_async.batch.running.shared_folder._leave", lambda mark: is_back.wait(60))
    with pytest.raises(JournalError, match=r"cannot use the folder .* has not responded within"):
        await template_of(journal, f"{tmp_path}/out/{{key}}")
    is_back.set()


async def test_a_folder_that_cannot_be_made_is_an_error(journal, tmp_path):
    """And the journal does not keep it."""
    (tmp_path / "file").touch()
    with pytest.raises(JournalError, match=r"cannot use the folder '.*/file' of the pictures: .*exists"):
        await template_of(journal, f"{tmp_path}/file/{{key}}")
    assert await journal.read_note("save") is None


async def test_no_folder_is_made_for_a_bad_template(journal, tmp_path):
    with pytest.raises(ContractError, match="unknown field 'row'"):
        await template_of(journal, f"{tmp_path}/out/{{row}}")
    assert not (tmp_path / "out").exists()
