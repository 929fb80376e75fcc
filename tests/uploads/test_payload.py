"""Bodies are opened again for every attempt, and are complete each time."""

import asyncio
import errno
import hashlib
import io
import os
import threading
from contextlib import ExitStack

import aiohttp
import pytest

from lemon_async import (
    ContractError,
    EditRequest,
    LemonSession,
    RetryPolicy,
    SubmissionUnknown,
    Timeouts,
    TransportError,
)
from lemon_async._tasks.submission import PreparedRequest
from lemon_async._uploads.preparation import File, Form, Json, prepare
from lemon_async._uploads.upload import Upload
from lemon_async.emulator import Reset, Status

MODEL = "flux-pro"
BIG_BYTES = 3 * 1024 * 1024
PATIENT = RetryPolicy(max_elapsed_s=20, first_backoff_s=0.001, max_backoff_s=0.01)
REFUSALS = [Status(429, headers={"Retry-After": "0.01"}), Status(503, error={"retryable": True})]


def sha256(content):
    return hashlib.sha256(content).hexdigest()


async def in_pieces(content):
    for at in range(0, len(content), 100_000):
        yield content[at : at + 100_000]


KINDS = {
    "path": lambda path: path,
    "bytes": lambda path: path.read_bytes(),
    "file in memory": lambda path: io.BytesIO(path.read_bytes()),
    "generator": lambda path: in_pieces(path.read_bytes()),
}


@pytest.fixture(params=[None, BIG_BYTES], ids=["small", "big"])
def photo(tmp_path, picture, request):
    path = tmp_path / "photo.png"
    path.write_bytes(picture(pad_to=request.param))
    return path


def edits(emulator):
    return sum(request.route == "edit" for request in emulator.requests)


@pytest.mark.parametrize("refusal", REFUSALS, ids=["429", "503"])
@pytest.mark.parametrize("kind", KINDS)
async def test_whole_form_is_sent_again_after_a_refusal_and_sold_once(connect, emulator, arrived, photo, kind, refusal):
    emulator.fault("edit", refusal, times=2)
    async with connect(retry=PATIENT) as session:
        await session.edit("a hat", image=[KINDS[kind](photo), photo], model=MODEL)
    assert arrived() == [[sha256(photo.read_bytes())] * 2]
    assert edits(emulator) == 3
    assert emulator.ledger.sold == {"a hat": 1}


async def test_whole_file_is_uploaded_again_after_a_refusal(connect, emulator, photo):
    emulator.fault("files", REFUSALS[0], times=2)
    async with connect(retry=PATIENT) as session:
        stored = await session.files.upload(in_pieces(photo.read_bytes()))
        assert await session.files.content(stored) == photo.read_bytes()
        assert [file.id for file in await session.files.list()] == [stored.id]


async def test_form_is_sent_again_if_the_caller_opted_in(connect, emulator, arrived, photo):
    emulator.fault("edit", Reset("request_end"), times=1)
    retry = RetryPolicy(max_elapsed_s=20, first_backoff_s=0.001, resubmit_unknown=True)
    async with connect(retry=retry) as session:
        await session.edit("a hat", image=in_pieces(photo.read_bytes()), model=MODEL)
        assert session.submission_counts.unknown == 1
    assert arrived() == [[sha256(photo.read_bytes())]] * 2


async def test_refusal_that_comes_before_the_body_was_read_does_not_spoil_the_second_attempt(tmp_path, picture):
    """Half of the file was sent; the next attempt sends all of it."""
    path = tmp_path / "photo.png"
    path.write_bytes(picture(pad_to=12 * 1024 * 1024))
    refusal = b'{"error": {"message": "Slow down.", "code": "rate_limit_exceeded"}}'
    done = b'{"created": 1, "data": [{"url": "https://cdn.test/1.png"}]}'
    connections, bodies, gone = [], [], asyncio.Event()

    async def serve(reader, writer):
        connections.append(writer)
        head = await reader.readuntil(b"\r\n\r\n")
        is_first = len(connections) == 1
        if not is_first:
            length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            bodies.append(await reader.readexactly(length))
        answer, status = (refusal, b"429 Too Many Requests") if is_first else (done, b"200 OK")
        writer.write(b"HTTP/1.1 %s\r\nContent-Type: application/json\r\n" % status)
        writer.write(b"Retry-After: 0.01\r\nContent-Length: %d\r\n\r\n" % len(answer) + answer)
        if is_first:
            await gone.wait()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=64 * 1024)
    origin = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server, LemonSession("sk-x", base_url=origin, retry=PATIENT) as session:
        assert len(await session.edit("a hat", image=path, model=MODEL)) == 1
        gone.set()
        assert path.read_bytes() in bodies[0]
        assert len(connections) == 2


