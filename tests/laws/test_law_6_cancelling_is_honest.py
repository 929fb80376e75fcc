"""Law 6. Cancelling a waiter stops waiting, not the job; every public coroutine documents it."""

import asyncio
import gc
import inspect
import random
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import anyio
import pytest

import lemon_async
from lemon_async import EditRequest, Image, Images, ImageTask, LemonSession, Outcomes, PollPolicy, SubmissionUnknown
from lemon_async._tasks.stream import ImageStream
from lemon_async._uploads.stored_files import Files
from lemon_async.batch import Batch, Journal, export, open_journal
from lemon_async.distributed import LemonGenerator, run_batch
from lemon_async.emulator import Blackhole, Emulator, Stuck
from lemon_async.errors import AccessDenied, BadRequest, Conflict, NotFound
from lemon_async.sheet import batch_sheet, contact_sheet


def public_coroutines():
    """Yield every coroutine function, async generator and awaitable that users can call."""
    for cls in (LemonSession, ImageTask, Image, Images, Files, Outcomes, Batch):
        for name, member in inspect.getmembers(cls):
            is_async = inspect.iscoroutinefunction(member) or inspect.isasyncgenfunction(member)
            if is_async and (not name.startswith("_")):
                yield pytest.param(member, id=f"{cls.__name__}.{name}")
    for context in (
        LemonSession.as_completed,
        LemonSession.stream,
        LemonSession.map,
        LemonSession.batch,
        ImageStream.__anext__,
        Outcomes.__anext__,
        Batch.__aenter__,
        Batch.__anext__,
        Journal,  # for all its methods
        open_journal,
        export,
        contact_sheet,
        batch_sheet,
        run_batch,
        LemonGenerator.__call__,
    ):
        yield pytest.param(context, id=context.__qualname__)


@pytest.mark.parametrize("coroutine", list(public_coroutines()))
def test_public_coroutine_documents_what_cancelling_does_and_whether_it_spends(coroutine):
    """The docstring of each answers both questions."""
    words = (coroutine.__doc__ or "").lower()
    assert "cancel" in words
    assert any(word in words for word in ("spend", "costs nothing"))


def test_no_public_async_function_is_overlooked():
    """No name of the root is a coroutine function."""
    assert not [name for name in lemon_async.__all__ if inspect.iscoroutinefunction(getattr(lemon_async, name))]


async def test_cancelled_waiter_leaves_the_job_and_the_other_waiters(connect, emulator):
    """One of two waiters is cancelled; the other gets the images of the same job."""
    async with connect() as session:
        task = await session.submit("shared", model="flux-pro")
        quitter, stayer = (asyncio.create_task(task.wait()) for _ in range(2))
        await asyncio.sleep(0)
        quitter.cancel()
        with pytest.raises(asyncio.CancelledError):
            await quitter
        assert len(await stayer) == 1
        assert await task is await stayer
    assert emulator.ledger.settled == {"shared": 1}


async def test_cancelled_generate_leaves_its_task_in_pending(connect, emulator):
    """After a cancelled `generate`, the job can be found."""
    emulator.fault("submit", Stuck())
    async with connect() as session:
        generating = asyncio.create_task(session.generate("kept", model="flux-pro"))
        while not session.pending:
            await asyncio.sleep(0)
        generating.cancel()
        with pytest.raises(asyncio.CancelledError):
            await generating
        (task,) = session.pending
        assert task.request.prompt == "kept"


async def test_cancelled_edit_leaves_its_task_in_pending(connect, emulator, picture):
    """As with `generate`, the waiting ends and the job continues."""
    emulator.fault("edit", Stuck())
    async with connect() as session:
        editing = asyncio.create_task(session.edit("kept", image=picture(), model="flux-pro"))
        while not session.pending:
            await asyncio.sleep(0)
        editing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await editing
        (task,) = session.pending
        assert task.request == EditRequest("kept", image=picture(), model="flux-pro")


MOMENTS = {
    "reading": lambda emulator, read: bool(read),
    "sent": lambda emulator, read: bool(emulator.requests),
    "sold": lambda emulator, read: emulator.ledger.sold.total() > 0,
}


