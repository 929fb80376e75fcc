"""Pictures get distinct names in a folder that was checked before anything was paid."""

import asyncio
import os
import stat
import sys
from pathlib import Path

import pytest

from lemon_async import ContractError, LemonSession, SaveError
from lemon_async.cli.destination import Destination, prepare_sheet, sheet_problems


@pytest.fixture
async def session(emulator):
    async with LemonSession(emulator.api_key, base_url=emulator.base_url) as session:
        yield session


@pytest.fixture
def pictures_of(session):
    """Return pictures that came inline, 256 pixels wide; `revised_prompt` is that of the service."""

    async def generate(number=1, prompt="a cat"):
        fields = {"model": "dall-e-2", "size": "256x256", "response_format": "b64_json"}
        return await session.generate(prompt, n=number, **fields)

    return generate


async def saved(destination, images, label="cat", *, index=0, model=None):
    ends = await destination.save(images, label=label, index=index, model=model)
    assert not [end for end in ends if isinstance(end, Exception)]
    return [path.name for path in ends]


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
    assert (destination.folder, destination.name) == (tmp_path / "a", "cat.png")
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
    """It exists, and only an attempt to write shows that it cannot be written to."""
    with pytest.raises(ContractError, match="-o: cannot write to '/proc': No such file or directory"):
        Destination.prepare("/proc/", jobs=1)


@pytest.mark.parametrize(("output", "jobs"), [("new/a/", 3), ("new/cat.png", 1), ("cat.png", 1)])
def test_place_is_looked_at_without_making_folders(tmp_path, output, jobs):
    assert Destination.find_problems(output, jobs=jobs) == ()
    assert names(tmp_path) == []


def test_folder_that_cannot_be_created_is_refused_when_it_is_created(tmp_path):
    """A dangling link looks like a free name."""
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
    """It is neither followed nor replaced, which is reported before anything is paid."""
    (tmp_path / "cat.png").touch()
    (tmp_path / "link.png").symlink_to(target)
    with pytest.raises(ContractError, match=r"-o: 'link\.png' is a symbolic link"):
        Destination.prepare("link.png", jobs=1)


