"""File names are checked, and files are written atomically."""

import errno
import json
import os
import re
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from lemon_async import ContractError
from lemon_async._images.atomic_file import (
    AtomicFile,
    alternatives,
    checked_target,
    format_of,
    has_suffix,
    suffix_of,
    write_file,
)

BIDI = "\u202e"


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_content_is_written(tmp_path):
    write_file(tmp_path / "cat.png", b"meow")
    assert files(tmp_path) == {"cat.png": b"meow"}


def test_old_file_is_replaced_as_a_whole(tmp_path):
    """A reader of the old file keeps reading the old bytes."""
    target = tmp_path / "cat.png"
    target.write_bytes(b"old and long")
    with target.open("rb") as reader:
        write_file(target, b"new")
        assert reader.read() == b"old and long"
    assert files(tmp_path) == {"cat.png": b"new"}


def test_old_file_stays_when_it_must_not_be_replaced(tmp_path):
    (tmp_path / "cat.png").write_bytes(b"old")
    with pytest.raises(FileExistsError, match=r"exists already: .*cat\.png"):
        write_file(tmp_path / "cat.png", b"new", replace=False)
    write_file(tmp_path / "dog.png", b"new", replace=False)
    assert files(tmp_path) == {"cat.png": b"old", "dog.png": b"new"}


@pytest.mark.parametrize("content", ["text instead of bytes", None])
def test_failing_write_leaves_the_old_file_and_no_other(tmp_path, content):
    """The old file is unchanged, and there is no partial file in its folder."""
    target = tmp_path / "cat.png"
    target.write_bytes(b"old")
    with pytest.raises(TypeError):
        write_file(target, content)
    assert files(tmp_path) == {"cat.png": b"old"}


FULL = """
import resource, sys
from pathlib import Path
from lemon_async._images.atomic_file import write_file
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
try:
    write_file(Path(sys.argv[1]), bytes(2_000_000))
except OSError as failure:
    print(failure.errno, failure.filename)
"""


def test_full_disk_leaves_the_old_file_and_no_other(tmp_path):
    """The disk is full in the middle of a write."""
    target = tmp_path / "cat.png"
    target.write_bytes(b"old")
    run = subprocess.run([sys.executable, "-c", FULL, target], capture_output=True, text=True, check=True)
    assert run.stdout.startswith("27 ")  # EFBIG, which is how a quota ends
    assert files(tmp_path) == {"cat.png": b"old"}


def test_missing_folder_is_created(tmp_path):
    assert write_file(tmp_path / "a" / "b" / "cat.png", b"meow") == tmp_path / "a" / "b" / "cat.png"
    assert (tmp_path / "a" / "b" / "cat.png").read_bytes() == b"meow"


@pytest.mark.parametrize("replace", [True, False])
def test_symbolic_link_is_neither_followed_nor_replaced(tmp_path, replace):
    """A planted link does not redirect the bytes, and the user's own link stays."""
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    link = tmp_path / "cat.png"
    for target in (victim, tmp_path / "nothing"):
        link.unlink(missing_ok=True)
        link.symlink_to(target)
        with pytest.raises(OSError, match="is a symbolic link, which is neither" if replace else "exists already"):
            write_file(link, b"meow", replace=replace)
        assert link.is_symlink()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cat.png", "victim"]
    assert victim.read_bytes() == b"precious"


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o000, 0o666)])
def test_mode_follows_the_umask(tmp_path, umask, mode):
    """The mode is neither the 0600 of temporary files nor that of the old file."""
    target = tmp_path / "cat.png"
    target.touch(mode=0o400)
    before = os.umask(umask)
    try:
        write_file(target, b"meow")
    finally:
        os.umask(before)
    assert stat.S_IMODE(target.stat().st_mode) == mode


