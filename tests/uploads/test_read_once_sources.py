"""Sources that can be read only once: one request at a time, and a read that hangs blocks no other request."""

import asyncio
import io
import os
import threading
from array import array
from collections import UserDict
from contextlib import closing

import pytest

from lemon_async import ContractError, LemonSession
from lemon_async._uploads.upload import SpooledUpload, UnusableSource, drain, is_read_once

MODEL = "flux-pro"
BUSY = "is being read by another request at this moment"


async def in_pieces(content, go_on=None):
    yield content[:10]
    if go_on is not None:
        await go_on.wait()
    yield content[10:]


class Slow(io.BytesIO):
    """A file whose read blocks until it is released."""

    def __init__(self, content):
        super().__init__(content)
        self.begun, self.go_on = threading.Event(), threading.Event()

    def read(self, size=-1):
        self.reader = threading.current_thread()
        self.begun.set()
        assert self.go_on.wait(60)
        return super().read(size)


class Stream:
    """Starts from the beginning for each iteration."""

    def __init__(self, content, go_on):
        self.content, self.go_on = content, go_on

    def __aiter__(self):
        return in_pieces(self.content, self.go_on)


class OddFile:
    """A file whose read returns or raises a given object."""

    def __init__(self, outcome):
        self.outcome = outcome

    def read(self, _size):
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        return self.outcome


@pytest.fixture
def pipes():
    """Open pipes without a writer; they are closed after the test."""
    opened = []

    def make():
        reader, writer = os.pipe()
        opened.append((os.fdopen(reader, "rb", buffering=0), writer))
        return opened[-1][0]

    yield make
    for _, writer in opened:
        os.close(writer)
    for thread in threading.enumerate():
        if thread.name == "lemon_async reading":
            thread.join(60)
    for reader, _ in opened:
        reader.close()


async def has_begun(event):
    assert await asyncio.to_thread(event.wait, 60)


# One reader at a time


async def test_file_that_another_request_is_reading_is_refused_with_its_position(connect, emulator, picture):
    """Each would send a part of the picture, and both would be billed."""
    file = Slow(picture())
    async with connect() as session:
        first = asyncio.create_task(session.edit("a hat", image=file, model=MODEL))
        await has_begun(file.begun)
        with pytest.raises(ContractError, match=rf"image\[1\]: {BUSY}"):
            await session.edit("a scarf", image=[picture(), file], model=MODEL)
        file.go_on.set()
        await first
        file.seek(0)
        await session.edit("a scarf", image=file, model=MODEL)
    assert emulator.ledger.sold == {"a hat": 1, "a scarf": 1}


async def test_generator_in_two_concurrent_edits_is_refused_to_the_second(connect, emulator, picture):
    go_on = asyncio.Event()
    generator = in_pieces(picture(), go_on)
    async with connect() as session:
        first = asyncio.create_task(session.edit("a hat", image=generator, model=MODEL))
        while not generator.ag_frame.f_lineno or not generator.ag_running:
            await asyncio.sleep(0)
        with pytest.raises(ContractError, match=rf"image\[0\]: {BUSY}"):
            await session.edit("a scarf", image=generator, model=MODEL)
        go_on.set()
        await first
    assert emulator.ledger.sold == {"a hat": 1}


async def test_restartable_iterable_serves_two_concurrent_edits(connect, emulator, picture):
    go_on = asyncio.Event()
    stream = Stream(picture(), go_on)
    async with connect() as session:
        edits = [asyncio.create_task(session.edit(prompt, image=stream, model=MODEL)) for prompt in ("a", "b")]
        for _ in range(5):
            await asyncio.sleep(0)
        go_on.set()
        await asyncio.gather(*edits)
    assert emulator.ledger.sold == {"a": 1, "b": 1}


async def test_file_is_free_again_after_an_edit_that_failed(connect, picture):
    file = io.BytesIO(b"no picture")
    async with connect() as session:
        with pytest.raises(ContractError, match="not a known picture"):
            await session.edit("a hat", image=file, model=MODEL)
        with pytest.raises(ContractError, match="no bytes left"):
            await session.edit("a hat", image=file, model=MODEL)


async def test_file_is_free_again_when_the_read_of_a_cancelled_edit_has_ended(picture):
    """Until then, that read would take a part of the picture."""
    file = Slow(picture())
    with closing(SpooledUpload(None)) as spool:
        reading = asyncio.create_task(drain(file, spool))
        await has_begun(file.begun)
        reading.cancel()
        await asyncio.wait([reading], timeout=30)
        with pytest.raises(UnusableSource, match=BUSY):
            await drain(file, spool)
        file.go_on.set()
        await asyncio.to_thread(file.reader.join, 60)
        file.seek(0)
        await drain(file, spool)
        assert spool.finish().size_bytes == len(picture())


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (io.BytesIO, True),
        (lambda: OddFile(b""), True),
        (lambda: in_pieces(b""), True),
        (lambda: Stream(b"", None), False),
        (lambda: b"bytes", False),
        (lambda: "path", False),
        (lambda: 5, False),
    ],
)
def test_files_and_iterators_are_read_once(make, expected):
    assert is_read_once(make()) is expected


