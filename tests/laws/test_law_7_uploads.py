"""Law 7 for uploads: no source holds the event loop, of any size or in any number of pieces.

These tests use no clock. Only a long step can hold the loop, so the tests measure the steps (bytes per copy or write,
memory of a copy) and count the turns of other tasks in between.
"""

import asyncio
import hashlib
import io
import os
import tracemalloc
from array import array
from contextlib import ExitStack, asynccontextmanager, suppress

import aiohttp
import pytest

from lemon_async import ContractError, LemonSession, RetryPolicy
from lemon_async._uploads.preparation import File, Form, Json
from lemon_async._uploads.sources import glance_at, read_source
from lemon_async._uploads.upload import CHUNK_BYTES, SpooledUpload, UnusableSource, drain
from lemon_async.emulator import Status

MODEL = "flux-pro"
MIB = 1024 * 1024
LARGE_BYTES = 16 * MIB
# What the beginning of a picture, the spool before it goes to the disk, and a few pieces take.
SLACK_BYTES = 5 * MIB
LONG_TEXT = "x/" * MIB


class OtherWork:
    """Another coroutine of the program, which counts its iterations."""

    def __init__(self):
        self.turns = 0

    async def run(self):
        while True:
            self.turns += 1
            await asyncio.sleep(0)


@pytest.fixture
async def other_work():
    """Constant other work for the loop."""
    other = OtherWork()
    running = asyncio.create_task(other.run())
    await asyncio.sleep(0)
    yield other
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running


@asynccontextmanager
async def memory():
    """Append the peak of allocated memory, less that from before, to a list."""
    peak = []
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        yield peak
        peak.append(tracemalloc.get_traced_memory()[1] - before)
    finally:
        tracemalloc.stop()


@pytest.fixture(scope="module")
def large(picture):
    """A picture of 16 MiB."""
    return picture(pad_to=LARGE_BYTES)


# Copies


class OwnFile(io.RawIOBase):
    """A custom file that returns everything in one piece, in a buffer that it reuses."""

    def __init__(self, content):
        self._content, self._is_read = bytearray(content), False

    def read(self, _size=-1):
        self._is_read, was_read = True, self._is_read
        return bytearray() if was_read else self._content


async def giving(*shares):
    for share in shares:
        yield share


MUTABLE = {
    "bytearray": bytearray,
    "memoryview": lambda content: memoryview(bytearray(content)),
    "memoryview of numbers": lambda content: memoryview(array("q", content)),
    "BytesIO": lambda content: io.BytesIO(bytearray(content)),
    "file that returns all in one piece": OwnFile,
    "generator of one piece": lambda content: giving(memoryview(bytearray(content))),
    "generator of a large piece among small ones": lambda content: giving(
        content[:1000], bytearray(content[1000:-1000]), content[-1000:]
    ),
}


@pytest.mark.parametrize("kind", MUTABLE)
async def test_large_picture_is_never_copied_as_a_whole(large, kind):
    """Not even in a thread: copying holds the interpreter's lock, and so the loop."""
    source = MUTABLE[kind](large)
    with ExitStack() as held:
        async with memory() as peak:
            picked = await read_source("image[0]", source, held, None)
        assert picked.upload.digest == hashlib.sha256(large).hexdigest()
        assert picked.upload.size_bytes == LARGE_BYTES
        with picked.upload.open() as file:
            assert file.read() == large
    assert peak[0] < SLACK_BYTES


@pytest.mark.parametrize("kind", ["bytearray", "memoryview", "memoryview of numbers"])
async def test_glance_at_a_large_picture_copies_only_its_beginning(large, kind):
    source = MUTABLE[kind](large)
    async with memory() as peak:
        facts = glance_at("image[0]", source)
    assert (facts.size_bytes, facts.fault) == (LARGE_BYTES, None)
    assert peak[0] < SLACK_BYTES


async def test_large_bytes_are_shared(large):
    """Immutable bytes are never copied."""
    with ExitStack() as held:
        async with memory() as peak:
            picked = await read_source("image[0]", large, held, None)
            for _ in range(3):
                with picked.upload.open() as file:
                    assert isinstance(file, io.BytesIO)  # in memory, where they are
    assert peak[0] < SLACK_BYTES


async def test_memory_that_is_too_large_is_refused_without_reading_it(large):
    with ExitStack() as held:
        picked = await read_source("image[0]", bytearray(large), held, LARGE_BYTES - 1)
    assert (picked.facts.size_bytes, picked.upload.digest) == (LARGE_BYTES, "")


