"""`LemonSession.map`: every request is accepted at most once, and ends in one outcome."""

import asyncio

import pytest

from lemon_async import ApiError, ContractError, EditRequest, GenerateRequest, RetryPolicy, Timeouts
from lemon_async.emulator import Blackhole, Fail, Latency, Reset, Status, Stuck
from lemon_async.errors import SessionError, TaskFailed
from maps import Source, collect, outcomes_of, prompts, submits, until, workers

MODEL = "flux-pro"
INLINE = "dall-e-3"
PATIENT = RetryPolicy(max_elapsed_s=60, first_backoff_s=0.001, max_backoff_s=0.01)


# Every request ends in one outcome


@pytest.mark.parametrize("in_flight", [1, 7, 200])
@pytest.mark.parametrize("is_async", [False, True], ids=["iterable", "async iterable"])
async def test_every_request_is_sold_once_and_ends_in_one_outcome(connect, emulator, in_flight, is_async):
    async with connect() as session:
        outcomes = await outcomes_of(session, Source(30, is_async).items(), in_flight=in_flight)
        assert session.pending == ()
    assert sorted(outcome.index for outcome in outcomes) == list(range(30))
    assert all(outcome.request.prompt == f"p{outcome.index}" for outcome in outcomes)
    assert all(len(outcome.images) == 1 and outcome.error is None for outcome in outcomes)
    assert emulator.ledger.settled == dict.fromkeys(prompts(30), 1)


async def test_outcome_carries_its_task_and_its_images(connect):
    async with connect() as session:
        (outcome,) = await outcomes_of(session, ["a cat"])
        assert outcome.request == GenerateRequest("a cat", model=MODEL)
        assert outcome.task.request == outcome.request
        assert outcome.images is await outcome.task


async def test_each_task_is_reported_as_soon_as_it_is_accepted(connect, emulator):
    """With the place of its request, before its outcome."""
    emulator.fault("submit", Status(402), prompt="^p1$")
    submitted = {}
    async with (
        connect() as session,
        session.map(prompts(3), model=MODEL, on_submitted=submitted.__setitem__) as outcomes,
    ):
        async for outcome in outcomes:
            assert submitted.get(outcome.index) is outcome.task
    assert sorted(submitted) == [0, 2]


async def test_error_in_on_submitted_ends_the_submitting_and_is_raised(connect, emulator):
    """A program that cannot record its tasks must not submit more; accepted ones are in `pending`."""

    def fail(index, task):
        raise OSError("the disk is full")

    async with connect() as session, session.map(prompts(9), in_flight=1, model=MODEL, on_submitted=fail) as outcomes:
        with pytest.raises(OSError, match="the disk is full"):
            await anext(outcomes)
        assert len(outcomes.pending) == 1
    assert submits(emulator) == 1


async def test_stop_async_iteration_in_on_submitted_does_not_look_like_the_end(connect):
    def fail(index, task):
        raise StopAsyncIteration

    async with connect() as session:
        with pytest.raises(RuntimeError, match="on_submitted or a job raised StopAsyncIteration"):
            await outcomes_of(session, prompts(9), in_flight=1, on_submitted=fail)


async def test_ordered_outcomes_come_in_the_order_of_the_input(connect, emulator):
    emulator.fault("submit", Latency(20), prompt="^p[037]$")
    async with connect() as session:
        outcomes = await outcomes_of(session, prompts(12), ordered=True, in_flight=4)
    assert [outcome.index for outcome in outcomes] == list(range(12))


async def test_outcomes_come_as_they_end(connect, emulator):
    emulator.fault("submit", Latency(250), prompt="^p0$")
    async with connect() as session:
        outcomes = await outcomes_of(session, prompts(3), model=INLINE)
    assert outcomes[-1].index == 0


async def test_no_request_is_over_at_once(connect, emulator):
    async with connect() as session:
        assert await outcomes_of(session, []) == []
        assert await outcomes_of(session, Source(0, is_async=True).items(), ordered=True) == []
    assert emulator.requests == []


async def test_fields_hold_for_every_request_and_take_precedence(connect):
    async with connect() as session:
        wishes = ["a", GenerateRequest("b", model="dall-e-2", n=2)]
        outcomes = await outcomes_of(session, wishes, model=MODEL, ordered=True)
    assert [outcome.request for outcome in outcomes] == [
        GenerateRequest("a", model=MODEL),
        GenerateRequest("b", model=MODEL, n=2),
    ]


async def test_edits_are_mapped_like_any_request(connect, emulator, picture):
    small = picture(mode="RGB")
    wishes = [EditRequest(prompt, image=small, model=MODEL) for prompt in prompts(3)]
    async with connect() as session:
        async with session.map(wishes) as outcomes:
            assert [len(outcome.images) async for outcome in outcomes] == [1, 1, 1]
        async with session.map(["hat", "cap"], image=small, model=MODEL) as outcomes:
            assert {type(outcome.request) async for outcome in outcomes} == {EditRequest}
    assert set(emulator.ledger.sold.values()) == {1}
    assert emulator.ledger.sold.total() == 5


