"""Pictures get names of their own, in a place that was tried before anything was paid."""

import asyncio
import base64
import contextlib
import io
import os
import stat
import sys

import orjson
import pytest

from lemon_async import ContractError, Image
from lemon_async.api.models import ImageData
from lemon_async.cli.output import Destination, aligned, json_text, plain, say

GIF = b"GIF89a\x02\0\x03\0\0\0\0;"


def gif():
    return Image(ImageData(b64_json=base64.b64encode(GIF).decode()), download=None)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


# What may be printed


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a nice cat, größer als 猫", "a nice cat, größer als 猫"),
        ("two\nlines", "two\nlines"),
        ("\x1b[2J\x1b]0;title\x07", " [2J ]0;title "),
        ("over\rwritten\b\x7f", "over written  "),
        ("right\u202eleft\u200b", "right left "),
        (ContractError(problems=()), "0 problems, nothing was sent:"),
        (None, "None"),
    ],
    ids=repr,
)
def test_text_of_strangers_drives_no_terminal(text, shown):
    assert plain(text) == shown


def test_line_is_said_as_plain_text(capsys):
    say("a\x1b[2Jb")
    assert capsys.readouterr().out == "a [2Jb\n"


def test_line_is_said_in_the_encoding_of_the_output():
    """A terminal that cannot show a character gets its number, and the command goes on."""
    output = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    with contextlib.redirect_stdout(output):
        say("猫")
    output.flush()
    assert output.buffer.getvalue() == b"\\u732b\n"


@pytest.mark.parametrize("is_indented", [False, True])
@pytest.mark.parametrize(
    "text", ["größer als 猫", "\x1b[2J\x07\x00\x7f\x9b", "\u202e\u2028", "\U000e0041", "a\nb"], ids=ascii
)
def test_json_is_printable_and_says_the_same(text, is_indented):
    value = {"id": text, text: [1, None]}
    shown = json_text(value, is_indented=is_indented)
    assert orjson.loads(shown) == value
    assert plain(shown) == shown
    assert is_indented == ("\n" in shown)


def test_json_that_is_nested_too_deeply_is_refused_in_words():
    value = []
    for _ in range(300):
        value = [value]
    with pytest.raises(RecursionError, match="the answer is nested too deeply to be shown"):
        json_text(value)


def test_table_is_aligned_and_its_columns_can_be_counted():
    """A cell with white space stays one word of `awk`, and a missing one is there as a dash."""
    rows = [("dall-e-3", None, "generate", ""), ("a b\nc", "open\x1bai", 5, "a  name")]
    assert list(aligned(rows)) == ["dall-e-3  -        generate", "a_b_c     open_ai  5         a name"]
    assert list(aligned([])) == []


# Trying the place


def test_folder_takes_any_number_of_pictures(tmp_path):
    assert Destination.prepare(str(tmp_path), jobs=3).folder == tmp_path


def test_folder_that_is_missing_is_made(tmp_path):
    destination = Destination.prepare(f"{tmp_path}/a/b/", jobs=3)
    assert destination.folder == tmp_path / "a" / "b"
    assert destination.folder.is_dir()


def test_folder_of_a_file_is_made(tmp_path):
    destination = Destination.prepare(f"{tmp_path}/a/cat.png", jobs=1)
    assert (destination.folder, destination.stem, destination.suffix) == (tmp_path / "a", "cat", ".png")
    assert names(tmp_path / "a") == []


def test_file_without_a_folder_is_in_this_one(tmp_path):
    Destination.prepare("cat.png", jobs=1)
    assert names(tmp_path) == []


def test_one_file_for_several_pictures_is_refused_with_the_way_out(tmp_path):
    with pytest.raises(ContractError, match=r"-o: 'cats' is one file for 2 pictures; name a folder, as in 'cats/'"):
        Destination.prepare("cats", jobs=2)
    assert names(tmp_path) == []


@pytest.mark.parametrize("output", ["file/", "file/cat.png", "file/a/b/"])
def test_place_under_a_file_is_refused(tmp_path, output):
    (tmp_path / "file").touch()
    with pytest.raises(ContractError, match=r"-o: cannot write to 'file.*': (Not a directory|File exists)"):
        Destination.prepare(output, jobs=1)


@pytest.mark.skipif(sys.platform != "linux", reason="the folder of processes takes no files, not even root's")
def test_folder_that_takes_no_files_is_refused():
    """It is there, and only trying tells that nothing can be written to it."""
    with pytest.raises(ContractError, match="-o: cannot write to '/proc': No such file or directory"):
        Destination.prepare("/proc/", jobs=1)


@pytest.mark.parametrize(("output", "jobs"), [("new/a/", 3), ("new/cat.png", 1), ("cat.png", 1)])
def test_place_is_looked_at_without_making_folders(tmp_path, output, jobs):
    assert Destination.find_problems(output, jobs=jobs) == ()
    assert names(tmp_path) == []


