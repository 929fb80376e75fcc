"""Law 5. Every wait has a deadline; a drip of bytes cannot stretch it."""

import asyncio
import errno
import os
import re
import threading
from contextlib import asynccontextmanager, suppress

import pytest

from lemon_async import (
    DownloadError,
    EditRequest,
    PollPolicy,
    RetryPolicy,
    SaveError,
    SubmissionUnknown,
    TaskTimeout,
    Timeouts,
    TransportError,
)
from lemon_async.emulator import Blackhole, Drip, Status, Stuck
from lemon_async.errors import RateLimited, SessionError
from lemon_async.sheet import contact_sheet

SOON_S = 15.0  # also on a busy machine; without the deadline of the test, each of these takes longer
CLOCK_S = 0.002  # uvloop counts whole milliseconds

SHORT = PollPolicy(min_gap_s=0.005, max_gap_s=0.01, deadline_s=0.06)


async def elapsed_s(awaitable):
    """Return the duration and the outcome; a call that does not end fails the test."""
    loop = asyncio.get_running_loop()
    started = loop.time()
    async with asyncio.timeout(60):
        (outcome,) = await asyncio.gather(awaitable, return_exceptions=True)
    return loop.time() - started, outcome


async def test_wait_for_a_stuck_task_ends_at_the_deadline(connect, emulator):
    """A task that never ends is awaited for as long as the policy allows."""
    emulator.fault("submit", Stuck())
    async with connect(polling=SHORT) as session:
        seconds, outcome = await elapsed_s(session.generate("stuck", model="flux-pro"))
    assert isinstance(outcome, TaskTimeout)
    assert 0.06 - CLOCK_S <= seconds < SOON_S


@pytest.mark.parametrize("action", [Drip(bytes_per_s=100), Blackhole()], ids=str)
async def test_poll_that_never_ends_does_not_outlast_the_deadline(connect, emulator, action):
    """A response that drips does not extend the wait, even if one poll may take longer than the job."""
    emulator.fault("poll", action)
    async with connect(polling=SHORT, timeouts=Timeouts(request_s=60)) as session:
        seconds, outcome = await elapsed_s(session.generate("drip", model="flux-pro"))
    assert isinstance(outcome, TaskTimeout)
    assert seconds < SOON_S


async def test_poll_that_drips_delays_no_other_task(connect, emulator):
    """One slow response does not delay the polls of other tasks."""
    emulator.fault("poll", Drip(bytes_per_s=100), times=1)
    async with connect(timeouts=Timeouts(request_s=60)) as session:
        slow = await session.submit("slow", model="flux-pro")
        while not any(request.route == "poll" for request in emulator.requests):
            await asyncio.sleep(0)
        seconds, outcome = await elapsed_s(session.generate("quick", model="flux-pro"))
        assert not slow.done()
    assert len(outcome) == 1
    assert seconds < SOON_S


@pytest.mark.parametrize("action", [Drip(bytes_per_s=100), Blackhole()], ids=str)
async def test_submit_that_never_ends_is_bounded(connect, emulator, paid, action):
    """A paid request has a total deadline, which neither dripping bytes nor the events of a stream extend."""
    emulator.fault(paid.route, action)
    async with connect(timeouts=Timeouts(submit_s=0.4)) as session:
        seconds, outcome = await elapsed_s(paid.send(session, paid.request("drip")))
    # A busy machine may not send it in time; what was sold is never an error of the connection.
    assert isinstance(outcome, SubmissionUnknown if emulator.ledger.sold else SubmissionUnknown | TransportError)
    assert seconds < SOON_S


@pytest.mark.parametrize("action", [Drip(bytes_per_s=100), Blackhole()], ids=str)
async def test_download_that_never_ends_is_bounded(connect, emulator, action):
    """A download has a total deadline, retries included."""
    emulator.fault("cdn", action)
    async with connect(timeouts=Timeouts(download_s=0.05)) as session:
        images = await session.generate("drip", model="flux-pro")
        seconds, outcome = await elapsed_s(images[0].read())
    assert isinstance(outcome, DownloadError)
    assert seconds < SOON_S


