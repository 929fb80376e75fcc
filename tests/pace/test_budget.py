"""One budget for all requests of a session: pauses, given, reported and learned limits, and remaining requests."""

import math
import random
from collections import deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lemon_async._api.response import RateReport
from lemon_async._pace.budget import RequestBudget
from lemon_async.errors import ContractError

steady = settings(derandomize=True, deadline=None)


def wait(budget, now):
    """Return how long the next request has to wait; room and next time agree about it."""
    wait_s = budget.next_at(now) - now
    assert (budget.available(now) > 0) == (wait_s == 0.0)
    assert budget.available(budget.next_at(now)) > 0
    return wait_s


# The pause


def test_budget_is_generous_while_nothing_is_known():
    assert wait(RequestBudget(), 0.0) == 0.0
    assert wait(RequestBudget(), 1e9) == 0.0


def test_budget_pauses_for_as_long_as_the_service_asks():
    budget = RequestBudget()
    budget.observe_429(100.0, 7.0)
    assert [wait(budget, now) for now in (100.0, 103.0, 107.0, 200.0)] == [7.0, 4.0, 0.0, 0.0]
    assert budget.paused_until == 107.0


def test_budget_pauses_for_a_minute_at_most():
    for asked_s, pause_s in [(59.0, 59.0), (60.0, 60.0), (61.0, 60.0), (86400.0, 60.0)]:
        budget = RequestBudget()
        budget.observe_429(100.0, asked_s)
        assert wait(budget, 100.0) == pause_s


def test_pause_grows_from_429_to_429_without_retry_after():
    budget, now, pauses = RequestBudget(), 100.0, []
    for _ in range(8):
        budget.observe_429(now, None)
        pauses.append(wait(budget, now))
        now = budget.paused_until
    assert pauses == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]


def test_another_response_ends_the_series_of_429s():
    budget = RequestBudget()
    budget.observe_429(100.0)
    budget.observe_429(101.0)
    budget.observe(101.0)
    assert wait(budget, 101.0) == 2.0
    budget.observe_429(103.0)
    assert wait(budget, 103.0) == 1.0


def test_retry_after_of_zero_causes_no_busy_loop():
    """`Retry-After: 0`, or a date that has passed, ends no series of 429s: its pauses grow all the same."""
    for nothing in [0.0, None]:
        budget, now = RequestBudget(), 100.0
        for _ in range(5):
            budget.observe_429(now, nothing)
            now = budget.paused_until
        assert now == 100.0 + 1 + 2 + 4 + 8 + 16


def test_budget_counts_a_burst_of_429s_once():
    """All of them answer requests from before the pause; only a longer pause that is asked for is news."""
    budget = RequestBudget()
    for now in (100.0, 100.1, 100.2, 100.9):
        budget.observe_429(now, None)
    assert budget.paused_until == 101.0
    budget.observe_429(100.95, 3.0)
    assert budget.paused_until == 103.95
    budget.observe_429(103.95, None)
    assert budget.paused_until == 105.95


def test_budget_pause_is_not_shortened_by_an_earlier_end():
    budget = RequestBudget()
    budget.observe_429(100.0, 30.0)
    budget.observe_429(101.0, 5.0)
    assert budget.paused_until == 130.0


def test_budget_pause_is_not_shortened_by_another_response():
    budget = RequestBudget()
    budget.observe_429(100.0, 30.0)
    budget.observe(100.0)
    assert wait(budget, 100.0) == 30.0


def test_budget_pauses_until_the_reset_without_retry_after():
    budget = RequestBudget()
    budget.observe_429(100.0, report=RateReport(reset_s=12.0))
    assert budget.paused_until == 112.0
    budget.observe_429(112.0, 3.0, report=RateReport(reset_s=12.0))
    assert budget.paused_until == 115.0


def test_one_request_starts_after_a_pause_and_the_others_evenly():
    budget = RequestBudget(1000)
    budget.observe_429(100.0, 5.0)
    assert budget.available(105.0) == 1
    budget.consume(105.0)
    assert 0.02 < wait(budget, 105.0) < 0.1


answers = st.tuples(st.floats(0, 100), st.just("fine") | st.none() | st.floats(0, 1e9))