@pytest.mark.parametrize("name", ["a" * 255, "猫" * 85, "\U0001f408" * 63], ids=["ascii", "three bytes", "four bytes"])
def test_name_as_long_as_a_file_system_takes_is_written(tmp_path, name):
    """The hidden name is never longer than a final name may be."""
    write_file(tmp_path / name, b"meow")
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("replace", [True, False])
def test_name_that_is_too_long_leaves_nothing(tmp_path, replace):
    with pytest.raises(OSError, match="File name too long"):
        write_file(tmp_path / ("a" * 256), b"meow", replace=replace)
    assert files(tmp_path) == {}


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir], ids=["pipe", "folder"])
@pytest.mark.parametrize("replace", [True, False])
def test_only_regular_files_are_replaced(tmp_path, make, replace):
    """A device, a pipe or a folder is left alone."""
    target = tmp_path / "cat.png"
    make(target)
    before = target.lstat().st_mode
    with pytest.raises(OSError, match=r"is a folder|not a regular file|exists already"):
        write_file(target, b"picture", replace=replace)
    assert target.lstat().st_mode == before
    assert list(tmp_path.iterdir()) == [target]


# Drafts


@pytest.fixture
def file(tmp_path):
    file = AtomicFile(tmp_path)
    yield file
    file.discard()


def test_file_is_hidden_and_goes_when_it_is_discarded(file, tmp_path):
    file.write(b"half a picture")
    assert [path.name.startswith(".") for path in tmp_path.iterdir()] == [True]
    file.discard()
    file.discard()
    assert files(tmp_path) == {}


def test_file_in_no_folder_is_an_os_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        AtomicFile(tmp_path / "file" / "nowhere").write(b"")


def test_file_is_written_in_any_number_of_steps(file, tmp_path):
    file.write(b"0123")
    file.write(memoryview(b"4567"))
    file.publish([tmp_path / "cat.png"], replace=False)
    assert files(tmp_path) == {"cat.png": b"01234567"}


def test_partial_write_is_continued(file, tmp_path, monkeypatch):
    """As on disks that are nearly full."""
    write = os.write
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda number, rest: write(number, rest[:3]))
        file.write(b"0123456789")
    file.publish([tmp_path / "cat.png"], replace=True)
    assert files(tmp_path) == {"cat.png": b"0123456789"}


def test_file_makes_its_folder_only_when_needed(tmp_path):
    file = AtomicFile(tmp_path / "a" / "b")
    assert list(tmp_path.iterdir()) == []
    file.write(b"new")
    file.publish([tmp_path / "a" / "b" / "cat.png"], replace=True)
    assert (tmp_path / "a" / "b" / "cat.png").read_bytes() == b"new"


def test_abandon_returns_whether_there_is_a_file(file, tmp_path):
    """Cancelling before the first write needs no thread."""
    assert file.abandon() is False
    with pytest.raises(OSError, match="was discarded"):
        file.write(b"late")
    other = AtomicFile(tmp_path)
    other.write(b"new")
    assert other.abandon() is True
    other.discard()
    assert files(tmp_path) == {}


def test_discarded_file_refuses_writes(file, tmp_path):
    """A late write creates no file."""
    file.discard()
    with pytest.raises(OSError, match="was discarded"):
        file.write(b"late")
    assert files(tmp_path) == {}


def test_file_can_be_restarted(file, tmp_path):
    file.write(b"long and wrong")
    file.write(b"right", is_restart=True)
    assert file.publish([tmp_path / "cat.png"], replace=True) == tmp_path / "cat.png"
    assert files(tmp_path) == {"cat.png": b"right"}


def test_file_takes_the_first_name_that_is_free(file, tmp_path):
    """Whatever has the name keeps it: a file, a folder, a dangling link."""
    names = [tmp_path / name for name in ("file", "folder", "link", "free", "also free")]
    names[0].write_bytes(b"old")
    names[1].mkdir()
    names[2].symlink_to("nowhere")
    file.write(b"new")
    assert file.publish(iter(names), replace=False) == tmp_path / "free"
    file.discard()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder", "free", "link"]
    assert (names[0].read_bytes(), names[3].read_bytes()) == (b"old", b"new")


def test_file_that_finds_no_name_can_be_given_another(file, tmp_path):
    (tmp_path / "cat.png").write_bytes(b"old")
    file.write(b"new")
    with pytest.raises(FileExistsError):
        file.publish([tmp_path / "cat.png"], replace=False)
    file.publish([tmp_path / "cat-2.png"], replace=False)
    assert files(tmp_path) == {"cat.png": b"old", "cat-2.png": b"new"}