class HungDisk:
    """Makes system calls hang in their thread until the disk is back, and fail in the thread of the event loop.

    Finalizers of earlier emulators delete files there, whenever garbage is collected, and ignore errors.
    """

    def __init__(self, pipe):
        os.mkfifo(pipe)
        self.pipe = pipe
        self.hanging = 0

    def hang(self, call):
        """Return a call that hangs first."""

        def hanging(*args, **options):
            if threading.current_thread() is threading.main_thread():
                raise OSError(errno.EDEADLK, "would stop the event loop")
            self.hanging += 1
            with self.pipe.open("rb"):
                self.hanging -= 1
            return call(*args, **options)

        return hanging

    @asynccontextmanager
    async def until_left(self):
        """End the hang when the block ends, and wait for every call that hung."""
        try:
            yield
        finally:
            async with asyncio.timeout(60):
                while self.hanging:
                    with suppress(OSError):  # there is no reader at this moment
                        os.close(os.open(self.pipe, os.O_WRONLY | os.O_NONBLOCK))
                    await asyncio.sleep(0.001)


async def until_no_part_is_left(folder):
    """Wait for the threads that come back from the disk."""
    async with asyncio.timeout(60):
        while any(path.name.startswith(".") for path in folder.rglob("*")):
            await asyncio.sleep(0.001)


@pytest.mark.parametrize(
    ("model", "call"),
    [("dall-e-3", call) for call in ("mkdir", "open", "fsync", "link")]
    + [("flux-pro", "write"), ("flux-pro", "fsync")],
)
async def test_save_on_a_disk_that_hangs_is_bounded(connect, emulator, tmp_path, monkeypatch, model, call):
    """The error says that the picture can still be read; no partial file appears once the disk is back."""
    disk = HungDisk(tmp_path / "pipe")
    options = {"response_format": "b64_json"} if model == "dall-e-3" else {}
    async with connect(timeouts=Timeouts(download_s=0.4)) as session, disk.until_left():
        images = await session.generate("a cat", model=model, **options)
        outcome = None
        with monkeypatch.context() as patch:
            patch.setattr(os, call, disk.hang(getattr(os, call)))
            async with asyncio.timeout(120):
                while outcome is None or isinstance(outcome, DownloadError):
                    seconds, outcome = await elapsed_s(images[0].save(tmp_path / "new" / "cat.png", replace=False))
                    session._engine.downloads.total_s *= 2  # on a busy machine, the download may take all the time
        session._engine.downloads.total_s = 60
        assert isinstance(outcome, SaveError)
        assert outcome.errno == errno.ETIMEDOUT
        assert re.search(
            r"the disk has not responded within [\d.]+ s: `read\(\)` still returns the picture", str(outcome)
        )
        assert 0.2 < seconds < SOON_S
        assert (await images[0].read())[:4] == b"\x89PNG"
    await until_no_part_is_left(tmp_path)


@pytest.mark.parametrize("model", ["dall-e-3", "flux-pro"], ids=["bytes", "link"])
async def test_cancelled_save_on_a_disk_that_hangs_is_bounded(connect, emulator, tmp_path, monkeypatch, model):
    """It waits for a while, in case the disk is only slow."""
    monkeypatch.setattr("lemon_async._images.threads._MAX_WAIT_S", 0.1)
    disk = HungDisk(tmp_path / "pipe")
    async with connect() as session, disk.until_left():
        images = await session.generate("a cat", model=model)
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", disk.hang(os.fsync))
            patch.setattr(os, "unlink", disk.hang(os.unlink))
            saving = asyncio.create_task(images[0].save(tmp_path / "cat.png"))
            async with asyncio.timeout(60):
                while not disk.hanging:
                    await asyncio.sleep(0.001)
            saving.cancel()
            seconds, _ = await elapsed_s(saving)
        assert saving.cancelled()
        assert seconds < SOON_S
    await until_no_part_is_left(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]


async def test_reading_a_saved_picture_from_a_disk_that_hangs_is_bounded(connect, emulator, tmp_path, monkeypatch):
    """It is downloaded again if it came as a link."""
    disk = HungDisk(tmp_path / "pipe")
    async with connect() as session, disk.until_left():
        linked = await session.generate("a cat", model="flux-pro")
        inline = await session.generate("a cat", model="dall-e-3", response_format="b64_json")
        await linked.save(tmp_path)
        await inline.save(tmp_path)
        downloads, content = session._engine.downloads, None
        downloads.total_s = 0.2
        with monkeypatch.context() as patch:
            patch.setattr(os, "open", disk.hang(os.open))
            seconds, outcome = await elapsed_s(inline[0].read())
            async with asyncio.timeout(120):
                while content is None:
                    with suppress(DownloadError):  # a busy machine may take longer
                        content = await linked[0].read()
                    downloads.total_s *= 2
        downloads.total_s = 60
        assert content[:4] == b"\x89PNG"
        assert isinstance(outcome, DownloadError)
        assert "the disk has not responded within 0.2 s" in str(outcome)
        assert seconds < SOON_S
        assert (await inline[0].read())[:4] == b"\x89PNG"