@pytest.mark.parametrize("make", [io.BytesIO, in_pieces], ids=["file", "generator"])
async def test_same_source_twice_in_one_request_is_refused_by_validate_and_by_sending(connect, emulator, picture, make):
    """The second time, it has no bytes left."""
    source, again = make(picture()), make(picture())
    words = "is the same object as image[0], and that can be read only once: give each its own, or its bytes"
    async with connect() as session:
        (problem,) = session.validate("a hat", image=[source, picture(), source], model=MODEL)
        assert str(problem) == f"image[2]: {words}"
        with pytest.raises(ContractError) as caught:
            await session.edit("a hat", image=source, mask=source, model="gpt-image-2")
        assert f"mask: {words}" in map(str, caught.value.problems)
        path_twice = [picture()] * 2
        assert session.validate("a hat", image=path_twice, model=MODEL) == ()
        await session.edit("a hat", image=again, model=MODEL)
    assert emulator.ledger.sold == {"a hat": 1}


# Reads that never end


async def test_blocked_pipes_block_no_other_upload(connect, emulator, picture, tmp_path, pipes):
    path = tmp_path / "a.png"
    path.write_bytes(picture())
    async with connect() as session:
        blocked = [
            asyncio.create_task(session.edit("never", image=pipes(), model=MODEL))
            for _ in range(min(32, (os.cpu_count() or 1) + 4) + 1)
        ]
        await asyncio.sleep(0)
        async with asyncio.timeout(60):
            await session.edit("a hat", image=[path, io.BytesIO(picture())], model=MODEL)
            for edit in blocked:
                edit.cancel()
            ends = await asyncio.gather(*blocked, return_exceptions=True)
    assert {type(end) for end in ends} == {asyncio.CancelledError}
    assert emulator.ledger.sold == {"a hat": 1}


# Objects that misbehave


class OddPath:
    def __init__(self, outcome):
        self.outcome = outcome

    def __fspath__(self):
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


class OddMapping(UserDict):
    def __iter__(self):
        raise RuntimeError("boom")


class OddBytes(bytes):
    def __bytes__(self):
        raise RuntimeError("boom")


class OddIterable:
    def __aiter__(self):
        raise RuntimeError("boom")


class NoIterator:
    def __aiter__(self):
        return 5


class OddAttribute:
    @property
    def read(self):
        raise RuntimeError("boom")


def released_view(_folder):
    view = memoryview(b"content")
    view.release()
    return view


def text_file(folder):
    (folder / "a.txt").write_text("text")
    return (folder / "a.txt").open()


ODD = {
    "path that raises": (lambda folder: OddPath(RuntimeError("boom")), "cannot be a file name: boom"),
    "path of bytes": (lambda folder: OddPath(b"/x"), "cannot be a file name: "),
    "path of a number": (lambda folder: OddPath(5), "cannot be a file name: "),
    "released view": (released_view, "reading it failed: operation forbidden on released memoryview"),
    "bytes that raise": (
        lambda folder: OddBytes(b"x"),
        "the bytes are not a known picture",
    ),  # their methods are not called
    "mapping that raises": (lambda folder: OddMapping(file_id="file-1"), "reading it failed: boom"),
    "attribute that raises": (lambda folder: OddAttribute(), "reading it failed: boom"),
    "text file": (text_file, "must give bytes, not str (a file is opened with mode 'rb')"),
}
ODD_WHEN_READ = {
    "iterable that raises": (lambda folder: OddIterable(), "reading it failed: boom"),
    "iterable without an iterator": (lambda folder: NoIterator(), "reading it failed: "),
    "file that raises": (lambda folder: OddFile(KeyError("k")), "reading it failed: 'k'"),
    "file that raises StopIteration": (lambda folder: OddFile(StopIteration()), "reading it failed: StopIteration"),
    "file that has nothing yet": (lambda folder: OddFile(None), "must give bytes, not NoneType"),
    "file with a long complaint": (lambda folder: OddFile(OSError("x" * 100_000)), "reading it failed: xxx"),
}


@pytest.mark.parametrize("name", [*ODD, *ODD_WHEN_READ])
async def test_faulty_object_is_refused_with_its_position(connect, emulator, picture, tmp_path, name):
    make, words = (ODD | ODD_WHEN_READ)[name]
    source = make(tmp_path)
    async with connect() as session, asyncio.timeout(60):
        with pytest.raises(ContractError) as caught:
            await session.edit("a hat", image=[picture(), source], model=MODEL)
    problems = {problem.field: problem.message for problem in caught.value.problems}
    assert words in problems["image[1]"]
    assert len(problems["image[1]"]) < 300
    assert emulator.requests == []
    if isinstance(source, io.IOBase):
        source.close()


@pytest.mark.parametrize("name", ODD)
def test_validate_reports_a_faulty_object(tmp_path, name):
    make, words = ODD[name]
    source = make(tmp_path)
    (problem,) = LemonSession("sk-x").validate("a hat", image=source, model=MODEL)
    assert problem.field == "image[0]"
    assert words in problem.message
    if isinstance(source, io.IOBase):
        source.close()


async def test_view_of_numbers_counts_in_bytes(picture):
    numbers = memoryview(array("I", picture() + bytes(-len(picture()) % 4)))

    async def views():
        yield numbers

    spool = SpooledUpload(None)
    await drain(views(), spool)
    assert spool.finish().size_bytes == numbers.nbytes
    spool.close()


def test_message_about_a_long_path_is_short():
    (problem,) = LemonSession("sk-x").validate("a hat", image="a" * 100_000, model=MODEL)
    assert problem.message.startswith("cannot read 'aaaa")
    assert "…" in problem.message
    assert len(problem.message) < 200