def test_folder_without_hard_links_is_no_obstacle(file, tmp_path, monkeypatch):
    """Memory cards and some network drives have none; nothing is overwritten there."""

    def refuse(*_args, **_options):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    (tmp_path / "cat.png").write_bytes(b"old")
    file.write(b"new")
    file.publish([tmp_path / "cat.png", tmp_path / "cat-2.png"], replace=False)
    assert files(tmp_path) == {"cat.png": b"old", "cat-2.png": b"new"}


def test_name_that_was_taken_without_hard_links_is_given_back_on_failure(file, tmp_path, monkeypatch):
    """No empty file is left."""

    def refuse(*_args, **_options):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    file.write(b"new")
    file._path.unlink()
    with pytest.raises(FileNotFoundError, match=r"cat\.png"):
        file.publish([tmp_path / "cat.png"], replace=False)
    assert files(tmp_path) == {}


class Hanging:
    """A disk operation that hangs until it is released, and fails in the main thread.

    Finalizers of earlier emulators delete files there, whenever garbage is collected, and ignore errors.
    """

    def __init__(self, step):
        self.step = step
        self.begun, self.gate = threading.Event(), threading.Event()

    def __call__(self, *args, **options):
        if threading.current_thread() is threading.main_thread():
            raise OSError(errno.EDEADLK, "would stop the test")
        self.begun.set()
        assert self.gate.wait(60)
        return self.step(*args, **options)


@pytest.fixture
def hang():
    """Start work in a thread that hangs; return a function that releases it and returns its error."""
    steps = []

    def start(step, work, *args, **options):
        failures = []

        def go():
            try:
                work(*args, **options)
            except OSError as failure:
                failures.append(failure)

        thread = threading.Thread(target=go, daemon=True)

        def end():
            step.gate.set()
            thread.join(60)
            assert not thread.is_alive()
            return failures

        steps.append(step)
        thread.start()
        assert step.begun.wait(60)
        return end

    yield start
    for step in steps:
        step.gate.set()


def discard_in_time(file):
    discarding = threading.Thread(target=file.discard, daemon=True)
    discarding.start()
    discarding.join(30)
    return not discarding.is_alive()


@pytest.mark.parametrize("work", ["write", "publish"])
def test_file_is_discarded_immediately_while_the_disk_hangs(file, tmp_path, monkeypatch, hang, work):
    """The hanging call closes the file when it returns, and does not publish it."""
    file.write(b"half")
    name = {"write": "write", "publish": "fsync"}[work]
    step = Hanging(getattr(os, name))
    monkeypatch.setattr(os, name, step)
    jobs = {"write": (file.write, b"late"), "publish": (file.publish, [tmp_path / "cat.png"])}
    end = hang(step, *jobs[work], **({"replace": True} if work == "publish" else {}))
    assert discard_in_time(file)
    assert files(tmp_path) == {}
    end()
    assert file._file.closed
    assert files(tmp_path) == {}


def test_file_that_is_created_after_it_was_discarded_is_removed(file, tmp_path, monkeypatch, hang):
    """Opening the folder hung, not the write."""
    step = Hanging(os.open)
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", step)
        end = hang(step, file.write, b"late")
        assert discard_in_time(file)
        end()
    assert file._file.closed
    assert files(tmp_path) == {}


def test_file_that_was_abandoned_while_it_was_written_gets_no_name(file, tmp_path, monkeypatch, hang):
    """An abandoned file does not appear later."""
    file.write(b"whole")
    step = Hanging(os.fsync)
    monkeypatch.setattr(os, "fsync", step)
    end = hang(step, file.publish, [tmp_path / "cat.png"], replace=False)
    assert file.abandon() is True
    assert [str(failure).split("] ")[1][:13] for failure in end()] == ["was discarded"]
    assert files(tmp_path) == {}


# Names


def test_suffix_is_the_usual_one():
    for kind, suffix in [("png", ".png"), ("jpeg", ".jpg"), ("webp", ".webp"), ("avif", ".avif")]:
        assert suffix_of(kind) == suffix
        assert format_of(Path(f"cat{suffix.upper()}")) == kind
    assert (format_of(Path("cat.jpeg")), format_of(Path("cat.download"))) == ("jpeg", None)


