"""Which row comes next, when there is room for it, and when there is none left."""

import asyncio
from contextlib import asynccontextmanager

import attrs
import pytest

from lemon_async.batch import open_journal
from lemon_async.batch.records import Change
from lemon_async.batch.running.account import Account
from lemon_async.batch.running.feed import Feed
from lemon_async.batch.states import State, Transition
from saved_rows import add, sell


@attrs.define(eq=False)
class Case:
    """A feed, and what it has called."""

    feed: Feed
    journal: object
    account: Account
    resumed: list
    full: list

    async def next(self):
        """Return the key of the next row; raise if it never comes."""
        request = await asyncio.wait_for(anext(self.feed), 60)
        return request.label

    async def is_waiting(self):
        """Return whether the next row does not come yet; the wait goes on in `later`."""
        self.later = asyncio.ensure_future(anext(self.feed))
        await asyncio.sleep(0.02)
        return not self.later.done()

    later: object = None


@pytest.fixture
def feed_of(tmp_path):
    @asynccontextmanager
    async def make(*keys, sold=(), in_flight=10, price=None, cap=None, patience_s=60):
        async with open_journal(tmp_path / "run.db", create=True) as journal:
            for key in keys:
                await add(journal, key)
            for key in sold:
                await sell(journal, key)
            account = Account(await journal.counts(), await journal.spending(), cap)
            resumed, full = [], []

            async def settled(job):
                raise AssertionError(job)

            feed = Feed(
                journal=journal,
                account=account,
                in_flight=in_flight,
                price_of=lambda request: price,
                is_capped=cap is not None,
                resume=resumed.append,
                settle=settled,
                on_full=full.append,
                on_change=lambda: None,
                look_s=0.01,
                patience_s=patience_s,
            )
            yield Case(feed, journal, account, resumed, full)

    return make


async def test_rows_come_in_their_order_and_sold_ones_are_resumed_first(feed_of):
    async with feed_of("a", "b", "c", "d", sold=("b", "d")) as case:
        assert await case.next() == "a"
        assert [job.key for job in case.resumed] == ["b", "d"]
        assert await case.next() == "c"
        assert [job.key for job in case.feed.jobs.values()] == ["a", "c"]


async def test_the_event_loop_turns_between_rows_that_are_resumed(feed_of):
    """A run may begin with hundreds of them."""
    keys = ("a", "b", "c")
    async with feed_of(*keys, sold=keys) as case:
        turns = set()
        following = asyncio.ensure_future(anext(case.feed))
        async with asyncio.timeout(60):
            while len(case.resumed) < len(keys):
                turns.add(len(case.resumed))
                await asyncio.sleep(0)
        following.cancel()
        assert turns == {0, 1, 2}


async def test_it_ends_when_no_row_is_left_and_none_is_in_flight(feed_of):
    """A row in flight may have to be repeated."""
    async with feed_of("a") as case:
        await case.next()
        assert await case.is_waiting()
        case.feed.ended(case.feed.jobs.pop(0))
        with pytest.raises(StopAsyncIteration):
            await case.later


async def test_rows_in_flight_are_limited_until_their_outcome_is_read(feed_of):
    """Resumed ones count."""
    async with feed_of("a", "b", "c", sold=("a",), in_flight=2) as case:
        assert await case.next() == "b"
        assert await case.is_waiting()
        case.feed.ended(case.resumed[0])
        await asyncio.sleep(0)
        assert not case.later.done()
        case.feed.release()
        assert (await case.later).label == "c"


async def test_a_repeated_row_comes_once_more(feed_of):
    """Whether its turn in the journal has come or not: here, it was resumed before the new rows were read."""
    async with feed_of("a", "b", sold=("b",)) as case:
        keys = [await case.next()]
        job = case.resumed[0]
        await case.journal.record(Change(key="b", transition=Transition.FAIL))
        change = Change(key="b", transition=Transition.REPEAT)
        await case.journal.record(change)
        job.facts.state = State.NEW
        case.feed.repeat(job)
        case.feed.ended(job)
        keys.append(await case.next())
        assert keys == ["a", "b"]
        assert await case.is_waiting()
        case.later.cancel()


async def test_rows_that_were_repeated_before_their_chunk_was_read_come_once(feed_of):
    """The chunk of new rows that is read later holds them, too."""
    async with feed_of("a", "b", sold=("a",), in_flight=1) as case:
        assert await case.is_waiting()
        job = case.resumed[0]
        for transition in (Transition.FAIL, Transition.REPEAT):
            await case.journal.record(Change(key="a", transition=transition))
        job.facts.state = State.NEW
        case.feed.repeat(job)
        case.feed.ended(job)
        assert (await case.later).label == "a"
        for expected in ("b",):
            case.feed.release()
            case.feed.ended(case.feed.jobs.pop(0))
            assert await case.next() == expected
        case.feed.release()
        case.feed.ended(case.feed.jobs.pop(1))
        with pytest.raises(StopAsyncIteration):
            await case.next()


