"""Pictures get names of their own, in a place that was tried before anything was paid."""

import asyncio
import os
import stat
import sys
from pathlib import Path

import pytest

from lemon_async import ContractError, GenerateRequest, SaveError
from lemon_async._formats.pictures import PictureFacts
from lemon_async._images.images import Images
from lemon_async._images.threads import run_uncancellable
from lemon_async.cli.destination import Destination, prepare_sheet, sheet_problems
from lemon_async.types import ImageData, TaskSnapshot

GIF = b"GIF89a\x02\0\x03\0\0\0\0;"


class Results:
    """A session whose links all lead to the same small picture."""

    download_s = 5.0

    async def save(self, url, draft):
        await run_uncancellable(draft.write, GIF)
        return PictureFacts("gif", (2, 3))


def gifs(number=1, **facts):
    data = tuple(ImageData(url=f"https://cdn.test/{place}.gif") for place in range(number))
    snapshot = TaskSnapshot(status="completed", images=data, **facts)
    return Images(snapshot, Results(), request=GenerateRequest("a cat", model="flux-pro"))


async def saved(destination, label, *, index=0):
    images = gifs()
    return await destination.save(images[0], images, label=label, index=index)


async def saved_all(destination, label, images, *, index=0):
    works = (destination.save(image, images, label=label, index=index + image.index) for image in images)
    return [path.name for path in await asyncio.gather(*works)]


def names(folder):
    return sorted(path.name for path in folder.iterdir())


# Trying the place


def test_folder_takes_any_number_of_pictures(tmp_path):
    assert Destination.prepare(str(tmp_path), jobs=3).folder == tmp_path


def test_folder_that_is_missing_is_made(tmp_path):
    destination = Destination.prepare(f"{tmp_path}/a/b/", jobs=3)
    assert destination.folder == tmp_path / "a" / "b"
    assert destination.folder.is_dir()


def test_folder_of_a_file_is_made(tmp_path):
    destination = Destination.prepare(f"{tmp_path}/a/cat.png", jobs=1)
    assert (destination.folder, destination.name, destination.template) == (tmp_path / "a", "cat.png", None)
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


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ("x" * 300, "cannot write to 'x+': File name too long"),
        ("ä" * 200, "cannot write to 'ä+': File name too long"),
        ("out/cat\u202egnp.exe", "must not hold control characters"),
        ("out/a\0b.png", "must not hold"),
        ("a\0b/", "must not hold a NUL character"),
        ("out/con.png", "is the name of a device on Windows"),
        (f"{'x' * 300}/cat.png", "cannot write to 'x+/cat.png': File name too long"),
    ],
    ids=lambda value: ascii(value)[:20],
)
def test_name_that_cannot_be_is_refused(tmp_path, output, words):
    with pytest.raises(ContractError, match=f"^-o: {words}"):
        Destination.prepare(output, jobs=1)
    assert names(tmp_path) == []


@pytest.mark.parametrize("target", ["cat.png", "nowhere.png"])
def test_symbolic_link_is_refused(tmp_path, target):
    """It is neither followed nor replaced; told before anything is paid."""
    (tmp_path / "cat.png").touch()
    (tmp_path / "link.png").symlink_to(target)
    with pytest.raises(ContractError, match=r"-o: 'link\.png' is a symbolic link"):
        Destination.prepare("link.png", jobs=1)


