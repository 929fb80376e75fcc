"""Datasets hold the pictures that were saved, and nothing else."""

import hashlib
import os
import tarfile

import orjson
import pytest

from lemon_async.batch.exports.columns import Columns
from lemon_async.batch.exports.pictures import write_image_folder, write_web_dataset
from lemon_async.batch.exports.report import Report
from lemon_async.batch.records import JournalRow, SavedPicture
from lemon_async.batch.states import State
from saved_rows import picture

WRITERS = {"imagefolder": write_image_folder, "webdataset": write_web_dataset}


def saved(path, content):
    path.write_bytes(content)
    return SavedPicture(path.name, len(content), hashlib.sha256(content).hexdigest())


def row(number, *pictures, key=None):
    request = orjson.dumps({"prompt": f"cat {number}"})
    key = f"sku-{number}" if key is None else key
    return JournalRow(number=number, key=key, state=State.DONE, request=request, pictures=pictures)


def write(kind, tmp_path, *rows):
    """Return what was written in a new folder, and the report."""
    folder, columns, report = tmp_path / f"{kind}-{os.urandom(4).hex()}", Columns(), Report()
    folder.mkdir()
    for each in rows:
        columns.learn(each)
    WRITERS[kind](folder, iter(rows), columns, tmp_path, report)
    return folder, report


def lines(folder):
    return [orjson.loads(line) for line in (folder / "metadata.jsonl").read_bytes().splitlines()]


def samples(folder):
    """Return the files of each sample, as readers of WebDataset group them: up to the first dot."""
    found = {}
    for path in sorted(folder.glob("*.tar")):
        with tarfile.open(path) as tar:
            for entry in tar:
                key, _, suffix = entry.name.partition(".")
                found.setdefault(key, {})[suffix] = tar.extractfile(entry).read()
    return found


def test_image_folder_has_a_line_for_each_picture(tmp_path):
    """Several pictures of a row are lines of their own; paths are relative to the metadata."""
    first, second = (saved(tmp_path / name, picture()) for name in ("a.png", "b.png"))
    folder, report = write("imagefolder", tmp_path, row(0, first), row(1200, first, second))
    names = [line["file_name"] for line in lines(folder)]
    assert names == ["00000/0000000-sku-0.png", "00001/0001200-sku-1200-0.png", "00001/0001200-sku-1200-1.png"]
    assert [line["key"] for line in lines(folder)] == ["sku-0", "sku-1200", "sku-1200"]
    for line in lines(folder):
        assert hashlib.sha256((folder / line["file_name"]).read_bytes()).hexdigest() == line["sha256"]
    assert (report.rows, report.pictures, report.left_out) == (2, 3, 0)


def test_pictures_of_a_folder_are_hard_links_or_copies(tmp_path, monkeypatch):
    first = saved(tmp_path / "a.png", picture())
    folder, _ = write("imagefolder", tmp_path, row(0, first))
    assert (folder / "00000/0000000-sku-0.png").samefile(tmp_path / "a.png")

    def refuse(*_):
        raise OSError

    monkeypatch.setattr(os, "link", refuse)
    folder, _ = write("imagefolder", tmp_path, row(0, first))
    copy = folder / "00000/0000000-sku-0.png"
    assert copy.read_bytes() == (tmp_path / "a.png").read_bytes()
    assert not copy.samefile(tmp_path / "a.png")


def test_symbolic_link_is_followed(tmp_path):
    first = saved(tmp_path / "a.png", picture())
    (tmp_path / "a.png").rename(tmp_path / "b.png")
    (tmp_path / "a.png").symlink_to("b.png")
    folder, _ = write("imagefolder", tmp_path, row(0, first))
    assert (folder / "00000/0000000-sku-0.png").samefile(tmp_path / "b.png")
    assert not (folder / "00000/0000000-sku-0.png").is_symlink()


def test_web_dataset_has_a_sample_for_each_picture(tmp_path):
    """The file itself and its facts, under one name without dots."""
    first, second = saved(tmp_path / "a.png", picture()), saved(tmp_path / "b", picture("WEBP"))
    folder, report = write("webdataset", tmp_path, row(0, first, key="v1.5"), row(1, second))
    found = samples(folder)
    assert {key: set(files) for key, files in found.items()} == {
        "0000000-v1-5": {"png", "json"},
        "0000001-sku-1": {"webp", "json"},
    }
    assert found["0000000-v1-5"]["png"] == (tmp_path / "a.png").read_bytes()
    facts = orjson.loads(found["0000000-v1-5"]["json"])
    assert (facts["key"], facts["prompt"], facts["sha256"]) == ("v1.5", "cat 0", first.sha256)
    assert (report.rows, report.pictures) == (2, 2)


