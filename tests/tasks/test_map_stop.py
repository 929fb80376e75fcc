"""`map(stop_on=...)`: refusals that all further requests would get, too, end the submitting."""

import asyncio

import pytest

from lemon_async import EditRequest, GenerateRequest, LemonSession, RetryPolicy, Timeouts
from lemon_async._pace import stop_rule
from lemon_async._tasks import map as maps_module
from lemon_async.emulator import Blackhole, Fail, Latency, Status
from lemon_async.errors import AuthenticationError, BadRequest, InsufficientBalance, NotFound, TaskFailed
from maps import Source, collect, outcomes_of, prompts, submits, until, workers

MODEL = "flux-pro"
INLINE = "dall-e-3"
PATIENT = RetryPolicy(max_elapsed_s=600, first_backoff_s=300, max_backoff_s=300)


@pytest.fixture
def brief_probe(monkeypatch):
    """Half a second is long for a test."""
    monkeypatch.setattr(maps_module, "PROBE_S", 0.02)


@pytest.fixture
def long_probe(monkeypatch):
    """Nothing passes because the time of the first requests is over."""
    monkeypatch.setattr(maps_module, "PROBE_S", 600)


async def read_to_the_error(outcomes, kind):
    """Return the outcomes, and the error that the loop raises at the end."""
    seen = []
    with pytest.raises(kind) as caught:
        await collect(outcomes, seen)
    return seen, caught.value


async def test_wrong_key_costs_three_requests_and_not_a_thousand(emulator, long_probe):
    """The loop yields them, and then raises the refusal; other prompts are not even read."""
    source = Source(10**9)
    async with LemonSession("sk-wrong-0123456789", base_url=emulator.base_url) as session:
        async with session.map(source.items(), model=MODEL) as outcomes:
            seen, error = await read_to_the_error(outcomes, AuthenticationError)
            with pytest.raises(AuthenticationError):  # as every other reader hears it
                await anext(outcomes)
        assert workers() == []
        assert repr(outcomes) == "<Outcomes left | 0 in flight, 0 ready, 0 pending, 0 tasks>"
    assert [type(outcome.error) for outcome in seen] == [AuthenticationError] * 3
    assert error not in [outcome.error for outcome in seen]
    assert submits(emulator) == 3
    assert source.pulled <= 4
    assert not hasattr(error, "__notes__")  # nobody knows how many there are


async def test_error_says_how_many_requests_were_not_submitted(emulator, long_probe):
    async with (
        LemonSession("sk-wrong-0123456789", base_url=emulator.base_url) as session,
        session.map(prompts(1000), model=MODEL) as outcomes,
    ):
        seen, error = await read_to_the_error(outcomes, AuthenticationError)
    assert error.__notes__ == ["997 of 1,000 requests were not submitted"]
    assert not any(hasattr(outcome.error, "__notes__") for outcome in seen)


async def test_refusal_of_all_there_are_has_no_note(connect, emulator):
    emulator.fault("submit", Status(402))
    async with connect() as session, session.map(prompts(3), model=MODEL) as outcomes:
        seen, error = await read_to_the_error(outcomes, InsufficientBalance)
    assert len(seen) == 3
    assert not hasattr(error, "__notes__")


@pytest.mark.parametrize("ordered", [False, True], ids=["as they end", "ordered"])
async def test_balance_that_ends_under_way_loses_no_job_that_was_accepted(connect, emulator, ordered):
    """Jobs in flight end and are yielded, requests that wait for a slot are dropped unsent."""
    emulator.fault("submit", Status(402), prompt="^p([3-9]|1.)$")
    async with connect(max_submits=2) as session, session.map(prompts(20), model=MODEL, ordered=ordered) as outcomes:
        seen, error = await read_to_the_error(outcomes, InsufficientBalance)
        assert outcomes.pending == ()
    paid = {outcome.request.prompt for outcome in seen if outcome.images}
    assert paid == set(emulator.ledger.settled) == {"p0", "p1", "p2"}
    assert submits(emulator) == len(seen) <= 3 + 3 + 1  # at most one more was in flight
    assert error.__notes__ == [f"{20 - len(seen)} of 20 requests were not submitted"]
    if ordered:
        assert [outcome.index for outcome in seen] == sorted(outcome.index for outcome in seen)