@pytest.mark.parametrize("change", ["deleted", "replaced", "longer", "folder"])
async def test_file_that_changed_before_the_second_attempt_is_not_sent(connect, emulator, photo, picture, change):
    """The first attempt was refused, so nothing is billed."""

    def meddle():
        if change == "longer":
            with photo.open("ab") as file:
                file.write(b"more")
        else:
            photo.unlink()
            if change == "replaced":
                photo.write_bytes(picture((17, 17)))
            elif change == "folder":
                photo.mkdir()

    emulator.fault("edit", Status(429, headers={"Retry-After": "0.03"}))
    async with connect(retry=PATIENT) as session:
        editing = asyncio.create_task(session.edit("a hat", image=[picture(), photo], model=MODEL))
        while not edits(emulator):
            await asyncio.sleep(0)
        meddle()
        with pytest.raises(ContractError, match=r"^image\[1\]: cannot be opened again: .* \(nothing was sent\)$"):
            await editing
        assert session.unknown_submissions == ()
    assert edits(emulator) == 1
    assert emulator.ledger.sold == {}


async def test_unknown_outcome_is_reported_although_the_file_is_gone_at_the_second_attempt(connect, emulator, photo):
    """The error says that the outcome of the first attempt is unknown, not that nothing was sent."""
    emulator.fault("edit", Reset("request_end"))
    retry = RetryPolicy(max_elapsed_s=20, first_backoff_s=0.03, resubmit_unknown=True)
    async with connect(retry=retry) as session:
        editing = asyncio.create_task(session.edit("a hat", image=photo, model=MODEL))
        while not session.unknown_submissions:
            await asyncio.sleep(0)
        photo.unlink()
        with pytest.raises(SubmissionUnknown) as caught:
            await editing
    assert isinstance(caught.value.__cause__, ContractError)
    assert emulator.ledger.sold == {"a hat": 1}


async def test_nothing_stays_open_after_attempts_of_any_outcome(connect, emulator, photo, open_files):
    emulator.fault("edit", REFUSALS[0], nth=[1])
    emulator.fault("edit", Reset("request_body"), nth=[2])
    emulator.fault("edit", Status(502, "html"), nth=[2])  # of those whose body is read
    async with connect(retry=PATIENT) as session:
        await session.models()
        before = open_files()
        sources = [make(photo) for make in KINDS.values()]
        for _ in range(2):
            with pytest.raises(SubmissionUnknown):
                await session.edit("a hat", image=[photo, io.BytesIO(photo.read_bytes())], model=MODEL)
        await session.edit("a hat", image=sources, model=MODEL)
        del sources
        async with asyncio.timeout(60):
            while emulator.connections > 1 or open_files() > before + 2:  # the emulator keeps a folder
                await session._engine.transport._paid.close()  # its connections are kept for a moment
                await asyncio.sleep(0.001)


# Bodies


class Written:
    """A connection that records each write."""

    def __init__(self):
        self.pieces = []

    async def write(self, piece):
        self.pieces.append(bytes(piece))


@pytest.mark.parametrize("size", [10, 100_000])
async def test_json_is_opened_any_number_of_times(size):
    """Long bodies are sent in chunks: aiohttp warns about long bytes."""
    payload = Json("/v1/x", b"x" * size)
    for _ in range(2):
        with ExitStack() as held:
            body = await payload.open(held)
            written = Written()
            if isinstance(body.data, bytes):
                await written.write(body.data)
            else:
                await body.data.write(written)
            assert b"".join(written.pieces) == b"x" * size
            assert body.headers == {"Content-Type": "application/json"}


