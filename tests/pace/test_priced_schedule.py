"""A task is polled when its expected lag reaches the price of a poll; its durations are learned."""

import heapq
import math
import random
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lemon_async._pace import schedule as rooms
from lemon_async._pace.learned_durations import LearnedDurations
from lemon_async._pace.schedule import PollPolicy, Schedule

steady = settings(derandomize=True, deadline=None)

POLICY = PollPolicy(poll_cost_s=0.5, min_gap_s=1, max_gap_s=30, deadline_s=100_000)


def play(schedule, job_s, *, start=0.0, key="job", progress=None):
    """Poll one job until it is over; return the ages of its polls."""
    ages, now = [], start
    schedule.add(key, now, model="m")
    while key in schedule:
        now = schedule.decide(now, slots=0).wake_at
        assert schedule.decide(now, slots=1).polls == (key,)
        ages.append(now - start)
        if ages[-1] >= job_s:
            schedule.ended(key, now, is_success=True)
        else:
            schedule.seen(key, now, progress=progress and progress(ages[-1], job_s))
    return ages


def taught(*jobs, policy=POLICY, progress=None):
    """Return a schedule that has seen these jobs, one after the other."""
    schedule, now = Schedule(policy), 0.0
    for job_s in jobs:
        now += play(schedule, job_s, start=now, progress=progress)[-1]
    return schedule


def jobs_around(median_s, number, sigma=0.2):
    rng = random.Random(7)
    return [median_s * math.exp(sigma * rng.gauss(0, 1)) for _ in range(number)]


def test_policy_is_gentle_by_default():
    """The price follows demand, and no poll follows another within a second."""
    policy = PollPolicy()
    assert (policy.poll_cost_s, policy.min_gap_s, policy.max_gap_s, policy.deadline_s) == (None, 1, 90, 900)


def test_task_is_due_when_its_lag_has_reached_the_price():
    for poll_cost_s in [0.2, 0.5, 3.0]:
        schedule = Schedule(PollPolicy(poll_cost_s=poll_cost_s))
        schedule.add("a", 1000.0, model="m")
        due = schedule.decide(1000.0, slots=0).wake_at
        assert schedule.durations.lag_s("m", 0.0, due - 1000.0) == pytest.approx(poll_cost_s)
        schedule.decide(due, slots=1)
        schedule.seen("a", due)
        later = schedule.decide(due, slots=0).wake_at
        assert schedule.durations.lag_s("m", due - 1000.0, later - 1000.0) == pytest.approx(poll_cost_s)


def test_higher_price_means_fewer_polls():
    counts = [len(play(Schedule(PollPolicy(poll_cost_s=poll_cost_s)), 60.0)) for poll_cost_s in (0.1, 0.5, 3.0)]
    assert counts[0] > counts[1] > counts[2] >= 2


def test_gap_is_never_below_the_minimum():
    ages = play(Schedule(PollPolicy(poll_cost_s=1e-6, min_gap_s=2)), 20.0)
    assert ages == [2, 4, 6, 8, 10, 12, 14, 16, 18, 20]


def test_gap_is_never_above_the_maximum_however_old_the_task():
    """This also holds beyond the table of ages."""
    ages = play(Schedule(POLICY), 50_000.0)
    gaps = [later - earlier for earlier, later in pairwise(ages)]
    assert max(gaps) <= 30.000001
    assert gaps[-1] == pytest.approx(30)


def test_schedule_learns_when_jobs_end():
    schedule = taught(*jobs_around(120, 30))
    ages = play(schedule, 120.0, start=1e6)
    assert ages[0] == 30
    assert 50 < ages[1] <= 60
    assert 75 < ages[2] <= 90
    assert len(play(Schedule(POLICY), 120.0)) > len(ages)
    assert schedule.durations.median_s("m") == pytest.approx(120, rel=0.1)


def test_knowledge_is_shared_between_schedules():
    schedule = taught(*jobs_around(20, 30))
    heir = Schedule(POLICY, schedule.durations)
    assert heir.durations is schedule.durations
    heir.add("a", 0.0, model="m")
    assert 10 < heir.decide(0.0, slots=0).wake_at < 20


def test_failed_job_counts_only_while_it_was_alive():
    schedule = taught(*[45.0] * 10)
    before = schedule.durations.export()
    for number in range(20):
        schedule.add("a", 1e4 * number, model="m")
        schedule.ended("a", 1e4 * number + 5, is_success=False)
    assert schedule.durations.export() == before
    assert len(schedule) == 0