@steady
@given(st.lists(answers, max_size=40))
def test_budget_pause_is_bounded_and_never_moves_backwards(steps):
    budget, now = RequestBudget(), 1000.0
    for elapsed, news in steps:
        now += elapsed
        before = budget.paused_until
        if news == "fine":
            budget.observe(now)
            assert budget.paused_until == before
        else:
            budget.observe_429(now, news)
            assert budget.paused_until >= max(before, now + min(news or 0.0, 60.0))
            assert news or wait(budget, now) > 0.0
        assert 0.0 <= wait(budget, now) <= 60.001
        assert wait(budget, max(budget.paused_until, now)) == 0.0


# The limit that is given


def test_invalid_limit_is_refused():
    for limit in [0, -1, 1.5, True, "60", math.nan]:
        with pytest.raises(ContractError):
            RequestBudget(limit)


def test_lone_request_does_not_wait():
    budget = RequestBudget(60)
    assert budget.requests_per_minute == 60
    assert wait(budget, 5.0) == 0.0
    budget.consume(5.0)
    assert 0.9 < wait(budget, 5.0) < 1.01


def test_room_is_bounded_even_when_nothing_limits():
    for limit, least, most in [(None, 10, 600), (1000, 2, 10), (10**9, 100, 1000)]:
        assert least <= RequestBudget(limit).available(1e9) <= most


def test_headers_lower_a_limit_that_is_given_and_never_raise_it():
    budget = RequestBudget(1000)
    for reported, assumed in ((60, 60), (500, 500), (3000, 1000)):
        budget.observe(1.0, RateReport(limit=reported))
        assert budget.requests_per_minute == assumed
    budget.observe(1.0, RateReport(remaining=5))
    assert budget.requests_per_minute == 1000


def test_429_lowers_a_limit_that_is_given_by_half_at_most():
    """Another program may have used the minute up; the rate must not collapse."""
    budget = RequestBudget(1000)
    budget.consume(1.0)
    budget.observe_429(1.1)
    assert budget.requests_per_minute == 475


actions = st.one_of(
    st.tuples(st.just("take"), st.integers(1, 200)),
    st.tuples(st.just("hurry"), st.integers(1, 60)),
    st.tuples(st.just("limited"), st.none() | st.floats(0, 90)),
    st.tuples(
        st.just("answered"),
        st.none()
        | st.builds(
            RateReport,
            limit=st.none() | st.integers(1, 10**6),
            remaining=st.none() | st.integers(0, 10**6),
            reset_s=st.none() | st.floats(0.001, 86_400),
        ),
    ),
)


@steady
@given(
    st.sampled_from([1, 2, 5, 59, 60, 99, 120, 172, 250, 299]),
    st.sampled_from([0.0, 1e3, 1e9]),
    st.lists(st.tuples(st.floats(0, 2) | st.floats(0, 100), actions), max_size=60),
)
def test_no_window_sees_more_than_the_limit_that_is_given(limit, since, steps):
    """Whatever is requested, reported and refused, 60 s and network jitter hold at most the limit."""
    budget, now, times = RequestBudget(limit), since, deque(maxlen=limit)

    def take():
        assert len(times) < limit or now - times[0] > 60.2
        times.append(now)
        budget.consume(now)

    for elapsed, (action, value) in steps:
        now += elapsed
        if action == "take":
            for _ in range(min(value, budget.available(now))):
                take()
        elif action == "hurry":
            for _ in range(value):
                now = budget.next_at(now)
                take()
        elif action == "limited":
            budget.observe_429(now, value)
        else:
            budget.observe(now, value)
        assert 1 <= budget.requests_per_minute <= limit
        assert wait(budget, now) <= 130.0


# The limit that is reported


def test_headers_set_the_limit_immediately():
    budget = RequestBudget()
    assert budget.requests_per_minute is None
    budget.consume(0.0)
    budget.observe(0.1, RateReport(limit=60, remaining=59, reset_s=59.0))
    assert budget.requests_per_minute == 60
    assert budget.available(0.2) == 1


def test_budget_sends_no_more_than_what_remains_until_the_reset():
    """Other programs of the account have used the rest."""
    budget, now = RequestBudget(), 10.0
    budget.observe(now, RateReport(limit=600, remaining=3, reset_s=20.0))
    for _ in range(3):
        now = budget.next_at(now)
        budget.consume(now)
    assert now < 11.0
    assert budget.next_at(now) == 30.0
    assert budget.available(now) == 0