class Noting:
    """A file that records the size of each write."""

    def __init__(self, file):
        self._file, self.sizes = file, []

    def write(self, piece):
        self.sizes.append(len(piece))
        return self._file.write(piece)

    def __getattr__(self, name):
        return getattr(self._file, name)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_spool_takes_a_large_piece_in_small_steps(large, kind):
    """Up to a limit it writes to memory, where a large piece would be copied in one step."""
    spool = SpooledUpload(None)
    spool._file = noting = Noting(spool._file)
    spool.write(kind(large))
    assert max(noting.sizes) <= CHUNK_BYTES
    assert sum(noting.sizes) == LARGE_BYTES
    spool.close()


# Turns


async def empty_then(content, other_work, turns):
    for _ in range(50_000):
        turns.append(other_work.turns)
        yield b""
    yield content


async def byte_by_byte(content, other_work, turns):
    for at in range(len(content)):
        turns.append(other_work.turns)
        yield content[at : at + 1]


@pytest.mark.parametrize("pieces", [empty_then, byte_by_byte])
async def test_stream_of_tiny_pieces_that_never_waits_lets_other_tasks_run(other_work, picture, pieces):
    """Such a generator never yields to the loop, so the reader does."""
    content, turns = picture(pad_to=50_000), []
    spool = SpooledUpload(None)
    await drain(pieces(content, other_work, turns), spool)
    assert spool.finish().digest == hashlib.sha256(content).hexdigest()
    spool.close()
    assert max(map(turns.count, set(turns))) <= 256


async def test_stream_of_nothing_can_be_cancelled(other_work):
    """Otherwise it would never end."""

    async def endless():
        while True:
            yield b""

    spool = SpooledUpload(None)
    reading = asyncio.create_task(drain(endless(), spool))
    seen = other_work.turns
    while other_work.turns < seen + 10:
        await asyncio.sleep(0)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    spool.close()


class Connection:
    """A connection that never blocks; it records each write and its turn."""

    def __init__(self, other_work):
        self._other_work, self.writes = other_work, []

    async def write(self, piece):
        self.writes.append((self._other_work.turns, len(piece)))


async def test_large_json_is_sent_in_small_steps_and_hashed_before(other_work):
    """And it is not copied, as aiohttp copies a file in memory."""
    payload = Json("/v1/x", b"x" * LARGE_BYTES)
    connection = Connection(other_work)
    with ExitStack() as held:
        async with memory() as peak:
            body = await payload.open(held)
            assert isinstance(body.data, aiohttp.payload.Payload)
            await body.data.write(connection)
    assert peak[0] < SLACK_BYTES
    turns, sizes = zip(*connection.writes, strict=True)
    assert max(sizes) <= CHUNK_BYTES
    assert sum(sizes) == body.data.size == LARGE_BYTES
    assert len(set(turns)) == len(turns)
    assert payload._fingerprint == hashlib.sha256(payload.content).hexdigest() == payload.fingerprint


async def test_large_json_arrives_whole_at_every_attempt(connect, emulator):
    emulator.fault("submit", Status(429, headers={"Retry-After": "0.01"}), times=1)
    async with connect(retry=RetryPolicy(max_elapsed_s=20, first_backoff_s=0.001)) as session:
        await session.submit("a cat", model=MODEL, extra={"note": "x" * 600_000})
    assert emulator.ledger.sold == {"a cat": 1}


async def test_large_part_of_a_form_is_sent_in_small_steps(other_work, large):
    with ExitStack() as held:
        picked = await read_source("image[0]", bytearray(large), held, None)
        form = Form("/v1/x", "", {}, (File("image", "image[0]", "a.png", picked.upload),))
        connection = Connection(other_work)
        await (await form.open(held)).data().write(connection)
    turns, sizes = zip(*connection.writes, strict=True)
    assert max(sizes) <= CHUNK_BYTES
    assert len(set(turns)) >= LARGE_BYTES // CHUNK_BYTES


