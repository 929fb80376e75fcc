"""Every kind of source reaches the service: uploaded whole, or as a reference."""

import asyncio
import hashlib
import io
from contextlib import ExitStack, asynccontextmanager

import orjson
import pytest
from PIL import Image

from lemon_async import ContractError, EditRequest, LemonSession, RetryPolicy, TransportError, VariationRequest
from lemon_async.emulator import Emulator
from lemon_async.types import StoredFile

BIG_BYTES = 3 * 1024 * 1024  # beyond what is held in memory
MODEL = "flux-pro"  # edits of it are tasks, whose sources the emulator keeps


def sha256(content):
    return hashlib.sha256(content).hexdigest()


class Pieces:
    """An async iterable that is not a generator."""

    def __init__(self, content, piece_bytes=1000):
        self.pieces = [content[at : at + piece_bytes] for at in range(0, len(content), piece_bytes)]

    async def __aiter__(self):
        for piece in self.pieces:
            await asyncio.sleep(0)
            yield piece


class Pipe(io.RawIOBase):
    """A file that cannot seek."""

    def __init__(self, content):
        self.rest = content

    def readable(self):
        return True

    def readinto(self, buffer):
        count = min(len(buffer), len(self.rest), 100_000)
        buffer[:count], self.rest = self.rest[:count], self.rest[count:]
        return count


class Named:
    """A path by the protocol of the `os` module."""

    def __init__(self, path):
        self.path = str(path)

    def __fspath__(self):
        return self.path


class Received:
    """An upload of a web framework: a file whose `read` is a coroutine function."""

    def __init__(self, content):
        self.file = io.BytesIO(content)

    async def read(self, size):
        return self.file.read(size)


def further_on(content):
    file = io.BytesIO(b"something before" + content)
    file.seek(len(b"something before"))
    return file


KINDS = {
    "text": lambda path, _held: str(path),
    "path": lambda path, _held: path,
    "path-like": lambda path, _held: Named(path),
    "bytes": lambda path, _held: path.read_bytes(),
    "bytearray": lambda path, _held: bytearray(path.read_bytes()),
    "memoryview": lambda path, _held: memoryview(path.read_bytes()),
    "file in memory": lambda path, _held: io.BytesIO(path.read_bytes()),
    "file from where it stands": lambda path, _held: further_on(path.read_bytes()),
    "file": lambda path, held: held.enter_context(path.open("rb")),
    "pipe": lambda path, _held: Pipe(path.read_bytes()),
    "async file": lambda path, _held: Received(path.read_bytes()),
    "generator": lambda path, _held: aiter(Pieces(path.read_bytes())),
    "iterable": lambda path, _held: Pieces(path.read_bytes(), 100_000),
    "generator of views": lambda path, _held: Pieces(memoryview(path.read_bytes())),
}


@pytest.fixture
def held():
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def photo(tmp_path, picture):
    """A small picture in a file."""
    path = tmp_path / "photo.png"
    path.write_bytes(picture())
    return path


@pytest.fixture
def big_photo(tmp_path, picture):
    """A picture in a file that is not held in memory."""
    path = tmp_path / "big.png"
    path.write_bytes(picture(pad_to=BIG_BYTES))
    return path


@asynccontextmanager
async def recording(serve, http_ok):
    """Open a session on a server that records requests and responds to every job with a public link."""
    answer = http_ok(b'{"created": 1, "data": [{"url": "https://cdn.test/1.png"}]}')
    server = await serve(answer)
    async with LemonSession("sk-x", base_url=server.origin) as session:
        yield session, server


# Uploads


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", ["small", "big"])
async def test_source_of_any_kind_reaches_the_service_whole(
    connect, emulator, arrived, photo, big_photo, held, kind, size
):
    path = photo if size == "small" else big_photo
    async with connect() as session:
        images = await session.edit("a hat", image=KINDS[kind](path, held), model=MODEL)
        assert len(images) == 1
    assert arrived() == [[sha256(path.read_bytes())]]
    assert emulator.ledger.sold == {"a hat": 1}


