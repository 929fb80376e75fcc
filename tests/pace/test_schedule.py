"""When a task is polled: tables for the rules, and a state machine for their combinations."""

import gc
import math
import weakref

import attrs
import pytest
from hypothesis import assume, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from lemon_async._pace.schedule import Decision, PollPolicy, Schedule
from lemon_async.errors import ContractError

# So cheap that every poll is worth it: the gaps are the minimum. The tests of prices have policies of their own.
POLICY = PollPolicy(poll_cost_s=1e-9, min_gap_s=2, max_gap_s=10, deadline_s=900, lost_after_s=15, lost_after_polls=3)


def plan(*keys, policy=POLICY, now=0.0):
    schedule = Schedule(policy)
    for key in keys:
        schedule.add(key, now)
    return schedule


def next_poll(schedule, now):
    """Return when the only task is polled next: nothing happens before, and then it does."""
    decision = schedule.decide(now, slots=1)
    assert decision.polls == ()
    due = decision.wake_at
    assert schedule.decide(math.nextafter(due, 0), slots=1).polls == ()
    assert len(schedule.decide(due, slots=1).polls) == 1
    return due


def test_policy_refuses_settings_that_cannot_work():
    for name, value in [
        ("poll_cost_s", 0),
        ("poll_cost_s", math.inf),
        ("min_gap_s", 0),
        ("max_gap_s", math.nan),
        ("deadline_s", math.inf),
        ("lost_after_s", -1),
        ("lost_after_polls", 0),
        ("max_gap_s", 0.9),
    ]:
        with pytest.raises(ContractError, match=name):
            PollPolicy(**{name: value})


def test_policy_is_written_with_names():
    with pytest.raises(TypeError):
        PollPolicy(2)


def test_policy_names_the_bound_that_contradicts():
    with pytest.raises(ContractError) as caught:
        PollPolicy(min_gap_s=5, max_gap_s=4)
    assert str(caught.value) == "max_gap_s: must not be below min_gap_s (5) (nothing was sent)"


def test_policy_may_poll_at_one_pace():
    assert PollPolicy(min_gap_s=3, max_gap_s=3).max_gap_s == 3


def test_schedule_without_tasks_has_nothing_to_do():
    assert Schedule(POLICY).decide(5.0, slots=9) == Decision((), (), None)


def test_schedule_is_a_collection_of_its_tasks_oldest_first():
    schedule = plan("a", "b", "c")
    schedule.discard("b")
    assert list(schedule) == ["a", "c"]
    assert len(schedule) == 2
    assert "a" in schedule
    assert "b" not in schedule
    assert ["unhashable"] not in list(schedule)


def test_schedule_may_change_during_iteration():
    schedule = plan("a", "b")
    for key in schedule:
        schedule.discard(key)
    assert len(schedule) == 0


def test_fresh_task_gets_the_minimum_gap_first():
    schedule = plan("a", now=100.0)
    assert schedule.decide(100.0, slots=1) == Decision((), (), 102.0)
    assert schedule.decide(101.999, slots=1) == Decision((), (), 102.0)
    assert schedule.decide(102.0, slots=1) == Decision(("a",), (), 1000.0)


def test_resumed_task_is_polled_immediately():
    schedule = Schedule(POLICY)
    schedule.add("a", 100.0, is_fresh=False)
    assert schedule.decide(100.0, slots=1) == Decision(("a",), (), 1000.0)


def test_task_is_not_polled_again_before_its_result_is_reported():
    schedule = plan("a")
    assert schedule.decide(2.0, slots=9).polls == ("a",)
    assert schedule.decide(500.0, slots=9) == Decision((), (), 900.0)


def test_tasks_are_polled_in_the_order_in_which_they_are_due():
    schedule = plan("a", now=0.0)
    schedule.add("b", 1.0)
    schedule.add("c", 2.0, is_fresh=False)
    assert schedule.decide(9.0, slots=9).polls == ("a", "c", "b")


def test_tasks_that_are_due_together_are_polled_in_the_order_of_their_arrival_without_being_compared():
    keys = [object() for _ in range(20)]
    assert plan(*keys).decide(2.0, slots=99).polls == tuple(keys)


def test_no_more_polls_than_there_are_slots():
    for slots, polls in [(0, ()), (-1, ()), (1, ("a",)), (2, ("a", "b")), (9, ("a", "b", "c"))]:
        assert plan("a", "b", "c").decide(5.0, slots=slots).polls == polls