def test_symbolic_link_to_a_folder_is_a_folder(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder")
    assert Destination.prepare("link", jobs=3).name is None


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
    path = await saved(Destination.prepare(str(tmp_path), jobs=1), label)
    assert path == tmp_path / name
    assert path.read_bytes() == GIF


async def test_name_in_a_folder_is_a_free_one(tmp_path):
    """Neither a file of yesterday nor a picture of this run is overwritten."""
    (tmp_path / "cat.gif").write_text("yesterday")
    (tmp_path / "cat-3.gif").mkdir()
    destination = Destination.prepare(str(tmp_path), jobs=3)
    assert [(await saved(destination, "cat")).name for _ in range(3)] == ["cat-2.gif", "cat-4.gif", "cat-5.gif"]
    assert (tmp_path / "cat.gif").read_text() == "yesterday"


async def test_names_that_meet_are_given_once(tmp_path):
    """The second "cat" and the first "cat 2" are two pictures, even while neither of them is on the disk yet."""
    destination = Destination.prepare(str(tmp_path), jobs=4)
    paths = await asyncio.gather(*(saved(destination, label) for label in ("cat", "cat", "cat 2", "cat-2")))
    assert len(set(paths)) == 4
    assert names(tmp_path) == sorted(path.name for path in paths)


@pytest.mark.parametrize("output", ["", "cat.gif"], ids=["folder", "file"])
async def test_pictures_of_a_job_are_numbered_in_the_order_of_the_answer(tmp_path, output):
    """Though they are saved side by side."""
    destination = Destination.prepare(f"{tmp_path}/{output}", jobs=1)
    assert await saved_all(destination, "cat", gifs(4)) == ["cat.gif", "cat-2.gif", "cat-3.gif", "cat-4.gif"]


async def test_file_that_was_named_is_overwritten_and_its_suffix_kept(tmp_path):
    (tmp_path / "cat.png").write_text("yesterday")
    (tmp_path / "cat-2.png").write_text("not named")
    destination = Destination.prepare(f"{tmp_path}/cat.png", jobs=1)
    assert await saved_all(destination, "ignored", gifs(2)) == ["cat.png", "cat-3.png"]
    assert (tmp_path / "cat.png").read_bytes() == GIF
    assert (tmp_path / "cat-2.png").read_text() == "not named"


async def test_file_that_was_named_without_a_suffix_gets_none(tmp_path):
    assert await saved(Destination.prepare("cat", jobs=1), "ignored") == (tmp_path / "cat").relative_to(tmp_path)


async def test_folder_that_went_away_is_made_again(tmp_path):
    destination = Destination.prepare("out/", jobs=1)
    destination.folder.rmdir()
    assert (await saved(destination, "cat")).exists()


async def test_place_that_cannot_be_written_to_any_more_is_an_error_of_the_library(tmp_path):
    destination = Destination.prepare("out/", jobs=1)
    destination.folder.rmdir()
    (tmp_path / "out").touch()
    with pytest.raises(SaveError, match=r"could not save 'out/cat': .* \(picture 1 of the response\)"):
        await saved(destination, "cat")


# Templates


@pytest.mark.parametrize(
    ("template", "name"),
    [
        ("{index:03}-{slug}", "007-a-white-cat.gif"),
        ("{index}.png", "7.gif"),
        ("{slug}.{format}", "a-white-cat.gif"),
        ("v1.5 {model} {width}x{height}", "v1.5 flux-pro 2x3.gif"),
        ("{task_id}_{created}", "ldtask_1_5.gif"),
        ("{{{index}}}", "{7}.gif"),
    ],
)
async def test_template_names_pictures_and_the_bytes_tell_the_suffix(tmp_path, template, name):
    destination = Destination.prepare(f"new/{template}", jobs=9)
    images = gifs(task_id="ldtask_1", created=5)
    path = await destination.save(images[0], images, label="A white cat!", index=7)
    assert path.name == name
    assert names(tmp_path / "new") == [name]


async def test_template_with_folders_makes_them_where_nothing_else_is(tmp_path):
    """They are made by the separators that the user wrote, and only when there is a picture."""
    destination = Destination.prepare("new/{slug}/{model}/{index}.png", jobs=9)
    assert names(tmp_path / "new") == []
    images = gifs(2, model="../../x")
    paths = [await destination.save(image, images, label="../a cat", index=image.index) for image in images]
    assert paths == [Path("new/a-cat/x/0.gif"), Path("new/a-cat/x/1.gif")]
    assert (tmp_path / paths[0]).read_bytes() == GIF
    assert (await destination.write(GIF, "../file")).parts == ("new", "file", "none", "0.gif")
    assert names(tmp_path / "new") == ["a-cat", "file"]


@pytest.mark.parametrize("there", ["file", "link"])
async def test_template_whose_folder_is_something_else_saves_nothing(tmp_path, there):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "a-cat").touch() if there == "file" else (tmp_path / "a-cat").symlink_to("elsewhere")
    images = gifs()
    with pytest.raises(SaveError, match=r"could not save 'a-cat': .*(File exists|is a symbolic link, which is not)"):
        await Destination.prepare("{slug}/{index}", jobs=1).save(images[0], images, label="a cat", index=0)
    assert names(tmp_path) == ["a-cat", "elsewhere"]
    assert names(tmp_path / "elsewhere") == []


async def test_template_replaces_nothing(tmp_path):
    (tmp_path / "a-cat.gif").write_text("yesterday")
    destination = Destination.prepare("{slug}", jobs=2)
    assert set(await saved_all(destination, "a cat", gifs(2))) == {"a-cat-2.gif", "a-cat-3.gif"}
    assert (tmp_path / "a-cat.gif").read_text() == "yesterday"


async def test_template_that_names_all_pictures_of_a_job_alike_numbers_them_in_their_order(tmp_path):
    destination = Destination.prepare("{slug}", jobs=1)
    assert await saved_all(destination, "a cat", gifs(3)) == ["a-cat.gif", "a-cat-2.gif", "a-cat-3.gif"]
    destination = Destination.prepare("{index}-{slug}", jobs=1)
    assert await saved_all(destination, "a cat", gifs(2)) == ["0-a-cat.gif", "1-a-cat.gif"]


