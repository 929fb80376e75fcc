"""A map reports its progress correctly, cheaply and to the end, however it ends."""

import asyncio
import contextlib
import gc
import time

import pytest

from lemon_async import ContractError, GenerateRequest, Timeouts
from lemon_async._tasks.map import Maps
from lemon_async._tasks.progress import make_display
from lemon_async._tasks.task import ImageTask
from lemon_async.emulator import Blackhole, Fail, Reset, Status, Stuck
from lemon_async.types import ImageData, Progress, TaskSnapshot
from maps import prompts

MODEL = "flux-pro"


def counts(progress):
    return progress.done, progress.failed, progress.in_flight, progress.submitting


async def until(condition):
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.001)


async def drain(outcomes):
    return [outcome async for outcome in outcomes]


@pytest.mark.parametrize("in_flight", [1, 5, 100])
async def test_function_hears_of_every_job_to_the_end(connect, emulator, in_flight):
    emulator.fault("submit", Status(400), prompt="^p3$")
    emulator.fault("submit", Fail("no luck"), prompt="^p4$")
    emulator.fault("submit", Reset("request_end"), prompt="^p5$")
    seen = []
    wishes = [*prompts(8), GenerateRequest("odd", n=99)]
    options = {"in_flight": in_flight, "progress": seen.append}
    async with connect() as session, session.map(wishes, model=MODEL, **options) as outcomes:
        await drain(outcomes)
        assert counts(outcomes.progress) == (9, 4, 0, 0)
    assert counts(seen[-1]) == (9, 4, 0, 0)
    assert {progress.total for progress in seen} == {9}
    assert all(progress.status is None for progress in seen)
    assert [progress.done for progress in seen] == sorted(progress.done for progress in seen)
    assert [progress.seconds for progress in seen] == sorted(progress.seconds for progress in seen)
    assert all(0 <= part.in_flight + part.submitting <= in_flight for part in seen)
    assert max(progress.in_flight for progress in seen) >= 1
    assert max(progress.submitting for progress in seen) >= 1


async def test_total_of_a_generator_is_known_once_it_is_read(connect):
    seen = []
    async with connect() as session:
        wishes = (prompt for prompt in prompts(3))
        async with session.map(wishes, model=MODEL, in_flight=1, progress=seen.append) as outcomes:
            assert outcomes.progress.total is None
            await drain(outcomes)
    assert seen[0].total is None
    assert seen[-1].total == 3


class Odd:
    """An iterable that is wrong about its length."""

    def __init__(self, says):
        self.says = says

    def __len__(self):
        if isinstance(self.says, int):
            return self.says
        raise self.says

    def __iter__(self):
        return iter(prompts(3))


@pytest.mark.parametrize(
    ("says", "first"), [(1, 1), (99, 99), (-1, None), (ZeroDivisionError(), None), (TypeError(), None)], ids=repr
)
async def test_length_that_is_wrong_is_put_right_at_the_end(connect, says, first):
    async with connect() as session:
        outcomes = session.map(Odd(says), model=MODEL)
        assert outcomes.progress == Progress(total=first)
        async with outcomes:
            await drain(outcomes)
        assert (outcomes.progress.total, outcomes.progress.done) == (3, 3)


async def test_length_is_not_requested_without_a_progress_display(connect):
    """`len()` may be a database query."""
    async with connect() as session, session.map(Odd(KeyboardInterrupt()), model=MODEL) as outcomes:
        assert len(await drain(outcomes)) == 3


async def test_map_that_is_left_reports_what_is_still_in_flight(connect, emulator):
    """The last state is shown once; jobs that end afterwards are counted in `progress` only."""
    emulator.fault("submit", Stuck())
    seen = []
    async with connect() as session:
        async with session.map(prompts(3), model=MODEL, progress=seen.append) as outcomes:
            await until(lambda: len(outcomes.pending) == 3)
        assert counts(seen[-1]) == (0, 0, 3, 0)
        heard = len(seen)
        await session.aclose()
        await asyncio.sleep(0)
        assert len(seen) == heard
        assert counts(outcomes.progress) == (3, 3, 0, 0)
        stopped = outcomes.progress.seconds
        assert stopped >= seen[-1].seconds
        await asyncio.sleep(0.001)
        assert outcomes.progress.seconds == stopped


@pytest.mark.parametrize("how", ["cancelled", "failed", "left", "fail_fast"])
async def test_last_numbers_are_told_however_the_block_ends(connect, emulator, how):
    emulator.fault("submit", Blackhole(), prompt="^p[12]$", bill=False)
    emulator.fault("submit", Status(400), prompt="^p0$")
    seen = []

    async def run(session):
        options = {"model": MODEL, "progress": seen.append, "fail_fast": how == "fail_fast"}
        async with session.map(prompts(3), **options) as outcomes:
            await anext(outcomes)
            if how == "failed":
                raise ZeroDivisionError
            if how == "cancelled":
                asyncio.current_task().cancel()
                await asyncio.sleep(0)

    async with connect(timeouts=Timeouts(close_s=0.01)) as session, asyncio.timeout(60):
        await asyncio.gather(asyncio.create_task(run(session)), return_exceptions=True)
        assert seen[-1].failed >= 1
        assert seen[-1].submitting == 0


