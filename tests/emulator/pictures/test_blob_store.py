import gc
import io
from pathlib import Path

import pytest

from lemon_async.emulator.pictures.blob_store import BlobStore, NoPicture


@pytest.fixture
def vault():
    vault = BlobStore()
    yield vault
    vault.close()


def test_file_is_kept_as_it_is_while_somebody_refers_to_it(vault, picture):
    raw = picture((3, 5), "RGBA")
    source = vault.admit(io.BytesIO(raw))
    path = Path(source.path)
    assert (source.format, source.size, source.has_alpha, source.size_bytes) == ("png", (3, 5), True, len(raw))
    assert path.read_bytes() == raw
    del source
    gc.collect()
    assert not path.exists()


def test_equal_files_are_kept_once(vault, picture):
    first, second, other = (vault.admit(io.BytesIO(picture(colour=colour))) for colour in (1, 1, 2))
    assert first == second != other
    assert hash(first) == hash(second)
    assert first.path == second.path
    assert len(list(Path(first.path).parent.iterdir())) == len(vault) == 2


def test_what_is_no_picture_is_not_kept(vault, picture):
    folder = Path(vault.admit(io.BytesIO(picture())).path).parent
    with pytest.raises(NoPicture):
        vault.admit(io.BytesIO(b"nothing"))
    gc.collect()
    assert not list(folder.iterdir())


def test_file_that_cannot_be_read_leaves_nothing_behind(vault, picture):
    kept = vault.admit(io.BytesIO(picture()))
    closed = io.BytesIO()
    closed.close()
    with pytest.raises(ValueError, match="closed"):
        vault.admit(closed)
    assert [str(path) for path in Path(kept.path).parent.iterdir()] == [kept.path]


def test_closing_deletes_the_folder_and_the_vault_can_go_on(vault, picture):
    source = vault.admit(io.BytesIO(picture()))
    vault.close()
    assert not Path(source.path).parent.exists()
    assert Path(vault.admit(io.BytesIO(picture())).path).exists()


def test_forgotten_vault_deletes_its_folder(picture):
    vault = BlobStore()
    folder = Path(vault.admit(io.BytesIO(picture())).path).parent
    del vault
    gc.collect()
    assert not folder.exists()
