"""Leased slots: which may be used, how many to ask for, and that no minute has more requests than the limit."""

import heapq
import random
from itertools import count

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lemon_async._api.response import RateReport
from lemon_async._pace.leases import HORIZON_S, Ask, Lease, LeasedBudget, leased_interval_s
from limit_store import LimitState

RPM = 600
SPACING = leased_interval_s(RPM)


def lease(slots, wait_s=0.0, *, workers=1, epoch="e", spacing_s=SPACING):
    return Lease(slots=slots, wait_s=wait_s, spacing_s=spacing_s, epoch=epoch, workers=workers)


def budget_with(slots, wait_s=0.0, *, at=0.0, **options):
    """Return a budget that has taken one lease, whose reply took no time."""
    budget = LeasedBudget(RPM)
    assert budget.take(at, budget.ask(at, 1), lease(slots, wait_s, **options))
    return budget


def test_slots_are_available_once_they_have_begun():
    budget = budget_with(3, wait_s=1.0)
    assert [budget.available(at) for at in (0.9, 1.0, 1.0 + SPACING + 1e-9, 1.3)] == [0, 1, 2, 3]
    budget.consume(1.3)
    assert (budget.available(1.3), budget.held) == (2, 2)
    assert budget_with(3, wait_s=1.0).wake_at(0.0, has_polls=True) == 1.0