# What goes wrong with one is its own affair


async def test_failures_are_in_their_own_outcomes_only(connect, emulator):
    """A violated contract, a refusal, a failed task, an unknown outcome: the others continue."""
    emulator.fault("submit", Status(400), prompt="^p1$")
    emulator.fault("submit", Fail("no luck"), prompt="^p2$")
    emulator.fault("submit", Reset("request_end"), prompt="^p3$")
    wishes = [*prompts(5), GenerateRequest("p5", n=99), "p6"]
    async with connect() as session:
        outcomes = await outcomes_of(session, wishes, ordered=True, in_flight=2)
        (unknown,) = session.unknown_submissions
    errors = [type(outcome.error).__name__ for outcome in outcomes]
    assert errors == [
        "NoneType",
        "BadRequest",
        "TaskFailed",
        "SubmissionUnknown",
        "NoneType",
        "ContractError",
        "NoneType",
    ]
    assert [outcome.request.prompt for outcome in outcomes] == prompts(7)
    assert [outcome.task is not None for outcome in outcomes] == [True, False, True, False, True, False, True]
    assert all((outcome.images is None) == (outcome.error is not None) for outcome in outcomes)
    assert outcomes[2].error.task is outcomes[2].task
    assert unknown.request == outcomes[3].request
    assert set(emulator.ledger.sold.values()) == {1}


async def test_unchecked_requests_are_refused_by_the_service(connect, emulator):
    """`check_contracts=False` holds for a map, too."""
    async with connect() as session:
        (outcome,) = await outcomes_of(session, [GenerateRequest("p", n=99)], check_contracts=False)
    assert isinstance(outcome.error, ApiError)
    assert len(emulator.requests) == 1


async def test_thousands_of_refusals_do_not_hold_the_loop(connect):
    """Other tasks run between them."""
    turns = 0

    async def count_turns():
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async with connect() as session:
        counting = asyncio.create_task(count_turns())
        wishes = (GenerateRequest("p", n=99) for _ in range(3000))
        errors = [type(outcome.error) for outcome in await outcomes_of(session, wishes, in_flight=5000)]
        counting.cancel()
    assert errors == [ContractError] * 3000
    assert turns > 20


# Room


@pytest.mark.parametrize("is_async", [False, True], ids=["iterable", "async iterable"])
async def test_slow_reader_slows_the_submitting(connect, emulator, is_async):
    """At most `in_flight` items are pulled ahead of the reader; iterables may be endless."""
    source = Source(10**9, is_async)
    async with connect() as session, session.map(source.items(), model=INLINE, in_flight=3) as outcomes:
        for taken in range(1, 6):
            await anext(outcomes)
            await asyncio.sleep(0.01)
            assert source.pulled <= taken + 3
            assert emulator.ledger.sold.total() <= taken + 3
        assert source.pulled == 8


async def test_nothing_is_pulled_before_the_block_is_entered(connect, emulator):
    source = Source(3)
    async with connect() as session:
        session.map(source.items(), model=MODEL)
        await asyncio.sleep(0.005)
    assert (source.pulled, emulator.requests) == (0, [])


async def test_waiting_jobs_cost_no_asyncio_task(connect, emulator):
    """There are as many as concurrent paid requests; accepted jobs need none."""
    emulator.fault("submit", Stuck())
    async with connect(max_submits=4) as session, session.map(prompts(60), model=MODEL) as outcomes:
        await until(lambda: len(outcomes.pending) == 60)
        assert len(workers()) <= 4
        assert len([task for task in asyncio.all_tasks() if task.get_name().startswith("lemon_async")]) <= 4 + 1


async def test_no_more_workers_than_there_is_work_for(connect, emulator):
    emulator.fault("submit", Blackhole(), bill=False)
    async with connect(timeouts=Timeouts(close_s=0.01)) as session, session.map(["one"], model=MODEL):
        await until(lambda: submits(emulator) == 1)
        assert len(workers()) <= 2


# Misuse


def iter_of(items):
    yield from items


async def test_map_is_entered_once_and_read_when_entered(connect, emulator):
    async with connect() as session:
        outcomes = session.map(["p"], model=MODEL)
        with pytest.raises(SessionError, match="enter the map first"):
            await anext(outcomes)
        async with outcomes:
            with pytest.raises(SessionError, match="a map runs once"):
                await outcomes.__aenter__()
            assert [outcome.index async for outcome in outcomes] == [0]
        with pytest.raises(SessionError, match="a map runs once"):
            await outcomes.__aenter__()
    assert emulator.ledger.sold == {"p": 1}


