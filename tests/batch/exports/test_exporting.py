"""Exports replace nothing but earlier exports, and appear whole or not at all."""

import asyncio
import csv
import sys
from pathlib import Path

import orjson
import pytest

from lemon_async import ContractError, SaveError
from lemon_async.batch.exports import export
from lemon_async.batch.exports.exporting import folder_of
from lemon_async.batch.opening import open_journal
from saved_rows import add, finish, picture, sell

FORMATS = ["imagefolder", "webdataset", "csv", "jsonl"]
TABLES = ["csv", "jsonl"]
DATASETS = ["imagefolder", "webdataset"]


@pytest.fixture
async def journal(tmp_path):
    """A journal with a row that is done, one that is sold and one that is new."""
    async with open_journal(tmp_path / "run.db", create=True) as opened:
        for key in ("done", "sold", "new"):
            await add(opened, key, columns={"colour": "red"})
        await finish(opened, "done", tmp_path / "out", cost_usd=0.04)
        await sell(opened, "sold")
        yield opened


def content_of(path):
    """Return the bytes of a file, or of each file in a folder."""
    if path.is_file():
        return path.read_bytes()
    return {str(file.relative_to(path)): file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()}


def hidden(folder):
    return [path for path in folder.rglob("*") if path.name.endswith(".part")]


@pytest.mark.parametrize("kind", FORMATS)
async def test_unfinished_batch_exports_what_is_there(kind, journal, tmp_path):
    """Datasets have the rows that are done, tables every row; the result says how many."""
    done = await export(journal, tmp_path / "new" / "out", format=kind)
    assert Path(done) == done.path == tmp_path / "new" / "out"
    assert str(done) == str(done.path)
    assert (done.rows, done.pictures, done.left_out, done.faults) == (1 if kind in DATASETS else 3, 1, 0, ())
    if kind == "csv":
        lines = csv.DictReader(done.path.read_text().splitlines())
        assert [row["state"] for row in lines] == ["done", "sold", "new"]
    if kind == "imagefolder":
        (line,) = (done.path / "train" / "metadata.jsonl").read_bytes().splitlines()
        assert orjson.loads(line)["key"] == "done"


async def test_images_in_a_folder_are_the_default(journal, tmp_path):
    await export(journal, str(tmp_path / "data"))
    assert (tmp_path / "data" / "train" / "metadata.jsonl").exists()


@pytest.mark.parametrize("kind", FORMATS)
async def test_export_replaces_an_earlier_one(kind, journal, tmp_path):
    """The same journal gives the same bytes; more rows are there the next time; files of others in a dataset stay."""
    target = tmp_path / "result"
    await export(journal, target, format=kind)
    if kind in DATASETS:
        (target / "README.md").write_text("mine")
    before = content_of(target)
    again = await export(journal, target, format=kind)
    assert content_of(target) == before
    await add(journal, "more")
    await finish(journal, "more", tmp_path / "out")
    assert (await export(journal, target, format=kind)).rows == again.rows + 1
    assert content_of(target).keys() > before.keys() if kind == "imagefolder" else content_of(target) != before
    assert kind in TABLES or (target / "README.md").read_text() == "mine"


async def test_dataset_replaces_one_of_another_format(journal, tmp_path):
    for kind in ("imagefolder", "webdataset"):
        await export(journal, tmp_path / "data", format=kind)
    assert {path.name for path in (tmp_path / "data" / "train").iterdir()} == {"000000.tar", ".lemon-async.json"}


@pytest.mark.parametrize("kind", FORMATS)
async def test_export_of_an_empty_journal_is_empty(kind, tmp_path):
    async with open_journal(tmp_path / "run.db", create=True) as journal:
        for _ in range(2):
            done = await export(journal, tmp_path / "out", format=kind)
    assert (done.rows, done.pictures) == (0, 0)
    assert done.path.exists()


@pytest.mark.parametrize("kind", TABLES)
@pytest.mark.parametrize("content", [b"key,prompt\r\n1,a cat\r\n", b'{"key":"1","prompt":"a cat"}\n'])
async def test_table_never_replaces_another_file(kind, content, journal, tmp_path):
    """Such as the rows that the batch was made from, or the journal."""
    rows = tmp_path / "rows"
    rows.write_bytes(content)
    for target in (rows, tmp_path / "run.db"):
        before = target.read_bytes()
        with pytest.raises(ContractError, match="is another file"):
            await export(journal, target, format=kind)
        assert target.read_bytes() == before


@pytest.mark.parametrize("kind", TABLES)
async def test_table_replaces_an_empty_file(kind, journal, tmp_path):
    """Such as one that a shell has created."""
    (tmp_path / "a").touch()
    assert (await export(journal, tmp_path / "a", format=kind)).rows == 3


