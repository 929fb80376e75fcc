"""What each store of a shared rate limit must do, as cases that run against a real server.

A case gets a `Bench`: stores, whose pauses are recorded, on a server that it may stop, hang or empty.
"""

import asyncio
import time

import attrs
import pytest

from lemon_async._http.shared_limit.opening import open_store
from lemon_async._http.shared_limit.store import StoreUnavailable
from lemon_async.errors import ContractError

INTERVAL_S = 50.0  # far longer than any case takes, so that waits tell which slots were granted
SHORT_INTERVAL_S = 5.0  # so short that no wait for a slot is taken for a minute


@attrs.define
class Bench:
    """Stores on one server.

    Attributes:
        server: A `RedisLimits` or `PostgresLimits`.
        pauses: The seconds of each pause that a store has reported, by the number of the store.
    """

    server: object
    pauses: dict[int, list[float]] = attrs.field(factory=dict)
    stores: list = attrs.field(factory=list)

    def open(self, url=None, **options):
        number = len(self.stores)
        told = self.pauses.setdefault(number, [])
        options = {"account": "a" * 16, "rpm": 6, "interval_s": INTERVAL_S, "horizon_s": 1e6, **options}
        self.stores.append(open_store(url or self.server.url, on_pause=told.append, **options))
        return self.stores[-1]

    async def aclose(self):
        await asyncio.gather(*(store.aclose() for store in self.stores))


async def until(condition, within_s=60.0):
    """Wait for a condition, and return how long it took."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < within_s
        await asyncio.sleep(0.002)
    return time.monotonic() - began


def is_near(seconds, expected):
    return expected - 40 < seconds <= expected + 0.01


async def reserve(store, slots=1, *, epoch=None, owed=0):
    return await store.reserve(slots, epoch=epoch, owed=owed)


async def no_slot_is_granted_twice(bench):
    """Twenty clients that reserve at the same time get consecutive slots, none of them twice."""
    stores = [bench.open() for _ in range(20)]
    leases = await asyncio.gather(*(reserve(store, 3) for store in stores for _ in "1"))
    leases += [await reserve(store, 3) for store in stores]
    slots = sorted(-(-lease.wait_s // INTERVAL_S) for lease in leases)
    assert slots == [3.0 * number for number in range(40)]
    assert {(lease.slots, lease.spacing_s) for lease in leases} == {(3, INTERVAL_S)}
    assert len({lease.epoch for lease in leases}) == 1
    assert leases[-1].workers == 20


async def accounts_do_not_meet(bench):
    """Each account has its own slots, limit and pauses."""
    one, other = bench.open(), bench.open(account="b" * 16, rpm=7)
    await reserve(one, 5)
    await reserve(other)
    await one.pause(100)
    lease = await reserve(other)
    assert lease.workers == 1
    assert is_near(lease.wait_s, INTERVAL_S)
    assert not bench.pauses[1]


async def nothing_is_granted_beyond_the_horizon(bench):
    """Asking in vain moves no one's slots; owed requests do."""
    store = bench.open(horizon_s=2.5 * INTERVAL_S)
    await reserve(store, 3)
    for owed, slots in ((0, 3), (0, 3), (2, 5), (0, 5)):
        lease = await reserve(store, 2, owed=owed)
        assert lease.slots == 0
        assert is_near(lease.wait_s, slots * INTERVAL_S)


async def pauses_reach_all(bench):
    """All clients hear of a pause without asking, and slots come after it; a shorter one changes nothing."""
    stores = [bench.open() for _ in range(3)]
    for store in stores:
        await reserve(store)
    await stores[0].pause(200)
    await until(lambda: bench.pauses[1] and bench.pauses[2])
    assert is_near(bench.pauses[1][0], 200)
    await stores[1].pause(20)
    lease = await reserve(stores[2])
    assert is_near(lease.wait_s, 200)
    late = bench.open()
    await reserve(late)
    await until(lambda: bench.pauses[3])
    assert is_near(bench.pauses[3][0], 200)


async def lost_state_costs_one_minute(bench):
    """Whoever knows of a state that is gone lets all wait until a minute after the new one began."""
    knows, fresh = (bench.open(interval_s=SHORT_INTERVAL_S) for _ in range(2))
    lost = await reserve(knows)
    await reserve(fresh)
    bench.server.lose()
    later_s = (60, 60 + SHORT_INTERVAL_S)
    waits_s = (*later_s, 60 + 2 * SHORT_INTERVAL_S) if bench.server.notices_loss else (0, *later_s)
    leases = [await reserve(fresh), await reserve(knows, epoch=lost.epoch), await reserve(fresh, epoch=lost.epoch)]
    for lease, wait_s in zip(leases, waits_s, strict=True):
        assert lease.epoch == leases[0].epoch != lost.epoch
        assert is_near(lease.wait_s, wait_s)
    await until(lambda: bench.pauses[1])
    assert is_near(bench.pauses[1][0], 60)