def test_tasks_that_found_no_slot_go_first_when_there_is_one():
    schedule = plan("a", "b", "c")
    assert schedule.decide(5.0, slots=2) == Decision(("a", "b"), (), 900.0, 1)
    assert schedule.decide(5.0, slots=2) == Decision(("c",), (), 900.0, 0)


def test_task_without_a_slot_waits_and_is_no_reason_to_wake_up():
    """A free slot triggers a decision by itself; tasks that become due in the meantime are not delayed."""
    schedule = plan("a")
    assert schedule.decide(0.0, slots=0) == Decision((), (), 2.0)
    assert schedule.decide(2.0, slots=0) == Decision((), (), 900.0, 1)
    schedule.add("b", 3.0)
    assert schedule.decide(3.0, slots=0) == Decision((), (), 5.0, 1)
    assert schedule.decide(6.0, slots=0) == Decision((), (), 900.0, 2)
    assert schedule.decide(6.0, slots=2) == Decision(("a", "b"), (), 900.0)


def test_deadline_passes_while_no_slot_is_free():
    schedule = plan("a")
    assert schedule.decide(899.0, slots=0) == Decision((), (), 900.0, 1)
    assert schedule.decide(900.0, slots=0) == Decision((), ("a",), None)


@pytest.mark.parametrize("news", ["discard", "seen", "faulted", "missing", "add"])
def test_task_that_waits_for_a_slot_leaves_the_queue_when_a_result_is_reported(news):
    schedule = plan("a")
    assert schedule.decide(5.0, slots=0).waiting == 1
    getattr(schedule, news)(*(("a",) if news == "discard" else ("a", 5.0)))
    assert schedule.decide(5.0, slots=9) == Decision((), (), None if news == "discard" else 7.0)


def test_task_expires_at_its_deadline_exactly():
    schedule = plan("a", now=100.0)
    assert schedule.deadline("a") == 1000.0
    assert schedule.decide(math.nextafter(1000.0, 0), slots=0).expired == ()
    assert schedule.decide(1000.0, slots=1) == Decision((), ("a",), None)
    assert len(schedule) == 0


def test_expired_task_is_not_polled_again_even_if_its_last_poll_returns():
    schedule = plan("a", "b")
    schedule.decide(2.0, slots=1)
    assert schedule.decide(900.0, slots=9).expired == ("a", "b")
    schedule.seen("a", 901.0)
    schedule.faulted("a", 901.0)
    assert schedule.missing("a", 901.0) is False
    assert schedule.decide(2000.0, slots=9) == Decision((), (), None)


def test_discarded_task_is_forgotten():
    schedule = plan("a", "b")
    schedule.discard("a")
    schedule.discard("a")
    assert schedule.decide(5.0, slots=9).polls == ("b",)
    assert schedule.decide(900.0, slots=9).expired == ("b",)


def test_discarded_task_is_no_reason_to_wake_up():
    schedule = plan("a", now=0.0)
    schedule.add("b", 5.0)
    schedule.discard("a")
    assert schedule.decide(5.0, slots=1).wake_at == 7.0
    schedule.discard("b")
    assert schedule.decide(6.0, slots=1).wake_at is None


def test_task_that_is_added_again_starts_over_and_is_polled_once():
    schedule = plan("a")
    schedule.discard("a")
    schedule.add("a", 1.0)
    assert schedule.decide(2.0, slots=9).polls == ()
    assert schedule.decide(9.0, slots=9).polls == ("a",)
    assert schedule.deadline("a") == 901.0


def test_task_that_is_added_twice_starts_over_behind_the_others():
    schedule = plan("a", "b")
    schedule.add("a", 1.0)
    assert list(schedule) == ["b", "a"]
    assert schedule.decide(9.0, slots=9).polls == ("b", "a")
    assert schedule.decide(900.0, slots=9) == Decision((), ("b",), 901.0)
    assert schedule.decide(901.0, slots=9) == Decision((), ("a",), None)


def test_answer_to_an_earlier_life_of_a_task_does_not_double_its_polls():
    schedule = plan("a")
    schedule.decide(2.0, slots=1)
    schedule.discard("a")
    schedule.add("a", 3.0)
    schedule.seen("a", 4.0)
    assert schedule.decide(5.5, slots=9).polls == ()
    assert schedule.decide(60.0, slots=9).polls == ("a",)


