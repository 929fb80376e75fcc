"""Hugging Face's `datasets` reads what is exported. It is too heavy for the ordinary set-up: `.ci/run` installs it."""

import io

import pytest
from PIL import Image

from lemon_async.batch.exports import export
from lemon_async.batch.opening import open_journal
from saved_rows import add, finish, picture

datasets = pytest.importorskip("datasets", reason="`datasets` is not installed; .ci/run installs it for this test")

COLUMNS = {"colour": "red", "file_name": "x.png", "image": "y", "weight": 2, "tags": ["a", "b"], "state": "NY"}


@pytest.fixture
async def journal(tmp_path):
    """A journal with pictures of three formats, two of them of one row, and columns that not every row has."""
    async with open_journal(tmp_path / "run.db", create=True) as opened:
        await add(opened, "a/1", columns=COLUMNS)
        await add(opened, "b.2", size="1024x1024")
        await add(opened, "new")
        await finish(
            opened, "a/1", tmp_path / "out", picture("PNG"), picture("PNG", (64, 48)), names=["1.png", "2.png"]
        )
        await finish(opened, "b.2", tmp_path / "out", picture("JPEG"), names=["3.jpg"], cost_usd=0.04)
        yield opened


def load(kind, tmp_path, **options):
    return datasets.load_dataset(kind, cache_dir=str(tmp_path / "cache"), **options)["train"]


async def test_image_folder(journal, tmp_path):
    """Pictures are decoded, each beside the values of its row; no column is taken for a path."""
    await export(journal, tmp_path / "data")
    loaded = load("imagefolder", tmp_path, data_dir=str(tmp_path / "data"))
    assert [each.size for each in loaded["image"]] == [(32, 32), (64, 48), (32, 32)]
    assert list(loaded["key"]) == ["a/1", "a/1", "b.2"]
    assert list(loaded["prompt"]) == ["a a/1", "a a/1", "a b.2"]
    assert list(loaded["weight"]) == [2, 2, None]
    assert list(loaded["tags"]) == ['["a","b"]'] * 2 + [""]
    assert list(loaded["cost_usd"]) == [None, None, 0.04]
    assert (loaded[0]["file_name_"], loaded[0]["image_"], loaded[0]["state_"]) == ("x.png", "y", "NY")


async def test_image_folder_whose_first_megabytes_have_no_value(tmp_path):
    """The reader takes the types from the first 10 MB."""
    async with open_journal(tmp_path / "run.db", create=True) as journal:
        for number in range(30):
            is_last = number == 29
            columns = {"late": 2.5, "words": "yes"} if is_last else None
            await add(journal, f"k{number}", prompt="x" * 600_000, columns=columns)
            facts = {"task": "t", "cost_usd": 0.04} if is_last else {"task": None}
            await finish(journal, f"k{number}", tmp_path / "out", **facts)
        await export(journal, tmp_path / "data")
    loaded = load("imagefolder", tmp_path, data_dir=str(tmp_path / "data"))
    assert list(loaded["key"]) == ["k29", *(f"k{number}" for number in range(29))]
    names = ("late", "words", "task_id", "cost_usd")
    assert [loaded[0][name] for name in names] == [2.5, "yes", "t", 0.04]
    assert [loaded[1][name] for name in names] == [None, "", "", None]


async def test_web_dataset_whose_first_samples_have_no_value(tmp_path):
    """The reader takes the types from the first five."""
    async with open_journal(tmp_path / "run.db", create=True) as journal:
        for number in range(8):
            await add(journal, f"k{number}", columns={"late": 5} if number == 7 else None)
            await finish(journal, f"k{number}", tmp_path / "out")
        await export(journal, tmp_path / "data", format="webdataset")
    loaded = load("webdataset", tmp_path, data_dir=str(tmp_path / "data"))
    assert [each["late"] for each in loaded["json"]] == [5, *[None] * 7]


async def test_web_dataset(tmp_path):
    async with open_journal(tmp_path / "run.db", create=True) as journal:
        for key in ("a.1", "b.2"):
            await add(journal, key, columns={"colour": "red"})
            await finish(journal, key, tmp_path / "out", picture("WEBP"), names=[f"{key}.webp"])
        await export(journal, tmp_path / "data", format="webdataset")
    loaded = load("webdataset", tmp_path, data_dir=str(tmp_path / "data"))
    assert [each.size for each in loaded["webp"]] == [(32, 32)] * 2
    assert [(each["key"], each["colour"]) for each in loaded["json"]] == [("a.1", "red"), ("b.2", "red")]
    assert list(loaded["__key__"]) == ["0000000-a-1", "0000001-b-2"]


@pytest.mark.parametrize(("kind", "reader"), [("csv", "csv"), ("jsonl", "json"), ("parquet", "parquet")])
async def test_table(kind, reader, journal, tmp_path):
    """The paths lead to the pictures."""
    await export(journal, tmp_path / f"rows.{kind}", format=kind)
    loaded = load(reader, tmp_path, data_files=str(tmp_path / f"rows.{kind}"))
    assert list(loaded["state"]) == ["done", "done", "new"]
    paths = loaded[0]["paths"].split("\n") if kind == "csv" else loaded[0]["paths"]
    assert [Image.open(io.BytesIO((tmp_path / path).read_bytes())).size for path in paths] == [(32, 32), (64, 48)]