async def test_sheet_on_a_disk_that_hangs_is_bounded(connect, emulator, tmp_path, monkeypatch):
    """The page is left unwritten, as when the disk is full."""
    monkeypatch.setattr("lemon_async.sheet._MAX_WORK_S", 0.2)
    disk = HungDisk(tmp_path / "pipe")
    async with connect() as session, disk.until_left():
        images = await session.generate("a cat", model="dall-e-3")
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", disk.hang(os.fsync))
            seconds, outcome = await elapsed_s(contact_sheet(images, tmp_path / "sheet.html"))
        assert isinstance(outcome, SaveError)
        assert outcome.errno == errno.ETIMEDOUT
        assert seconds < SOON_S


async def test_stream_whose_events_drip_is_bounded(connect, emulator, picture):
    """Frequent events do not extend the deadline of the whole stream."""
    emulator.fault("edit", Drip(bytes_per_s=5000))
    wish = EditRequest("drip", image=picture(), model="gpt-image-2", partial_images=3, n=10)

    async def read(session):
        async with session.stream(wish) as stream:
            return [picture async for picture in stream]

    for submit_s in (1.5, 3.0, 6.0, 12.0):
        async with connect(timeouts=Timeouts(submit_s=submit_s)) as session:
            seconds, outcome = await elapsed_s(read(session))
        assert isinstance(outcome, SubmissionUnknown | TransportError)
        assert submit_s - CLOCK_S <= seconds < submit_s + SOON_S
        if isinstance(outcome, SubmissionUnknown) and outcome.partial_images:
            return
    pytest.fail("not even a busy machine takes so long for the first event")


@pytest.mark.parametrize("action", [Drip(bytes_per_s=20), Blackhole()], ids=str)
async def test_upload_that_never_ends_is_bounded(connect, emulator, picture, action):
    """A free request with a body has the time of a paid one."""
    emulator.fault("files", action)
    async with connect(timeouts=Timeouts(submit_s=0.4, request_s=60)) as session:
        seconds, outcome = await elapsed_s(session.files.upload(picture()))
    assert isinstance(outcome, TransportError)
    assert seconds < SOON_S


@pytest.mark.parametrize("action", [Drip(bytes_per_s=20), Blackhole()], ids=str)
async def test_free_request_that_never_ends_is_bounded(connect, emulator, action):
    """Listing models is bounded, too."""
    emulator.fault("models", action)
    async with connect(timeouts=Timeouts(request_s=0.05)) as session:
        seconds, outcome = await elapsed_s(session.models())
    assert isinstance(outcome, TransportError)
    assert seconds < SOON_S


async def test_closing_ends_responses_that_drip(connect, emulator, paid):
    """Their heads have arrived; reading raises immediately, not at the deadline of the request."""
    emulator.fault(paid.route, Drip(bytes_per_s=20))
    async with connect() as session:
        waiting = asyncio.create_task(paid.send(session, paid.request("drip")))
        while not any(attempt.response for attempt in session._engine.transport._attempts):
            await asyncio.sleep(0.001)
        await session.aclose()
        seconds, outcome = await elapsed_s(waiting)
    assert isinstance(outcome, SubmissionUnknown)
    assert seconds < SOON_S


async def test_retries_of_a_submit_end(connect, emulator):
    """An endless series of refusals ends with the policy's time."""
    emulator.fault("submit", Status(503, error={"retryable": True}))
    retry = RetryPolicy(max_elapsed_s=0.05, first_backoff_s=0.002, max_backoff_s=0.01)
    async with connect(retry=retry) as session:
        seconds, outcome = await elapsed_s(session.submit("busy", model="flux-pro"))
    assert outcome.status == 503
    assert seconds < SOON_S


