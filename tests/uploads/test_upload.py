"""Bytes to be uploaded: examined once, opened for every attempt, held in memory only if small."""

import errno
import hashlib
import io
import os
import threading
import time

import pytest
from PIL import Image

from lemon_async import ContractError
from lemon_async._formats.pictures import PictureFacts
from lemon_async._http.attempt import NoResponse
from lemon_async._uploads.upload import (
    HEAD_BYTES,
    SpooledUpload,
    UnusableSource,
    Upload,
    as_view,
    examine_bytes,
    examine_file,
    examine_path,
    open_upload,
)

SIZES = [0, 1, 63, 64, 65, HEAD_BYTES - 1, HEAD_BYTES, HEAD_BYTES + 1, 3 * HEAD_BYTES]


def content_of(size):
    return bytes(range(256)) * (size // 256) + bytes(size % 256)


def read_twice(upload):
    contents = []
    for _ in range(2):
        with upload.open() as file:
            contents.append(file.read())
    assert contents[0] == contents[1]
    return contents[0]


def test_file_is_hashed_and_opened_as_often_as_needed(tmp_path):
    for size in SIZES:
        path, content = tmp_path / "file", content_of(size)
        path.write_bytes(content)
        upload = examine_path(path, is_hashed=True)
        assert (upload.size_bytes, upload.digest) == (size, hashlib.sha256(content).hexdigest())
        assert read_twice(upload) == content
        assert examine_path(path, is_hashed=False).digest == ""


def examined(content, tmp_path):
    """Yield the upload of some bytes from a path, from bytes and from a spool."""
    path, spool = tmp_path / "file", SpooledUpload(max_bytes=None)
    path.write_bytes(content)
    for at in range(0, len(content), 10_000):
        spool.write(content[at : at + 10_000])
    yield from (examine_path(path, is_hashed=True), examine_bytes(content), spool.finish())
    spool.close()


def test_picture_is_checked_while_it_is_hashed(tmp_path):
    """To its end, which `glance` does not reach in a large picture."""
    buffer = io.BytesIO()
    Image.effect_noise((1500, 1000), 80).save(buffer, "PNG")
    png = buffer.getvalue()
    assert len(png) > HEAD_BYTES
    for content, fault in ((png, None), (png[:-20], "the picture is cut off")):
        for upload in examined(content, tmp_path):
            assert (upload.picture, upload.fault) == (PictureFacts("png", (1500, 1000), has_transparency=False), fault)
        assert examine_file(io.BytesIO(content)).fault is None
    for upload in examined(b"<html>", tmp_path):
        assert (upload.picture, upload.fault) == (None, "the bytes are not a known picture")


def test_glance_at_all_of_a_small_picture_finds_its_end_missing():
    buffer = io.BytesIO()
    Image.new("RGB", (9, 9)).save(buffer, "PNG")
    assert examine_file(io.BytesIO(buffer.getvalue())).fault is None
    assert examine_file(io.BytesIO(buffer.getvalue()[:-1])).fault == "the picture is cut off"


def test_spool_returns_what_was_written():
    """Small contents stay in memory, large ones go to a file without a name."""
    for size in SIZES:
        content = content_of(size)
        spool = SpooledUpload(max_bytes=None)
        for at in range(0, size, 100_000):
            spool.write(content[at : at + 100_000])
        upload = spool.finish()
        assert (upload.size_bytes, upload.digest) == (size, hashlib.sha256(content).hexdigest())
        assert read_twice(upload) == content
        spool.close()


def test_spool_that_is_closed_cannot_be_sent():
    spool = SpooledUpload(None)
    spool.write(b"x")
    upload = spool.finish()
    spool.close()
    with pytest.raises(ContractError, match="image: cannot be opened again: "):
        open_upload("image", upload)


def test_spool_takes_as_much_as_is_allowed_and_no_byte_more():
    spool = SpooledUpload(10)
    spool.write(b"x" * 10)
    with pytest.raises(UnusableSource, match="has more than the 10 bytes that are taken"):
        spool.write(b"x")
    spool.close()


def test_file_is_looked_at_from_where_it_stands_and_left_there():
    for start in [0, 5, HEAD_BYTES]:
        content = content_of(2 * HEAD_BYTES)
        file = io.BytesIO(content)
        file.seek(start)
        upload = examine_file(file)
        assert file.tell() == start
        assert upload.size_bytes == len(content) - start
        assert upload.open() is file


@pytest.mark.parametrize("change", ["content", "time", "file"])
def test_file_that_has_changed_is_not_sent(tmp_path, change):
    """Its size and format may differ from those that were checked."""
    path = tmp_path / "file"
    path.write_bytes(b"before")
    upload = examine_path(path, is_hashed=True)
    if change == "content":
        path.write_bytes(b"after all")
    elif change == "time":
        os.utime(path, ns=(0, 0))
    else:
        other = tmp_path / "other"
        other.write_bytes(b"before")
        other.replace(path)
    with pytest.raises(ContractError, match=r"^mask: cannot be opened again: it has changed since it was checked"):
        open_upload("mask", upload)


def test_link_to_a_file_is_followed_and_a_dangling_one_is_refused(tmp_path):
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "link").symlink_to("file")
    assert examine_path(tmp_path / "link", is_hashed=False).size_bytes == len(b"content")
    (tmp_path / "file").unlink()
    with pytest.raises(UnusableSource, match=r"cannot read .*link': No such file or directory"):
        examine_path(tmp_path / "link", is_hashed=False)


def test_piece_of_bytes_is_bytes():
    for piece in [b"x", bytearray(b"x"), memoryview(b"x")]:
        assert as_view(piece) == b"x"


def test_piece_of_another_type_is_refused():
    for piece in ["x", 5, None, [1]]:
        with pytest.raises(UnusableSource, match=f"must give bytes, not {type(piece).__name__}"):
            as_view(piece)


def failing(number):
    def fail():
        raise OSError(number, os.strerror(number))

    return Upload(size_bytes=0, open=fail)


def test_shortage_while_opening_is_not_a_contract_error():
    """Another attempt may succeed, and nothing was sent."""
    for number in [errno.EMFILE, errno.ENFILE, errno.ENOMEM]:
        with pytest.raises(NoResponse, match=r"^mask cannot be opened: ") as caught:
            open_upload("mask", failing(number))
        assert not caught.value.was_sent


def test_any_other_error_while_opening_is_the_callers():
    with pytest.raises(ContractError, match=r"^mask: cannot be opened again: Permission denied"):
        open_upload("mask", failing(errno.EACCES))


def test_spool_that_is_closed_while_a_thread_writes_is_closed_by_that_thread(open_files):
    """Closing does not wait, and nothing stays open."""
    before = open_files()
    spool = SpooledUpload(max_bytes=None)
    spool.write(content_of(2 * HEAD_BYTES))
    begun, go_on = threading.Event(), threading.Event()

    def use():
        with spool._using():
            begun.set()
            go_on.wait(60)

    thread = threading.Thread(target=use)
    thread.start()
    begun.wait(60)
    spool.close()
    assert not spool._file.closed
    go_on.set()
    thread.join(60)
    assert spool._file.closed
    ends_at = time.monotonic() + 60
    while open_files() > before:  # a thread of an earlier emulator may still draw
        assert time.monotonic() < ends_at
    with pytest.raises(ValueError, match="closed"):
        spool.write(b"more")