async def clock_that_is_set_back_costs_one_minute(bench):
    """Slots and pauses that lie an hour ahead are void, for whoever comes first; all hear of it."""
    knows, fresh = bench.open(horizon_s=25.0), bench.open(horizon_s=25.0)
    before = await reserve(knows)
    await reserve(fresh)
    bench.server.set_back()
    for lease in (await reserve(fresh), await reserve(knows, epoch=before.epoch), await reserve(fresh)):
        assert lease.slots == 0
        assert is_near(lease.wait_s, 60)
    await until(lambda: bench.pauses[0])
    assert is_near(bench.pauses[0][0], 60)


async def another_limit_is_refused(bench):
    """The error names both limits; once the account has been idle for two minutes, another limit may be used."""
    await reserve(bench.open())
    other = bench.open(rpm=7)
    for _ in range(2):
        with pytest.raises(
            ContractError, match=r"limit of 6 requests per minute for this account, not 7: use the same"
        ):
            await reserve(other)
    bench.server.age()
    assert (await reserve(other)).wait_s == 0.0


async def broken_connections_are_replaced(bench):
    """A restart between two calls shows in none of them; a call while the server is down fails, the next does not."""
    store, listener = bench.open(), bench.open()
    await reserve(store)
    await reserve(listener)
    bench.server.kill()
    with pytest.raises(StoreUnavailable):
        await reserve(store)
    with pytest.raises(StoreUnavailable):
        await listener.pause(1)
    bench.server.start()
    assert (await reserve(store)).slots == 1
    bench.server.kill()
    bench.server.start()
    assert (await reserve(store)).slots == 1
    for told in bench.pauses.values():
        told.clear()
    await until(lambda: bench.server.listeners() == 2)
    await store.pause(100)
    await until(lambda: bench.pauses[1])


async def hanging_server_has_two_seconds(bench):
    """A call to a server that hangs fails within two seconds, and leaves nothing for the next to stumble over."""
    store, new = bench.open(), bench.open()
    async with asyncio.timeout(60):
        await reserve_in_time(store)
    bench.server.hang()
    try:
        results = await asyncio.gather(reserve(store), reserve(new), return_exceptions=True)
    finally:
        bench.server.resume()
    assert [(type(result), str(result)) for result in results] == [(StoreUnavailable, "no response within 2 s")] * 2
    async with asyncio.timeout(60):
        for each in (store, new):
            assert (await reserve_in_time(each)).slots == 1


async def reserve_in_time(store):
    """Repeat calls for which a busy machine needs more than two seconds."""
    while True:
        try:
            return await reserve(store)
        except StoreUnavailable as error:
            assert str(error) == "no response within 2 s"  # noqa: PT017


async def cancelled_calls_leave_nothing_behind(bench):
    """After a call that was cancelled at any point, the next gets its own reply."""
    store = bench.open()
    for delay_s in (0, 0, 0.0005, 0.001, 0.002, 0.004):
        call = asyncio.ensure_future(reserve(store, 2))
        await asyncio.sleep(delay_s)
        call.cancel()
        await asyncio.wait([call])
        assert (await reserve(store)).slots == 1


async def closing_is_quick(bench):
    """A store is closed at any time: before its first call, while the server hangs, and twice."""
    store, unused = bench.open(), bench.open()
    await reserve(store)
    bench.server.hang()
    try:
        async with asyncio.timeout(60):  # less than a call may take
            for _ in range(2):
                await store.aclose()
                await unused.aclose()
    finally:
        bench.server.resume()


async def credentials_are_not_shown(bench):
    """A wrong password is an error that shows neither it nor the user's right one."""
    store = bench.open(bench.server.guarded_url("wr0ng"))
    with pytest.raises(ContractError, match=r"shared_limit: .*127\.0\.0\.1") as refusal:
        await reserve(store)
    assert "wr0ng" not in f"{refusal.value!s} {refusal.value!r} {store.name} {store!r}"


CASES = [
    no_slot_is_granted_twice,
    accounts_do_not_meet,
    nothing_is_granted_beyond_the_horizon,
    pauses_reach_all,
    lost_state_costs_one_minute,
    clock_that_is_set_back_costs_one_minute,
    another_limit_is_refused,
    broken_connections_are_replaced,
    hanging_server_has_two_seconds,
    cancelled_calls_leave_nothing_behind,
    closing_is_quick,
    credentials_are_not_shown,
]