def test_resumed_task_of_known_age_is_learned_from():
    """Only the time in which it was polled counts: it says nothing about jobs that had ended sooner."""
    schedule = Schedule(POLICY)
    for number in range(20):
        now = 1000.0 * number
        schedule.add("a", now, model="m", is_fresh=False, age_s=100.0)
        assert schedule.decide(now, slots=1).polls == ("a",)
        schedule.seen("a", now)
        schedule.ended("a", now + 5.0, is_success=True)
    curve = schedule.durations.curve("m")
    assert curve.outlasts(110) < 0.4 * curve.outlasts(98)


def test_resumed_task_of_unknown_age_is_not_learned_from_and_polled_as_half_over():
    schedule = Schedule(POLICY)
    schedule.add("a", 0.0, model="m", is_fresh=False)
    assert schedule.decide(0.0, slots=1).polls == ("a",)
    schedule.seen("a", 0.0, progress=0.5)
    assert 2 < schedule.decide(0.0, slots=0).wake_at < 15
    schedule.ended("a", 5.0, is_success=True)
    assert len(schedule.durations) == 0


def test_task_handed_over_with_its_age_is_polled_as_if_watched_from_its_birth():
    schedule = Schedule(POLICY)
    schedule.add("new", 0.0)
    schedule.add("older", 0.0, age_s=8.0)
    new = schedule.decide(0.0, slots=0).wake_at + 8.0
    assert schedule.decide(new, slots=9).polls == ("older", "new")


def test_pending_task_waits_as_long_as_the_service_asks_within_bounds():
    for retry_after_s, gap_s in [(None, 1), (0.5, 1), (7.0, 7), (31.0, 30), (1e9, 30)]:
        schedule = Schedule(PollPolicy(poll_cost_s=1e-9, max_gap_s=30))
        schedule.add("a", 0.0)
        schedule.decide(40.0, slots=1)
        schedule.seen("a", 40.0, retry_after_s=retry_after_s)
        assert schedule.decide(40.0, slots=0).wake_at == 40.0 + gap_s


# Demand


def crowd(number, *, room_rpm, policy=PollPolicy()):
    """Return a schedule with this many tasks of 45 s, all of which have just been seen."""
    schedule = Schedule(policy)
    schedule.room_rpm = room_rpm
    for key in range(number):
        schedule.add(key, 0.0, model="m", is_fresh=False, age_s=45.0)
    for key in range(number):
        schedule.seen(key, 0.0)
    return schedule


def gap_s(schedule):
    """Return the longest planned gap, which is that of a task planned when all others were there."""
    return max(due for due, serial in schedule._heap if serial in schedule._plans)


def test_price_follows_demand():
    """A lone task of an idle account is polled every second, one of a thousand at the highest price."""
    highest = gap_s(crowd(1, room_rpm=1000, policy=PollPolicy(poll_cost_s=0.5)))
    gaps = [gap_s(crowd(number, room_rpm=1000)) for number in (1, 5, 10, 30, 1000)]
    assert gaps[:2] == [1.0, 1.0]
    assert gaps == sorted(gaps)
    assert gaps[-1] == pytest.approx(highest)
    assert 1.0 < gaps[3] < highest


def test_unknown_limit_counts_as_the_lowest_documented_one():
    assert Schedule(PollPolicy()).room_rpm == 60


def test_lone_task_takes_at_most_half_of_the_budget():
    """Whatever the responses: failed polls do not come sooner, either."""
    schedule = Schedule(PollPolicy(min_gap_s=0.1))
    schedule.room_rpm = 60
    schedule.add("a", 0.0, model="m")
    polled, now = [], 0.0
    while now < 300:
        now = schedule.decide(now, slots=0).wake_at
        assert schedule.decide(now, slots=1).polls == ("a",)
        polled.append(now)
        (schedule.seen, schedule.faulted, schedule.missing)[len(polled) % 3]("a", now)
    assert all(later >= earlier + 60 for earlier, later in zip(polled, polled[30:], strict=False))
    assert len(polled) > 100


def test_gap_that_the_caller_sets_stays():
    """The upper bound holds although it takes more than half of the room."""
    schedule = crowd(1, room_rpm=60, policy=PollPolicy(min_gap_s=0.2, max_gap_s=0.4))
    assert gap_s(schedule) == 0.4


def test_price_that_the_caller_sets_stays():
    for number, room_rpm in [(1, 60), (1, 10_000), (100, 60)]:
        assert gap_s(crowd(number, room_rpm=room_rpm, policy=PollPolicy(poll_cost_s=1e-6, min_gap_s=0.3))) == 0.3


