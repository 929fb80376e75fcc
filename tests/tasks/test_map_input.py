"""The requests of a map are checked, counted and read one at a time."""

import asyncio

import pytest

from lemon_async import ContractError, GenerateRequest
from lemon_async.emulator import Fail, Latency
from lemon_async.errors import TaskFailed
from maps import Source, collect, outcomes_of, prompts

MODEL = "flux-pro"


def iter_of(items):
    yield from items


@pytest.mark.parametrize("item", [None, 7, b"a cat", {"prompt": "a cat"}, ["a cat"], ...], ids=repr)
async def test_item_that_is_no_request_has_an_outcome_with_an_error(connect, emulator, item):
    async with connect() as session:
        first, second = await outcomes_of(session, [item, "fine"], ordered=True)
    assert isinstance(first.error, ContractError)
    assert (first.task, first.images) == (None, None)
    assert second.error is None
    assert emulator.ledger.sold == {"fine": 1}


@pytest.mark.parametrize("is_async", [False, True], ids=["iterable", "async iterable"])
@pytest.mark.parametrize("is_ordered", [False, True], ids=["as they end", "ordered"])
async def test_iterable_that_breaks_is_told_after_the_outcomes_before_it(connect, emulator, is_async, is_ordered):
    bug = RuntimeError("row 3 is odd")

    async def later():
        for prompt in prompts(3):
            yield prompt
        raise bug

    def now():
        yield from prompts(3)
        raise bug

    seen = []
    async with (
        connect() as session,
        session.map(later() if is_async else now(), model=MODEL, ordered=is_ordered) as all_,
    ):
        with pytest.raises(RuntimeError, match="row 3") as caught:
            await collect(all_, seen)
        assert caught.value is bug
        with pytest.raises(RuntimeError, match="row 3"):  # as every other reader hears it
            await anext(all_)
    assert sorted(outcome.index for outcome in seen) == [0, 1, 2]
    assert emulator.ledger.settled.total() == 3


@pytest.mark.parametrize("items", ["a cat", b"a cat", {"prompt": "a cat"}, 7, None, GenerateRequest("a cat")], ids=repr)
async def test_what_is_no_iterable_of_requests_is_refused(connect, items):
    async with connect() as session:
        with pytest.raises(ContractError, match=r"requests: must be an (async )?iterable"):
            session.map(items)


@pytest.mark.parametrize("in_flight", [0, -1, True, 1.5, "3", None], ids=repr)
async def test_in_flight_that_cannot_work_is_refused(connect, in_flight):
    async with connect() as session:
        with pytest.raises(ContractError, match="in_flight: must be a whole number from 1, not "):
            session.map([], in_flight=in_flight)


async def test_field_that_does_not_exist_is_refused_once(connect):
    async with connect() as session:
        with pytest.raises(ContractError, match=r"sizes: is not a field .*did you mean size="):
            session.map(prompts(1000), sizes="big")


async def test_prompt_for_every_request_is_refused(connect):
    async with connect() as session:
        with pytest.raises(ContractError, match="prompt: would apply to every request; prompts come from the iterable"):
            session.map(prompts(2), prompt="a cat")


async def test_generator_that_was_read_to_its_end_is_refused(connect):
    async def later():
        yield "p"

    spent, spent_later = iter_of(["p"]), later()
    assert [*spent, *[item async for item in spent_later]] == ["p", "p"]
    async with connect() as session:
        for items in (spent, spent_later):
            with pytest.raises(ContractError, match="is an exhausted generator"):
                session.map(items)


async def test_timeout_around_a_yield_of_the_iterable_cancels_no_paid_request(connect, emulator):
    """The asyncio task that reads the iterable does nothing else."""
    emulator.fault("submit", Latency(ms=80))

    async def impatient():
        async with asyncio.timeout(0.03):
            for prompt in prompts(2):
                yield prompt
            await asyncio.Event().wait()

    seen = []
    async with connect() as session, session.map(impatient(), model=MODEL) as outcomes:
        with pytest.raises(TimeoutError):
            await collect(outcomes, seen)
        assert session.unknown_submissions == ()
    assert [outcome.error for outcome in seen] == [None, None]