async def test_sources_of_many_kinds_go_together_in_their_order(connect, arrived, tmp_path, picture, held):
    sources, digests = [], []
    for number, kind in enumerate(KINDS):
        path = tmp_path / f"{number}.png"
        path.write_bytes(picture((16, 16 + number)))
        sources.append(KINDS[kind](path, held))
        digests.append(sha256(path.read_bytes()))
    async with connect() as session:
        await session.edit("a hat", image=sources, model=MODEL)
    assert arrived() == [digests]


@pytest.mark.parametrize(("kind", "suffix"), [("PNG", "png"), ("JPEG", "jpeg"), ("WEBP", "webp")])
async def test_upload_is_named_after_its_bytes_and_not_after_the_callers_disk(
    serve, http_ok, picture, tmp_path, kind, suffix
):
    """A file name is only a claim, and private to the caller."""
    path = tmp_path / "my secret project.txt"
    path.write_bytes(picture(mode="RGB", kind=kind))
    async with recording(serve, http_ok) as (session, server):
        await session.edit("a hat", image=path, model=MODEL)
    (body,) = server.bodies
    assert f'name="image"; filename="image-0.{suffix}"\r\n'.encode() in body
    assert f"Content-Type: image/{suffix}\r\n".encode() in body
    assert b"secret" not in body


async def test_mask_is_sent_with_the_pictures_and_protects_what_it_covers(connect, emulator, picture):
    """The composited result shows that both arrived: outside the mask, every pixel is the source's."""
    source = picture((32, 32), "RGB", colour=(10, 20, 30))
    mask = picture((32, 32), "RGBA", colour=(0, 0, 0, 255))
    with pytest.raises(ContractError, match="mask: is 16 x 16, and image"):
        async with connect() as session:
            await session.edit("a hat", image=source, mask=picture((16, 16)), model="gpt-image-2")
    assert emulator.requests == []
    async with connect() as session:
        images = await session.edit("a hat", image=source, mask=mask, model="gpt-image-2")
        content = await images[0].read()
        assert images[0].size == (32, 32)
    assert Image.open(io.BytesIO(content)).convert("RGB").getcolors() == [(32 * 32, (10, 20, 30))]


async def test_pictures_of_an_earlier_result_are_edited_by_link_and_by_base64(connect, arrived):
    """A link that the service cannot follow is fetched and uploaded."""
    async with connect() as session:
        linked = await session.generate("a cat", model="dall-e-3")
        inline = await session.generate("a cat", model="dall-e-3", response_format="b64_json")
        await session.edit("a hat", image=[linked[0], inline[0]], model=MODEL)
        assert arrived() == [[sha256(await linked[0].read()), sha256(await inline[0].read())]]


async def test_variation_starts_from_an_upload(connect, emulator, picture):
    async with connect() as session:
        images = await session.create_variation(picture(), n=2, size="256x256")
        assert [len(images), images.task_id] == [2, None]
        assert len(await session.create_variation(VariationRequest(image=picture(), size="256x256"), n=1)) == 1
        assert (await images[0].read()).startswith(b"\x89PNG")
    assert emulator.requests[0].path == "/v1/images/variations"
    assert emulator.ledger.sold.total() == 2


# References


async def test_address_is_fetched_by_the_service(serve, http_ok, picture):
    content = picture(mode="RGB")
    elsewhere = await serve(http_ok(content, "image/png"))
    hosts = {"pictures.example": f"127.0.0.1:{elsewhere.port}"}
    async with (
        Emulator(durations=0, fetch_remote=True, remote_hosts=hosts) as emulator,
        LemonSession(emulator.api_key, base_url=emulator.base_url) as session,
    ):
        address = "http://pictures.example/a.png"
        for image in (address, {"image_url": address}, [address, address]):
            await session.submit(EditRequest("a hat", image=image, model=MODEL))
        tasks = emulator._store.tasks.values()
        assert [[one.blob.digest for one in task.spec.picture.sources] for task in tasks] == [
            [sha256(content)],
            [sha256(content)],
            [sha256(content)] * 2,
        ]


