"""The shell of a shared rate limit, in virtual time: what waits, passes or ends with an error."""

import asyncio
import logging

import attrs
import pytest

from lemon_async._http.attempt import NoResponse
from lemon_async._http.shared_limit.client import SharedRateLimiter
from lemon_async._pace.leases import leased_interval_s
from lemon_async._pace.priority import Priority
from lemon_async.errors import ContractError
from limit_store import ModelServer
from virtual_time import run_virtually

RPM = 600
PATIENT = 60.0
SUBMIT, POLL, OTHER = Priority


def passing(limiter, *priorities, patience_s=PATIENT):
    """Return the asyncio tasks of requests that pass the limiter."""
    return [asyncio.ensure_future(limiter.acquire(priority, patience_s)) for priority in priorities]


async def connected(server, number=1):
    """Return limiters that have used the store; it is the first second."""
    limiters = [SharedRateLimiter(RPM, server.open) for _ in range(number)]
    for limiter in limiters:
        await asyncio.gather(*passing(limiter, OTHER))
    await asyncio.sleep(1.0 - asyncio.get_running_loop().time())
    return limiters


def test_lone_request_costs_one_round_trip_and_many_cost_few():
    async def use():
        server = ModelServer(RPM)
        limiter = SharedRateLimiter(RPM, server.open)
        await limiter.acquire(SUBMIT, PATIENT)
        assert server.calls == ["reserve"]
        await asyncio.gather(*passing(limiter, *[SUBMIT] * 100))
        assert len(server.calls) <= 1 + 10
        assert asyncio.get_running_loop().time() == pytest.approx(100 * leased_interval_s(RPM), abs=0.3)
        await limiter.aclose()

    run_virtually(use())


def test_priorities_are_those_of_the_process():
    """What waits longest does not matter, nor what other processes do."""

    async def use():
        gone = []
        limiter, _ = await connected(ModelServer(RPM), 2)
        waiting = passing(limiter, OTHER, POLL, SUBMIT, SUBMIT)
        for name, task in zip("opst", waiting, strict=True):
            task.add_done_callback(lambda _, name=name: gone.append(name))
        await asyncio.gather(*waiting)
        assert gone == ["s", "t", "p", "o"]
        await limiter.aclose()

    run_virtually(use())


def test_poller_takes_what_is_available_and_queues_for_more():
    async def use():
        (limiter,) = await connected(ModelServer(RPM))
        assert limiter.available() == 0
        assert await limiter.enqueue(POLL)
        await asyncio.sleep(0.2)
        assert limiter.available() == 1
        limiter.consume(1)
        assert limiter.available() == 0
        assert await asyncio.gather(*(limiter.enqueue(POLL) for _ in range(5))) == [True] * 5
        await limiter.aclose()

    run_virtually(use())


def test_store_that_is_never_reached_ends_requests_but_no_polls(library_log):
    """After some seconds, in which it may start; the error names it, and polls go on when it is there."""

    async def use():
        server = ModelServer(RPM)
        server.stop()
        limiter = SharedRateLimiter(RPM, server.open)
        poll = limiter.enqueue(POLL)
        for priority in (SUBMIT, OTHER):
            with pytest.raises(ContractError, match="model://store cannot be reached: connection refused; start it"):
                await limiter.acquire(priority, PATIENT)
        assert not poll.done()
        assert 5.0 < asyncio.get_running_loop().time() < 6.0
        server.start()
        assert await poll
        await limiter.acquire(SUBMIT, PATIENT)
        await limiter.aclose()

    run_virtually(use())
    assert [record.levelname for record in library_log.records] == ["WARNING"]


def test_submits_wait_and_polls_go_on_while_the_store_is_unreachable(caplog):
    """One warning; a share of the limit; the error after the patience names the store; then all is as before."""

    async def use():
        loop = asyncio.get_running_loop()
        server = ModelServer(RPM)
        _, limiter = await connected(server, 2)
        server.stop("timeout")
        submit, impatient = (passing(limiter, SUBMIT, patience_s=seconds)[0] for seconds in (PATIENT, 5.0))
        polls = [limiter.enqueue(POLL) for _ in range(20)]
        begun = loop.time()
        await asyncio.gather(*polls)
        assert 10.0 <= loop.time() - begun <= 12.0 + 20 * 2 * leased_interval_s(RPM)
        await asyncio.sleep(20.0)
        with pytest.raises(NoResponse, match="model://store: timeout"):
            await impatient
        assert not submit.done()
        assert await limiter.enqueue(POLL)
        server.start()
        await submit
        await limiter.aclose()

    with caplog.at_level(logging.INFO):
        run_virtually(use())
    ours = [record for record in caplog.records if record.name == "lemon_async"]
    assert [record.levelname for record in ours] == ["WARNING", "INFO"]
    assert "submits wait until it can, and for a minute more if it has lost its data" in ours[0].getMessage()


