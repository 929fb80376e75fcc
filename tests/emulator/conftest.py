"""The emulator under test, a plain HTTP client for it, raw sockets, and makers of pictures and fonts."""

import asyncio
import functools
import inspect
import io
import json
import struct
import zlib
from typing import Any

import aiohttp
import pytest
from attrs import frozen
from PIL import Image

from lemon_async.emulator import Emulator

EDITS = "/v1/images/edits"

# Timeouts turn a wait that never ends into a failure with a traceback.
WHOLE_TEST_S, ONE_ANSWER_S = 180, 60


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem):
    """Limit the time of every async test in this folder."""
    test = pyfuncitem.obj
    if inspect.iscoroutinefunction(test):

        @functools.wraps(test)
        async def bounded(*args, **kwargs):
            async with asyncio.timeout(WHOLE_TEST_S):
                await test(*args, **kwargs)

        pyfuncitem.obj = bounded
    return (yield)


@frozen
class Seen:
    """A response as a client sees it."""

    status: int
    headers: Any
    raw: bytes
    json: Any


class Client:
    """A plain HTTP client with the emulator's key."""

    def __init__(self, emu: Emulator, http: aiohttp.ClientSession) -> None:
        self.emu = emu
        self._http = http

    async def ask(self, method, path, *, key=None, headers=None, **options):
        """Send one request; `key=""` sends no key."""
        key = self.emu.api_key if key is None else key
        auth = {"Authorization": f"Bearer {key}"} if key else {}
        url = path if path.startswith("http") else self.emu.base_url + path
        request = self._http.request(method, url, headers=auth | (headers or {}), allow_redirects=False, **options)
        async with request as answer:
            raw = await answer.read()
            is_json = answer.content_type == "application/json" and raw
            try:
                value = await answer.json() if is_json else None
            except ValueError:
                value = None
            return Seen(answer.status, answer.headers, raw, value)

    async def submit(self, prompt="a cat", *, key=None, **fields):
        """Request an image."""
        body = {"prompt": prompt, **fields}
        return await self.ask("POST", "/v1/images/generations", key=key, json=body)

    async def edit(self, prompt="a hat", *images, mask=None, path=EDITS, key=None, **fields):
        """Request an edit of files, in the form that browsers and OpenAI clients send."""
        files = [("image" if len(images) == 1 else "image[]", image) for image in images]
        return await self.send_form(path, [*files, ("mask", mask)], key=key, prompt=prompt, **fields)

    async def send_form(self, path, files, *, key=None, **fields):
        """Post a multipart form; fields and files that are None are left out."""
        form = aiohttp.FormData(default_to_multipart=True)
        for name, value in fields.items():
            if value is not None:
                form.add_field(name, value if isinstance(value, str) else json.dumps(value))
        for name, file in files:
            if file is not None:
                # aiohttp warns about large bytes, which it sends in one piece.
                body = io.BytesIO(file) if isinstance(file, bytes) else file
                form.add_field(name, body, filename="picture.png", content_type="image/png")
        return await self.ask("POST", path, key=key, data=form)

    async def edit_json(self, *, key=None, **fields):
        """Request an edit of pictures named by URL or file id."""
        return await self.ask("POST", EDITS, key=key, json={"prompt": "a hat", "model": "gpt-image-2", **fields})

    async def upload(self, file, *, key=None, purpose="vision", **fields):
        """Upload a file."""
        return await self.send_form("/v1/files", [("file", file)], key=key, purpose=purpose, **fields)

    async def poll(self, task, *, key=None):
        """Poll a task, given its id or the response to its submit."""
        task_id = task if isinstance(task, str) else task.json["task_id"]
        return await self.ask("GET", f"/v1/tasks/{task_id}", key=key)

    async def get(self, url, **options):
        """Download without a key."""
        return await self.ask("GET", url, key="", **options)


@frozen
class Raw:
    """The bytes received on a raw socket, and whether it ended in a reset."""

    data: bytes
    is_reset: bool

    @property
    def head(self) -> bytes:
        return self.data.partition(b"\r\n\r\n")[0]

    @property
    def body(self) -> bytes:
        return self.data.partition(b"\r\n\r\n")[2]


async def talk(emu, *parts: bytes) -> Raw:
    """Send bytes on a new connection and read until it ends."""
    reader, writer = await asyncio.open_connection(*emu.base_url.removeprefix("http://").split(":"))
    data = bytearray()
    try:
        async with asyncio.timeout(ONE_ANSWER_S):
            for part in parts:
                writer.write(part)
                await writer.drain()
            while chunk := await reader.read(65536):
                data += chunk
    except ConnectionResetError:
        return Raw(bytes(data), is_reset=True)
    finally:
        writer.transport.abort()
        await asyncio.sleep(0)
    return Raw(bytes(data), is_reset=False)