@pytest.mark.parametrize("is_announced", [True, False])
async def test_large_file_of_the_service_is_collected_without_a_second_copy(large, is_announced, listen):
    async def answer(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        length = b"Content-Length: %d\r\n" % len(large) if is_announced else b""
        writer.write(b"HTTP/1.1 200 OK\r\n" + length + b"Connection: close\r\n\r\n")
        for at in range(0, len(large), 65536):
            writer.write(large[at : at + 65536])
            await writer.drain()

    async with LemonSession("sk-x", base_url=await listen(answer)) as session, memory() as peak:
        content = await session.files.content("file-1")
    assert content == large
    assert peak[0] < LARGE_BYTES + SLACK_BYTES


# Texts


TEXTS = {
    "data: URL": f"data:image/png;base64,{LONG_TEXT}",
    "base64": LONG_TEXT,
    "address": f"https://example.com/{LONG_TEXT}",
    "id": f"file-{'x' * 2 * MIB}",
    "object": {"image_url": f"data:image/png;base64,{LONG_TEXT}"},
}


@pytest.mark.parametrize("is_checked", [True, False])
@pytest.mark.parametrize("kind", TEXTS)
async def test_picture_as_a_long_text_is_refused_before_it_is_parsed(connect, emulator, kind, is_checked):
    """Checks for an address, a path or JSON would take longer for longer text."""
    async with connect(check_contracts=is_checked) as session:
        with pytest.raises(ContractError, match=r"image\[0\]: .* characters, longer than any address or file name"):
            await session.edit("a hat", image=TEXTS[kind], model=MODEL)
    assert emulator.requests == []


@pytest.mark.parametrize("kind", ["base64", "data: URL"])
async def test_upload_of_a_long_text_is_refused_likewise(connect, emulator, kind):
    async with connect() as session:
        with pytest.raises(ContractError, match=r"file: is a text of .* decode it, and give the bytes"):
            await session.files.upload(TEXTS[kind])
    assert emulator.requests == []


# Objects that misbehave


class OddPath(os.PathLike):
    """A path whose `__fspath__` works a limited number of times."""

    def __init__(self, path, times):
        self._path, self._times = path, times

    def __fspath__(self):
        self._times -= 1
        if self._times < 0:
            raise RuntimeError("boom")
        return self._path


class OddClass:
    @property
    def __class__(self):
        raise RuntimeError("boom")


class OddName(io.BytesIO):
    @property
    def name(self):
        raise RuntimeError("boom")


def released():
    view = memoryview(bytearray(b"x"))
    view.release()
    return view


ODD = {
    "path that raises": lambda: OddPath("", 0),
    "path of bytes": lambda: OddPath(b"/x", 9),
    "object that hides its class": OddClass,
    "released view": released,
    "generator of a released view": lambda: giving(released()),
    "file that gives a released view": type("File", (), {"read": lambda self, _size: released()}),
}


@pytest.mark.parametrize("use", ["edit", "upload"])
@pytest.mark.parametrize("kind", ODD)
async def test_faulty_object_is_a_contract_error(connect, emulator, kind, use):
    """The exception is wrapped, and the position is reported."""
    async with connect() as session:
        with pytest.raises(ContractError, match=r"^(image\[0\]|file): "):
            await (
                session.files.upload(ODD[kind]())
                if use == "upload"
                else session.edit("x", image=[ODD[kind]()], model=MODEL)
            )
    assert emulator.requests == []


@pytest.mark.parametrize("times", range(4))
async def test_inconsistent_path_is_uploaded_or_refused(connect, picture, tmp_path, times):
    (tmp_path / "cat.png").write_bytes(picture())
    async with connect() as session:
        try:
            stored = await session.files.upload(OddPath(str(tmp_path / "cat.png"), times))
        except ContractError:
            assert times < 2
        else:
            assert stored.size_bytes == len(picture())


async def test_file_without_a_usable_name_is_named_after_its_bytes(connect, picture):
    async with connect() as session:
        assert (await session.files.upload(OddName(picture()))).filename == "file.png"


@pytest.mark.parametrize("other", ["edit", "upload"])
async def test_generator_in_two_concurrent_uses_serves_the_first_only(connect, emulator, picture, other):
    """Each would get a part of the picture."""
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def pieces(content):
        yield content[:10]
        begun.set()
        await go_on.wait()
        yield content[10:]

    generator = pieces(picture())
    async with connect() as session:
        first = asyncio.create_task(session.edit("a hat", image=generator, model=MODEL))
        await begun.wait()
        with pytest.raises(ContractError, match="is being read by another request at this moment"):
            await (
                session.files.upload(generator)
                if other == "upload"
                else session.edit("x", image=generator, model=MODEL)
            )
        go_on.set()
        await first
    assert emulator.ledger.sold == {"a hat": 1}


async def test_spool_refuses_other_types():
    spool = SpooledUpload(None)
    with pytest.raises(UnusableSource, match="must give bytes, not str"):
        spool.write("text")
    spool.close()