def test_room_is_shared_between_the_processes():
    budget = budget_with(1, workers=4)
    assert budget.room_rpm(0.0) == RPM / 4
    budget.observe(0.0, RateReport(limit=RPM // 2, remaining=None, reset_s=None))
    assert budget.room_rpm(0.0) == RPM / 8


def test_unused_slots_are_forfeited_after_the_tolerance():
    budget = budget_with(3)
    assert budget.available(0.75) == 3
    assert budget.available(0.76) == 2
    assert budget.available(0.75 + 2 * SPACING + 0.01) == 0


def test_slow_reply_shortens_the_tolerance():
    """The slot may have begun when the request was sent: it is used after the reply only, and not later than usual."""
    budget = LeasedBudget(RPM)
    ask = budget.ask(0.0, 1)
    assert budget.take(0.5, ask, lease(2, 0.2))
    assert budget.available(0.69) == 0
    assert budget.available(0.71) == 1
    assert budget.available(0.5 + 0.2 + 0.25 + 0.01) == 1, "the first is forfeited a quarter of a second after it began"


def test_reply_later_than_the_tolerance_is_useless():
    """So the next lease is a small one."""
    budget = budget_with(8)
    ask = budget.ask(0.9, 20)
    assert not budget.take(1.7, ask, lease(ask.slots))
    assert budget.ask(1.7, 1).slots == 1


def test_leases_grow_while_they_are_used_and_shrink_to_what_was_used():
    budget, now, sizes = LeasedBudget(6000), 0.0, []
    for used in (1, 2, 4, 8, 3, 6):
        ask = budget.ask(now, 1)
        sizes.append(ask.slots)
        budget.take(now, ask, lease(ask.slots, spacing_s=0.01))
        now += 0.2
        for _ in range(min(used, ask.slots)):
            budget.consume(now)
        now += 1.0
        budget.available(now)
    assert sizes == [1, 2, 4, 8, 16, 3]


def test_first_lease_is_one_slot_and_later_ones_cover_the_queue():
    """The first reply says how many processes there are."""
    budget = LeasedBudget(RPM)
    assert budget.ask(0.0, 1000).slots == 1
    for rpm, workers, most in (
        (RPM, 1, 10),
        (RPM, 6, 8),
        (RPM, 100, 1),
        (60, 1, 1),
        (60_000, 1, 492),
        (60_000, 4, 123),
    ):
        budget = LeasedBudget(rpm)
        budget.take(0.0, budget.ask(0.0, 1000), lease(1, workers=workers))
        assert budget.ask(0.0, 1000).slots == most


def test_demand_after_a_break_begins_with_one_slot():
    budget = budget_with(8)
    assert budget.ask(2.0, 1).slots > 1
    assert budget.ask(10.0, 1).slots == 1


def test_next_lease_is_wanted_when_half_is_used_and_more_wait():
    budget = budget_with(4)
    assert [budget.wants_lease(0.3, waiting) for waiting in (0, 4, 5)] == [False] * 3
    budget.consume(0.3)
    budget.consume(0.3)
    assert [budget.wants_lease(0.3, waiting) for waiting in (0, 2, 3)] == [False, False, True]


def test_next_lease_is_wanted_later_beside_other_processes():
    """The fewer slots a process holds, the fewer are lost when it is killed."""
    budget = budget_with(8, workers=2)
    wanted = []
    for _ in range(8):
        budget.consume(0.7)
        wanted.append(budget.wants_lease(0.7, 20))
    assert wanted == [False] * 5 + [True] * 3


def test_share_does_not_grow_because_the_state_is_lost():
    """A new state counts the processes anew: the first to come would be alone."""
    budget = budget_with(1, workers=4)
    for epoch, workers, known in (("new", 1, 4), ("new", 3, 3)):
        budget.take(1.0, budget.ask(1.0, 1), lease(0, 30.0, epoch=epoch, workers=workers))
        assert budget.workers == known


def test_pause_drops_the_slots_that_begin_before_its_end():
    for pause in ("pause", "observe_429"):
        budget = budget_with(4, wait_s=1.0)
        getattr(budget, pause)(0.0, 1.0 + 1.9 * SPACING)
        assert (budget.held, budget.available(1.0)) == (2, 0)
        assert budget.next_at(0.0) == budget.paused_until
        assert not budget.wants_lease(0.0, 10)
        ask = Ask(at=0.0, slots=2, epoch=None, owed=0)
        budget.take(0.0, ask, lease(2, 0.5))
        assert budget.held == 2, "a lease from before the pause is dropped, too"


def test_pause_without_slots_ends_with_a_request_for_more():
    budget = LeasedBudget(RPM)
    budget.pause(0.0, 3.0)
    assert budget.wake_at(0.0, has_polls=False) == 3.0
    assert budget.wake_at(3.0, has_polls=False) == float("inf")


def test_slot_beyond_the_horizon_is_asked_for_later():
    budget = budget_with(0, wait_s=30.0)
    assert (budget.held, budget.retry_at, budget.next_at(0.0)) == (0, 30.0 - HORIZON_S, 30.0 - HORIZON_S)
    budget = budget_with(0, wait_s=HORIZON_S, workers=20)
    assert budget.retry_at == pytest.approx(10 * SPACING), "not before half of a share of the limit"


def test_reported_lower_limit_spreads_the_slots():
    """Headers may say that the account has a lower limit; the other slots of a lease stay unused."""
    budget = budget_with(1)
    budget.observe(0.0, RateReport(limit=RPM // 3, remaining=None, reset_s=None))
    assert budget.requests_per_minute == RPM // 3
    ask = budget.ask(0.0, 2)
    assert ask.slots == 6
    budget.take(0.0, ask, lease(6))
    assert budget.held == 3
    budget.consume(0.0)
    budget.consume(0.0)
    assert budget.wake_at(0.0, has_polls=False) == pytest.approx(3 * SPACING)


def test_reported_remaining_requests_bind():
    budget = budget_with(5)
    budget.observe(0.0, RateReport(limit=None, remaining=0, reset_s=5.0))
    assert (budget.available(0.3), budget.next_at(0.3)) == (0, 5.0)


def test_epoch_is_sent_while_slots_of_it_are_in_a_window():
    budget = budget_with(2, epoch="first")
    assert budget.ask(59.0, 1).epoch == "first"
    assert budget.ask(62.0, 1).epoch is None


def test_store_that_was_never_reached_admits_nothing():
    budget = LeasedBudget(RPM)
    for expected in (0.1, 0.2, 0.4, 0.8, 1.0, 1.0):
        budget.fail(0.0, budget.ask(0.0, 1))
        assert budget.retry_at == expected
    assert (budget.available_to_polls(1000.0), budget.wake_at(0.0, has_polls=True)) == (0, float("inf"))


def test_polls_go_on_at_a_share_of_the_limit_while_the_store_is_unreachable():
    """They begin when all leases must have passed, and are charged from the last vain attempt on."""
    budget = budget_with(2, workers=5)
    budget.fail(0.0, budget.ask(0.0, 1))
    assert budget.available_to_polls(0.2) == 2, "leased slots are still good"
    first_at = HORIZON_S + 2.75 + 5 * SPACING
    assert budget.available_to_polls(first_at - 0.01) == 0
    assert budget.wake_at(5.0, has_polls=True) == pytest.approx(first_at)
    assert budget.wake_at(5.0, has_polls=False) == float("inf")
    for _ in range(3):
        at = budget.wake_at(5.0, has_polls=True)
        assert (budget.available(at), budget.available_to_polls(at)) == (0, 1)
        budget.consume(at)
        assert budget.available_to_polls(at) == 0
    assert budget.wants_lease(at, 0), "polls that need no slots must not go on beside the leases of others"
    ask = budget.ask(at, 0)
    assert (ask.slots, ask.owed) == (1, 3)
    budget.consume(at)
    budget.fail(at, ask)
    ask = budget.ask(at, 0)
    assert ask.owed == 1
    budget.take(at, ask, lease(1))
    assert (budget.lost_at, budget.ask(at, 1).owed) == (None, 0)


def test_pause_holds_polls_back_while_the_store_is_unreachable():
    budget = budget_with(1)
    budget.fail(0.0)
    budget.pause(10.0, 15.0)
    assert (budget.available_to_polls(20.0), budget.wake_at(20.0, has_polls=True)) == (0, 25.0)
    assert budget.available_to_polls(25.0) == 1


@attrs.define
class Fleet:
    """Several budgets, and a model of a store that stops and may lose its state; everything may be delayed.

    Processes use slots when they begin, except that before `lazy_until` they leave them for most of the tolerance.
    """

    rpm: int
    chance: random.Random
    stops: list  # (beginning, end, whether the state is lost)
    lazy_until: float = 0.0
    stalls: float = 0.0  # share of the ticks after which a process does nothing for seconds
    delays_s: tuple = (0.01,)
    starts: list = attrs.field(factory=list)
    state: LimitState | None = None
    events: list = attrs.field(factory=list)
    serial: count = attrs.field(factory=count)

    def play(self, processes, seconds):
        """Return when requests started."""
        for _ in range(processes):
            self.at(self.chance.uniform(0, 3), self.tick, LeasedBudget(self.rpm), set())
        for _, end, is_lost in self.stops:
            if is_lost:
                self.at(end, lambda _: setattr(self, "state", None))
        now = 0.0
        while now < seconds:
            now, _, action, details = heapq.heappop(self.events)
            action(now, *details)
        return sorted(self.starts)

    def at(self, time, action, *details):
        heapq.heappush(self.events, (time, next(self.serial), action, details))

    def is_down(self, now):
        return any(begin <= now < end for begin, end, _ in self.stops)

    def delay_s(self):
        return self.chance.choice(self.delays_s)

    def tick(self, now, budget, asking):
        """Use what is available, and ask for more."""
        spared = int(0.65 * self.rpm / 60) if now < self.lazy_until else 0
        for _ in range(budget.available_to_polls(now) - spared):
            budget.consume(now)
            self.starts.append(now)
        if not asking and now >= budget.retry_at and budget.wants_lease(now, 50):
            asking.add(now)
            self.at(now + self.delay_s(), self.reserve, budget, asking, budget.ask(now, 50))
        is_stalled = self.chance.random() < self.stalls
        self.at(now + (self.chance.choice((0.5, 4.0, 9.0)) if is_stalled else 0.03), self.tick, budget, asking)

    def reserve(self, now, budget, asking, ask):
        if self.is_down(now):
            self.at(now + self.delay_s(), self.reply, budget, asking, ask, None)
            return
        if self.state is None:
            self.state = LimitState.create(now, interval_s=leased_interval_s(self.rpm))
        granted = self.state.reserve(now, ask.slots, epoch=ask.epoch, owed=ask.owed, worker=id(budget))
        self.at(now + self.delay_s(), self.reply, budget, asking, ask, granted)

    def reply(self, now, budget, asking, ask, granted):
        asking.clear()
        if granted is None or self.is_down(now):
            budget.fail(now, ask)
        else:
            budget.take(now, ask, granted)


STOPS = st.lists(st.tuples(st.floats(1, 40), st.floats(0.5, 45), st.booleans()), max_size=3)


def assert_limit_is_kept(rpm, starts):
    assert all(later - earlier >= 60.0 for earlier, later in zip(starts, starts[rpm:], strict=False))


@settings(max_examples=12, deadline=None, derandomize=True)
@given(
    st.sampled_from((60, 300)),
    st.integers(1, 4),
    STOPS,
    st.sampled_from((0.0, 0.0, 20.0)),
    st.sampled_from((0.0, 0.003)),
    st.sampled_from(((0.01,), (0.01, 0.3), (0.001, 0.1, 1.0))),
    st.integers(0, 2**32),
)
def test_no_minute_has_more_requests_than_the_limit(rpm, processes, gaps, lazy_until, stalls, delays_s, seed):
    """Whatever the delays, forfeits, stalls, and stops of the store, with and without loss of its state."""
    stops, at = [], 0.0
    for gap_s, length_s, is_lost in gaps:
        stops.append((at + gap_s, at + gap_s + length_s, is_lost))
        at += gap_s + length_s
    fleet = Fleet(rpm, random.Random(seed), stops, lazy_until, stalls, delays_s)
    assert_limit_is_kept(rpm, fleet.play(processes, 150.0))


def test_telling_cases_keep_the_limit():
    """Each is exceeded if one rule is left out: slots that are used late, replies, stalls, and stops."""
    for options in (
        {"lazy_until": 20.0},
        {"delays_s": (0.01, 0.37)},
        {"stalls": 0.003},
        {"stops": [(40.0, 60.0, False)]},
        {"stops": [(40.0, 90.0, False)]},
        {"stops": [(40.0, 41.0, True)]},
        {"stops": [(23.5, 25.0, True), (26.0, 43.1, True), (76.7, 114.5, False)]},
    ):
        fleet = Fleet(**{"rpm": 600, "chance": random.Random(1), "stops": []} | options)
        assert_limit_is_kept(600, fleet.play(4, 140.0))


def test_busy_processes_use_the_limit():
    starts = Fleet(600, random.Random(1), []).play(4, 121.0)
    assert 590 <= len([at for at in starts if 61.0 <= at < 121.0]) <= 600
