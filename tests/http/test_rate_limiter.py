"""The queues before the rate limit: order, patience, cancellation and closing."""

import asyncio

import attrs
import pytest

from lemon_async._http.attempt import NoResponse
from lemon_async._http.rate_limiter import RateLimiter
from lemon_async._pace.budget import RequestBudget
from lemon_async._pace.priority import Priority

PATIENT = 60.0


@attrs.define
class Allowance:
    """A budget of a fixed number of requests that can be topped up; it announces the next slot in five milliseconds."""

    left: int = 0
    taken: int = 0
    requests_per_minute: int | None = None

    def available(self, _now):
        return self.left

    def consume(self, _now):
        self.left -= 1
        self.taken += 1

    def next_at(self, now):
        return now if self.left else now + 0.005


async def settle():
    for _ in range(5):
        await asyncio.sleep(0)


async def test_request_starts_immediately_if_the_budget_allows_it():
    budget = Allowance(left=2)
    limiter = RateLimiter(budget)
    assert limiter.available() == 2
    await limiter.acquire(Priority.OTHER, PATIENT)
    assert (budget.left, budget.taken) == (1, 1)


async def test_waiting_requests_start_by_priority_and_then_by_arrival():
    budget, gone = Allowance(), []
    limiter = RateLimiter(budget)

    async def pass_through(kind, name):
        await limiter.acquire(kind, PATIENT)
        gone.append(name)

    arrivals = [("OTHER", "r1"), ("POLL", "p1"), ("SUBMIT", "s1"), ("POLL", "p2"), ("SUBMIT", "s2")]
    waiting = [asyncio.create_task(pass_through(Priority[kind], name)) for kind, name in arrivals]
    await settle()
    assert gone == []
    budget.left = 5
    await asyncio.gather(*waiting)
    assert gone == ["s1", "s2", "p1", "p2", "r1"]


async def test_later_request_does_not_jump_the_queue():
    budget = Allowance()
    limiter = RateLimiter(budget)
    first = asyncio.create_task(limiter.acquire(Priority.POLL, PATIENT))
    await settle()
    budget.left = 1
    assert limiter.available() == 0
    second = asyncio.create_task(limiter.acquire(Priority.POLL, PATIENT))
    await first
    assert not second.done()
    budget.left = 1
    await second


async def test_polls_start_although_submits_never_end():
    """A priority that waits is passed over a bounded number of times."""
    budget = Allowance()
    limiter = RateLimiter(budget)
    submits = [asyncio.create_task(limiter.acquire(Priority.SUBMIT, PATIENT)) for _ in range(100)]
    poll = asyncio.create_task(limiter.acquire(Priority.POLL, PATIENT))
    await settle()
    budget.left = 40
    await poll
    assert sum(submit.done() for submit in submits) < 40
    budget.left = 100
    await asyncio.gather(*submits)


async def test_cancelled_wait_leaves_the_queue_and_consumes_nothing():
    budget = Allowance()
    limiter = RateLimiter(budget)
    quitter = asyncio.create_task(limiter.acquire(Priority.SUBMIT, PATIENT))
    stayer = asyncio.create_task(limiter.acquire(Priority.SUBMIT, PATIENT))
    await settle()
    quitter.cancel()
    await settle()
    budget.left = 1
    await stayer
    assert budget.taken == 1
    assert quitter.cancelled()


async def test_impatient_request_is_not_sent():
    budget = Allowance()
    limiter = RateLimiter(budget)
    with pytest.raises(NoResponse, match="no slot within") as caught:
        await limiter.acquire(Priority.SUBMIT, 0.02)
    assert not caught.value.was_sent
    assert budget.taken == 0


async def test_pause_longer_than_the_patience_raises_immediately():
    loop = asyncio.get_running_loop()
    budget = RequestBudget()
    budget.observe_429(loop.time(), 60.0)
    with pytest.raises(NoResponse, match=r"requests are paused by the rate limit for [1-6][0-9] s more") as caught:
        await RateLimiter(budget).acquire(Priority.SUBMIT, 5.0)
    assert not caught.value.was_sent


async def test_closing_rejects_waiting_and_later_requests():
    limiter = RateLimiter(Allowance())
    waiting = asyncio.create_task(limiter.acquire(Priority.SUBMIT, PATIENT))
    ticket = limiter.enqueue(Priority.POLL)
    await settle()
    limiter.close()
    for late in (waiting, limiter.acquire(Priority.OTHER, PATIENT)):
        with pytest.raises(NoResponse, match="the session is closed") as caught:
            await late
        assert not caught.value.was_sent
    assert ticket.result() is False
    assert limiter.enqueue(Priority.POLL).result() is False


async def test_limiter_of_one_session_shares_nothing_and_closes_without_waiting():
    limiter = RateLimiter(Allowance(left=1))
    await limiter.aclose()
    assert limiter.name is None
    assert not limiter.acquire_nowait()


async def test_requests_are_spaced_by_the_budget():
    """With a real budget: a burst, and then one per interval."""
    limiter = RateLimiter(RequestBudget(requests_per_minute=6000))
    loop = asyncio.get_running_loop()
    burst = limiter.available()
    started = loop.time()
    await asyncio.gather(*(limiter.acquire(Priority.POLL, PATIENT) for _ in range(burst + 3)))
    assert loop.time() - started >= 2 * 60 / 6000
