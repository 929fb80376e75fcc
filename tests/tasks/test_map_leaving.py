"""Leaving a map, in any way and at any time, reports what was sold."""

import asyncio
import gc
import weakref

import anyio
import pytest

from lemon_async import LemonSession, RetryPolicy, SubmissionUnknown, Timeouts
from lemon_async.emulator import Blackhole, Latency, Status, Stuck
from lemon_async.errors import RateLimited, SessionError
from maps import Source, collect, prompts, submits, until, workers

MODEL = "flux-pro"
INLINE = "dall-e-3"
PATIENT = RetryPolicy(max_elapsed_s=60, first_backoff_s=0.001, max_backoff_s=0.01)


# Leaving


async def leave_by_break(outcomes):
    async for _ in outcomes:
        break


async def leave_by_error(outcomes):
    async for _ in outcomes:
        raise ZeroDivisionError


async def leave_by_cancelling(outcomes):
    async for _ in outcomes:
        asyncio.current_task().cancel()
        await asyncio.sleep(0)


@pytest.mark.parametrize("leave", [leave_by_break, leave_by_error, leave_by_cancelling])
async def test_leaving_submits_nothing_more_and_lists_what_was_sold(connect, emulator, leave):
    """The session continues to poll accepted tasks, and they can be awaited."""
    emulator.fault("submit", Latency(5))
    left = []

    async def run(session):
        async with session.map(Source(10**9).items(), model=MODEL, in_flight=6) as outcomes:
            left.append(outcomes)
            await leave(outcomes)

    async with connect() as session:
        await asyncio.gather(asyncio.create_task(run(session)), return_exceptions=True)
        seen = submits(emulator)
        (outcomes,) = left
        assert workers() == []
        tasks = outcomes.pending
        assert emulator.ledger.sold.total() == len(tasks) + 1  # the one that was handed out
        assert {task for task in tasks if not task.done()} <= set(session.pending)
        assert all(len(images) == 1 for images in await asyncio.gather(*tasks))
        await asyncio.sleep(0.01)
        assert submits(emulator) == seen
    assert set(emulator.ledger.sold.values()) == {1}


async def test_pending_lists_what_is_done_and_was_not_handed_out(connect):
    async with connect() as session:
        async with session.map(prompts(4), model=INLINE, in_flight=4) as outcomes:
            await until(lambda: len(outcomes.pending) == 4)
        assert [task.request.prompt for task in outcomes.pending] == prompts(4)
        assert all(task.done() for task in outcomes.pending)


async def test_response_in_flight_is_awaited_and_listed(connect, emulator):
    """Leaving cannot revoke a paid request."""
    emulator.fault("submit", Latency(40), Stuck())
    async with connect() as session:
        async with session.map(prompts(3), model=MODEL) as outcomes:
            await until(lambda: submits(emulator) == 3)
        assert {task.request.prompt for task in outcomes.pending} == set(prompts(3))
        assert session.unknown_submissions == ()
        assert workers() == []


async def test_response_in_flight_is_awaited_in_a_cancelled_scope_of_anyio(connect, emulator):
    """Every await in it is cancelled, except those of leaving."""
    emulator.fault("submit", Latency(40), Stuck())
    async with connect() as session:
        with anyio.CancelScope() as scope:
            async with session.map(prompts(3), model=MODEL) as outcomes:
                await until(lambda: submits(emulator) == 3)
                scope.cancel()
                await anext(outcomes)
        assert scope.cancelled_caught
        assert len(outcomes.pending) == 3


async def test_answer_that_does_not_come_in_time_is_in_doubt(connect, emulator):
    emulator.fault("submit", Blackhole())
    loop = asyncio.get_running_loop()
    async with connect(timeouts=Timeouts(close_s=0.03)) as session:
        async with session.map(prompts(3), model=MODEL) as outcomes:
            await until(lambda: emulator.ledger.sold.total() == 3)
            left_at = loop.time()
        assert 0.02 < loop.time() - left_at < 20
        assert outcomes.pending == ()
        assert {error.request.prompt for error in session.unknown_submissions} == set(prompts(3))
        assert all(isinstance(error, SubmissionUnknown) for error in session.unknown_submissions)


async def test_second_cancel_ends_the_wait_and_loses_nothing(connect, emulator):
    """The caller need not wait; the response is processed when it comes."""
    emulator.fault("submit", Latency(40), Stuck())
    left = []

    async def run(session):
        async with session.map(["p"], model=MODEL) as outcomes:
            left.append(outcomes)
            await anext(outcomes)

    async with connect() as session:
        running = asyncio.create_task(run(session))
        await until(lambda: submits(emulator) == 1)
        for _ in range(2):
            running.cancel()
            await asyncio.sleep(0.001)
        assert running.done()
        await until(lambda: left[0].pending)
    assert emulator.ledger.sold == {"p": 1}
    assert workers() == []


async def test_session_closed_after_a_second_cancel_waits_for_the_workers(connect, emulator):
    emulator.fault("submit", Blackhole())

    async def run(session):
        async with session.map(["p"], model=MODEL) as outcomes:
            await anext(outcomes)

    async with connect() as session:
        running = asyncio.create_task(run(session))
        await until(lambda: emulator.ledger.sold.total() == 1)
        for _ in range(2):
            running.cancel()
            await asyncio.sleep(0.001)
    assert workers() == []
    assert len(session.unknown_submissions) == 1


async def test_refusal_that_comes_after_leaving_is_not_tried_again(connect, emulator):
    emulator.fault("submit", Latency(200), Status(429, headers={"Retry-After": "0.01"}))
    async with connect(retry=PATIENT) as session:
        async with session.map(["p"], model=MODEL) as outcomes:
            await until(lambda: submits(emulator) == 1)
        assert isinstance((await anext(outcomes)).error, RateLimited)
        await asyncio.sleep(0.03)
        assert submits(emulator) == 1
        assert outcomes.pending == ()
    assert emulator.ledger.sold == {}


