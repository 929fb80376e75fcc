"""Files of pictures are what the journal says, or they are not served."""

import asyncio
import hashlib
import io
import os
import struct
import sys
import zlib

import pytest
from PIL import Image

from lemon_async._web.replies import PageError
from lemon_async.batch import SavedPicture
from lemon_async.cli.batch import picture_files
from lemon_async.cli.batch.picture_files import PictureFiles, content_type_of, shrink


def encoded(format_="PNG", size=(800, 400), mode="RGB", **options):
    target = io.BytesIO()
    Image.new(mode, size, "red").save(target, format_, **options)
    return target.getvalue()


def png_that_says(side):
    """Return a small PNG whose header says that it is large."""
    content = bytearray(encoded("PNG", (1, 1), "1"))
    content[16:24] = struct.pack(">II", side, side)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    return bytes(content)


def describe(path, content):
    return SavedPicture(path, len(content), hashlib.sha256(content).hexdigest())


@pytest.fixture
def files(tmp_path):
    files = PictureFiles(tmp_path)
    yield files
    files.close()


@pytest.fixture
def save(tmp_path):
    def save(content=None, path="cat.png"):
        content = encoded() if content is None else content
        (tmp_path / path).write_bytes(content)
        return describe(path, content)

    return save


def size_of(content):
    return Image.open(io.BytesIO(content)).size


async def test_file_is_read_whole_with_the_type_of_its_bytes(files, save):
    """Its name may say anything."""
    content = encoded("WEBP")
    assert await files.read(save(content, "cat.html")) == (content, "image/webp")


async def test_thumbnail_is_small_and_made_once(files, save, tmp_path):
    picture = save()
    content, type_ = await files.thumbnail(picture)
    assert (size_of(content), type_) == ((320, 160), "image/jpeg")
    (tmp_path / picture.path).unlink()
    assert await files.thumbnail(picture) == (content, type_)


async def test_absolute_path_is_read_without_a_folder(save, tmp_path):
    """As in a journal that many processes share."""
    picture = save()
    files = PictureFiles(None)
    content, _ = await files.read(describe(str(tmp_path / picture.path), encoded()))
    assert content == encoded()
    files.close()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda path: path.unlink(), "missing"),
        (lambda path: path.write_bytes(b"other"), "bytes, and had"),
        (lambda path: path.write_bytes(encoded()[:-1] + b"!"), "has changed"),
        (lambda path: (path.rename(path.with_name("b")), path.symlink_to("b")), "cannot be read"),
        (lambda path: (path.unlink(), path.mkdir()), "cannot be read"),
        (lambda path: (path.unlink(), os.mkfifo(path)), "no plain file"),
    ],
)
async def test_file_that_is_not_what_was_saved_is_refused(files, save, tmp_path, change, words):
    """Gone, changed, or replaced by a link, a folder or a pipe."""
    picture = save()
    change(tmp_path / picture.path)
    for reading in (files.read, files.thumbnail):
        with pytest.raises(PageError, match=words) as caught:
            await reading(picture)
        assert caught.value.status == 404


@pytest.mark.parametrize("content", [b"", b"<html>", b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"root:x:0:0"])
async def test_file_that_is_no_picture_is_refused(files, save, content):
    """A journal of somebody else may name any file: none is served that a browser would run."""
    with pytest.raises(PageError, match="no picture"):
        await files.read(save(content))


@pytest.mark.parametrize("path", ["a\0b", "x" * 5000, "\udcff"])
async def test_path_that_cannot_be_one_is_refused(files, path):
    with pytest.raises(PageError):
        await files.read(SavedPicture(path, 3, "ff"))


async def test_requests_that_are_given_up_are_dropped(files, save, monkeypatch):
    """Leafing through many pages does not decode all of them."""
    decoded = []

    def slow(content):
        decoded.append(content)
        return content, "image/png"

    picture = save()
    monkeypatch.setattr(picture_files, "shrink", slow)
    requests = [asyncio.create_task(files.thumbnail(SavedPicture(picture.path, 1, str(n)))) for n in range(200)]
    await asyncio.sleep(0)
    for request in requests:
        request.cancel()
    await asyncio.gather(*requests, return_exceptions=True)
    await files.thumbnail(picture)
    assert len(decoded) == 1


async def test_kept_thumbnails_are_bounded(files, save, monkeypatch):
    monkeypatch.setattr(picture_files, "_MOST_KEPT_BYTES", 10_000)
    for width in range(400, 420):
        await files.thumbnail(save(encoded(size=(width, 400))))
    assert len(files._thumbnails) < 20


@pytest.mark.parametrize(
    ("content", "type_"),
    [
        (encoded("JPEG"), "image/jpeg"),
        (encoded("GIF"), "image/gif"),
        (b"\0\0\0\x1cftypavif", "image/avif"),
        (b"\0\0\0\x1cftypisom", None),
        (b"RIFF\0\0\0\0WAVE", None),
        (b"%PDF-1.7", None),
    ],
)
def test_type_is_that_of_the_first_bytes(content, type_):
    assert content_type_of(content) == type_


def test_thumbnail_keeps_transparency_and_orientation():
    """Phones store pictures lying on their side."""
    content, type_ = shrink(encoded(mode="RGBA"))
    assert (type_, Image.open(io.BytesIO(content)).mode) == ("image/png", "RGBA")
    exif = Image.Exif()
    exif[0x0112] = 6
    content, _ = shrink(encoded("JPEG", exif=exif))
    assert size_of(content) == (160, 320)


def test_picture_of_a_hundred_megapixels_is_bounded():
    """A JPEG is decoded small; what could only be decoded whole is left to the browser."""
    content, _ = shrink(encoded("JPEG", (10_000, 10_000), "L"))
    assert size_of(content) == (320, 320)
    with pytest.raises(PageError, match="10000x10000 pixels"):
        shrink(png_that_says(10_000))
    with pytest.raises(PageError, match="too large"):
        shrink(png_that_says(20_000))


def test_damaged_picture_has_no_thumbnail():
    assert shrink(encoded()[:60]) is None


def test_picture_whose_orientation_cannot_be_applied_is_no_error():
    """Some versions of Pillow raise `struct.error` then; other formats have other errors."""
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "x"
    content = encoded("JPEG", exif=exif)
    begin = content.index(b"Exif") + 17
    assert shrink(content) is not None
    thumbnail = shrink(content[:begin] + b"\x03" + content[begin + 1 :])
    assert thumbnail is None or thumbnail[1] == "image/jpeg"


def test_without_pillow_there_is_no_thumbnail(monkeypatch):
    """The page gets the file itself."""
    content = encoded()
    monkeypatch.setitem(sys.modules, "PIL", None)
    assert shrink(content) is None
