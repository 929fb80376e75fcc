"""A session belongs to one event loop of one process, and closes within bounds."""

import asyncio
import base64
import os
import subprocess
import sys
import textwrap

import anyio
import pytest

from lemon_async import (
    LemonSession,
    PollPolicy,
    RetryPolicy,
    SubmissionUnknown,
    Timeouts,
    TransportError,
)
from lemon_async._http.key import KEY_VARIABLE
from lemon_async._tasks.engine import Lifetime
from lemon_async._tasks.settings import BASE_URL_VARIABLE
from lemon_async.emulator import Blackhole, Result, Status
from lemon_async.errors import SessionError

SLOW = PollPolicy(min_gap_s=1_200_000, max_gap_s=1_200_000)  # 200 s at the speed of the emulator


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch):
    """No key and no address come from the machine that runs the tests."""
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    monkeypatch.delenv(BASE_URL_VARIABLE, raising=False)


def routes(emulator):
    return [request.route for request in emulator.requests]


async def seen(emulator, route, times=1):
    """Wait until the emulator has seen so many requests."""
    async with asyncio.timeout(60):
        while routes(emulator).count(route) < times:
            await asyncio.sleep(0)


def test_session_of_another_loop_or_none_can_be_made_anywhere():
    """It is bound to an event loop when it is first used, not when it is created."""
    session = LemonSession("sk-x", base_url="http://127.0.0.1:1")
    assert repr(session) == "<LemonSession http://127.0.0.1:1 [open | 0 submits | 0 tasks pending, 0 polls]>"


async def test_closed_session_refuses_every_use(connect, emulator):
    async with connect() as session:
        pass
    uses = [
        session.generate("a cat"),
        session.submit("a cat"),
        session.__aenter__(),
    ]
    for use in uses:
        with pytest.raises(SessionError, match="the session is closed; open a new one"):
            await use
    for use in (lambda: session.task("ldtask_1"), lambda: session.as_completed([])):
        with pytest.raises(SessionError, match="the session is closed"):
            use()
    assert emulator.requests == []


async def test_inline_pictures_of_a_closed_session_can_be_read(connect, emulator, png):
    """Links would need connections, which nothing would close."""
    emulator.fault("submit", Result([{"b64_json": base64.b64encode(png).decode()}]), prompt="inline")
    async with connect() as session:
        inline = await session.generate("inline", model="flux-pro")
        linked = await session.generate("linked", model="flux-pro")
    assert await inline[0].read() == png
    with pytest.raises(SessionError, match="the session is closed"):
        await linked[0].read()
    while emulator.connections:
        await asyncio.sleep(0)


async def test_exception_in_the_block_closes_the_session_and_goes_on(connect, emulator):
    with pytest.raises(ZeroDivisionError):  # noqa: PT012 - the block is what is left
        async with connect(polling=SLOW) as session:
            task = await session.submit("a cat", model="flux-pro")
            raise ZeroDivisionError
    with pytest.raises(SessionError, match=r"can be resumed by its resume_token\(\)") as caught:
        await task
    assert caught.value.resume_token == task.resume_token()
    while emulator.connections:
        await asyncio.sleep(0)


async def test_session_that_was_never_used_is_closed_without_a_trace(emulator):
    session = LemonSession(emulator.api_key, base_url=emulator.base_url)
    await session.aclose()
    await session.aclose()
    assert "closed" in repr(session)
    assert asyncio.all_tasks() == {asyncio.current_task()} | {
        task for task in asyncio.all_tasks() if not task.get_name().startswith("lemon_async")
    }


async def test_session_is_closed_once_by_whoever_asks(connect, emulator):
    """From several asyncio tasks, and again afterwards."""
    emulator.fault("poll", Blackhole())
    async with connect() as session:
        task = await session.submit("a cat", model="flux-pro")
        await seen(emulator, "poll")
        await asyncio.gather(*(asyncio.create_task(session.aclose()) for _ in range(3)))
        assert task.done()
        await session.aclose()


async def test_cancelled_close_continues(connect, emulator):
    """The waiting ends; the closing is completed."""
    emulator.fault("poll", Blackhole())
    async with connect() as session:
        task = await session.submit("a cat", model="flux-pro")
        await seen(emulator, "poll")
        closing = asyncio.create_task(session.aclose())
        await asyncio.sleep(0)
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        with pytest.raises(SessionError):
            await task
        while emulator.connections:
            await asyncio.sleep(0)


async def test_paid_request_under_way_when_the_session_closes_is_in_doubt(connect, emulator):
    emulator.fault("submit", Blackhole())
    async with connect() as session:
        submitting = asyncio.create_task(session.submit("a cat", model="flux-pro"))
        await seen(emulator, "submit")
        await session.aclose()
        with pytest.raises(SubmissionUnknown):
            await submitting
        assert len(session.unknown_submissions) == 1