async def test_request_that_waits_for_its_next_attempt_is_given_up_at_once(connect, emulator):
    emulator.fault("submit", Status(429, headers={"Retry-After": "50"}))
    async with connect(retry=PATIENT, timeouts=Timeouts(close_s=600)) as session, asyncio.timeout(40):
        async with session.map(["p"], model=MODEL):
            await until(lambda: emulator.requests and emulator.requests[0].status == 429)
            await asyncio.sleep(0.01)
        assert workers() == []
    assert submits(emulator) == 1


async def test_iterable_that_takes_its_cancelling_lightly_does_not_hold_whoever_leaves(connect):
    done = asyncio.Event()

    async def stubborn():
        while not done.is_set():
            try:
                await done.wait()
            except asyncio.CancelledError:
                continue
        yield "never"

    async with connect(timeouts=Timeouts(close_s=0.02)) as session, asyncio.timeout(60):
        async with session.map(stubborn(), model=MODEL):
            await asyncio.sleep(0.001)
        done.set()
        await until(lambda: not workers())


async def test_iterable_that_the_map_awaits_ends_with_the_map(connect):
    """It is cancelled where it waits, and can clean up."""
    ended = []

    async def slow():
        try:
            yield "p0"
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.append(True)

    async with connect() as session:
        async with session.map(slow(), model=MODEL) as outcomes:
            assert (await anext(outcomes)).index == 0
        assert ended == [True]


async def test_reader_that_is_left_behind_ends_as_if_all_had_been_read(connect):
    """Another coroutine has left the block, which is not an error for the reader."""
    async with connect() as session:
        async with session.map(Source(10**9).items(), model=MODEL, in_flight=3) as outcomes:
            await anext(outcomes)
            reading = asyncio.create_task(read_all(outcomes))
        async with asyncio.timeout(60):
            _, error = await reading
        assert error is None


# The session ends


async def test_session_closed_during_a_map_ends_the_reading(connect, emulator):
    """Nothing hangs: pending jobs are yielded with their error, and then the session's end is raised."""
    emulator.fault("submit", Stuck())
    timeouts = Timeouts(close_s=600)
    async with connect(timeouts=timeouts) as session, session.map(prompts(3), model=MODEL) as outcomes:
        await until(lambda: len(outcomes.pending) == 3)
        reading = asyncio.create_task(read_all(outcomes))
        await asyncio.sleep(0)
        async with asyncio.timeout(60):
            await session.aclose()
            seen, error = await reading
        assert {type(outcome.error) for outcome in seen} == {SessionError}
        assert all(outcome.error.resume_token for outcome in seen)
        assert isinstance(error, SessionError)
        assert "closed while a map was running" in str(error)
    assert workers() == []


async def read_all(outcomes):
    """Return what came, and how it ended."""
    seen = []
    try:
        await collect(outcomes, seen)
    except SessionError as error:
        return seen, error
    return seen, None


async def test_session_closed_while_a_map_is_left_ends_both(connect, emulator):
    """The outcome of requests in flight is then unknown."""
    emulator.fault("submit", Blackhole())
    async with connect(timeouts=Timeouts(close_s=600)) as session:

        async def run():
            async with session.map(prompts(3), model=MODEL):
                await until(lambda: emulator.ledger.sold.total() == 3)

        async with asyncio.timeout(60):
            running = asyncio.create_task(run())
            await until(lambda: emulator.ledger.sold.total() == 3)
            await asyncio.sleep(0.005)
            await session.aclose()
            await running
        assert len(session.unknown_submissions) == 3
    assert workers() == []


async def test_ended_map_is_not_kept(connect):
    """Neither by the session nor by a task."""
    async with connect() as session:
        outcomes = session.map(prompts(3), model=MODEL)
        async with outcomes:
            assert len([outcome async for outcome in outcomes]) == 3
        watcher = weakref.ref(outcomes)
        del outcomes
        await until(lambda: not workers())
        gc.collect()
        assert watcher() is None


# Cancelled at every step


@pytest.mark.parametrize("first", range(0, 150, 50))
async def test_map_cancelled_at_any_step_knows_what_was_sold(connect, emulator, first):
    """Each sold job is yielded, pending or unknown; every third step here, each one in the tests of law 9."""
    for step in range(first, first + 50, 3):
        before = emulator.ledger.sold
        handed, left = [], []

        async def run(session, handed=handed, left=left, step=step):
            wishes = [f"s{step} {number}" for number in range(6)]
            async with session.map(wishes, model=MODEL, in_flight=3) as outcomes:
                left.append(outcomes)
                async for outcome in outcomes:
                    handed.append(outcome.request.prompt)

        async with connect() as session:
            running = asyncio.create_task(run(session))
            for _ in range(step):
                await asyncio.sleep(0)
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            assert workers() == []
            pending = [task.request.prompt for outcomes in left for task in outcomes.pending]
            unknown = [error.request.prompt for error in session.unknown_submissions]
        sold = emulator.ledger.sold - before
        assert set(sold.values()) <= {1}
        assert set(sold) <= {*handed, *pending, *unknown}, step
        assert not set(handed) & set(pending)


async def test_map_that_was_never_entered_leaves_nothing(emulator):
    """It has not begun: dropping it causes no warning."""
    session = LemonSession(emulator.api_key, base_url=emulator.base_url)
    outcomes = session.map(prompts(2), model=INLINE)
    del outcomes
    gc.collect()
    await session.aclose()
    assert workers() == []