def test_store_that_cannot_be_used_ends_requests_with_its_error():
    """Each with one of its own."""

    async def use():
        server = ModelServer(RPM)
        server.fault = ContractError.of("requests_per_minute", "another process uses 500")
        limiter = SharedRateLimiter(RPM, server.open)
        errors = await asyncio.gather(*passing(limiter, SUBMIT, SUBMIT, OTHER), return_exceptions=True)
        assert {str(error) for error in errors} == {str(server.fault)}
        assert len({id(error) for error in [*errors, server.fault]}) == 4
        server.start()
        await asyncio.sleep(1.0)
        await limiter.acquire(SUBMIT, PATIENT)
        await limiter.aclose()

    run_virtually(use())


def test_429_in_one_process_pauses_the_others():
    """Leased slots before its end are dropped."""

    async def use():
        loop = asyncio.get_running_loop()
        server = ModelServer(RPM)
        one, other = await connected(server, 2)
        waiting = passing(other, *[SUBMIT] * 20)
        await asyncio.sleep(0.3)
        one.observe_429(7.0, None)
        one.observe_429(2.0, None)
        paused_at = loop.time()
        await asyncio.sleep(0.1)
        sent = sum(task.done() for task in waiting)
        assert 0 < sent < 20
        await asyncio.sleep(6.8)
        assert sum(task.done() for task in waiting) == sent
        await asyncio.gather(*waiting)
        assert paused_at + 7.0 < loop.time() < paused_at + 10.0
        assert server.calls.count("pause") == 1
        await asyncio.gather(one.aclose(), other.aclose())

    run_virtually(use())


def test_pause_is_announced_once_the_store_is_back():
    async def use():
        server = ModelServer(RPM)
        (limiter,) = await connected(server)
        server.stop()
        limiter.observe_429(30.0, None)
        await asyncio.sleep(5.0)
        server.start()
        await asyncio.sleep(2.0)
        assert server.state.clear_until == pytest.approx(31.0, abs=0.1)
        await limiter.aclose()

    run_virtually(use())


def test_replies_that_come_too_late_are_reported():
    async def use():
        server = ModelServer(RPM, delay_s=lambda: 0.9)
        limiter = SharedRateLimiter(RPM, server.open)
        with pytest.raises(NoResponse, match=r"model://store: a reply took 1\.8 s"):
            await limiter.acquire(SUBMIT, 10.0)
        await limiter.aclose()

    run_virtually(use())


@pytest.mark.parametrize(
    "change", [{"slots": -5}, {"slots": 10**6}, {"wait_s": -9.0}, {"wait_s": 1e9}, {"slots": 0, "wait_s": 1e9}]
)
def test_replies_that_make_no_sense_open_no_gate(change):
    """Nor do they keep requests waiting longer than a store that is down."""

    class OddServer(ModelServer):
        async def answer(self, name, method):
            return attrs.evolve(await super().answer(name, method), **change)

    async def use():
        limiter = SharedRateLimiter(RPM, OddServer(RPM).open)
        ends = await asyncio.gather(*passing(limiter, *[SUBMIT] * 30), return_exceptions=True)
        assert asyncio.get_running_loop().time() < 8.0
        assert all("its reply makes no sense" in str(end) for end in ends)
        await limiter.aclose()

    run_virtually(use())


def test_crash_ends_the_requests_that_wait_and_later_ones_are_served(library_log):
    async def use():
        server = ModelServer(RPM)
        (limiter,) = await connected(server)
        for fault, words in ((ValueError("odd"), "crashed"), (asyncio.CancelledError(), "cancelled")):
            server.fault = fault
            with pytest.raises(NoResponse, match=words):
                await limiter.acquire(SUBMIT, PATIENT)
            server.start()
            await limiter.acquire(SUBMIT, PATIENT)
            await asyncio.sleep(5.0)
        await limiter.aclose()

    run_virtually(use())
    assert [record.levelname for record in library_log.records].count("ERROR") == 1


def test_closing_rejects_what_waits_and_ends_the_runner_and_the_store():
    """Even in the middle of a call, and also if nothing was ever sent."""

    async def use():
        server = ModelServer(RPM, delay_s=lambda: 3600.0)
        limiter = SharedRateLimiter(RPM, server.open)
        waiting = passing(limiter, SUBMIT)
        await asyncio.sleep(1.0)
        await limiter.aclose()
        with pytest.raises(NoResponse, match="the session is closed"):
            await waiting[0]
        limiter.observe_429(1.0, None)
        await SharedRateLimiter(RPM, server.open).aclose()
        assert asyncio.get_running_loop().time() == 1.0
        assert all(store.is_closed for store in server.clients)
        assert len(asyncio.all_tasks()) == 1

    run_virtually(use())