def test_symbolic_link_to_a_folder_is_a_folder(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder")
    assert Destination.prepare("link", jobs=3).name is None


def test_anything_but_a_file_or_a_folder_is_refused(tmp_path):
    """A picture must not replace a pipe or a device."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ContractError, match="-o: 'pipe' is neither a file nor a folder"):
        Destination.prepare("pipe", jobs=1)


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is read-only for root")
def test_read_only_folder_is_refused(tmp_path):
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    with pytest.raises(ContractError, match=r"-o: cannot write to .*: Permission denied"):
        Destination.prepare(str(tmp_path), jobs=1)


# Names


async def test_name_in_a_folder_is_made_from_the_label_and_from_the_bytes(tmp_path, pictures_of):
    """No path and no control character of a label gets into it; without a label, the prompt names the picture."""
    expected = {
        "A white cat on a windowsill!": "a-white-cat-on-a-windowsill.png",
        "../../etc/passwd": "etc-passwd.png",
        "C:\\con\0": "c-con.png",
        "猫 и кот": "猫-и-кот.png",
        "...": "the-prompt.png",
        "": "the-prompt-2.png",
        "x" * 100: "x" * 48 + ".png",
    }
    destination, images = Destination.prepare(str(tmp_path), jobs=1), await pictures_of(prompt="The prompt")
    assert {label: (await saved(destination, images, label))[0] for label in expected} == expected


async def test_name_in_a_folder_is_a_free_one(tmp_path, pictures_of):
    """Neither an older file nor a picture of this run is overwritten."""
    (tmp_path / "cat.png").write_text("yesterday")
    (tmp_path / "cat-3.png").mkdir()
    destination, images = Destination.prepare(str(tmp_path), jobs=3), await pictures_of()
    assert [(await saved(destination, images))[0] for _ in range(3)] == ["cat-2.png", "cat-4.png", "cat-5.png"]
    assert (tmp_path / "cat.png").read_text() == "yesterday"


async def test_names_that_collide_are_used_once(tmp_path, pictures_of):
    """The second "cat" and the first "cat 2" get different names, even before either is on the disk."""
    destination = Destination.prepare(str(tmp_path), jobs=4)
    jobs = [(label, await pictures_of()) for label in ("cat", "cat", "cat 2", "cat-2")]
    found = await asyncio.gather(*(saved(destination, images, label) for label, images in jobs))
    assert sorted(name for (name,) in found) == names(tmp_path)
    assert len(names(tmp_path)) == 4


@pytest.mark.parametrize("output", ["", "cat.png", "cat"], ids=["folder", "file", "file without a suffix"])
async def test_pictures_of_a_job_are_numbered_in_the_order_of_the_response(tmp_path, output, pictures_of):
    """Although they are saved concurrently."""
    destination = Destination.prepare(f"{tmp_path}/{output}", jobs=1)
    assert await saved(destination, await pictures_of(3)) == ["cat.png", "cat-2.png", "cat-3.png"]


async def test_file_that_was_named_is_replaced_and_its_suffix_kept(tmp_path, pictures_of):
    (tmp_path / "cat.jpg").write_text("yesterday")
    (tmp_path / "cat-2.jpg").write_text("not named")
    destination = Destination.prepare(f"{tmp_path}/cat.jpg", jobs=1)
    assert await saved(destination, await pictures_of(2)) == ["cat.jpg", "cat-2-2.jpg"]
    assert (tmp_path / "cat.jpg").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "cat-2.jpg").read_text() == "not named"


async def test_folder_that_went_away_is_made_again_or_is_an_error_of_each_picture(tmp_path, pictures_of):
    destination, images = Destination.prepare("out/", jobs=1), await pictures_of(2)
    destination.folder.rmdir()
    assert await saved(destination, images) == ["cat.png", "cat-2.png"]
    destination = Destination.prepare("new/", jobs=1)
    destination.folder.rmdir()
    (tmp_path / "new").touch()
    ends = await destination.save(images, label="cat", index=0, model=None)
    assert [type(end) for end in ends] == [SaveError, SaveError]


# Templates


async def test_template_names_pictures_and_the_suffix_comes_from_the_bytes(tmp_path, pictures_of):
    expected = {
        "{index:03}-{slug}": "007-a-white-cat.png",
        "{index}.jpg": "7.png",
        "{slug}.{format}": "a-white-cat.png",
        "v1.5 {model} {width}x{height}": "v1.5 dall-e-2 256x256.png",
        "{{{index}}}": "{7}.png",
    }
    for template, name in expected.items():
        images = await pictures_of()
        destination = Destination.prepare(f"new/{template}", jobs=9)
        assert await saved(destination, images, "A white cat!", index=7, model="unused") == [name]
    assert names(tmp_path / "new") == sorted(expected.values())


async def test_template_takes_the_model_of_the_request_if_the_service_names_none(tmp_path, session):
    images = await session.generate("a cat")
    assert images.model is None
    assert await saved(Destination.prepare("{model}", jobs=1), images, model="../dall-e-3") == ["dall-e-3.png"]


async def test_template_with_folders_creates_them_unless_the_name_is_taken(tmp_path, pictures_of):
    """Only separators in the template create folders, and only when there is a picture."""
    destination = Destination.prepare("new/{slug}/{index}.png", jobs=9)
    assert names(tmp_path / "new") == []
    assert await saved(destination, await pictures_of(2), "../a cat") == ["0.png", "1.png"]
    assert names(tmp_path / "new" / "a-cat") == ["0.png", "1.png"]


async def test_template_replaces_nothing_and_numbers_pictures_of_the_same_name(tmp_path, pictures_of):
    (tmp_path / "cat.png").write_text("yesterday")
    destination = Destination.prepare("{slug}", jobs=2)
    assert set(await saved(destination, await pictures_of(2))) == {"cat-2.png", "cat-3.png"}
    assert (tmp_path / "cat.png").read_text() == "yesterday"


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ("out/{nope}", "contains the unknown field 'nope'; the fields are {index}, {slug}, "),
        ("out/{index", "is not a template: "),
        ("out/index}", "is not a template: "),
        ("out/{index:999999999}", "has a format that names do not take, '999999999'"),
        ("out/{slug.__class__}", "contains the unknown field 'slug.__class__'"),
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


def test_path_with_too_many_new_folders_is_refused(tmp_path):
    """None of them is created."""
    with pytest.raises(ContractError, match=r"-o: cannot write to 'a/a/.*: lies in more than 64 folders that do not"):
        Destination.prepare("a/" * 1000, jobs=1)
    assert names(tmp_path) == []


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