async def test_queued_paid_request_is_not_sent_when_the_session_closes(connect, emulator):
    """A closed session spends nothing."""
    emulator.fault("submit", Blackhole())
    async with connect(max_submits=1) as session:
        submitting = [asyncio.create_task(session.submit(prompt, model="flux-pro")) for prompt in ("first", "second")]
        await seen(emulator, "submit")
        await session.aclose()
        outcomes = await asyncio.gather(*submitting, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [SubmissionUnknown, TransportError]
    assert emulator.ledger.sold == {"first": 1}


@pytest.mark.parametrize("turns", range(12))
async def test_session_closed_at_any_moment_of_a_submit_loses_no_job(connect, emulator, turns):
    """The outcome is a resumable task or unknown, never an error that claims that nothing was sent."""
    async with connect(polling=SLOW) as session:
        session.task("ldtask_other")  # keeps the poller busy, so that closing takes a few turns of the loop
        submitting = asyncio.create_task(session.submit("a cat", model="flux-pro"))
        while not emulator.ledger.sold:
            await asyncio.sleep(0)
        for _ in range(turns):
            await asyncio.sleep(0)
        await session.aclose()
        (outcome,) = await asyncio.gather(submitting, return_exceptions=True)
    if isinstance(outcome, SubmissionUnknown):
        return
    with pytest.raises(SessionError, match="the session was closed while the task was") as caught:
        await outcome
    assert caught.value.resume_token == outcome.resume_token()


async def test_close_in_a_cancelled_scope_is_completed(connect, emulator):
    """The block ends when everything is closed, also where every other `await` would be cancelled."""
    emulator.fault("poll", Blackhole())
    async with connect() as session:
        await session.submit("a cat", model="flux-pro")
        await seen(emulator, "poll")
        with anyio.CancelScope() as scope:
            scope.cancel()
            await session.aclose()
        assert session._engine.transport._keep_alive.closed
        assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("lemon_async")]


async def test_closing_ends_the_wait_before_a_retry(connect, emulator, caplog):
    """It raises immediately, not when its wait is over."""
    caplog.set_level("INFO", logger="lemon_async")
    emulator.fault("submit", Status(503, error={"retryable": True}))
    retry = RetryPolicy(max_elapsed_s=500, first_backoff_s=100, max_backoff_s=100)
    async with asyncio.timeout(60), connect(retry=retry) as session:
        submitting = asyncio.create_task(session.submit("a cat", model="flux-pro"))
        while "trying a paid request again" not in caplog.text:
            await asyncio.sleep(0)
        await session.aclose()
        with pytest.raises(TransportError, match="nothing was sold: the session is closed"):
            await submitting


async def test_close_that_has_no_time_to_wait_still_closes_everything(connect, emulator):
    """All connections are closed: paid requests, others and downloads."""
    emulator.fault("poll", Blackhole())
    async with connect(timeouts=Timeouts(close_s=1e-6)) as session:
        images = await session.generate("a cat", model="dall-e-3")
        await images[0].read()
        await session.submit("a dog", model="flux-pro")
        await seen(emulator, "poll")
        assert emulator.connections == 2
        await session.aclose()
    async with asyncio.timeout(60):
        while emulator.connections:
            await asyncio.sleep(0)


async def test_close_is_bounded_by_its_timeout(connect, emulator):
    emulator.fault("poll", Blackhole())
    async with connect(timeouts=Timeouts(close_s=0.01)) as session:
        await session.submit("a cat", model="flux-pro")
        await seen(emulator, "poll")
        async with asyncio.timeout(20):
            await session.aclose()


def test_session_outside_a_coroutine_is_told_what_to_do():
    with pytest.raises(SessionError, match="use the session inside a coroutine: it needs a running event loop"):
        LemonSession("sk-x").task("ldtask_1")


def test_session_of_another_loop_is_told_what_to_do():
    session = LemonSession("sk-x", base_url="http://127.0.0.1:1")

    async def bind():
        session.as_completed([])

    async def use():
        await session.submit("a cat")

    asyncio.run(bind())
    with pytest.raises(SessionError, match="belongs to another event loop; make one in each loop"):
        asyncio.run(use())
    with pytest.raises(SessionError, match="belongs to another event loop"):
        asyncio.run(session.aclose())


async def test_pictures_are_read_in_the_loop_of_their_session(connect):
    """Their connections belong to it."""

    async def read(image):
        return await image.read()

    async with connect() as session:
        images = await session.generate("a cat", model="dall-e-3")
        with pytest.raises(SessionError, match="belongs to another event loop"):
            await asyncio.to_thread(asyncio.run, read(images[0]))
        assert (await images[0].read()).startswith(b"\x89PNG")


def test_session_closed_in_its_loop_stays_closed_in_another():
    """Closing again, in any loop, is not an error."""
    session = LemonSession("sk-x", base_url="http://127.0.0.1:1")

    async def use():
        async with session:
            pass

    asyncio.run(use())
    asyncio.run(session.aclose())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_session_created_before_a_fork_raises_with_advice():
    """Two processes on the same connections would read each other's responses."""
    script = """
        import asyncio, os
        from lemon_async import LemonSession
        from lemon_async.errors import SessionError

        session = LemonSession("sk-x", base_url="http://127.0.0.1:1")

        async def use():
            try:
                await session.submit("a cat")
            except SessionError as misuse:
                print(misuse, flush=True)

        child = os.fork()
        if child == 0:
            asyncio.run(use())
            os._exit(0)
        os.waitpid(child, 0)
    """
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(script)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout == "the session was made before a fork; make one in each process\n"
    assert done.stderr == ""


class SlowPart:
    """A part of a session that is closed when the test says so."""

    def __init__(self):
        self.gate = asyncio.Event()
        self.is_closed = False

    def close(self):
        pass

    async def aclose(self):
        await self.gate.wait()
        self.is_closed = True


@pytest.mark.parametrize("is_cancelled", [False, True])
async def test_report_follows_the_closing_of_all_parts(is_cancelled):
    """Meanwhile readers still read what has ended. A loop that ends first, and cancels the closing, hides nothing."""
    part, reports = SlowPart(), []
    lifetime = Lifetime([part], close_s=60, report=lambda: reports.append(part.is_closed))
    lifetime.check()  # a session that was never used has nothing to close
    closing = asyncio.create_task(lifetime.close())
    for _ in range(5):
        await asyncio.sleep(0)
    assert reports == []
    if is_cancelled:
        lifetime._closing.cancel()
    else:
        part.gate.set()
    await asyncio.wait([closing])
    assert reports == [not is_cancelled]
    part.gate.set()