async def test_a_row_waits_while_money_may_be_released(feed_of):
    async with feed_of("a", "b", price=0.6, cap=1.0) as case:
        assert await case.next() == "a"
        assert await case.is_waiting()
        job = case.feed.jobs.pop(0)
        case.feed.ended(job)
        assert (await case.later).label == "b"
        assert case.full == []


async def test_a_row_that_never_fits_ends_the_feed(feed_of):
    async with feed_of("a", price=1.1, cap=1.0) as case:
        with pytest.raises(StopAsyncIteration):
            await case.next()
        assert [job.key for job in case.full] == ["a"]


async def test_a_row_without_a_price_ends_the_feed_under_a_cap(feed_of):
    async with feed_of("a", cap=1.0) as case:
        with pytest.raises(StopAsyncIteration):
            await case.next()
        assert [job.price_usd for job in case.full] == [None]


async def test_a_closed_feed_ends(feed_of):
    """Even while it waits for room."""
    async with feed_of("a", "b", in_flight=1) as case:
        await case.next()
        assert await case.is_waiting()
        case.feed.close()
        with pytest.raises(StopAsyncIteration):
            await case.later


async def test_rows_of_another_run_are_waited_for(feed_of):
    """Also while own rows are in flight; the journal is not asked again when no other run holds any."""
    async with feed_of("a", "b", "c") as case:
        await case.journal.claim("other", keys=["a", "c"])
        assert await case.next() == "b"
        assert await case.is_waiting()
        await case.journal.release("other")
        assert (await case.later).label == "a"
        assert await case.next() == "c"
        asked = []
        case.feed.journal = Asked(case.journal, asked)
        assert await case.is_waiting()
        assert asked == []
        case.later.cancel()


async def test_waiting_for_another_run_ends_with_a_warning(feed_of, caplog):
    async with feed_of("a", patience_s=0.05) as case:
        await case.journal.claim("other")
        with pytest.raises(StopAsyncIteration):
            await case.next()
    assert [record.getMessage() for record in caplog.records] == [
        "other runs hold 1 rows of the journal, of which none has changed for 0 minutes; run it again later"
    ]


async def test_a_row_that_was_left_open_is_for_other_runs(feed_of):
    """When nothing else is in flight; this run does not take it again, and ends when nobody holds it."""
    async with feed_of("a", "b") as case:
        await case.journal.claim("other", keys=["b"])
        assert await case.next() == "a"
        job = case.feed.jobs.pop(0)
        case.feed.leave(job)
        case.feed.ended(job)
        assert await case.is_waiting()
        assert [row.key for row in await taken_by("third", case.journal, "a")] == ["a"]
        await case.journal.release("third")
        await case.journal.release("other")
        assert (await case.later).label == "b"


async def test_a_full_budget_waits_for_money_of_other_runs(feed_of):
    """Not for that of rows which this run has left open."""
    async with feed_of("a", "b", price=0.6, cap=1.0) as case:
        await sell_to_another(case)
        assert await case.is_waiting()
        await fail_of_another(case.journal)
        assert (await case.later).label == "b"
    assert case.full == []


async def test_money_that_is_released_before_the_first_row_is_taken_is_seen(feed_of):
    """The other run lets go of its last row between the sums and the rows that this one reads."""
    async with feed_of("a", "b", price=0.6, cap=1.0) as case:
        await sell_to_another(case)
        await fail_of_another(case.journal)
        assert await case.next() == "b"
        assert case.full == []


async def test_money_that_is_released_while_the_feed_looks_is_seen(feed_of):
    """The other run lets go of its last row between two questions to the journal."""

    @attrs.define
    class Releasing:
        journal: object
        is_shared = False
        is_armed: bool = True

        async def claim(self, *states, **options):
            if self.is_armed:
                self.is_armed = False
                await fail_of_another(self.journal)
            return await self.journal.claim(*states, **options)

        def __getattr__(self, name):
            return getattr(self.journal, name)

    async with feed_of("a", "b", price=0.6, cap=1.0) as case:
        await sell_to_another(case)
        assert await case.is_waiting()
        case.feed.journal = Releasing(case.journal)
        assert (await case.later).label == "b"
    assert case.full == []


async def sell_to_another(case):
    """Have another run buy the row a, which uses up the budget."""
    await case.journal.claim("other", keys=["a"])
    for transition, facts in ((Transition.INTEND, {"price_usd": 0.6}), (Transition.ACCEPT, {"task": "t"})):
        await case.journal.record(Change(key="a", transition=transition, run="other", **facts))
    await case.feed.refresh()


async def fail_of_another(journal):
    """Let that fail, which releases its money and the row."""
    for transition in (Transition.FAIL, Transition.GIVE_UP):
        await journal.record(Change(key="a", transition=transition, run="other"))


async def taken_by(run, journal, key):
    """Claim a row as soon as it is free."""
    async with asyncio.timeout(60):
        while not (rows := (await journal.claim(run, keys=[key])).rows):
            await asyncio.sleep(0.001)
    return rows


@attrs.define
class Asked:
    """A journal that notes what it is asked for."""

    journal: object
    asked: list
    is_shared = False

    def __getattr__(self, name):
        self.asked.append(name)
        return getattr(self.journal, name)