def test_price_falls_when_other_tasks_have_ended():
    schedule = crowd(1000, room_rpm=1000)
    before_s = gap_s(schedule)
    for key in range(1, 1000):
        schedule.ended(key, 0.0, is_success=False)
    schedule.seen(0, 0.0)
    assert gap_s(schedule) == 1.0 < before_s


def play_lone(jobs, *, room_rpm):
    """Return the polls and the lag of each job, one after the other, from nothing."""
    schedule, now, figures = Schedule(PollPolicy()), 0.0, []
    schedule.room_rpm = room_rpm
    for job_s in jobs:
        ages = play(schedule, job_s, start=now)
        now += ages[-1]
        figures.append((len(ages), ages[-1] - job_s))
    polls, lags_s = zip(*figures, strict=True)
    return sum(polls) / len(polls), sum(lags_s) / len(lags_s), sorted(lags_s)[int(0.95 * len(lags_s))]


@pytest.mark.parametrize("sigma", [0.35, 0.15])
def test_lone_user_of_an_idle_account_waits_half_a_second(sigma):
    polls, lag_s, late_s = play_lone(jobs_around(45, 60, sigma), room_rpm=1000)
    assert lag_s <= 0.6
    assert late_s <= 1.5
    assert polls <= 45


@pytest.mark.parametrize("sigma", [0.35, 0.15])
def test_lone_user_of_an_unknown_limit_waits_about_a_second(sigma):
    assert play_lone(jobs_around(45, 60, sigma), room_rpm=60)[1] <= 1.2


@pytest.mark.parametrize("jobs", [1, 5, 10])
def test_fast_model_is_found_soon_although_nothing_is_known_of_it(jobs):
    assert play_lone([3.0] * jobs, room_rpm=1000)[1] <= 1.0
    assert play_lone(jobs_around(3, jobs), room_rpm=1000)[1] <= 1.0


# Progress