async def test_function_that_fails_loses_no_picture(connect, emulator, library_log):
    """It is called once, and the poller lives."""

    def broken(_progress):
        calls.append(1)
        raise ZeroDivisionError

    calls = []
    async with connect() as session, session.map(prompts(5), model=MODEL, progress=broken) as outcomes:
        assert all(outcome.error is None for outcome in await drain(outcomes))
    assert calls == [1]
    assert [record.exc_info[0] for record in library_log.records if record.exc_info] == [ZeroDivisionError]
    assert emulator.ledger.settled.total() == 5


@pytest.mark.parametrize("progress", [None, 1, "yes"], ids=repr)
async def test_option_that_means_nothing_is_refused_before_anything_is_pulled(connect, emulator, progress):
    async with connect() as session:
        with pytest.raises(ContractError, match="progress: must be"):
            session.map(prompts(3), model=MODEL, progress=progress)
    assert emulator.requests == []


async def test_map_that_was_never_entered_tells_nothing(connect):
    seen = []
    async with connect() as session:
        session.map(prompts(3), model=MODEL, progress=seen.append)
        await asyncio.sleep(0)
    assert seen == []


class Ticking:
    """A bar that is not seen."""

    def __init__(self, **options):
        self.disable = False
        self.total = options["total"]

    def set_postfix_str(self, text, *, refresh):
        pass

    n = 0

    def update(self, n):
        pass

    def refresh(self, *, nolock):
        pass

    def get_lock(self):
        return contextlib.nullcontext()

    def close(self):
        pass


@pytest.fixture
def ticks(timers):
    """List the timers of bars."""
    return lambda: [timer for timer in timers() if "Reporter" in repr(timer._callback)]


@pytest.mark.parametrize("way", ["left", "forgotten", "read", "cancelled"])
async def test_no_timer_is_left_by_the_bar_of_a_map(connect, emulator, monkeypatch, ticks, way):
    """Not even by a map whose block is never left, once the session is closed."""
    monkeypatch.setattr("tqdm.auto.tqdm", Ticking)
    if way != "read":
        emulator.fault("submit", Stuck())
    async with connect() as session:
        outcomes = await session.map(prompts(3), model=MODEL, progress=True).__aenter__()
        if way == "read":
            await drain(outcomes)
        else:
            await until(lambda: len(outcomes.pending) == 3)
            await asyncio.sleep(0)
            assert len(ticks()) == 1
        if way == "cancelled":
            reading = asyncio.create_task(drain(outcomes))
            await asyncio.sleep(0)
            reading.cancel()
            await asyncio.wait([reading])
        if way in {"left", "cancelled"}:
            await outcomes.__aexit__(None, None, None)
            assert ticks() == []
    await asyncio.sleep(0)
    assert ticks() == []


@pytest.mark.parametrize("way", ["dropped", "kept"])
async def test_no_timer_is_left_by_the_bar_of_tasks(connect, emulator, monkeypatch, ticks, way):
    """Neither by a loop that was left without closing its generator, nor by one that is abandoned."""
    monkeypatch.setattr("tqdm.auto.tqdm", Ticking)
    emulator.fault("submit", Stuck(), prompt="^p[12]$")
    async with connect() as session:
        tasks = [await session.submit(prompt, model=MODEL) for prompt in prompts(3)]
        watched = session.as_completed(tasks, progress=True)
        assert (await anext(watched)).request.prompt == "p0"
        await asyncio.sleep(0)
        assert len(ticks()) == 1
        if way == "dropped":
            del watched
            gc.collect()
            await until(lambda: not ticks())
    await asyncio.sleep(0)
    assert ticks() == []
    if way == "kept":
        await watched.aclose()


class Sold:
    """A session whose jobs are over when they are accepted."""

    access = None

    def __init__(self, snapshot):
        self.snapshot = snapshot
        self.owner = Maps(submit=self.submit, is_sending=lambda _: False, has_sold=lambda: True, workers=100, close_s=1)

    async def submit(self, request, _check, **_):
        return ImageTask(self, self.snapshot, request=request)

    def check_usable(self, task):
        pass


async def test_progress_of_ten_thousand_jobs_has_a_constant_cost_per_job():
    """The cost of a change does not depend on the number of earlier ones."""
    seen, at = [], {}

    def note(progress):
        seen.append(progress)
        at.setdefault(progress.done // 1000, (len(seen), time.thread_time()))

    session = Sold(TaskSnapshot(status="completed", images=(ImageData(url="https://cdn.test/1.png"),)))
    options = dict.fromkeys(("check_contracts", "on_submitted"))
    options |= {"in_flight": 100, "ordered": False, "fail_fast": False}
    async with session.owner.open(prompts(10_000), {}, display=make_display(note), **options) as outcomes:
        assert sum([1 async for _ in outcomes]) == 10_000
    assert seen[-1].done == 10_000
    assert len(seen) <= 30_001
    early, late = at[3][1] - at[1][1], at[9][1] - at[7][1]
    assert late < 4 * early + 0.05