async def test_template_fills_nothing_of_strangers_in_as_it_is(tmp_path):
    destination = Destination.prepare("{model}-{task_id}-{slug}", jobs=1)
    images = gifs(task_id="../../etc", model="a/b\x1b")
    path = await destination.save(images[0], images, label="../..", index=0)
    assert path.name == "a-b-etc-image.gif"


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ("out/{nope}", "has no field 'nope'; there are {index}, {slug}, "),
        ("out/{index", "is not a template: "),
        ("out/index}", "is not a template: "),
        ("out/{index:999999999}", "has a format that names do not take, '999999999'"),
        ("out/{slug.__class__}", "has no field 'slug.__class__'"),
        ("out/{index}/", "names a folder by fields: name the file in it, too, as in 'out/{index}/{slug}'"),
        ("out/{slug:/>9}", "has a format that names do not take, '/>9'"),
        ("out/{width:c}{height:c}", "has a format that names do not take, 'c'"),
        ("out/{slug}/../{index}", "must name a file: "),
        ("{slug}\\{index}", "must separate folders by '/'"),
        ("{index}\u202e", "must not hold control characters"),
    ],
    ids=ascii,
)
def test_template_that_cannot_be_is_refused_before_anything_is_made(tmp_path, output, words):
    (problem,) = Destination.find_problems(output, jobs=3)
    assert problem.field == "-o"
    assert problem.message.startswith(words)
    assert names(tmp_path) == []


def test_folder_with_braces_in_its_name_is_taken_as_it_is(tmp_path):
    (tmp_path / "{model}").mkdir()
    assert Destination.prepare("{model}/{index}", jobs=2).folder.name == "{model}"
    assert Destination.prepare("{model}", jobs=2).folder.name == "{model}"
    assert Destination.prepare("{model}/a/{slug}/{index}", jobs=2).folder == Path("{model}/a")


def test_place_in_very_many_new_folders_is_refused_in_words(tmp_path):
    """None of them is made."""
    with pytest.raises(ContractError, match=r"-o: cannot write to 'a/a/.*: lies in more than 64 folders that do not"):
        Destination.prepare("a/" * 1000, jobs=1)
    assert names(tmp_path) == []


# Other bytes


@pytest.mark.parametrize(("content", "name"), [(GIF, "file-1.gif"), (b"no picture", "file-1"), (b"", "file-1")])
async def test_bytes_are_written_under_a_free_name_of_what_they_are(tmp_path, content, name):
    path = await Destination.prepare(str(tmp_path), jobs=1).write(content, "file-1")
    assert path == tmp_path / name
    assert path.read_bytes() == content


async def test_bytes_are_written_under_a_template(tmp_path):
    destination = Destination.prepare("{slug}-{width}x{height}-{format}", jobs=1)
    assert (await destination.write(GIF, "file-1")).name == "file-1-2x3-gif.gif"
    assert (await destination.write(b"no picture", "file-1")).name == "file-1-0x0-none"


async def test_bytes_replace_the_file_that_was_named_and_no_folder(tmp_path):
    (tmp_path / "cat.png").write_text("yesterday")
    destination = Destination.prepare(f"{tmp_path}/cat.png", jobs=1)
    assert await destination.write(b"today", "ignored") == tmp_path / "cat.png"
    assert (tmp_path / "cat.png").read_bytes() == b"today"
    (tmp_path / "cat.png").unlink()
    (tmp_path / "cat.png").mkdir()
    with pytest.raises(IsADirectoryError):
        await destination.write(b"", "")
    assert names(tmp_path) == ["cat.png"]


# The page


@pytest.mark.parametrize("sheet", [None, "sheet.html", "new/a/sheet.HTM"])
def test_page_that_can_be_has_no_problems(tmp_path, sheet):
    assert sheet_problems(sheet, "out/") == ()
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("sheet", "words"),
    [
        ("a cat", "must be the name of a page, as in 'sheet.html': 'a cat'"),
        ("out/", "must be the name of a page, as in 'sheet.html': 'out/'"),
        ("cat.png", "must be the name of a page, as in 'sheet.html': 'cat.png'"),
        ("folder.html", "is a folder: 'folder.html'"),
        ("link.html", "is a symbolic link, which is neither followed nor replaced: 'link.html'"),
        ("pipe.html", "is neither a file nor a folder: 'pipe.html'"),
        ("file/sheet.html", "cannot write to 'file': Not a directory"),
        ("out.html", "is where the picture goes: 'out.html'"),
        ("a\0b.html", "must not hold"),
        (f"{'x' * 300}/sheet.html", f"cannot write to '{'x' * 300}/sheet.html': File name too long"),
    ],
    ids=lambda value: ascii(value)[:20],
)
def test_page_that_cannot_be_is_refused_in_words(tmp_path, sheet, words):
    (tmp_path / "file").touch()
    (tmp_path / "folder.html").mkdir()
    (tmp_path / "link.html").symlink_to("nowhere")
    os.mkfifo(tmp_path / "pipe.html")
    (problem,) = sheet_problems(sheet, "out.html")
    assert problem.field == "--sheet"
    assert problem.message.startswith(words)


def test_folder_of_a_page_is_made(tmp_path):
    assert prepare_sheet("new/sheet.html").parent.is_dir()
    (tmp_path / "link").symlink_to("nowhere")
    with pytest.raises(ContractError, match="--sheet: cannot write to 'link': File exists"):
        prepare_sheet("link/sheet.html")