def test_requests_in_flight_are_deducted_from_what_remains():
    budget = RequestBudget(60_000)
    for _ in range(5):
        budget.consume(10.0)
    budget.observe(10.1, RateReport(remaining=7, reset_s=20.0))
    assert budget.available(10.1) == 3


def test_unanswered_requests_are_not_in_flight_for_ever():
    budget = RequestBudget(60_000)
    for _ in range(5):
        budget.consume(10.0)
    budget.observe(11.0, RateReport(remaining=7, reset_s=20.0))
    assert budget.available(11.0) == 7


def test_nothing_that_remains_binds_for_a_minute_at_most():
    """While nothing is sent, no response can correct it; a reset tomorrow belongs to another quota."""
    for reset_s, until in [(20.0, 30.0), (100.0, 70.0), (86_400.0, 10.0)]:
        budget = RequestBudget()
        budget.observe(10.0, RateReport(remaining=0, reset_s=reset_s))
        assert budget.next_at(10.0) == until
        assert wait(budget, until) == 0.0


def test_remaining_without_a_reset_does_not_bind():
    for reported in [RateReport(limit=60, remaining=0), RateReport(limit=60, reset_s=20.0)]:
        budget = RequestBudget()
        budget.observe(10.0, reported)
        assert wait(budget, 10.0) == 0.0


def test_room_is_that_of_the_limit():
    """An unknown limit counts as the lowest documented one, until a response or a 429 teaches it."""
    assert RequestBudget().room_rpm(0.0) == 60
    assert RequestBudget(500).room_rpm(0.0) == 500
    reported = RequestBudget(500)
    reported.observe(0.0, RateReport(limit=300, remaining=None, reset_s=None))
    assert reported.room_rpm(0.0) == 300
    taught = RequestBudget()
    for number in range(400):
        taught.consume(number / 100)
    taught.observe_429(4.0)
    assert taught.room_rpm(4.0) == pytest.approx(taught.requests_per_minute, abs=1)
    assert 300 < taught.room_rpm(4.0) < 400


def test_room_of_the_coming_minute_lacks_what_others_have_used():
    budget = RequestBudget(600)
    budget.observe(0.0, RateReport(limit=600, remaining=100, reset_s=30.0))
    assert [budget.room_rpm(now) for now in (0.0, 15.0, 29.0, 30.0)] == [400, 550, 600, 600]


def test_room_of_a_used_up_minute_is_a_tenth_of_the_limit():
    """It ends soon, and nothing should be planned for long after it."""
    budget = RequestBudget(600)
    budget.observe(0.0, RateReport(limit=600, remaining=0, reset_s=60.0))
    assert [budget.room_rpm(now) for now in (0.0, 6.0, 30.0)] == [60, 60, 300]


def test_later_response_corrects_what_remains():
    budget = RequestBudget()
    budget.observe(10.0, RateReport(remaining=0, reset_s=20.0))
    budget.observe(10.1, RateReport(remaining=50, reset_s=20.0))
    assert wait(budget, 10.1) == 0.0


# The limit that is learned


class Server:
    """Grants a number of requests per minute, with one of three windows, without latency."""

    def __init__(self, limit, kind):
        self.limit, self.kind = limit, kind
        self.granted = deque()
        self.tokens, self.at = float(limit), 0.0

    def request(self, now):
        """Count a request if it fits, and return 0; otherwise return the whole seconds to wait."""
        if self.kind == "bucket":
            self.tokens = min(self.tokens + (now - self.at) * self.limit / 60.0, self.limit)
            self.at = now
            if self.tokens < 1:
                return 1
            self.tokens -= 1
            return 0
        first = now - now % 60.0 if self.kind == "fixed" else now - 60.0
        while self.granted and self.granted[0] < first:
            self.granted.popleft()
        if len(self.granted) < self.limit:
            self.granted.append(now)
            return 0
        end = (first if self.kind == "fixed" else self.granted[0]) + 60.0
        return max(math.ceil(end - now), 1)


def play(budget, server, *, since, seconds, has_retry_after=True):
    """Make full use of a budget for a while; return how many were granted and refused."""
    now, granted, refused = budget.next_at(since), 0, 0
    while now < since + seconds:
        budget.consume(now)
        if wait_s := server.request(now):
            refused += 1
            budget.observe_429(now, wait_s if has_retry_after else None)
        else:
            granted += 1
            budget.observe(now)
        now = budget.next_at(now)
    return granted, refused