@pytest.mark.parametrize("moment", MOMENTS)
async def test_edit_cancelled_at_any_moment_reports_what_may_have_been_sent(connect, emulator, picture, moment):
    """Before it is sent nothing is unknown, afterwards the outcome is; no file stays open."""
    emulator.fault("edit", *((Stuck(),) if moment == "sold" else (Blackhole(),)), bill=moment == "sold")
    read, go_on = [], asyncio.Event()

    async def pieces():
        read.append(True)
        if moment != "reading":
            go_on.set()
        await go_on.wait()
        yield picture(pad_to=2_000_000)

    async with connect() as session:
        editing = asyncio.create_task(session.edit("moment", image=pieces(), model="gpt-image-2"))
        async with asyncio.timeout(60):
            while not MOMENTS[moment](emulator, read):
                await asyncio.sleep(0.001)
        editing.cancel()
        with pytest.raises(asyncio.CancelledError) as caught:
            await editing
        is_sent = moment != "reading"
        assert isinstance(caught.value.__cause__, SubmissionUnknown) == is_sent
        assert (session.submission_counts.sold, session.submission_counts.unknown) == (0, is_sent)
    assert emulator.ledger.sold.total() == (moment == "sold")
    gc.collect()  # what was left open would warn, which is an error


async def test_cancel_during_an_early_response_loses_no_accepted_job(picture, listen):
    """A service may respond before it has read the upload; from then on the job is known, or its outcome unknown."""
    content = picture(pad_to=4_000_000)
    answer = b'{"task_id": "ldtask_1", "status": "pending"}'
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(answer)

    async def answer_early(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(head + answer)
        answered.set()
        await reader.read()

    origin = await listen(answer_early)
    for steps in range(25):
        answered = asyncio.Event()
        async with LemonSession("sk-x", base_url=origin) as session:
            submitting = asyncio.create_task(session.submit("early", image=content, model="gpt-image-2"))
            await answered.wait()
            for _ in range(steps):
                await asyncio.sleep(0)
            submitting.cancel()
            await asyncio.gather(submitting, return_exceptions=True)
            assert (session.submission_counts.sold, session.submission_counts.unknown) in {(1, 0), (0, 1)}, steps


async def test_edit_cancelled_while_it_reads_a_source_closes_the_source(connect, emulator):
    """The caller's generator is closed with the edit, and nothing was sent."""
    waits, ended = asyncio.Event(), []

    async def slow():
        try:
            yield b"\x89PNG"
            waits.set()
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    async with connect() as session:
        editing = asyncio.create_task(session.edit("never", image=slow(), model="flux-pro"))
        await waits.wait()
        editing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await editing
        assert session.unknown_submissions == ()
    assert ended == [True]
    assert emulator.requests == []


async def test_cancelled_stream_reports_what_it_interrupted(connect, emulator, picture):
    """The `CancelledError` is raised; its cause is a `SubmissionUnknown` with the previews."""
    emulator.fault("edit", Stuck())
    got = asyncio.Event()

    async def read(session):
        async with session.stream("seen", image=picture(), model="gpt-image-2", partial_images=1) as stream:
            async for _ in stream:
                got.set()

    async with connect() as session:
        reading = asyncio.create_task(read(session))
        await got.wait()
        await asyncio.sleep(0.01)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError) as caught:
            await reading
        assert isinstance(caught.value.__cause__, SubmissionUnknown)
        assert len(caught.value.__cause__.partial_images) == 1
        assert session.submission_counts.unknown == 1
    assert emulator.ledger.sold == {"seen": 1}


@pytest.mark.parametrize("refusal", ["unsupported", "too late", "not ours", "unknown"])
async def test_remote_cancel_that_is_refused_raises_and_the_task_continues(picture, refusal):
    """The error carries the task; awaiting the task still returns its pictures."""
    is_cancellable = refusal != "unsupported"
    async with Emulator(
        cancellable=is_cancellable, speed=6000, durations=0 if refusal == "too late" else 300
    ) as emulator:
        options = {"base_url": emulator.base_url, "polling": PollPolicy(min_gap_s=0.005, max_gap_s=0.02)}
        async with (
            LemonSession(emulator.api_key, **options) as owner,
            LemonSession(emulator.add_key("sk-b"), **options) as other,
        ):
            task = await owner.submit("mine", image=picture(), model="flux-pro")
            asked = {"not ours": lambda: other.task(task.id), "unknown": lambda: owner.task("ldtask_unknown")}
            handle = asked.get(refusal, lambda: task)()
            kind, code = {
                "unsupported": (BadRequest, "unsupported_task_cancel"),
                "too late": (Conflict, "task_not_cancellable"),
                "not ours": (AccessDenied, None),
                "unknown": (NotFound, "async_task_not_found"),
            }[refusal]
            with pytest.raises(kind) as caught:
                await handle.request_cancel()
            assert caught.value.task is handle
            assert caught.value.resume_token == handle.resume_token()
            assert code in (None, caught.value.code)
            assert not task.done()
            assert len(await task) == 1
        assert emulator.ledger.settled == {"mine": 1}