@pytest.mark.parametrize("ordered", [False, True], ids=["as they end", "ordered"])
async def test_request_that_waits_for_another_attempt_is_dropped(connect, emulator, ordered):
    """It was refused, and has no outcome; the order of the others is kept without it."""
    emulator.fault("submit", Status(503, error={"retryable": True}), prompt="^p1$")
    emulator.fault("submit", Status(402), prompt="^p([3-9])$")
    async with connect(retry=PATIENT) as session:
        async with session.map(prompts(9), model=MODEL, ordered=ordered) as outcomes, asyncio.timeout(60):
            seen, _ = await read_to_the_error(outcomes, InsufficientBalance)
        assert workers() == []
    indexes = [outcome.index for outcome in seen]
    assert {0, 2} < set(indexes) <= {0, *range(2, 9)}
    assert not ordered or indexes == sorted(indexes)


async def test_accepted_request_begins_a_new_row(connect, emulator):
    emulator.fault("submit", Status(402), prompt="^p([0134679]|[1-9][0-9])$")
    async with connect() as session, session.map(prompts(99), model=INLINE, in_flight=1) as outcomes:
        seen, _ = await read_to_the_error(outcomes, InsufficientBalance)
    assert [outcome.images is not None for outcome in seen] == [False, False, True] * 3 + [False] * 2 + [False]


async def test_model_that_nobody_knows_stops_a_map_unless_another_was_accepted(connect, emulator, long_probe):
    emulator.fault("submit", Status(404, code="model_not_found"), prompt="^odd")
    odd = [GenerateRequest(f"odd {number}", model="flux-porn") for number in range(20)]
    async with connect() as session, session.map(odd) as outcomes:
        seen, _ = await read_to_the_error(outcomes, NotFound)
        assert len(seen) == 3
    async with connect() as session:
        assert len(await outcomes_of(session, ["fine", *odd], in_flight=1)) == 21


async def test_requests_that_are_wrong_themselves_stop_nothing(connect, emulator):
    emulator.fault("submit", Status(400), prompt="^p.$")
    async with connect() as session:
        outcomes = await outcomes_of(session, prompts(12), in_flight=2)
    assert [type(outcome.error) for outcome in outcomes].count(BadRequest) == 10


@pytest.mark.parametrize("stop_on", [None, NotFound, (TaskFailed, NotFound), lambda _: False])
async def test_rule_of_the_caller_replaces_the_default(connect, emulator, stop_on):
    emulator.fault("submit", Status(401))
    async with connect() as session:
        assert len(await outcomes_of(session, prompts(20), in_flight=2, stop_on=stop_on)) == 20


@pytest.mark.parametrize("stop_on", [TaskFailed, (KeyError, TaskFailed), lambda error: "no luck" in str(error)])
async def test_rule_of_the_caller_stops_at_the_first_error_of_any_job(connect, emulator, stop_on):
    emulator.fault("submit", Fail("no luck"), prompt="^p4$")
    async with connect() as session, session.map(prompts(20), model=MODEL, in_flight=1, stop_on=stop_on) as outcomes:
        seen, _ = await read_to_the_error(outcomes, TaskFailed)
    assert len(seen) == 5


async def test_function_that_raises_stops_the_map_with_its_error(connect, emulator):
    """The error that it was asked about is yielded."""
    emulator.fault("submit", Status(400), prompt="^p1$")

    def judge(error):
        raise ZeroDivisionError

    async with connect() as session, session.map(prompts(20), model=MODEL, in_flight=1, stop_on=judge) as outcomes:
        seen, _ = await read_to_the_error(outcomes, ZeroDivisionError)
    assert [type(outcome.error) for outcome in seen] == [type(None), BadRequest]