BAD_NAMES = {
    "": "must name a file",
    ".": "must name a file",
    "..": "must name a file",
    "a/..": "must name a file",
    "/": "must name a file",
    "cat\0.png": "must not hold a NUL character",
    "cat\n.png": "must not hold control characters",
    f"cat{BIDI}gnp.exe": "nor any that change the direction of text",
    "CON": "is the name of a device on Windows",
    "nul.png": "is the name of a device on Windows",
    "com7 .tar.gz": "is the name of a device on Windows",
    "x" * 300: "is longer than 255 bytes",
    "猫" * 86: "is longer than 255 bytes",
    "\udcff": "must not hold control characters",
    "\ud800/a.png": "must not hold a lone surrogate",
}


def test_name_that_no_file_should_have_is_refused():
    for name, reason in BAD_NAMES.items():
        with pytest.raises(ContractError, match=", for picture 3 ") as caught:
            checked_target(name, ", for picture 3")
        assert reason in str(caught.value)
        assert len(str(caught.value)) < 250


class Odd:
    """A path whose `__fspath__` raises."""

    def __fspath__(self):
        raise RuntimeError("odd")


def test_what_is_no_path_is_refused():
    for path in [None, 5, b"cat.png", Odd()]:
        with pytest.raises(ContractError, match="path: must be a path, not "):
            checked_target(path)


def test_name_of_the_users_own_is_kept():
    for name in ["cat.png", "console.png", "a cat.png", "x" * 255, ".hidden", "кот.png"]:
        assert checked_target(f"folder/{name}").name == name


def test_alternatives_count_up(tmp_path):
    names = alternatives(tmp_path / "cat.png")
    assert [next(names).name for _ in range(3)] == ["cat.png", "cat-2.png", "cat-3.png"]
    assert next(alternatives(tmp_path / "cat.png", 3)).name == "cat-3.png"


def test_many_alternatives_end_in_random_names(tmp_path):
    """A folder with thousands of the same name is not searched one by one."""
    names = [path.name for path in alternatives(tmp_path / "cat.png")]
    assert len(set(names)) == len(names) == 100
    assert re.fullmatch(r"cat-[0-9a-f]{8}\.png", names[-1])


def test_suffix_begins_with_a_letter():
    for name, has in [("a.png", True), ("a", False), ("gpt-image-1.5", False), (".hidden", False)]:
        assert has_suffix(Path(name)) == has


# Killed

KILLS = 80
KILLED = """
import json, os, random, signal, sys, time
from pathlib import Path
from lemon_async._images.atomic_file import write_file

folder, kills = Path(sys.argv[1]), int(sys.argv[2])
target, chance, sizes = folder / "cat.png", random.Random(5), (700_000, 300_000)
seen = {"none": 0, "old": 0, "new": 0, "part": 0, "left": 0}

def state():
    try:
        content = target.read_bytes()
    except FileNotFoundError:
        return "none"
    if content == b"old" * 1000:
        return "old"
    whole = any(content == bytes([size // 100_000]) * size for size in sizes)
    return "new" if whole else "part"

for kill in range(kills):
    target.unlink(missing_ok=True)
    if kill % 2:
        target.write_bytes(b"old" * 1000)
    written, told = os.pipe()
    child = os.fork()
    if child == 0:
        while True:
            for size in sizes:
                write_file(target, bytes([size // 100_000]) * size)
                os.write(told, b".")
    os.close(told)
    if kill % 4 > 1:
        os.read(written, 1)  # otherwise, no file is whole in time on a disk that is slow or busy
    time.sleep(chance.random() * 0.008)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    os.close(written)
    seen[state()] += 1
    for left in folder.glob(".*"):
        seen["left"] += 1
        left.unlink()
print(json.dumps(seen))
"""


def test_killed_at_any_moment_the_file_is_old_new_or_not_there(tmp_path):
    """Processes that repeatedly write it are killed at random times."""
    run = subprocess.run(
        [sys.executable, "-c", KILLED, tmp_path, str(KILLS)], capture_output=True, text=True, check=True
    )
    seen = json.loads(run.stdout)
    assert seen["part"] == 0
    assert seen["none"] + seen["old"] + seen["new"] == KILLS
    assert seen["left"] > KILLS / 20  # many were killed while they wrote
    assert seen["new"]