async def test_stored_file_is_named_in_any_of_three_ways(connect, arrived, picture):
    content = picture()
    async with connect() as session:
        stored = await session.files.upload(content, model=MODEL)
        for image in (stored, stored.id, {"file_id": stored.id}, StoredFile(stored.id), [stored, stored.id]):
            await session.edit("a hat", image=image, model=MODEL)
    assert arrived() == [[sha256(content)]] * 4 + [[sha256(content)] * 2]


@pytest.mark.parametrize(
    ("image", "fields"),
    [
        ("https://a.test/1.png", {"image_url": "https://a.test/1.png"}),
        (
            ["https://a.test/1.png", "https://a.test/2.png"],
            {"image_urls": ["https://a.test/1.png", "https://a.test/2.png"]},
        ),
        ("file-1", {"images": [{"file_id": "file-1"}]}),
        (
            ["https://a.test/1.png", StoredFile("file-1")],
            {"images": [{"image_url": "https://a.test/1.png"}, {"file_id": "file-1"}]},
        ),
    ],
    ids=str,
)
async def test_addresses_and_stored_files_become_the_fields_of_the_service(serve, http_ok, image, fields):
    async with recording(serve, http_ok) as (session, server):
        await session.edit("a hat", image=image, model=MODEL)
    assert orjson.loads(server.bodies[0]) == {"model": MODEL, "prompt": "a hat"} | fields


async def test_public_link_of_an_earlier_result_is_sent_with_other_addresses(serve, http_ok):
    """It is not downloaded and uploaded: the service can fetch it."""
    async with recording(serve, http_ok) as (session, server):
        images = await session.generate("a cat", model="dall-e-3")
        await session.edit("a hat", image=[images[0], "https://a.test/2.png"], model=MODEL)
    assert orjson.loads(server.bodies[1])["image_urls"] == ["https://cdn.test/1.png", "https://a.test/2.png"]


async def test_mix_of_uploads_and_addresses_is_refused_with_their_positions(connect, emulator, picture, photo):
    async with connect() as session:
        inline = await session.generate("a cat", model="dall-e-3", response_format="b64_json")
        seen = len(emulator.requests)
        with pytest.raises(ContractError) as caught:
            await session.edit(
                "a hat", image=[photo, "https://a.test/1.png", picture(), "file-1", inline[0]], model=MODEL
            )
        (problem,) = caught.value.problems
        assert problem.field == "image"
        assert "uploads or addresses, not both" in problem.message
        assert problem.message.endswith("(addresses or ids: image[1], image[3])")
        with pytest.raises(ContractError, match="mask: goes with uploads only"):
            await session.edit("a hat", image="https://a.test/1.png", mask=picture(), model="gpt-image-2")
    assert len(emulator.requests) == seen


# Without checks, and without a service


async def test_unknown_format_is_sent_without_checks(serve, http_ok):
    """The service decides about future formats."""
    async with recording(serve, http_ok) as (session, server):
        await session.edit("a hat", image=b"JPEG XXL", model=MODEL, check_contracts=False)
    assert b'filename="image-0"\r\n' in server.bodies[0]
    assert b"Content-Type: application/octet-stream\r\n" in server.bodies[0]
    assert b"JPEG XXL" in server.bodies[0]


async def test_unreachable_service_leaves_nothing_open(picture, photo, open_files):
    """Files that were opened for an attempt are closed after it."""
    async with LemonSession("sk-x", base_url="http://127.0.0.1:9", retry=RetryPolicy(max_elapsed_s=0)) as session:
        await asyncio.to_thread(lambda: None)
        before = open_files()
        with pytest.raises(TransportError):
            await session.edit("a hat", image=[photo, picture(), io.BytesIO(picture(pad_to=BIG_BYTES))], model=MODEL)
        async with asyncio.timeout(60):  # for a thread of an earlier emulator that still draws
            while open_files() > before:
                await asyncio.sleep(0.001)