def test_folder_that_can_only_be_tried_is_refused_when_it_is_made(tmp_path):
    """A link to nowhere looks like a name that is free."""
    (tmp_path / "link").symlink_to("nowhere")
    with pytest.raises(ContractError, match="-o: cannot write to 'link': File exists"):
        Destination.prepare("link/cat.png", jobs=1)


def test_name_that_is_too_long_is_refused(tmp_path):
    with pytest.raises(ContractError, match=r"-o: cannot write to 'x+': File name too long"):
        Destination.prepare("x" * 300, jobs=1)


def test_what_is_neither_a_file_nor_a_folder_is_refused(tmp_path):
    """A pipe or a device is not to be replaced by a picture."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ContractError, match="-o: 'pipe' is neither a file nor a folder"):
        Destination.prepare("pipe", jobs=1)


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is read-only for root")
def test_read_only_folder_is_refused(tmp_path):
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    with pytest.raises(ContractError, match=r"-o: cannot write to .*: Permission denied"):
        Destination.prepare(str(tmp_path), jobs=1)


# Names


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("A white cat on a windowsill!", "a-white-cat-on-a-windowsill.gif"),
        ("../../etc/passwd", "etc-passwd.gif"),
        ("C:\\con\0", "c-con.gif"),
        ("猫 и кот", "猫-и-кот.gif"),
        ("--rf *", "rf.gif"),
        ("...", "image.gif"),
        ("", "image.gif"),
        ("x" * 100, "x" * 48 + ".gif"),
        ("x" * 47 + " y", "x" * 47 + ".gif"),
    ],
    ids=repr,
)
async def test_name_in_a_folder_is_made_from_the_label_and_from_the_bytes(tmp_path, label, name):
    """No path and no control character of a prompt gets into it; the suffix is the real format."""
    path = await Destination.prepare(str(tmp_path), jobs=1).save(gif(), label)
    assert path == tmp_path / name
    assert path.read_bytes() == GIF


async def test_name_in_a_folder_is_a_free_one(tmp_path):
    """Neither a file of yesterday nor a picture of this run is overwritten."""
    (tmp_path / "cat.gif").write_text("yesterday")
    (tmp_path / "cat-3.gif").mkdir()
    destination = Destination.prepare(str(tmp_path), jobs=3)
    assert [(await destination.save(gif(), "cat")).name for _ in range(3)] == ["cat-2.gif", "cat-4.gif", "cat-5.gif"]
    assert (tmp_path / "cat.gif").read_text() == "yesterday"


async def test_name_is_free_even_if_its_picture_could_not_be_written(tmp_path):
    """Pictures that are saved at the same time do not agree on a name."""
    destination = Destination.prepare(f"{tmp_path}/gone/", jobs=2)
    destination.folder.rmdir()
    with pytest.raises(FileNotFoundError):
        await destination.save(gif(), "cat")
    destination.folder.mkdir()
    assert (await destination.save(gif(), "cat")).name == "cat-2.gif"


async def test_names_that_meet_are_given_once(tmp_path):
    """The second "cat" and the first "cat 2" are two pictures, even while neither of them is on the disk yet."""
    destination = Destination.prepare(str(tmp_path), jobs=4)
    labels = ["cat", "cat", "cat 2", "cat-2"]
    paths = await asyncio.gather(*(destination.save(gif(), label) for label in labels))
    assert len(set(paths)) == len(labels)
    assert names(tmp_path) == sorted(path.name for path in paths)


async def test_file_that_was_named_is_overwritten_and_its_suffix_kept(tmp_path):
    (tmp_path / "cat.png").write_text("yesterday")
    (tmp_path / "cat-2.png").write_text("not named")
    destination = Destination.prepare(f"{tmp_path}/cat.png", jobs=1)
    assert [(await destination.save(gif(), "ignored")).name for _ in range(2)] == ["cat.png", "cat-3.png"]
    assert (tmp_path / "cat.png").read_bytes() == GIF
    assert (tmp_path / "cat-2.png").read_text() == "not named"


@pytest.mark.parametrize(("content", "name"), [(GIF, "file-1.gif"), (b"no picture", "file-1"), (b"", "file-1")])
async def test_bytes_are_written_under_a_free_name_of_what_they_are(tmp_path, content, name):
    path = await Destination.prepare(str(tmp_path), jobs=1).write(content, "file-1")
    assert path == tmp_path / name
    assert path.read_bytes() == content


async def test_bytes_replace_the_file_that_was_named_and_no_folder(tmp_path):
    (tmp_path / "cat.png").write_text("yesterday")
    destination = Destination.prepare(f"{tmp_path}/cat.png", jobs=1)
    assert await destination.write(b"today", "ignored") == tmp_path / "cat.png"
    assert (tmp_path / "cat.png").read_bytes() == b"today"
    (tmp_path / "cat.png").unlink()
    (tmp_path / "cat.png").mkdir()
    with pytest.raises(IsADirectoryError):
        await Destination(tmp_path, "cat", ".png").write(b"", "")
    assert names(tmp_path) == ["cat.png"]
