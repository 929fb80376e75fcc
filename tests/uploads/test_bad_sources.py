"""Sources that cannot be sent are refused before anything is sent, with their position and the reason."""

import asyncio
import io
import os
import struct
import zlib

import pytest

from lemon_async import ContractError, GenerateRequest, LemonSession
from lemon_async.emulator import Status
from lemon_async.requests import GoneSource

MODEL = "flux-pro"


SPENT = "there are no bytes left: a file is read from where it stands (seek(0) first?), a generator once"


async def in_pieces(content):
    yield content[:100]
    yield content[100:]


def header_of(width, height):
    """Return a PNG that claims a size, and has an end."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    end = b"\0\0\0\0IEND\xaeB`\x82"
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header)) + end


async def raising(content):
    yield content[:10]
    raise RuntimeError("the disk is gone")


async def raising_at_the_end(content):
    try:
        yield content
    finally:
        raise RuntimeError("the disk is gone")


async def of_text(_content):
    yield "text"


async def empty(_content):
    for piece in ():
        yield piece


async def exhausted(content):
    generator = in_pieces(content)
    async for _ in generator:
        pass
    return generator


def unwritten(content, folder):
    path = folder / "source"
    path.write_bytes(content)
    return path


def closed_file(content, folder):
    file = unwritten(content, folder).open("rb")
    file.close()
    return file


def fifo(_content, folder):
    os.mkfifo(folder / "fifo")
    return folder / "fifo"


def no_permission(content, folder):
    path = unwritten(content, folder)
    path.chmod(0)
    return path


NOT_AS_ROOT = pytest.mark.skipif(getattr(os, "geteuid", lambda: 0)() == 0, reason="root may read everything")
BAD = {
    "truncated": (lambda content, folder: content[:-20], "the picture is cut off"),
    "truncated file": (lambda content, folder: unwritten(content[:-20], folder), "the picture is cut off"),
    "nothing": (lambda content, folder: b"", "there are no bytes"),
    "empty file": (lambda content, folder: unwritten(b"", folder), "there are no bytes"),
    "folder": (lambda content, folder: folder, "it is a folder"),
    "missing": (lambda content, folder: folder / "missing.png", "No such file or directory"),
    "no name": (lambda content, folder: "", "it is a folder"),
    "NUL in a name": (lambda content, folder: "a\0b.png", "cannot be a file name: "),
    "pipe without a writer": (fifo, "it is neither a file nor a link to one"),
    "device": (lambda content, folder: "/dev/zero", "it is neither a file nor a link to one"),
    "text behind a good name": (
        lambda content, folder: unwritten(b"<html>", folder),
        "the bytes are not a known picture",
    ),
    "gif": (lambda content, folder: b"GIF89a\1\0\1\0\0\0\0;", "is GIF; FLUX takes PNG"),
    "enormous": (lambda content, folder: header_of(65_000, 65_000), "the header claims 65000 x 65000 pixels"),
    "closed file": (closed_file, "reading it failed: "),
    "text file": (
        lambda content, folder: io.StringIO("text"),
        "must give bytes, not str (a file is opened with mode 'rb')",
    ),
    "generator that raises at its end": (
        lambda content, folder: raising_at_the_end(content),
        "reading it failed: the disk is gone",
    ),
    "generator that raises": (lambda content, folder: raising(content), "reading it failed: the disk is gone"),
    "generator of text": (lambda content, folder: of_text(content), "must give bytes, not str"),
    "empty generator": (lambda content, folder: empty(content), "there are no bytes"),
    "gone with a long name": (lambda content, folder: GoneSource("x" * 100_000), f"{'x' * 80} did not survive"),
    "gone": (lambda content, folder: GoneSource("<_io.BytesIO>"), "<_io.BytesIO> did not survive pickling"),
    "number": (
        lambda content, folder: 5,
        "must be a path, bytes, a binary file, an async iterable of bytes or an Image of a result, not int",
    ),
    "object with two meanings": (
        lambda content, folder: {"image_url": "https://a.test", "file_id": "file-1"},
        "must be {",
    ),
    "object of numbers": (lambda content, folder: {"file_id": 5}, "must be {"),
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.filterwarnings("error")
async def test_bad_source_is_refused_with_its_position_and_nothing_is_sent(
    connect, emulator, picture, tmp_path, open_files, name
):
    """Nothing is sent, and nothing stays open."""
    make, advice = BAD[name]
    async with connect() as session:
        good = picture()
        await asyncio.to_thread(lambda: None)
        before = open_files()
        source = make(good, tmp_path)
        async with asyncio.timeout(60):
            with pytest.raises(ContractError) as caught:
                await session.edit("a hat", image=[good, source], model=MODEL)
        problems = {problem.field: problem.message for problem in caught.value.problems}
        assert advice in problems["image[1]"]
        assert "image[0]" not in problems
        del source, caught
        async with asyncio.timeout(60):  # for a thread of an earlier emulator that still draws
            while open_files() > before:
                await asyncio.sleep(0.001)
        assert session.submission_counts.sold == session.submission_counts.unknown == 0
    assert emulator.requests == []


@NOT_AS_ROOT
async def test_unreadable_file_is_refused(connect, emulator, picture, tmp_path):
    async with connect() as session:
        with pytest.raises(ContractError, match=r"image\[0\]: cannot read .*Permission denied"):
            await session.edit("a hat", image=no_permission(picture(), tmp_path), model=MODEL)
    assert emulator.requests == []


async def test_exhausted_generator_and_read_file_have_no_bytes_left(connect, emulator, picture):
    file = io.BytesIO(picture())
    file.seek(0, os.SEEK_END)
    async with connect() as session:
        with pytest.raises(ContractError) as caught:
            await session.edit("a hat", image=[await exhausted(picture()), file], model=MODEL)
    assert [str(problem) for problem in caught.value.problems] == [
        f"image[0]: {SPENT}",
        f"image[1]: {SPENT}",
    ]
    assert emulator.requests == []


async def test_problems_of_all_sources_and_fields_are_reported_together(connect, emulator, picture, tmp_path):
    async with connect() as session:
        with pytest.raises(ContractError) as caught:
            await session.edit(
                "",
                image=[picture(), tmp_path / "missing", raising(b""), b"text"],
                mask=b"",
                model="gpt-image-2",
                size="1x1",
            )
    fields = [problem.field for problem in caught.value.problems]
    assert fields == ["prompt", "size", "image[1]", "image[2]", "image[3]", "mask"]
    assert emulator.requests == []


async def test_generator_is_closed_whatever_becomes_of_it(connect, emulator):
    """Its clean-up runs immediately, not when garbage is collected."""
    ended = []

    async def pieces():
        try:
            yield "text"
        finally:
            ended.append(True)

    generator = pieces()  # held, so that only the library can close it
    async with connect() as session:
        with pytest.raises(ContractError):
            await session.edit("a hat", image=generator, model=MODEL)
    assert ended == [True]


@pytest.mark.parametrize("source", ["generator", "pipe"])
async def test_source_without_end_is_left_when_it_is_too_large(connect, emulator, monkeypatch, source):
    monkeypatch.setattr("lemon_async._uploads.sources.MAX_SOURCE_BYTES", 100_000)

    async def endless():
        while True:
            yield bytes(10_000)

    class Endless(io.RawIOBase):
        def readable(self):
            return True

        def readinto(self, buffer):
            return len(buffer)

    async with connect() as session, asyncio.timeout(60):
        with pytest.raises(ContractError, match=r"image\[0\]: has more than the 100,000 bytes that are taken"):
            await session.edit("a hat", image=endless() if source == "generator" else Endless(), model=MODEL)
    assert emulator.requests == []


async def test_picture_that_cannot_be_fetched_is_refused_with_its_position(connect, emulator):
    emulator.fault("cdn", Status(410))
    async with connect() as session:
        images = await session.generate("a cat", model="dall-e-3")
        with pytest.raises(ContractError, match=r"image\[0\]: cannot be fetched: could not fetch .*HTTP 410"):
            await session.edit("a hat", image=images[0], model=MODEL)
    assert emulator.ledger.sold == {"a cat": 1}


async def test_what_cannot_be_read_is_refused_also_without_checks(connect, emulator, tmp_path):
    """`check_contracts` is about the service's rules; a missing file is always an error."""
    async with connect(check_contracts=False) as session:
        with pytest.raises(ContractError) as caught:
            await session.edit("a hat", image=[b"not a picture", tmp_path / "missing"], model=MODEL)
    assert [problem.field for problem in caught.value.problems] == ["image[1]"]
    assert emulator.requests == []