def cost(jobs, progress):
    """Return the polling cost per job, without the first third, which is for learning."""
    schedule, now, costs = Schedule(PollPolicy(poll_cost_s=0.5)), 0.0, []
    for job_s in jobs:
        ages = play(schedule, job_s, start=now, progress=progress)
        now += ages[-1]
        costs.append(0.5 * len(ages) + ages[-1] - job_s)
    late = costs[len(costs) // 3 :]
    return sum(late) / len(late)


def test_true_progress_saves_polls():
    jobs = jobs_around(60, 120, sigma=0.4)
    assert cost(jobs, lambda age_s, job_s: 100 * age_s / job_s) < 0.8 * cost(jobs, None)


def test_nonsensical_progress_does_no_harm():
    jobs = jobs_around(60, 60, sigma=0.4)
    without = cost(jobs, None)
    for progress in [
        lambda age_s, job_s: 0.99,
        lambda age_s, job_s: 50,
        lambda age_s, job_s: math.nan,
        lambda age_s, job_s: -1,
        lambda age_s, job_s: 7e9,
        lambda age_s, job_s: 100 / age_s,
        lambda age_s, job_s: 99 * (1 - math.exp(-age_s / 10)),
        lambda age_s, job_s: 2 + age_s / 20,
        lambda age_s, job_s: random.Random(age_s).uniform(0, 100),
    ]:
        assert cost(jobs, progress) < 1.08 * without


# Scarcity


def test_scarce_slots_go_to_the_most_accumulated_lag_first():
    """Of tasks that are due, one in the thick of it outweighs one that has hardly begun and one long in the tail."""
    schedule = Schedule(POLICY)
    for key, age_s in [("tail", 3000.0), ("early", 1.0), ("middle", 45.0)]:
        schedule.add(key, 0.0, age_s=age_s)
        schedule.decide(0.0, slots=0)
        schedule.seen(key, 0.0)
    decision = schedule.decide(31.0, slots=1)
    assert (decision.polls, decision.waiting) == (("middle",), 2)
    assert schedule.decide(31.0, slots=1).polls == ("early",)


def test_without_slots_no_lag_is_computed():
    """A poller that waits for the rate limit decides after every response: that must not cost a market each time."""

    class NoLags(LearnedDurations):
        def lag_s(self, *arguments):
            raise AssertionError(arguments)

    schedule = Schedule(POLICY, NoLags())
    schedule.add("a", 0.0)
    assert schedule.decide(31.0, slots=0).waiting == 1


def test_every_fourth_scarce_slot_goes_to_the_task_due_for_the_longest():
    schedule = Schedule(POLICY)
    schedule.add("tail", 0.0, age_s=7200.0)
    schedule.seen("tail", 0.0)
    for number in range(9):
        schedule.add(number, 31.0, age_s=45.0)
        schedule.seen(number, 31.0)
    schedule.durations.lag_s = lambda model, alive_s, age_s: 0.0 if alive_s >= 7200 else 1.0
    assert schedule.decide(70.0, slots=9).polls == (*range(3), "tail", *range(3, 8))


@settings(steady, max_examples=15)
@given(st.integers(1, 60), st.integers(1, 3), st.randoms(use_true_random=False))
def test_no_task_starves(number, slots, rng):
    """Each is polled within four slots per task ahead of it in the queue, itself included."""
    schedule = Schedule(POLICY)
    for key in range(number):
        schedule.add(key, 0.0, age_s=rng.uniform(0, 4000))
        schedule.seen(key, 0.0)
    now, granted, waiting_since, longest = 31.0, 0, dict.fromkeys(range(number), 0), 0
    for _ in range(200):
        polls = schedule.decide(now, slots=slots).polls
        for key in polls:
            granted += 1
            longest = max(longest, granted - waiting_since[key])
            waiting_since[key] = granted
            schedule.seen(key, now)
        now += 0.5
    assert longest <= 4 * (number + 1)
    assert granted - min(waiting_since.values()) <= 4 * (number + 1) or number <= slots * 60


def test_only_the_first_few_of_a_long_queue_are_compared(monkeypatch):
    schedule, weighed = Schedule(POLICY), []
    for key in range(1000):
        schedule.add(key, 0.0)
    lag_s = schedule.durations.lag_s
    monkeypatch.setattr(
        schedule.durations, "lag_s", lambda *known: weighed.append(known) or lag_s(*known), raising=True
    )
    assert len(schedule.decide(60.0, slots=3).polls) == 3
    assert len(weighed) <= 3 + 16


class Counted(float):
    """A time that counts how often it is compared."""

    comparisons = 0

    def __lt__(self, other):
        Counted.comparisons += 1
        return float(self) < other


@pytest.mark.parametrize("size", [1_000, 30_000])
def test_decision_compares_as_many_tasks_as_the_heap_is_deep(size, monkeypatch):
    """A poll costs one push and one pop of the heap, however many tasks are pending."""

    def push(heap, item):
        due, *rest = item
        heapq.heappush(heap, (Counted(due), *rest))

    class CountingHeap:
        heappop = staticmethod(heapq.heappop)
        heappush = staticmethod(push)

    monkeypatch.setattr(rooms, "heapq", CountingHeap)
    schedule = Schedule(PollPolicy(poll_cost_s=1e-9, deadline_s=1e9))
    for key in range(size):
        schedule.add(key, key / size)
    Counted.comparisons = polls = 0
    now = 0.0
    while polls < 500:
        now = schedule.decide(now, slots=0).wake_at
        for key in schedule.decide(now, slots=size).polls:
            polls += 1
            schedule.faulted(key, now)
    assert Counted.comparisons / polls < 3 * math.log2(size) + 5


def test_replaced_plans_do_not_pile_up():
    """The heap keeps at most what is not due yet."""
    schedule = Schedule(POLICY)
    for step in range(10_000):
        schedule.add("a", float(step))
        schedule.decide(float(step), slots=0)
    assert len(schedule._heap) <= 40


def test_schedule_takes_any_durations():
    durations = LearnedDurations()
    assert Schedule(POLICY, durations).durations is durations


# Many tasks of a model of which nothing is known


def fan_out(jobs, *, delay_s=0.2, policy=POLICY, polls=None):
    """Start all jobs together; return the polls and the lag per job. Answers arrive late, as real ones do."""
    schedule, now, answers, lag_s = Schedule(policy), 0.0, [], 0.0
    polls = [] if polls is None else polls
    for key in range(len(jobs)):
        schedule.add(key, now, model="m")
    while len(schedule):
        decision = schedule.decide(now, slots=len(jobs))
        polls += [(now, key) for key in decision.polls]
        for key in decision.polls:
            heapq.heappush(answers, (now + delay_s, now, key))
        times = [decision.wake_at, answers[0][0] if answers else None]
        now = max(now, min(at for at in times if at is not None))
        while answers and answers[0][0] <= now:
            _, sent, key = heapq.heappop(answers)
            if jobs[key] > sent:
                schedule.seen(key, now)
            else:
                lag_s += sent - jobs[key]
                schedule.ended(key, now, is_success=True)
    return len(polls) / len(jobs), lag_s / len(jobs)


def test_fan_out_from_nothing_costs_little_more_than_with_full_knowledge():
    """The optimum costs 4.8 s per job for the first, and 5.9 s for the second."""
    for median_s, sigma, most_s in [(45, 0.35, 6.2), (90, 0.25, 7.7)]:
        polls, lag_s = fan_out(jobs_around(median_s, 30, sigma))
        assert 0.5 * polls + lag_s < most_s


def test_first_answers_are_awaited_before_others_of_the_same_model_are_polled():
    polls = []
    fan_out([60.0] * 10, polls=polls)
    first_s = polls[0][0]
    assert len([key for at, key in polls if at < first_s + 0.2]) == 2
    assert len([key for at, key in polls if at < first_s + 5]) < 8


def test_scouts_that_fail_hold_nothing_up():
    """Their errors are answers, too; the others are polled, and all again after the usual backoff."""
    schedule, now, polled = Schedule(PollPolicy(poll_cost_s=0.5)), 0.0, set()
    for key in range(30):
        schedule.add(key, now, model="m")
    start = now = schedule.decide(now, slots=0).wake_at
    while len(polled) < 30:
        decision = schedule.decide(now, slots=30)
        for key in decision.polls:
            polled.add(key)
            schedule.faulted(key, now)
        now = max(now, decision.wake_at)
    assert now < start + 30


def test_completions_bring_forward_the_polls_of_tasks_that_were_planned_later():
    schedule = Schedule(PollPolicy(poll_cost_s=0.5))
    schedule.add("other", 0.0, model="m")
    assert schedule.decide(10.0, slots=0).waiting == 0
    for key in range(5):
        schedule.add(key, 0.0, model="m")
        schedule.ended(key, 3.0, is_success=True)
    assert schedule.decide(3.5, slots=1).polls == ("other",)


def test_model_that_becomes_known_releases_all_tasks():
    """None of a thousand tasks that started together is left behind."""
    polls, lag_s = fan_out(jobs_around(45, 1000, 0.35))
    assert 0.5 * polls + lag_s < 6.2


@pytest.mark.parametrize("poll_cost_s", [5.0, 30.0, 1e9])
def test_scouts_that_never_answer_keep_no_task_beyond_its_longest_gap(poll_cost_s):
    """They were cancelled while their polls were under way; at a high price, the others would wait for long."""
    schedule = Schedule(PollPolicy(poll_cost_s=poll_cost_s, max_gap_s=60))
    for key in range(100):
        schedule.add(key, 0.0, model="m")
    polled, now = set(), 0.0
    while len(polled) < 100:
        now = schedule.decide(now, slots=0).wake_at
        for key in schedule.decide(now, slots=100).polls:
            polled.add(key)
            schedule.discard(key)
    assert now <= 1.2 * 60


def test_emulator_that_runs_faster_is_asked_for_as_many_cold_tasks_in_its_minutes():
    """Two thousand jobs of 45 ms that begin together are over within seconds of the emulator's time, not minutes."""
    schedule, now = Schedule(PollPolicy()), 0.0
    schedule.speed, schedule.room_rpm = 1000.0, 60_000.0
    for key in range(2000):
        schedule.add(key, 0.0, model="m")
    while schedule:
        for key in schedule.decide(now, slots=2000).polls:
            if now > 0.045:
                schedule.ended(key, now, is_success=True)
            else:
                schedule.seen(key, now)
        now = max(now + 0.0005, schedule.decide(now, slots=0).wake_at or 0.0)
    assert now < 0.3


def test_no_task_of_a_cold_model_is_polled_again_before_its_answer():
    """Late ones, which wait for no others, are as much under way as those that were planned."""
    rng = random.Random(3)
    schedule, now, under_way = Schedule(PollPolicy(min_gap_s=0.01, max_gap_s=0.1)), 0.0, {}
    schedule.speed = 100.0
    for key in range(200):
        schedule.add(key, now, model="m")
    while len(schedule):
        now += 0.004
        for key in [key for key, due in under_way.items() if due <= now]:
            del under_way[key]
            if rng.random() < 0.2:
                schedule.ended(key, now, is_success=True)
            else:
                schedule.seen(key, now)
        for key in schedule.decide(now, slots=40).polls:
            assert key not in under_way
            under_way[key] = now + rng.uniform(0, 0.02)