def test_gap_doubles_from_fault_to_fault_up_to_the_longest():
    for faults, gap in [(1, 2), (2, 4), (3, 8), (4, 10), (5, 10), (20, 10), (2000, 10)]:
        schedule = plan("a")
        for _ in range(faults):
            schedule.decide(2.0, slots=1)
            schedule.faulted("a", 2.0)
        assert next_poll(schedule, 2.0) == 2.0 + gap


def test_answer_ends_a_series_of_faults():
    schedule = plan("a")
    for _ in range(3):
        schedule.faulted("a", 2.0)
    schedule.seen("a", 2.0)
    assert next_poll(schedule, 2.0) == 4.0
    schedule.faulted("a", 4.0)
    assert next_poll(schedule, 4.0) == 6.0


def test_fault_waits_as_long_as_the_service_asks_within_bounds():
    for retry_after_s, gap in [(None, 2), (0.0, 2), (1.0, 2), (2.5, 2.5), (10.0, 10), (10.1, 10), (86400.0, 10)]:
        schedule = plan("a")
        schedule.decide(2.0, slots=1)
        schedule.faulted("a", 2.0, retry_after_s=retry_after_s)
        assert next_poll(schedule, 2.0) == 2.0 + gap


def test_task_survives_any_number_of_faults():
    schedule, now = plan("a"), 2.0
    while now < 890.0:
        assert schedule.decide(now, slots=1).polls == ("a",)
        schedule.faulted("a", now)
        now = schedule.decide(now, slots=1).wake_at
    assert "a" in schedule


def test_missing_task_is_lost_after_enough_polls_over_enough_time():
    """Right after its creation a task may be unknown to the server that is asked."""
    for misses_at, is_lost in [
        ([2], False),
        ([2, 30], False),
        ([2, 4, 6], False),
        ([2, 4, 16.9], False),
        ([2, 4, 17], True),
        ([2, 16, 17], True),
        ([2, 4, 6, 8, 17], True),
        ([100, 101, 115], True),
    ]:
        schedule = plan("a")
        *before, last = misses_at
        assert not any(schedule.missing("a", now) for now in before)
        assert schedule.missing("a", last) is is_lost


def test_missing_task_is_polled_again_until_it_is_lost():
    schedule, now, polled = plan("a"), 2.0, []
    while True:
        assert schedule.decide(now, slots=1).polls == ("a",)
        polled.append(now)
        if schedule.missing("a", now):
            break
        now = schedule.decide(now, slots=1).wake_at
    assert polled == [2, 4, 8, 16, 26]


def test_answer_ends_a_series_of_misses_and_a_fault_does_not():
    schedule = plan("a")
    schedule.missing("a", 2.0)
    schedule.missing("a", 10.0)
    schedule.faulted("a", 12.0)
    assert schedule.missing("a", 17.0) is True
    schedule.seen("a", 18.0)
    assert schedule.missing("a", 40.0) is False


def test_policy_may_believe_the_first_miss():
    for polls in [1, 2]:
        policy = attrs.evolve(POLICY, lost_after_s=0, lost_after_polls=polls)
        schedule = plan("a", policy=policy)
        assert [schedule.missing("a", 2.0) for _ in range(2)] == [polls == 1, True]


def test_unknown_tasks_are_ignored():
    schedule = plan("a")
    schedule.discard("x")
    schedule.seen("x", 1.0)
    schedule.ended("x", 1.0, is_success=True)
    schedule.faulted("x", 1.0)
    assert schedule.missing("x", 1.0) is False
    assert list(schedule) == ["a"]
    with pytest.raises(KeyError):
        schedule.deadline("x")


@attrs.define
class Known:
    """The model's view of a task, without the computation of its next poll."""

    deadline: float
    earliest: float = 0.0
    latest: float = 0.0
    is_planned: bool = True

    def plan(self, now, shortest, longest):
        self.earliest, self.latest, self.is_planned = now + shortest, now + longest, True


