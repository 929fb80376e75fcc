"""Law 4. Submits, polls and all other requests to the API share one budget; downloads do not count."""

import asyncio
import itertools
import math
from collections import deque

import attrs
import pytest

from lateness import lateness
from lemon_async import LemonSession, PollPolicy, RetryPolicy
from lemon_async.emulator import Emulator, Status
from lemon_async.emulator.service.rate_limit import FixedWindow
from memory_journal import MemoryJournal, waiting

RPM = 2400
BURST_S = 0.35
JITTER_S = 0.2  # between the start of a request and its arrival, in asyncio's debug mode
BUCKET_JITTER_S = 1.0  # likewise on a busy machine, where `lateness` is not measured
TURNS = 3  # of the event loop until a request has arrived, each of which may be late: to connect, send and accept
UNDER_WAY_S = 0.6  # what was sent before a refusal came has arrived by then
PAUSE_S = UNDER_WAY_S + 0.15
QUICK = PollPolicy(min_gap_s=0.005, max_gap_s=0.02)
PATIENT = RetryPolicy(max_elapsed_s=60, first_backoff_s=0.001, max_backoff_s=0.01)


def response(limit, remaining, reset_s, unix, is_granted):
    """Return the headers, and the seconds to wait after a refusal."""
    values = {"Limit": limit, "Remaining": remaining, "Reset": math.ceil(unix + reset_s)}
    headers = {f"X-RateLimit-{name}": str(value) for name, value in values.items()}
    return headers, None if is_granted else max(1, math.ceil(reset_s))


@attrs.define
class Sliding:
    """A number of requests in any minute."""

    limit: int
    _granted: deque = attrs.field(factory=deque, init=False)

    def take(self, _key, real_s, unix):
        while self._granted and self._granted[0] <= real_s - 60:
            self._granted.popleft()
        is_granted = len(self._granted) < self.limit
        if is_granted:
            self._granted.append(real_s)
        return response(self.limit, self.limit - len(self._granted), self._granted[0] + 60 - real_s, unix, is_granted)


@attrs.define
class Bucket:
    """A bucket with a small capacity, refilled evenly."""

    limit: int
    _tokens: float = attrs.field(init=False)
    _at_s: float = attrs.field(default=0.0, init=False)

    @property
    def _most(self):
        return 1 + self.limit / 60 * (BURST_S + BUCKET_JITTER_S)

    @_tokens.default
    def _full(self):
        return self._most

    def take(self, _key, real_s, unix):
        self._tokens = min(self._tokens + (real_s - self._at_s) * self.limit / 60, self._most)
        self._at_s = real_s
        is_granted = self._tokens >= 1
        self._tokens -= is_granted
        return response(self.limit, int(self._tokens), 1.0, unix, is_granted)


WINDOWS = {"fixed": FixedWindow, "sliding": Sliding, "bucket": Bucket}


@pytest.fixture(params=WINDOWS)
async def limited(request):
    """An emulator with each kind of rate-limit window."""
    async with Emulator(speed=6000, durations=30.0, requests_per_minute=RPM) as running:
        running._handler._limit = WINDOWS[request.param](RPM)
        yield running


def starts_s(emulator):
    """When requests to the API arrived, in real seconds."""
    return [seen.at_s / 6000 for seen in emulator.requests if seen.route != "cdn"]


def check_pace(starts, late_s):
    """No stretch of time holds more requests than the limit, a small burst, jitter and a busy machine allow."""
    for (first, start), (last, end) in itertools.combinations(enumerate(starts), 2):
        most = 1 + (end - start + BURST_S + JITTER_S + TURNS * late_s) * RPM / 60
        assert last - first + 1 <= most, f"{last - first + 1} requests in {end - start:.3f} s"


async def ask_for_models(session, times):
    for _ in range(times):
        await session.models()


async def read_all(outcomes):
    return [outcome async for outcome in outcomes]