async def test_leaving_a_stopped_map_waits_for_what_is_due(connect, emulator):
    """A reader that does not wait for the jobs in flight finds them in `pending`."""
    emulator.fault("submit", Status(402), prompt="^p[3-9]$")
    emulator.fault("submit", Latency(30), prompt="^p2$")
    async with connect() as session:
        async with session.map(prompts(9), model=MODEL) as outcomes:
            await until(lambda: outcomes._is_stopped)
        assert "p2" in {task.request.prompt for task in outcomes.pending}
        assert workers() == []
    assert set(emulator.ledger.sold) == {"p0", "p1", "p2"}


async def test_request_that_is_refused_after_the_stop_is_not_sent_again(connect, emulator):
    """It was under way; its refusal is its outcome."""
    emulator.fault("submit", Latency(3000), Status(503, error={"retryable": True}), prompt="^p0$")
    emulator.fault("submit", Status(400), prompt="^p1$")
    async with connect(retry=PATIENT) as session, session.map(prompts(2), model=MODEL, stop_on=BadRequest) as outcomes:
        async with asyncio.timeout(60):
            seen, _ = await read_to_the_error(outcomes, BadRequest)
    assert [outcome.index for outcome in seen] == [1, 0]
    assert submits(emulator) == 2


async def test_item_that_comes_after_the_stop_is_not_submitted(connect, emulator):
    """An iterable may wait for long."""
    emulator.fault("submit", Status(400), prompt="^p0$")
    stopped, is_read = asyncio.Event(), asyncio.Event()

    async def slow():
        yield "p0"
        await stopped.wait()
        is_read.set()
        yield "p1"

    async with connect() as session, session.map(slow(), model=MODEL, stop_on=BadRequest) as outcomes:
        await read_to_the_error(outcomes, BadRequest)
        stopped.set()
        await is_read.wait()
        await until(lambda: not workers())
    assert submits(emulator) == 1


async def test_request_that_the_stop_cancels_is_cancelled_once(connect, emulator):
    """Leaving the map does not interrupt the clean-up of a source."""
    emulator.fault("submit", Status(400), prompt="^p0$")
    cleaned = []

    async def picture():
        try:
            await asyncio.Event().wait()
            yield b""
        finally:
            await asyncio.sleep(0.02)
            cleaned.append(True)

    wishes = [EditRequest("p1", image=picture(), model=MODEL), GenerateRequest("p0", model=MODEL)]
    async with connect() as session:
        async with session.map(wishes, stop_on=BadRequest) as outcomes:
            await until(lambda: outcomes._is_stopped)
        assert cleaned == [True]


# The first three


async def test_slow_first_answers_hold_nothing_back_for_long(connect, emulator, brief_probe):
    """A model that answers inline takes a minute."""
    emulator.fault("submit", Blackhole())
    async with connect(timeouts=Timeouts(close_s=0.01)) as session, session.map(prompts(20), model=INLINE):
        await until(lambda: submits(emulator) == 20)


def test_first_requests_are_waited_for_half_a_second_at_most():
    assert stop_rule.PROBE_S <= 0.5


async def test_first_answer_opens_the_map(connect, emulator, long_probe):
    """Nothing waits for the others."""
    emulator.fault("submit", Blackhole(), prompt="^p[12]$")
    async with connect(timeouts=Timeouts(close_s=0.01)) as session, session.map(prompts(20), model=MODEL):
        async with asyncio.timeout(60):
            await until(lambda: submits(emulator) == 20)


async def test_requests_that_are_not_sent_do_not_hold_the_others_back(connect, emulator, long_probe):
    """Contracts are checked here, and prove nothing about the account."""
    wishes = [*(GenerateRequest("p", n=99) for _ in range(50)), "fine"]
    async with connect() as session, asyncio.timeout(60):
        outcomes = await outcomes_of(session, wishes, model=MODEL)
    assert len(outcomes) == 51
    assert emulator.ledger.sold == {"fine": 1}


async def test_session_that_has_sold_begins_with_all_requests(connect, emulator, long_probe):
    async with connect(timeouts=Timeouts(close_s=0.01)) as session:
        await session.submit("first", model=MODEL)
        emulator.fault("submit", Blackhole())
        async with session.map(prompts(20), model=MODEL), asyncio.timeout(60):
            await until(lambda: submits(emulator) == 21)
