"""Saved pictures say where they come from."""

import io

import pytest
from PIL import Image

from lemon_async.batch.provenance import Provenance, add_provenance, remove_with_sidecar

FACTS = Provenance(prompt="a cat", model="flux-pro", task_id="ldtask_1", key="sku-1")


def draw(path, kind, **options):
    Image.effect_noise((19, 11), 80).convert("RGB").save(path, kind, **options)
    return path


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_picture_is_replaced_by_one_that_says_where_it_comes_from(kind, tmp_path):
    """There is no other file, and the second time changes nothing."""
    path = draw(tmp_path / "cat", kind)
    pixels = Image.open(path).tobytes()
    assert add_provenance(path, FACTS) == []
    content = path.read_bytes()
    picture = Image.open(io.BytesIO(content))
    assert picture.tobytes() == pixels
    assert picture.getxmp()["xmpmeta"]["RDF"]["Description"]["AIPromptInformation"] == "a cat"
    before = path.stat().st_ino
    assert add_provenance(path, FACTS) == []
    assert path.stat().st_ino == before
    assert [*tmp_path.iterdir()] == [path]


@pytest.mark.parametrize(
    ("kind", "options"), [("GIF", {}), ("AVIF", {}), ("PNG", {"xmp": b"<x/>"}), ("JPEG", {"xmp": b"<x/>"})]
)
def test_picture_that_must_not_be_changed_gets_a_sidecar(kind, options, tmp_path):
    """It stays as it is, byte for byte; the second time finds the sidecar."""
    path = draw(tmp_path / "cat.x", kind, **options)
    if kind == "PNG":
        content = path.read_bytes()
        path.write_bytes(content[:33] + b"\0\0\0\0caBX\0\0\0\0" + content[33:])
    before = path.read_bytes()
    for _ in range(2):
        (sidecar,) = add_provenance(path, FACTS)
        assert sidecar == tmp_path / "cat.x.xmp"
        assert b">a cat<" in sidecar.read_bytes()
    assert path.read_bytes() == before
    assert len([*tmp_path.iterdir()]) == 2


def test_sidecar_of_somebody_else_is_not_overwritten(tmp_path):
    path = draw(tmp_path / "cat.gif", "GIF")
    (tmp_path / "cat.gif.xmp").write_text("notes of a photographer")
    assert add_provenance(path, FACTS) == [tmp_path / "cat.gif-2.xmp"]
    assert (tmp_path / "cat.gif.xmp").read_text() == "notes of a photographer"


def test_huge_file_is_not_read(tmp_path):
    """It gets a sidecar."""
    path = tmp_path / "huge.png"
    with path.open("wb") as file:
        file.truncate(2**40)
    assert add_provenance(path, FACTS) == [tmp_path / "huge.png.xmp"]


def test_missing_picture_is_an_error_of_the_system(tmp_path):
    with pytest.raises(FileNotFoundError):
        add_provenance(tmp_path / "cat.png", FACTS)


def test_picture_is_removed_with_its_own_sidecar(tmp_path):
    """Another program's stays, and so does one with other facts."""
    path = draw(tmp_path / "cat.gif", "GIF")
    (sidecar,) = add_provenance(path, FACTS)
    for facts in (None, Provenance(prompt="a dog")):
        remove_with_sidecar(path, facts)
        assert [*tmp_path.iterdir()] == [sidecar]
    remove_with_sidecar(path, FACTS)
    assert not [*tmp_path.iterdir()]