async def test_map_of_a_closed_session_is_refused_and_pulls_nothing(connect):
    source = Source(10**9)
    async with connect() as session:
        outcomes = session.map(source.items())
    with pytest.raises(SessionError, match="the session is closed"):
        await outcomes.__aenter__()
    with pytest.raises(SessionError, match="the session is closed"):
        session.map([])
    assert source.pulled == 0


# The first failure ends it, if that is wanted


async def test_fail_fast_raises_the_first_error_and_submits_nothing_more(connect, emulator):
    """Accepted jobs are in `pending`; the failed request is not."""
    emulator.fault("submit", Status(400), prompt="^p3$")
    emulator.fault("submit", Stuck(), prompt="^p(?!3$)")
    source = Source(10**9)
    async with connect() as session:
        async with session.map(source.items(), model=MODEL, in_flight=5, fail_fast=True) as outcomes:
            with pytest.raises(ApiError):
                await anext(outcomes)
            pulled = source.pulled
            await asyncio.sleep(0.02)
            with pytest.raises(ApiError):  # as every other reader hears it
                await anext(outcomes)
        assert source.pulled == pulled
        sold = emulator.ledger.sold
        assert {task.request.prompt for task in outcomes.pending} == set(sold)
        assert set(sold) >= {"p0", "p1", "p2"}


async def test_fail_fast_hands_out_what_ended_before_the_error(connect, emulator):
    emulator.fault("submit", Fail("no luck"), prompt="^p1$")
    async with connect() as session, session.map(prompts(3), model=MODEL, in_flight=1, fail_fast=True) as outcomes:
        assert (await anext(outcomes)).index == 0
        with pytest.raises(TaskFailed, match="no luck"):
            await anext(outcomes)
        assert outcomes.pending == ()
    assert emulator.ledger.sold == {"p0": 1, "p1": 1}


async def test_fail_fast_stops_at_a_contract_that_was_broken(connect, emulator):
    async with connect() as session:
        wishes = [GenerateRequest("p", n=99) for _ in range(100)]
        with pytest.raises(ContractError, match="n: "):
            await outcomes_of(session, wishes, fail_fast=True)
    assert emulator.requests == []


# Many readers


async def read_all(outcomes):
    """Return what came, and how it ended."""
    seen = []
    try:
        await collect(outcomes, seen)
    except SessionError as error:
        return seen, error
    return seen, None


async def test_two_readers_share_the_outcomes_and_both_end(connect):
    async with connect() as session, session.map(prompts(20), model=MODEL, in_flight=5) as outcomes:
        async with asyncio.timeout(60):
            one, two = await asyncio.gather(read_all(outcomes), read_all(outcomes))
    assert sorted(outcome.index for outcome in one[0] + two[0]) == list(range(20))


async def test_cancelled_reader_loses_nothing(connect):
    """Whenever it is cancelled, the outcome goes to the next one."""
    async with connect() as session, session.map(prompts(30), model=MODEL, in_flight=3) as outcomes:
        seen = []
        for steps in range(1000):
            reading = asyncio.create_task(anext(outcomes))
            for _ in range(steps % 40):
                await asyncio.sleep(0)
            reading.cancel()
            (result,) = await asyncio.gather(reading, return_exceptions=True)
            if isinstance(result, StopAsyncIteration):
                break
            if not isinstance(result, asyncio.CancelledError):
                seen.append(result.index)
            if len(seen) == 30:
                break
        seen += [outcome.index async for outcome in outcomes]
    assert sorted(seen) == list(range(30))


async def test_worker_cancelled_by_the_program_does_not_hang_the_reader(connect, emulator):
    """Some programs run `for task in asyncio.all_tasks(): task.cancel()`."""
    emulator.fault("submit", Blackhole())
    async with connect() as session, session.map(prompts(3), model=MODEL) as outcomes:
        await until(lambda: emulator.ledger.sold.total() == 3)
        for worker in workers():
            worker.cancel()
        async with asyncio.timeout(60):
            with pytest.raises(SessionError, match="cancelled"):
                await anext(outcomes)
        await until(lambda: len(session.unknown_submissions) == 3)


async def test_other_requests_wait_for_few_requests_of_a_map(connect, emulator):
    """A web handler shares the session with a batch that would use the whole rate limit for hours."""
    batch = Source(10**9).items()
    async with connect(requests_per_minute=6000) as session, session.map(batch, model=MODEL, in_flight=1000):
        await until(lambda: emulator.ledger.sold.total() >= 60)  # the burst is spent: all wait for their turn
        before = emulator.ledger.sold.total()
        await session.submit("me first", model=MODEL)
        assert list(emulator.ledger.sold).index("me first") - before <= 30  # of 100 that wait, and not all have arrived