async def test_form_is_opened_any_number_of_times_and_closes_its_files():
    opened = []

    def open_file():
        opened.append(io.BytesIO(b"content"))
        return opened[-1]

    upload = Upload(size_bytes=7, open=open_file)
    form = Form("/v1/x", "fingerprint", {"prompt": "a hat"}, (File("image", "image[0]", "a.png", upload),))
    for _ in range(2):
        with ExitStack() as held:
            body = await form.open(held)
            assert isinstance(body.data, aiohttp.FormData)
            assert not opened[-1].closed
    assert [file.closed for file in opened] == [True, True]


async def test_form_whose_second_file_is_gone_closes_the_first():
    first = io.BytesIO()

    def gone():
        raise FileNotFoundError(2, "No such file or directory")

    uploads = [Upload(size_bytes=0, open=make) for make in (lambda: first, gone)]
    files = tuple(File("image", f"image[{at}]", "a.png", upload) for at, upload in enumerate(uploads))
    reason = r"image\[1\]: cannot be opened again: No such file or directory"
    with pytest.raises(ContractError, match=reason), ExitStack() as held:
        await Form("/v1/x", "", {}, files).open(held)
    assert first.closed


async def test_file_that_is_opened_too_late_is_closed(monkeypatch):
    monkeypatch.setattr("lemon_async._images.threads._MAX_WAIT_S", 0.01)
    begun, go_on, file = threading.Event(), threading.Event(), io.BytesIO()

    def open_late():
        begun.set()
        go_on.wait(60)
        return file

    upload = Upload(size_bytes=0, open=open_late)
    form = Form("/v1/x", "", {}, (File("image", "image[0]", "a.png", upload),))
    held = ExitStack()
    opening = asyncio.create_task(form.open(held))
    await asyncio.to_thread(begun.wait, 60)
    opening.cancel()
    await asyncio.wait([opening], timeout=30)
    assert opening.cancelled()
    held.close()
    go_on.set()
    async with asyncio.timeout(60):
        while not file.closed:
            await asyncio.sleep(0)


def short_of_files(times):
    """Return a function that fails for lack of file descriptors a number of times."""
    left = iter(range(times))

    def opener(path):
        if next(left, None) is not None:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return path.open("rb")

    return opener


async def test_form_is_sent_when_there_is_room_for_its_files_again(connect, emulator, arrived, photo, monkeypatch):
    """Running out of file descriptors does not make the request invalid."""
    request = EditRequest("a hat", image=[photo] * 2, model=MODEL)
    async with connect(retry=PATIENT) as session:
        with ExitStack() as held:
            payload = await prepare(request, held, is_checked=True)
        monkeypatch.setattr("lemon_async._uploads.upload._open_regular", short_of_files(2))
        await session._engine.submissions.submit(PreparedRequest(request, payload))
    assert arrived() == [[sha256(photo.read_bytes())] * 2]
    assert edits(emulator) == 1
    assert emulator.ledger.sold == {"a hat": 1}


@pytest.mark.parametrize("kind", ["path", "big spool"])
async def test_shortage_that_lasts_is_a_request_that_was_not_sent(connect, emulator, photo, monkeypatch, kind):
    """Also while a source is examined or copied."""

    def full(*_args, **_options):
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    place = "lemon_async._uploads.upload._open_regular" if kind == "path" else "tempfile.TemporaryFile"
    monkeypatch.setattr(place, full)
    source = photo if kind == "path" else in_pieces(bytes(BIG_BYTES))
    async with connect(retry=RetryPolicy(max_elapsed_s=0)) as session:
        with pytest.raises(TransportError, match=r"^not sent: image\[0\]: .*Too many open files") as caught:
            await session.edit("a hat", image=source, model=MODEL)
        with pytest.raises(TransportError, match="not sent: file: "):
            await session.files.upload(photo if kind == "path" else in_pieces(bytes(BIG_BYTES)))
    assert not caught.value.was_sent
    assert emulator.requests == []


async def test_paid_form_has_the_time_of_a_paid_request(connect, emulator, photo):
    """Uploads take long: the timeout of polls does not apply."""
    async with connect(timeouts=Timeouts(request_s=1e-4, submit_s=60)) as session:
        stored = await session.files.upload(photo)
    assert stored.size_bytes == photo.stat().st_size