@pytest.mark.parametrize("is_async", [False, True], ids=["iterable", "async iterable"])
async def test_generator_of_two_maps_loses_and_duplicates_nothing(connect, emulator, is_async):
    """Each item goes to one of them; the map that finds an async generator busy reports its error."""
    items = Source(20, is_async).items()
    async with connect() as session, asyncio.timeout(60):
        results = await asyncio.gather(*(outcomes_of(session, items) for _ in range(2)), return_exceptions=True)
    assert all(isinstance(result, list | RuntimeError) for result in results)
    assert set(emulator.ledger.sold.values()) == {1}
    if not is_async:
        assert sum(map(len, results)) == 20


async def later(index, task):
    raise NotImplementedError


async def test_callback_that_cannot_be_called_is_refused_before_anything_is_sold(connect, emulator):
    async with connect() as session:
        for callback in [5, "callback", [], later]:
            with pytest.raises(ContractError, match="on_submitted: must be a "):
                session.map(prompts(2), model=MODEL, on_submitted=callback)
    assert not emulator.ledger.sold


# Keys


@pytest.mark.parametrize("is_async", [False, True], ids=["iterable", "async iterable"])
async def test_pairs_have_keys_that_travel_to_their_outcomes(connect, emulator, is_async):
    """Also to those of failures, and of items that are no requests; a key may be anything, also twice."""
    emulator.fault("submit", Fail("no luck"), prompt="^p2$")
    rows = [("a", "p0"), (1, GenerateRequest("p1")), (None, "p2"), (("x", 1), 7), ("a", "p4")]

    async def later():
        for row in rows:
            yield row

    async with connect() as session:
        outcomes = await outcomes_of(session, later() if is_async else rows, ordered=True)
    assert [outcome.key for outcome in outcomes] == ["a", 1, None, ("x", 1), "a"]
    assert [type(outcome.error) for outcome in outcomes] == [
        type(None),
        type(None),
        TaskFailed,
        ContractError,
        type(None),
    ]
    assert [outcome.index for outcome in outcomes] == list(range(5))
    assert emulator.ledger.sold == {"p0": 1, "p1": 1, "p2": 1, "p4": 1}


async def test_items_of_a_mapping_are_pairs(connect):
    async with connect() as session:
        outcomes = await outcomes_of(session, {"a": "p0", "b": "p1"}.items(), ordered=True)
        assert {outcome.key: outcome.request.prompt for outcome in outcomes} == {"a": "p0", "b": "p1"}
        with pytest.raises(ContractError, match=r"not one dict; for \(key, prompt\) pairs, pass its items\(\)"):
            session.map({"a": "p0"})


async def test_keys_are_made_by_a_function_of_the_item(connect):
    """It sees the item itself, of which nothing else is a key then."""
    async with connect() as session:
        outcomes = await outcomes_of(session, ["p0", GenerateRequest("p1"), ("a", "p2")], key=type, ordered=True)
    assert [outcome.key for outcome in outcomes] == [str, GenerateRequest, tuple]
    assert isinstance(outcomes[2].error, ContractError)


async def test_items_without_keys_have_none(connect):
    async with connect() as session:
        (outcome,) = await outcomes_of(session, ["p0"])
    assert outcome.key is None


async def test_function_of_keys_that_raises_ends_the_reading_like_an_iterable(connect, emulator):
    """What was read before ends and is yielded."""
    seen = []
    async with connect() as session, session.map(["p0", "p1", 2, "p3"], model=MODEL, key=len) as outcomes:
        with pytest.raises(TypeError, match="has no len"):
            await collect(outcomes, seen)
    assert sorted(outcome.key for outcome in seen) == [2, 2]
    assert set(emulator.ledger.sold) == {"p0", "p1"}


@pytest.mark.parametrize(("option", "value"), [("key", "sku"), ("key", later), ("stop_on", "never"), ("stop_on", 5)])
async def test_options_that_cannot_work_are_refused_before_anything_is_read(connect, option, value):
    async with connect() as session:
        with pytest.raises(ContractError, match=rf"^{option}: must be "):
            session.map(prompts(2), model=MODEL, **{option: value})
