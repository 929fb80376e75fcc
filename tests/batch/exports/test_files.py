"""Files and folders appear whole or not at all."""

import pytest

from lemon_async.batch.exports.files import replacing, replacing_folder


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_file_appears_at_the_end(tmp_path):
    target = tmp_path / "a.txt"
    with replacing(target) as file:
        file.write(b"new")
        assert not target.exists()
    assert target.read_bytes() == b"new"
    assert names(tmp_path) == ["a.txt"]


def test_file_is_replaced_at_the_end_and_keeps_its_permissions(tmp_path):
    target = tmp_path / "a.txt"
    target.write_bytes(b"old")
    target.chmod(0o640)
    with replacing(target) as file:
        file.write(b"new")
        assert target.read_bytes() == b"old"
    assert target.read_bytes() == b"new"
    assert target.stat().st_mode & 0o777 == 0o640


def test_file_stays_as_it_was_if_the_block_raises(tmp_path):
    target = tmp_path / "a.txt"
    target.write_bytes(b"old")
    with pytest.raises(TypeError), replacing(target) as file:
        file.write(file.write(b"half"))
    assert target.read_bytes() == b"old"
    assert names(tmp_path) == ["a.txt"]


def test_file_in_a_folder_that_does_not_exist_is_an_error_of_the_system(tmp_path):
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "no" / "a.txt"):
        pass


def test_folder_appears_at_the_end_and_replaces_another(tmp_path):
    target = tmp_path / "sub" / "data"
    for content in ("one", "two"):
        with replacing_folder(target) as folder:
            (folder / content).write_text(content)
            assert not (target / content).exists()
        assert names(target) == [content]
    assert names(target.parent) == ["data"]


def test_folder_stays_as_it_was_if_the_block_raises(tmp_path):
    target = tmp_path / "data"
    target.mkdir()
    (target / "old").touch()
    with pytest.raises(TypeError), replacing_folder(target) as folder:
        folder / (folder / "new").touch()
    assert names(target) == ["old"]
    assert names(tmp_path) == ["data"]


def test_folder_comes_back_if_the_last_rename_fails(tmp_path):
    target = tmp_path / "data"
    target.mkdir()
    (target / "old").touch()
    with pytest.raises(FileNotFoundError), replacing_folder(target) as folder:
        folder.rmdir()
    assert names(target) == ["old"]
    assert names(tmp_path) == ["data"]
