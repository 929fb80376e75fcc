"""A file appears whole or not at all."""

import os
import stat

import pytest

from lemon_async.client.publish import publish


def test_content_is_written(tmp_path):
    publish(tmp_path / "cat.png", b"meow")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"cat.png": b"meow"}


def test_old_file_is_replaced_as_a_whole(tmp_path):
    """Who has the old file open keeps reading the old bytes."""
    target = tmp_path / "cat.png"
    target.write_bytes(b"old and long")
    with target.open("rb") as reader:
        publish(target, b"new")
        assert reader.read() == b"old and long"
    assert target.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("content", ["text instead of bytes", None])
def test_failing_write_leaves_the_old_file_and_no_other(tmp_path, content):
    """What stood there stands there still, and no half of a file lies beside it."""
    target = tmp_path / "cat.png"
    target.write_bytes(b"old")
    with pytest.raises(TypeError):
        publish(target, content)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"cat.png": b"old"}


def test_folder_in_the_place_of_the_file_is_left_alone(tmp_path):
    target = tmp_path / "cat.png"
    target.mkdir()
    with pytest.raises(OSError, match=r"cat\.png"):
        publish(target, b"meow")
    assert list(tmp_path.iterdir()) == [target]


def test_missing_folder_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        publish(tmp_path / "nowhere" / "cat.png", b"meow")


def test_symbolic_link_is_replaced_and_not_followed(tmp_path):
    """A link that somebody planted leads the bytes nowhere."""
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    link = tmp_path / "cat.png"
    link.symlink_to(victim)
    publish(link, b"meow")
    assert victim.read_bytes() == b"precious"
    assert not link.is_symlink()
    assert link.read_bytes() == b"meow"


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o000, 0o666)])
def test_mode_is_what_the_umask_makes_of_it(tmp_path, umask, mode):
    """Not the 0600 of temporary files, and not the mode of what was there before."""
    target = tmp_path / "cat.png"
    target.touch(mode=0o400)
    before = os.umask(umask)
    try:
        publish(target, b"meow")
    finally:
        os.umask(before)
    assert stat.S_IMODE(target.stat().st_mode) == mode


@pytest.mark.parametrize("name", ["a" * 255, "猫" * 85, "\U0001f408" * 63], ids=["ascii", "three bytes", "four bytes"])
def test_name_as_long_as_a_file_system_takes_is_written(tmp_path, name):
    """The name of the file on its way is never longer than the final one may be."""
    publish(tmp_path / name, b"meow")
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir], ids=["pipe", "folder"])
def test_what_is_no_file_is_never_replaced(tmp_path, make):
    """A device, a pipe or a folder under the name stays what it is."""
    target = tmp_path / "cat.png"
    make(target)
    before = target.lstat().st_mode
    with pytest.raises(OSError, match=r"is a folder|something else than a file"):
        publish(target, b"picture")
    assert target.lstat().st_mode == before
    assert list(tmp_path.iterdir()) == [target]
