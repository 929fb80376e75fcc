"""Uploaded files live on disk exactly as long as an object refers to them."""

import gc
import io
from pathlib import Path

import pytest

from lemon_async.emulator.pictures.blob_store import BlobStore


@pytest.fixture
def blobs():
    blobs = BlobStore()
    yield blobs
    blobs.close()


def add(blobs, content=b"content"):
    return blobs.add(io.BytesIO(content))


def test_file_is_stored_unchanged_while_an_object_refers_to_it(blobs):
    """A file is deleted with the last reference to its blob."""
    blob = add(blobs)
    path = Path(blob.path)
    assert (path.read_bytes(), blob.size_bytes) == (b"content", 7)
    del blob
    gc.collect()
    assert not path.exists()


def test_equal_files_are_stored_once(blobs):
    """Blobs with equal contents are equal and share one file."""
    first, second, other = (add(blobs, content) for content in (b"a", b"a", b"b"))
    assert first == second != other
    assert hash(first) == hash(second)
    assert first.path == second.path
    assert len(list(Path(first.path).parent.iterdir())) == len(blobs) == 2


def test_file_that_cannot_be_read_leaves_nothing_behind(blobs):
    blob = add(blobs)
    closed = io.BytesIO()
    closed.close()
    with pytest.raises(ValueError, match="closed"):
        blobs.add(closed)
    assert [str(path) for path in Path(blob.path).parent.iterdir()] == [blob.path]


def test_closed_store_deletes_its_folder_and_can_be_used_again(blobs):
    """`Emulator.aclose()` empties the store; `start()` may follow."""
    blob = add(blobs)
    blobs.close()
    assert not Path(blob.path).parent.exists()
    assert Path(add(blobs).path).exists()


def test_store_that_is_garbage_collected_deletes_its_folder():
    """An emulator that was never closed leaves no files behind."""
    blobs = BlobStore()
    folder = Path(add(blobs).path).parent
    del blobs
    gc.collect()
    assert not folder.exists()