@pytest.mark.parametrize("has_retry_after", [True, False])
@pytest.mark.parametrize("kind", ["fixed", "sliding", "bucket"])
@pytest.mark.parametrize("limit", [60, 1000])
def test_unknown_limit_is_found_and_kept_to(limit, kind, has_retry_after):
    """After the first minute, at most 2 % are refused and at least 90 % of the limit is used."""
    budget, server = RequestBudget(), Server(limit, kind)
    play(budget, server, since=7.0, seconds=60.0, has_retry_after=has_retry_after)
    granted, refused = play(budget, server, since=67.0, seconds=1200.0, has_retry_after=has_retry_after)
    assert refused <= 0.02 * (granted + refused)
    assert granted >= 0.9 * limit * 20
    assert budget.requests_per_minute == pytest.approx(limit, rel=0.1)


def test_limit_that_is_raised_is_found():
    budget, server = RequestBudget(), Server(60, "sliding")
    play(budget, server, since=0.0, seconds=600.0)
    server.limit = 600
    play(budget, server, since=600.0, seconds=900.0)
    assert budget.requests_per_minute > 500


def test_limit_that_is_lowered_is_found():
    budget, server = RequestBudget(), Server(1000, "sliding")
    play(budget, server, since=0.0, seconds=300.0)
    server.limit = 100
    play(budget, server, since=300.0, seconds=600.0)
    granted, refused = play(budget, server, since=900.0, seconds=600.0)
    assert refused <= 0.02 * (granted + refused)
    assert granted >= 900


def test_limit_that_other_programs_use_up_for_a_while_comes_back():
    """A known limit is only lowered by 429s for as long as it takes to see that it holds again."""
    budget, server = RequestBudget(300), Server(300, "sliding")
    for number in range(300):
        server.request(number / 100)
    play(budget, server, since=3.0, seconds=57.0)
    assert budget.requests_per_minute < 300
    play(budget, server, since=60.0, seconds=240.0)
    assert budget.requests_per_minute == 300


def test_idle_time_does_not_change_the_limit():
    """After a quiet night the limit is what it was in the evening."""
    budget, server = RequestBudget(), Server(60, "sliding")
    play(budget, server, since=0.0, seconds=600.0)
    evening = budget.requests_per_minute
    for minute in range(600):
        play(budget, server, since=600.0 + 60.0 * minute, seconds=0.5)
    assert budget.requests_per_minute == evening


def test_limit_that_no_response_confirms_is_forgotten():
    budget = RequestBudget()
    budget.observe(10.0, RateReport(limit=60))
    assert budget.requests_per_minute == 60
    budget.consume(600.0)
    assert budget.requests_per_minute == 60
    budget.consume(611.0)
    assert budget.requests_per_minute is None


@pytest.mark.parametrize("limit", [600, None])
def test_stray_refusals_do_not_collapse_the_rate(limit):
    """A busy model refuses one request of twenty at any rate: that calls for a pause, not for a lower limit."""
    budget, now, taken = RequestBudget(limit), 0.0, 0
    rng = random.Random(1)
    while now < 3600.0:
        now = budget.next_at(now)
        budget.consume(now)
        taken += 1
        if rng.random() < 0.05:
            budget.observe_429(now)
        else:
            budget.observe(now)
    assert taken / 60 > (150 if limit else 30)


# What holds at any rate, for a limit that several processes share


def test_pauses_and_reports_hold_at_any_rate():
    """The rate itself does not count."""
    budget = RequestBudget(60)
    budget.consume(0.0)
    assert (budget.headroom(0.0) > 1, budget.held_until(0.0)) == (True, 0.0)
    budget.observe(0.0, RateReport(limit=30, remaining=1, reset_s=20.0))
    assert (budget.headroom(0.0), budget.held_until(0.0), budget.limit) == (1, 0.0, 30)
    budget.consume(0.0)
    assert (budget.headroom(0.0), budget.held_until(0.0)) == (0, 20.0)
    budget.pause(0.0, 25.0)
    assert (budget.headroom(21.0), budget.held_until(21.0)) == (0, 25.0)