# Looking


def test_validate_consumes_nothing(picture, tmp_path):
    """A source that can be read only once is not examined."""
    photo = unwritten(picture(), tmp_path)
    session = LemonSession("sk-x")
    file = io.BytesIO(b"before" + picture())
    file.seek(6)
    once = in_pieces(b"")
    assert session.validate("a hat", image=[photo, picture(), file, once, "https://a.test/1.png"], model=MODEL)
    assert session.validate("a hat", image=[photo, str(photo), picture(), file, once], model=MODEL) == ()
    assert file.tell() == 6
    assert session.validate(GenerateRequest("a cat", model="dall-e-3")) == ()


@pytest.mark.parametrize(
    ("make", "advice"),
    [
        (lambda folder: folder / "missing", "No such file"),
        (lambda folder: closed_file(b"", folder), "reading it failed: "),
        (lambda folder: 5, "must be a path"),
        (lambda folder: GoneSource("a stream"), "a stream did not survive pickling"),
        (lambda folder: b"", "there are no bytes"),
        (lambda folder: {"image_url": 1}, "must be {"),
        (lambda folder: "http://localhost/a.png", "points into a private network"),
    ],
)
def test_validate_reports_the_same_as_sending(tmp_path, make, advice):
    (problem,) = LemonSession("sk-x").validate("a hat", image=make(tmp_path), model=MODEL)
    assert problem.field == "image[0]"
    assert advice in problem.message


async def test_picture_of_another_event_loop_is_refused(connect, emulator):
    async with connect() as session:
        images = await session.generate("a cat", model="dall-e-3")

        async def elsewhere():
            async with LemonSession(emulator.api_key, base_url=emulator.base_url) as other:
                await other.edit("a hat", image=images[0], model=MODEL)

        with pytest.raises(ContractError, match=r"image\[0\]: cannot be fetched: .*another event loop"):
            await asyncio.to_thread(asyncio.run, elsewhere())


async def test_edit_without_a_picture_is_refused(connect, emulator):
    async with connect() as session:
        with pytest.raises(ContractError, match="image: give at least one picture to start from"):
            await session.edit("a hat", model=MODEL)
        with pytest.raises(ContractError, match="request: is a GenerateRequest, and a EditRequest goes here"):
            await session.edit(GenerateRequest("a cat"))
    assert emulator.requests == []


def test_word_with_a_colon_is_a_file():
    """An address has slashes."""
    (problem,) = LemonSession("sk-x").validate("a hat", image="C:cat.png", model=MODEL)
    assert "cannot read 'C:cat.png'" in problem.message