async def test_timeout_of_one_wait_does_not_touch_the_task(connect, emulator):
    """After `wait(timeout)` has run out, the task can be awaited again."""
    async with connect() as session:
        task = await session.submit("again", model="flux-pro")
        with pytest.raises(lemon_async.TaskTimeout):
            await task.wait(timeout=0)
        assert len(await task) == 1


async def test_a_thousand_waiters_cancelled_at_random_leave_nothing_behind(connect, emulator):
    """No asyncio task, no open connection and no warning outlives them."""
    dice = random.Random(7)
    emulator.fault("submit", Stuck(), prompt="stuck")
    before = asyncio.all_tasks()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        async with connect() as session:
            stuck = [await session.submit(f"stuck {number}", model="flux-pro") for number in range(5)]
            quick = [await session.submit(f"quick {number}", model="flux-pro") for number in range(5)]
            waiters = [asyncio.create_task(dice.choice(stuck + quick).wait()) for _ in range(1000)]
            victims = dice.sample(waiters, 900)
            for number, waiter in enumerate(victims):
                waiter.cancel()
                if number % 50 == 0:
                    await asyncio.sleep(0)
            rest = [waiter for waiter in waiters if waiter not in victims]
            for waiter in rest:
                if dice.random() < 0.5:
                    waiter.cancel()
            await asyncio.gather(*quick)
            for waiter in waiters:
                waiter.cancel()
            await asyncio.gather(*waiters, return_exceptions=True)
            assert all(not task._waiters for task in stuck + quick)
        del waiters, victims, rest, waiter
        gc.collect()
        await asyncio.sleep(0)
    assert asyncio.all_tasks() == before
    while emulator.connections:
        await asyncio.sleep(0)
    assert [str(warning.message) for warning in caught] == []


async def test_cancelled_close_continues(connect, emulator):
    """Cancelling `aclose` stops the waiting; the connections are still closed."""
    emulator.fault("poll", Blackhole())
    async with connect() as session:
        await session.submit("open", model="flux-pro")
        closing = asyncio.create_task(session.aclose())
        await asyncio.sleep(0)
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        await session.aclose()
        while emulator.connections:
            await asyncio.sleep(0)


async def test_close_in_a_cancelled_scope_of_anyio_closes_everything(connect, emulator):
    """Every await in it is cancelled; the connections are closed before it is left."""
    emulator.fault("submit", Stuck())
    with anyio.CancelScope() as scope:
        async with connect() as session:
            task = await session.submit("late", model="flux-pro")
            while not any(request.route == "poll" for request in emulator.requests):
                await asyncio.sleep(0)
            scope.cancel()
            await task
    assert "closed" in repr(session)
    assert session._engine.transport._keep_alive.closed


async def test_cancelled_save_whose_writing_has_not_begun_never_writes(connect, tmp_path, monkeypatch):
    """After a save was cancelled, no file appears later."""
    monkeypatch.setattr("lemon_async._images.threads._MAX_WAIT_S", 600)
    go_on = threading.Event()
    async with connect() as session:
        images = await session.generate("slow disk", model="dall-e-3")
        await images[0].read()
        with ThreadPoolExecutor(1) as only_thread:
            asyncio.get_running_loop().set_default_executor(only_thread)
            only_thread.submit(go_on.wait, 60)
            saving = asyncio.create_task(images[0].save(tmp_path / "a.png"))
            await asyncio.sleep(0)
            saving.cancel()
            await asyncio.wait([saving], timeout=30)
            go_on.set()
            assert saving.cancelled()
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor())
    assert list(tmp_path.iterdir()) == []


async def test_user_timeouts_around_our_calls_work(connect, emulator):
    """`asyncio.timeout` of the caller is neither swallowed nor mistaken for ours."""
    emulator.fault("submit", Blackhole())
    async with connect() as session:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await session.submit("late", model="flux-pro")
        task = session.task("ldtask_unknown")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.005):
                await task.wait(timeout=10)