def request_bytes(emu, body=b"", *, path="/v1/images/generations", method="POST", **headers):
    """Return a request as bytes; it asks for the connection to be closed after the response."""
    host = emu.base_url.removeprefix("http://")
    head = {
        "Host": host,
        "Authorization": f"Bearer {emu.api_key}",
        "Content-Length": str(len(body)),
        "Connection": "close",
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    lines = [f"{method} {path} HTTP/1.1", *(f"{n}: {v}" for n, v in head.items() if v is not None)]
    return "\r\n".join([*lines, "", ""]).encode() + body


def picture_bytes(size=(16, 16), mode="RGB", *, colour=None, kind="PNG", pad_to=None, **options):
    """Return a picture file; a PNG can be padded to any length with a private chunk."""
    file = io.BytesIO()
    Image.new(mode, size, colour or 0).save(file, kind, **options)
    raw = file.getvalue()
    if pad_to is None:
        return raw
    padding = bytes(pad_to - len(raw) - 12)
    chunk = b"paDd" + padding
    return raw[:-12] + struct.pack(">I", len(padding)) + chunk + struct.pack(">I", zlib.crc32(chunk)) + raw[-12:]


@pytest.fixture
def picture():
    """How to make a picture file."""
    return picture_bytes


@pytest.fixture
def pixels():
    """How to decode a file."""

    def read(raw):
        image = Image.open(io.BytesIO(raw))
        image.load()
        return image

    return read


@pytest.fixture
async def emu():
    async with Emulator(durations=0) as emulator:
        yield emulator


@pytest.fixture
async def http():
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=ONE_ANSWER_S)) as session:
        yield session


@pytest.fixture
def client_of(http):
    return lambda emulator: Client(emulator, http)


@pytest.fixture
def client(emu, client_of):
    return client_of(emu)


@pytest.fixture
def until():
    """How to wait until another coroutine has made a condition true; fails after a minute."""

    async def wait(is_true):
        async with asyncio.timeout(60):
            while not is_true():
                await asyncio.sleep(0.001)

    return wait


@pytest.fixture
def hang_up(until):
    """How to give up a request for which no response comes, as soon as a condition holds."""

    async def give_up(request, is_true):
        asking = asyncio.ensure_future(request)
        await until(is_true)
        await asyncio.sleep(0.02)
        assert not asking.done()
        asking.cancel()
        await asyncio.wait([asking])

    return give_up


@pytest.fixture
def wire(emu):
    """How to send raw bytes to the emulator on a connection of their own."""
    return lambda *parts: talk(emu, *parts)


@pytest.fixture
def submit_bytes(emu):
    """The bytes of a generation request."""
    return lambda body=b'{"prompt": "a cat"}', **headers: request_bytes(emu, body, **headers)


def new_font(characters, *, has_outlines=True):
    """Start a font in which every character is a square, 0.8 em high and 1 em wide, or empty without outlines."""
    builder = pytest.importorskip("fontTools.fontBuilder").FontBuilder(1000)
    from fontTools.pens.ttGlyphPen import TTGlyphPen  # noqa: PLC0415 - skipped without fontTools

    points = {f"u{ord(character):x}": ord(character) for character in characters}
    names = [".notdef", *points]
    builder.setupGlyphOrder(names)
    builder.setupCharacterMap({point: name for name, point in points.items()})
    if has_outlines:
        pen = TTGlyphPen(None)
        pen.moveTo((0, 0))
        for corner in ((0, 800), (1000, 800), (1000, 0)):
            pen.lineTo(corner)
        pen.closePath()
        builder.setupGlyf(dict.fromkeys(names, pen.glyph()) | {".notdef": TTGlyphPen(None).glyph()})
    builder.setupHorizontalMetrics(dict.fromkeys(names, (1000, 0)))
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": "Test", "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    return builder


@pytest.fixture
def make_font(tmp_path):
    """How to make a font with some characters; returns its path."""

    def make(name, characters):
        new_font(characters).save(tmp_path / name)
        return tmp_path / name

    return make


@pytest.fixture
def make_bitmap_font(tmp_path):
    """How to make a bitmap font of red squares, 109 pixels high, as for emoji; returns its path."""

    def make(name, characters):
        builder = new_font(characters, has_outlines=False)
        add_bitmaps(builder.font, picture_bytes((109, 109), "RGBA", colour=(255, 0, 0, 255)))
        builder.save(tmp_path / name)
        return tmp_path / name

    return make


def add_bitmaps(font, png):
    """Give every glyph of a font the same bitmap."""
    from fontTools.ttLib import newTable  # noqa: PLC0415 - skipped without fontTools
    from fontTools.ttLib.tables import C_B_D_T_, E_B_L_C_, BitmapGlyphMetrics  # noqa: PLC0415

    names = font.getGlyphOrder()[1:]
    bitmaps = {}
    for name in names:
        glyph = bitmaps[name] = C_B_D_T_.cbdt_bitmap_format_17(b"", font)
        del glyph.data  # it would be parsed
        glyph.metrics = BitmapGlyphMetrics.SmallGlyphMetrics()
        vars(glyph.metrics).update(height=109, width=109, BearingX=0, BearingY=88, Advance=109)
        glyph.imageData = png
    index = E_B_L_C_.eblc_index_sub_table_1(b"", font)
    vars(index).update(names=names, indexFormat=1, imageFormat=17, firstGlyphIndex=1, lastGlyphIndex=len(names))
    del index.data
    strike = E_B_L_C_.Strike()
    strike.indexSubTables = [index]
    zeros = """caretSlopeNumerator caretSlopeDenominator caretOffset minOriginSB minAdvanceSB maxBeforeBL minAfterBL
        pad1 pad2"""
    line = E_B_L_C_.SbitLineMetrics()
    vars(line).update(dict.fromkeys(zeros.split(), 0), ascender=88, descender=-21, widthMax=109)
    size = {"colorRef": 0, "startGlyphIndex": 1, "endGlyphIndex": len(names), "ppemX": 109, "ppemY": 109}
    vars(strike.bitmapSizeTable).update(size, bitDepth=32, flags=1, hori=line, vert=line)
    for tag, parts in (("CBDT", {"strikeData": [bitmaps]}), ("CBLC", {"strikes": [strike]})):
        font[tag] = newTable(tag)
        vars(font[tag]).update(parts, version=3.0)