async def test_closing_wakes_submits_that_wait_for_their_next_attempt(connect, emulator, caplog):
    """A long `Retry-After` does not outlive the session."""
    caplog.set_level("INFO", logger="lemon_async")
    emulator.fault("submit", Status(429, headers={"Retry-After": "30"}))
    async with connect(retry=RetryPolicy(max_elapsed_s=60)) as session:
        submitting = asyncio.create_task(session.submit("patient", model="flux-pro"))
        while "trying a paid request again" not in caplog.text:
            await asyncio.sleep(0)
        await session.aclose()
        seconds, outcome = await elapsed_s(submitting)
    assert isinstance(outcome, RateLimited | TransportError)
    assert seconds < SOON_S


async def test_closing_is_bounded_while_everything_hangs(connect, emulator):
    """`aclose` does not wait for responses that never come, and every waiter is woken with an error."""
    emulator.fault("submit", Blackhole(), prompt="held")
    emulator.fault("poll", Blackhole())
    emulator.fault("cdn", Blackhole())
    async with connect() as session:
        done = await session.generate("inline", model="dall-e-3")
        waits = [
            asyncio.create_task(session.submit("held", model="flux-pro")),
            asyncio.create_task(session.generate("polled", model="flux-pro")),
            asyncio.create_task(done[0].read()),
        ]
        while {request.route for request in emulator.requests} != {"submit", "poll", "cdn"}:
            await asyncio.sleep(0)
        while emulator.ledger.sold["held"] == 0:
            await asyncio.sleep(0)
        seconds, _ = await elapsed_s(session.aclose())
        assert seconds < SOON_S
        outcomes = await asyncio.wait_for(asyncio.gather(*waits, return_exceptions=True), 60)
    assert [type(outcome).__name__ for outcome in outcomes] == ["SubmissionUnknown", "SessionError", "DownloadError"]


MAPS_THAT_HANG = {
    "submits without an answer": ("submit", Blackhole()),
    "submits that drip": ("submit", Drip(bytes_per_s=20)),
    "jobs that never end": ("submit", Stuck()),
    "polls without an answer": ("poll", Blackhole()),
}


async def read_all(session, in_flight):
    async with session.map(map(str, range(10)), model="flux-pro", in_flight=in_flight) as outcomes:
        return [outcome.error async for outcome in outcomes]


@pytest.mark.parametrize("case", MAPS_THAT_HANG)
async def test_map_of_jobs_that_hang_ends(connect, emulator, case):
    """Every job has its own deadline; the map has none. A busy machine may not even send a request in time."""
    emulator.fault(*MAPS_THAT_HANG[case])
    async with connect(polling=SHORT, timeouts=Timeouts(submit_s=0.4)) as session:
        seconds, errors = await elapsed_s(read_all(session, 5))
    assert {type(error) for error in errors} <= {SubmissionUnknown, TaskTimeout, TransportError}
    assert len(errors) == 10
    assert sum(not isinstance(error, TransportError) for error in errors) >= emulator.ledger.sold.total()
    assert seconds < SOON_S


@pytest.mark.parametrize("case", MAPS_THAT_HANG)
async def test_leaving_a_map_of_jobs_that_hang_is_bounded(connect, emulator, case):
    """It takes no longer than a session may take to close."""
    emulator.fault(*MAPS_THAT_HANG[case])

    async def enter_and_leave(session):
        sold = emulator.ledger.sold.total()
        async with session.map(map(str, range(10)), model="flux-pro"):
            while emulator.ledger.sold.total() < sold + 10:
                await asyncio.sleep(0.001)

    for _ in range(10):  # a busy machine may take longer once
        async with connect(timeouts=Timeouts(close_s=0.05)) as session:
            seconds, outcome = await elapsed_s(enter_and_leave(session))
        assert outcome is None
        assert seconds < SOON_S
        if seconds < Timeouts().close_s:
            return
    pytest.fail("it takes as long as if nothing was set")


async def test_closing_ends_maps_of_jobs_that_hang(connect, emulator):
    """Readers get the error immediately."""
    emulator.fault("submit", Blackhole(), prompt="[0-4]")
    emulator.fault("submit", Stuck())
    async with connect() as session:
        reading = asyncio.create_task(read_all(session, 10))
        while emulator.ledger.sold.total() < 10:
            await asyncio.sleep(0.001)
        await session.aclose()
        seconds, outcome = await elapsed_s(reading)
    assert isinstance(outcome, SessionError)
    assert seconds < SOON_S