def test_two_web_datasets_are_equal(tmp_path):
    rows = [row(n, saved(tmp_path / f"{n}.png", picture())) for n in range(3)]
    contents = [(write("webdataset", tmp_path, *rows)[0] / "000000.tar").read_bytes() for _ in range(2)]
    assert contents[0] == contents[1]


@pytest.mark.parametrize(("limit", "value"), [("_MAX_SHARD_SAMPLES", 2), ("_MAX_SHARD_BYTES", 1500)])
def test_shards_are_bounded(limit, value, tmp_path, monkeypatch):
    """By their number of samples and by their size."""
    monkeypatch.setattr(f"lemon_async.batch.exports.pictures.{limit}", value)
    rows = [row(n, saved(tmp_path / f"{n}.png", picture())) for n in range(5)]
    folder, _ = write("webdataset", tmp_path, *rows)
    assert sorted(path.name for path in folder.iterdir()) == ["000000.tar", "000001.tar", "000002.tar"]
    assert len(samples(folder)) == 5


@pytest.mark.parametrize("kind", WRITERS)
def test_hostile_keys_stay_in_the_folder(kind, tmp_path):
    first = saved(tmp_path / "a.png", picture())
    keys = ["../../etc/passwd", "", "...", "\x00\n", "x" * 500, "\N{CAT} \u202e", "a/b", "a b", "Straße-日本"]
    folder, report = write(kind, tmp_path, *(row(n, first, key=key) for n, key in enumerate(keys)))
    assert report.pictures == len(keys)
    names = [line["file_name"][6:-4] for line in lines(folder)] if kind == "imagefolder" else list(samples(folder))
    assert len(set(names)) == len(keys)
    assert all(set(name) <= {*"-_"} or name.replace("-", "").replace("_", "").isalnum() for name in names)
    assert names[8] == "0000008-Straße-日本"
    assert max(len(name.encode()) for name in names) < 250


def broken(path):
    """Yield each way in which the file of a picture can differ from what was saved."""
    yield path.unlink
    yield lambda: path.write_bytes(b"shorter")
    yield lambda: path.write_bytes(path.read_bytes()[:-1] + b"x")
    yield lambda: (path.unlink(), path.mkdir())
    yield lambda: (path.unlink(), os.mkfifo(path))


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("way", range(5))
def test_picture_that_is_missing_or_has_changed_is_left_out_and_reported(kind, way, tmp_path):
    content = picture()
    good, bad = saved(tmp_path / "good.png", content), saved(tmp_path / "bad.png", content)
    list(broken(tmp_path / "bad.png"))[way]()
    folder, report = write(kind, tmp_path, row(0, bad), row(1, good))
    assert (report.rows, report.pictures, report.left_out) == (2, 1, 1)
    assert report.faults[0].startswith("sku-0: ")
    assert "bad.png" in report.faults[0]
    if kind == "imagefolder":
        assert [line["key"] for line in lines(folder)] == ["sku-1"]
        assert len(list(folder.rglob("*.png"))) == 1
    else:
        assert list(samples(folder)) == ["0000001-sku-1"]


@pytest.mark.parametrize("kind", WRITERS)
def test_picture_that_cannot_be_read_is_reported(kind, tmp_path, monkeypatch):
    first = saved(tmp_path / "a.png", picture())

    def refuse(*_args, **_options):
        raise PermissionError(13, "Permission denied")

    reader = {"imagefolder": "lemon_async.batch.exports.pictures._head", "webdataset": "pathlib.Path.read_bytes"}[kind]
    monkeypatch.setattr(reader, refuse)
    _, report = write(kind, tmp_path, row(0, first))
    assert report.faults == [f"sku-0: {str(tmp_path / 'a.png')!r} cannot be read: Permission denied"]


def test_file_that_is_no_picture_keeps_its_bytes(tmp_path):
    """The journal says that it was saved."""
    folder, _ = write("imagefolder", tmp_path, row(0, saved(tmp_path / "a.png", b"text")))
    assert lines(folder)[0]["file_name"] == "00000/0000000-sku-0.bin"