class ScheduleMachine(RuleBasedStateMachine):
    """The rules hold while tasks are added, respond, fail, vanish and return in any order.

    A small policy makes the bounds meet often. Times are quarters of a second, which floats hold exactly.
    """

    policy = PollPolicy(poll_cost_s=0.01, min_gap_s=1, max_gap_s=4, deadline_s=12, lost_after_s=2, lost_after_polls=2)
    keys = st.integers(0, 5)
    hints = st.none() | st.sampled_from([0.0, 0.5, 3.0, 86400.0])
    progresses = st.none() | st.sampled_from([0.0, 0.5, 0.7, 1.0, 50.0, 99.0, 100.0, -1.0, math.nan, math.inf])
    times = st.integers(0, 24).map(lambda quarters: quarters / 4)

    def __init__(self):
        super().__init__()
        self.now = 1000.0
        self.schedule = Schedule(self.policy)
        self.known = {}
        self.under_way = []

    def replan(self, key, retry_after_s=None):
        asked = min(retry_after_s or 0.0, self.policy.max_gap_s)
        self.known[key].plan(self.now, max(self.policy.min_gap_s, asked), self.policy.max_gap_s)

    def pick(self, at):
        """Deliver the result of a poll in progress; its task may have been removed or added again."""
        return self.under_way.pop(at % len(self.under_way))

    @rule(seconds=times)
    def wait(self, seconds):
        self.now += seconds

    @rule(key=keys, is_fresh=st.booleans(), model=st.sampled_from([None, "m"]), age_s=st.none() | times)
    def add(self, key, is_fresh, model, age_s):
        self.schedule.add(key, self.now, model=model, is_fresh=is_fresh, age_s=age_s)
        self.known.pop(key, None)
        self.known[key] = Known(self.now + self.policy.deadline_s)
        if is_fresh:
            self.replan(key)
        else:
            self.known[key].plan(self.now, 0.0, 0.0)

    @rule(key=keys)
    def discard(self, key):
        self.schedule.discard(key)
        self.known.pop(key, None)

    @precondition(lambda self: self.under_way)
    @rule(at=st.integers(0, 99), progress=progresses, retry_after_s=hints)
    def answer_pending(self, at, progress, retry_after_s):
        key = self.pick(at)
        self.schedule.seen(key, self.now, progress=progress, retry_after_s=retry_after_s)
        if key in self.known:
            self.replan(key, retry_after_s)

    @precondition(lambda self: self.under_way)
    @rule(at=st.integers(0, 99), is_success=st.booleans())
    def answer_over(self, at, is_success):
        key = self.pick(at)
        self.schedule.ended(key, self.now, is_success=is_success)
        self.known.pop(key, None)

    @precondition(lambda self: self.under_way)
    @rule(at=st.integers(0, 99), retry_after_s=hints)
    def answer_with_noise(self, at, retry_after_s):
        key = self.pick(at)
        self.schedule.faulted(key, self.now, retry_after_s=retry_after_s)
        if key in self.known:
            self.replan(key, retry_after_s)

    @precondition(lambda self: self.under_way)
    @rule(at=st.integers(0, 99))
    def answer_missing(self, at):
        key = self.pick(at)
        is_lost = self.schedule.missing(key, self.now)
        assume(key in self.known or not is_lost)
        if is_lost:
            self.discard(key)
        elif key in self.known:
            self.replan(key)

    @rule(slots=st.integers(-1, 4))
    def decide(self, slots):
        decision = self.schedule.decide(self.now, slots=slots)
        self.check_expired(decision)
        self.check_polls(decision, max(slots, 0))
        self.check_wake_at(decision)
        due = sum(known.latest <= self.now for known in self.planned())
        maybe_due = sum(known.earliest <= self.now for known in self.planned())
        assert due <= decision.waiting <= maybe_due

    def check_expired(self, decision):
        due = [key for key, known in self.known.items() if known.deadline <= self.now]
        assert list(decision.expired) == due
        for key in due:
            del self.known[key]

    def check_polls(self, decision, room):
        assert len(set(decision.polls)) == len(decision.polls) <= room
        for key in decision.polls:
            assert self.known[key].is_planned
            assert self.known[key].earliest <= self.now
            self.known[key].is_planned = False
            self.under_way.append(key)
        if len(decision.polls) < room:
            assert all(known.latest > self.now for known in self.planned())

    def check_wake_at(self, decision):
        if not self.known:
            assert decision.wake_at is None
            return
        assert self.now < decision.wake_at <= min(known.deadline for known in self.known.values())
        to_come = [known.latest for known in self.planned() if known.earliest > self.now]
        assert all(decision.wake_at <= latest for latest in to_come)

    def planned(self):
        return [known for known in self.known.values() if known.is_planned]

    @invariant()
    def holds_exactly_the_tasks_it_was_given(self):
        assert list(self.schedule) == list(self.known)
        assert len(self.schedule) == len(self.known)
        assert all(self.schedule.deadline(key) == known.deadline for key, known in self.known.items())