async def test_mixed_load_within_a_limit_that_is_given_meets_no_429(limited):
    """This also holds for windows that are shorter than a minute."""
    options = {"polling": QUICK, "requests_per_minute": RPM}
    async with (
        lateness() as late_s,
        LemonSession(limited.api_key, base_url=limited.base_url, **options) as session,
        session.map(map(str, range(40)), model="flux-pro", in_flight=30) as outcomes,
    ):
        results = await asyncio.gather(read_all(outcomes), *(ask_for_models(session, 10) for _ in range(3)))
    assert all(outcome.error is None for outcome in results[0])
    assert {seen.route for seen in limited.requests} >= {"submit", "poll", "models"}
    assert not [seen for seen in limited.requests if seen.status == 429]
    starts = starts_s(limited)
    assert len(starts) >= 40 + 40 + 30
    check_pace(starts, max(late_s))


@pytest.mark.parametrize("refused", ["submit", "poll", "models"])
async def test_429_on_any_request_pauses_all_of_them(connect, emulator, refused):
    """A 429 is about the account, not about the refused request."""
    async with lateness() as late_s, connect(retry=PATIENT, requests_per_minute=60_000) as session:
        await session.generate("before", model="flux-pro")
        emulator.fault(refused, Status(429, headers={"Retry-After": f"{PAUSE_S}"}), times=1)
        uses = [session.generate(f"p{n}", model="flux-pro") for n in range(5)]
        uses += [ask_for_models(session, 1) for _ in range(5)]
        uses = [asyncio.create_task(use) for use in uses]
        async with asyncio.timeout(60):
            await asyncio.gather(*uses, return_exceptions=True)
    times = [(seen.at_s / 6000, seen.status) for seen in emulator.requests]
    (refused_at,) = [at for at, status in times if status == 429]
    # What was under way when the 429 came could not know of it.
    all_know_at = refused_at + UNDER_WAY_S + TURNS * max(late_s)
    assert not [at for at, _ in times if all_know_at < at < refused_at + PAUSE_S - 0.01]
    assert [at for at, _ in times if at > refused_at + PAUSE_S - 0.01]
    assert emulator.ledger.sold == {"before": 1, **{f"p{n}": 1 for n in range(5)}}


@pytest.mark.parametrize("limited", ["bucket"], indirect=True)
async def test_requests_that_a_journal_delays_do_not_start_together(limited):
    """When a journal is back, each request that waited for it takes a new slot."""
    is_back = asyncio.Event()
    journal = MemoryJournal(waiting("intend", is_back))
    options = {"polling": QUICK, "requests_per_minute": RPM}
    async with (
        lateness() as late_s,
        LemonSession(limited.api_key, base_url=limited.base_url, **options) as session,
        session.map(map(str, range(40)), model="flux-pro", in_flight=40, journal=journal) as outcomes,
    ):
        while len(journal.events) < 40:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.25)
        is_back.set()
        results = await read_all(outcomes)
    assert all(outcome.error is None for outcome in results)
    check_pace(starts_s(limited), max(late_s))


async def test_downloads_do_not_count(connect, emulator):
    """They go to another host: the next request to the API waits for 20 s, downloads do not."""
    async with connect(requests_per_minute=3) as session:
        images = await session.generate("inline", model="dall-e-3")
        async with asyncio.timeout(25):
            await asyncio.gather(*(images[0]._bytes() for _ in range(10)))
        waiting = asyncio.create_task(session.models())
        await asyncio.sleep(0.03)
        assert not waiting.done()
        waiting.cancel()
    assert [seen.route for seen in emulator.requests] == ["submit"] + ["cdn"] * 10


async def test_downloads_go_on_while_requests_are_paused(connect, emulator):
    """A 429 of the API says nothing about the host of the pictures."""
    async with connect() as session:
        images = await session.generate("inline", model="dall-e-3")
        emulator.fault("models", Status(429, headers={"Retry-After": "30"}))
        await asyncio.gather(session.models(), return_exceptions=True)
        async with asyncio.timeout(20):
            assert await images[0]._bytes()