@pytest.mark.parametrize("kind", TABLES)
async def test_table_is_not_written_over_a_folder_or_a_link(kind, journal, tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    for target, words in ((tmp_path, "is a folder"), (tmp_path / "link", "is another file")):
        with pytest.raises(ContractError, match=words):
            await export(journal, target, format=kind)
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("kind", DATASETS)
async def test_dataset_never_replaces_a_folder_of_somebody_else(kind, journal, tmp_path):
    (tmp_path / "data" / "train").mkdir(parents=True)
    (tmp_path / "data" / "train" / "cat.png").touch()
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "train").symlink_to(tmp_path / "data" / "train")
    for target, words in (("data", "that is no export"), ("linked", "that is no export"), ("run.db", "is a file")):
        with pytest.raises(ContractError, match=words):
            await export(journal, tmp_path / target, format=kind)
    assert (tmp_path / "data" / "train" / "cat.png").exists()


@pytest.mark.parametrize(
    ("destination", "kind", "words"),
    [("a", "xlsx", "must be one of imagefolder, webdataset, csv"), ("", "csv", "must be a path"),
     ("a\0b", "csv", "must be a path"), (5, "csv", "must be a path")],
)  # fmt: skip
async def test_impossible_arguments_are_refused(destination, kind, words, journal):
    with pytest.raises(ContractError, match=words):
        await export(journal, destination, format=kind)


async def test_parquet_without_pyarrow_is_refused_before_anything_is_written(journal, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ContractError, match="needs pyarrow"):
        await export(journal, tmp_path / "new" / "a.parquet", format="parquet")
    assert not (tmp_path / "new").exists()


async def test_parquet_replaces_an_earlier_one(journal, tmp_path):
    pyarrow = pytest.importorskip("pyarrow", reason="Parquet needs the extra `parquet`")
    pytest.importorskip("pyarrow.parquet")
    for _ in range(2):
        assert (await export(journal, tmp_path / "a.parquet", format="parquet")).rows == 3
    other = pyarrow.table({"key": ["1"], "prompt": ["a cat"]})
    pyarrow.parquet.write_table(other, tmp_path / "rows.parquet")
    for name in ("rows.parquet", "run.db"):
        with pytest.raises(ContractError, match="is another file"):
            await export(journal, tmp_path / name, format="parquet")


@pytest.mark.parametrize("kind", FORMATS)
async def test_disk_that_fails_leaves_the_destination_as_it_was(kind, journal, tmp_path, monkeypatch):
    target = tmp_path / "result"
    await export(journal, target, format=kind)
    before = content_of(target)

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(SaveError, match="No space left") as failure:
        await export(journal, target, format=kind)
    assert failure.value.errno == 28
    assert content_of(target) == before
    assert not hidden(tmp_path)


@pytest.mark.parametrize("kind", FORMATS)
async def test_cancelling_leaves_the_destination_as_it_was(kind, journal, tmp_path):
    """It takes effect between two rows; no thread and no file is left behind."""
    target = tmp_path / "result"
    await export(journal, target, format=kind)
    before = content_of(target)
    slow = _Slow(journal)
    running = asyncio.create_task(export(slow, target, format=kind))
    await slow.has_begun.wait()
    running.cancel()
    slow.may_go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert content_of(target) == before
    assert not hidden(tmp_path)


class _Slow:
    """A journal whose second reading of rows waits."""

    def __init__(self, journal):
        self.name, self.folder, self._journal, self._readings = journal.name, journal.folder, journal, 0
        self.has_begun, self.may_go_on = asyncio.Event(), asyncio.Event()

    async def rows(self, *states, after=-1, limit=1000):
        if after == -1:
            self._readings += 1
        if self._readings == 2:
            self.has_begun.set()
            await self.may_go_on.wait()
        return await self._journal.rows(*states, after=after, limit=limit)


async def test_missing_pictures_are_counted_and_named(journal, tmp_path):
    (tmp_path / "out" / "done-0.png").write_bytes(picture())
    for kind in ("imagefolder", "webdataset"):
        done = await export(journal, tmp_path / kind, format=kind)
        assert (done.rows, done.pictures, done.left_out) == (1, 0, 1)
        assert done.faults[0].startswith("done: ")
        marked = orjson.loads((done.path / "train" / ".lemon-async.json").read_bytes())
        assert marked["faults"] == list(done.faults)


async def test_paths_start_from_the_folder_of_the_journal(journal, tmp_path):
    """Those of a journal in a database start from the working directory."""
    assert folder_of(journal) == tmp_path

    class Remote:
        folder = None

    assert folder_of(Remote()) == Path.cwd()


async def test_what_a_batch_has_saved_is_exported(connect, tmp_path):
    """With provenance, too: the digests are those of the files with it."""
    rows = [{"sku": key, "prompt": f"a {key}", "colour": "red"} for key in ("cat", "dog")]
    async with connect() as session:
        options = {"key": "sku", "save": f"{tmp_path}/out/{{colour}}/{{key}}", "provenance": True, "model": "flux-pro"}
        async with session.batch(tmp_path / "run.db", rows, **options) as batch:
            assert sorted([outcome.key async for outcome in batch]) == ["cat", "dog"]
    async with open_journal(tmp_path / "run.db") as journal:
        done = await export(journal, tmp_path / "data")
        assert (done.rows, done.pictures, done.left_out) == (2, 2, 0)
    for path in done.path.rglob("*.png"):
        assert b"Iptc4xmpExt:AIPromptInformation" in path.read_bytes()