TestSchedule = ScheduleMachine.TestCase
TestSchedule.settings = settings(derandomize=True, deadline=None, max_examples=50, stateful_step_count=40)


def test_simultaneous_deadlines_are_reported_a_hundred_at_a_time():
    """Ending ten thousand waits in one step would hold the loop."""
    schedule = Schedule(PollPolicy(deadline_s=10))
    for key in range(250):
        schedule.add(key, 0.0)
    decisions = [schedule.decide(10.0, slots=0) for _ in range(3)]
    assert [len(decision.expired) for decision in decisions] == [100, 100, 50]
    assert decisions[0].wake_at == 10.0


def test_task_is_polled_shortly_before_its_deadline():
    """A job that ends before its deadline is found, whatever its expected duration."""
    for deadline_s in [3.0, 10.0, 20.0, 60.0, 900.0]:
        schedule = Schedule(PollPolicy(deadline_s=deadline_s))
        schedule.add("a", 0.0)
        now, last = 0.0, None
        while not (decision := schedule.decide(now, slots=1)).expired:
            if decision.polls:
                last = now
                schedule.seen("a", now)
                decision = schedule.decide(now, slots=1)
            now = decision.wake_at
        assert last >= deadline_s - 2.0


def test_discarded_task_is_not_kept_until_it_would_have_been_due():
    """Keys can be handles that hold pictures."""

    class Key:
        pass

    schedule = Schedule(PollPolicy(min_gap_s=50, max_gap_s=90))
    key = Key()
    watcher = weakref.ref(key)
    schedule.add(key, 0.0)
    schedule.faulted(key, 1.0)
    schedule.discard(key)
    del key
    gc.collect()
    assert watcher() is None
    assert schedule.decide(200.0, slots=9).polls == ()


def life_of_a_task(speed, *, is_fresh=True, age_s=None):
    """Return when a task that completes after an hour is polled, in real seconds, and what was learned."""
    schedule = Schedule(PollPolicy(deadline_s=100_000))
    schedule.speed = speed
    schedule.add("a", 0.0, model="m", is_fresh=is_fresh, age_s=age_s)
    polled, now = [], schedule.decide(0.0, slots=0).wake_at
    while now < 3600 / speed:
        assert schedule.decide(now, slots=1).polls == ("a",)
        polled.append(now)
        schedule.missing("a", now) if len(polled) in {3, 4} else schedule.seen("a", now, progress=len(polled) / 90)
        now = schedule.decide(now, slots=0).wake_at
    schedule.ended("a", now, is_success=True)
    return polled, schedule.durations.median_s("m")


def test_speed_of_an_emulator_divides_all_times_of_the_policy():
    """What is learned is the same, too: ages count service seconds."""
    for start in [{}, {"is_fresh": False, "age_s": 0.0}, {"is_fresh": False}]:
        polled, median_s = life_of_a_task(1.0, **start)
        fast, fast_median_s = life_of_a_task(64.0, **start)
        assert [now * 64 for now in fast] == pytest.approx(polled)
        assert fast_median_s == pytest.approx(median_s)


def test_no_speed_makes_gaps_shorter_than_ten_milliseconds():
    """Unless the policy itself allows shorter ones; a header must not turn a session into a flood."""
    for min_gap_s, max_gap_s, shortest_s in [(1, 90, 0.01), (0.004, 90, 0.004), (0.004, 0.005, 0.004)]:
        schedule = plan(policy=attrs.evolve(POLICY, min_gap_s=min_gap_s, max_gap_s=max_gap_s))
        schedule.speed = 1e5
        schedule.add("a", 0.0)
        assert next_poll(schedule, 0.0) == shortest_s
        schedule.seen("a", 1.0)
        assert next_poll(schedule, 1.0) == 1.0 + shortest_s


def test_deadline_is_real_time_at_any_speed():
    """A header must not end a wait early."""
    schedule = plan()
    schedule.speed = 1e5
    schedule.add("a", 0.0)
    assert schedule.deadline("a") == POLICY.deadline_s


def test_speed_that_is_learned_late_leaves_a_task_of_unknown_age_half_over():
    """A resumed task is polled before any answer has announced the speed."""
    schedule = plan()
    schedule.add("a", 100.0, is_fresh=False)
    assert schedule.decide(100.0, slots=1).polls == ("a",)
    schedule.speed = 64.0
    schedule.seen("a", 100.5)
    assert next_poll(schedule, 100.5) == 100.5 + 2 / 64
