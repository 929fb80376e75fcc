"""Law 4. A lone user gets the picture soon, takes at most half of the budget, and meets no 429, in virtual time."""

import asyncio
import random
from collections import deque
from contextlib import asynccontextmanager

import attrs
from aiohttp import web

from lemon_async import LemonSession
from virtual_time import run_virtually

IO_S = 0.004
PICTURE = {"data": [{"url": "https://cdn.example.com/a.png"}]}


@attrs.define
class Service:
    """A service that refuses what exceeds its limit in any minute."""

    rpm: int
    durations_s: list
    is_reporting: bool = False
    over_at: dict = attrs.field(factory=dict)
    requests: list = attrs.field(factory=list)  # time and method
    refused: int = 0
    lags_s: list = attrs.field(factory=list)
    _granted: deque = attrs.field(factory=deque)

    async def respond(self, request):
        now = asyncio.get_running_loop().time()
        self.requests.append((now, request.method))
        while self._granted and self._granted[0] <= now - 60:
            self._granted.popleft()
        if len(self._granted) >= self.rpm:
            self.refused += 1
            return web.json_response({"error": {"message": "too many requests"}}, status=429)
        self._granted.append(now)
        response = self._submit(now) if request.method == "POST" else self._poll(request.match_info["id"], now)
        if self.is_reporting:
            response.headers["X-RateLimit-Limit"] = str(self.rpm)
        return response

    def _submit(self, now):
        name = f"task-{len(self.over_at)}"
        self.over_at[name] = now + self.durations_s[len(self.over_at)]
        answer = {"created": 1, "id": name, "task_id": name, "status": "pending", "data": []}
        return web.json_response({**answer, "poll_url": f"/v1/tasks/{name}"})

    def _poll(self, name, now):
        if now < self.over_at[name]:
            return web.json_response({"id": name, "status": "pending", "data": []})
        self.lags_s.append(now - self.over_at[name])
        return web.json_response({"id": name, "status": "completed", **PICTURE})

    @asynccontextmanager
    async def session(self, **options):
        app = web.Application()
        app.router.add_post("/v1/images/generations", self.respond)
        app.router.add_get("/v1/tasks/{id}", self.respond)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        origin = f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}"
        try:
            async with LemonSession("sk-x", base_url=origin, **options) as session:
                yield session
        finally:
            await runner.cleanup()

    def most_polls_in(self, seconds):
        polls = [at for at, method in self.requests if method == "GET"]
        return max(sum(start <= at < start + seconds for at in polls) for start in polls)


def durations(number, sigma=0.35, median_s=45.0):
    rng = random.Random(number)
    return [median_s * rng.lognormvariate(0, sigma) for _ in range(number)]


def generate_one_after_the_other(service, **options):
    async def generate():
        async with service.session(**options) as session:
            for _ in service.durations_s:
                await session.generate("a cat", model="midjourney")

    run_virtually(generate(), io_s=IO_S)
    return service


def test_lone_job_meets_no_429_of_the_lowest_limit_although_it_is_unknown():
    service = generate_one_after_the_other(Service(60, durations(8)))
    assert service.refused == 0
    assert service.most_polls_in(60) <= 30
    assert sum(service.lags_s) / 8 <= 1.4


def test_lone_job_takes_at_most_half_of_a_limit_that_is_given():
    for rpm in (20, 60):
        service = generate_one_after_the_other(Service(rpm, durations(4)), requests_per_minute=rpm)
        assert (service.refused, service.most_polls_in(60) <= rpm / 2) == (0, True)


def test_lone_job_of_an_idle_account_is_found_within_a_second():
    """The limit is in the headers of the first response."""
    service = generate_one_after_the_other(Service(1000, durations(8), is_reporting=True))
    assert sum(service.lags_s) / 8 <= 0.7
    assert max(service.lags_s) <= 2.5
    assert service.most_polls_in(60) <= 60


def test_submit_beside_pending_tasks_is_not_delayed():
    """Their polls take half of the room at most, and wait for submits."""

    async def submit_in_between():
        service = Service(1000, [60.0] * 20 + [45.0] * 10)
        async with service.session(requests_per_minute=1000) as session:
            pending = await asyncio.gather(*(session.submit("a cat", model="midjourney") for _ in range(20)))
            waited = []
            for _ in range(10):
                await asyncio.sleep(4.321)
                started = asyncio.get_running_loop().time()
                pending.append(await session.submit("a dog", model="midjourney"))
                waited.append(asyncio.get_running_loop().time() - started)
            await asyncio.gather(*pending)
        assert service.refused == 0
        assert max(waited) <= 0.2
        assert service.most_polls_in(60) <= 500

    run_virtually(submit_in_between(), io_s=IO_S)


def test_last_jobs_of_many_are_found_as_soon_as_few_are():
    """The price falls as the others end, and no plan from before that is for long."""

    async def generate_many():
        service = Service(1000, [*[30.0] * 25, *[100.0] * 2])
        async with service.session(requests_per_minute=1000) as session:
            await asyncio.gather(*(session.generate("a cat", model="midjourney") for _ in service.durations_s))
        return service.lags_s[-2:]

    assert max(run_virtually(generate_many(), io_s=IO_S)) <= 1.5
