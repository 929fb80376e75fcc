"""Tasks are yielded in the order in which they end, and progress is reported until the last one has."""

import asyncio
import contextlib
import logging

import attrs
import pytest

from lemon_async import ApiError, ContractError, SubmissionUnknown
from lemon_async._tasks.completion import as_completed
from lemon_async._tasks.task import ImageTask
from lemon_async.emulator import Blackhole, Fail, Reset, Status, Stuck
from lemon_async.errors import TaskFailed, TaskLost
from lemon_async.types import ImageData, Progress, TaskSnapshot

MODEL = "flux-pro"


class Owner:
    """A session that can always be used."""

    access = None

    def check_usable(self, task):
        pass


def make(name):
    return ImageTask(Owner(), TaskSnapshot(status="pending", task_id=name))


def complete(task):
    images = (ImageData(url="https://cdn.test/1.png"),)
    task._update(TaskSnapshot(status="completed", task_id=task.id, images=images))


@pytest.fixture
def tasks():
    return [make(name) for name in "abc"]


async def watch(tasks):
    """Start watching; return the list of ids, which grows, and the asyncio task that fills it."""
    seen = []

    async def collect():
        async for task in as_completed(tasks):
            seen.append(task.id)  # noqa: PERF401 - the test looks at what has come so far

    watching = asyncio.create_task(collect())
    await asyncio.sleep(0)
    return seen, watching


async def test_tasks_come_in_the_order_in_which_they_end(tasks):
    seen, watching = await watch(tasks)
    for index in (2, 0, 1):
        complete(tasks[index])
        await asyncio.sleep(0)
    await watching
    assert seen == ["c", "a", "b"]


async def test_tasks_that_end_in_one_moment_all_come(tasks):
    seen, watching = await watch(tasks)
    for task in reversed(tasks):
        complete(task)
    await watching
    assert seen == ["c", "b", "a"]


async def test_task_that_fails_is_yielded_too(tasks):
    """Awaiting it then raises immediately."""
    tasks[1]._fail(TaskLost(task=tasks[1], reason="gone"))
    seen, watching = await watch(tasks)
    complete(tasks[0])
    complete(tasks[2])
    await watching
    assert seen == ["b", "a", "c"]
    with pytest.raises(TaskLost):
        await tasks[1].wait(timeout=0)


async def test_task_given_twice_comes_once(tasks):
    seen, watching = await watch([tasks[0], tasks[0]])
    complete(tasks[0])
    await watching
    assert seen == ["a"]


async def test_finished_tasks_come_without_waiting(tasks):
    for task in tasks:
        complete(task)
    assert [task.id async for task in as_completed(iter(tasks))] == ["a", "b", "c"]


async def test_no_tasks_are_over_at_once():
    assert [task async for task in as_completed([])] == []


async def test_leaving_early_ends_the_watching_and_nothing_else(tasks):
    complete(tasks[0])
    async with contextlib.aclosing(as_completed(tasks)) as watched:
        async for _ in watched:
            break
    assert not any(task._callbacks for task in tasks)
    complete(tasks[1])
    assert (await tasks[1])[0].url == "https://cdn.test/1.png"


async def test_cancelled_watcher_leaves_nothing_behind(tasks):
    _, watching = await watch(tasks)
    assert all(task._callbacks for task in tasks)
    watching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await watching
    assert not any(task._callbacks for task in tasks)


async def test_two_watchers_of_the_same_tasks_both_see_them(tasks):
    one, two = await watch(tasks), await watch(tasks)
    for task in tasks:
        complete(task)
    await asyncio.gather(one[1], two[1])
    assert one[0] == two[0] == ["a", "b", "c"]


# Progress


async def test_function_hears_of_every_task_to_the_end(tasks):
    seen = []
    complete(tasks[0])
    watched = as_completed([*tasks, tasks[0]], progress=seen.append)
    assert (await anext(watched)).id == "a"
    await asyncio.sleep(0)
    tasks[1]._fail(TaskLost(task=tasks[1], reason="gone"))
    assert (await anext(watched)).id == "b"
    complete(tasks[2])
    assert [task.id async for task in watched] == ["c"]
    assert [(part.total, part.done, part.failed, part.in_flight) for part in seen] == [
        (3, 1, 0, 2),
        (3, 2, 1, 1),
        (3, 3, 1, 0),
    ]


async def test_watching_that_is_left_tells_the_last_numbers_and_nothing_more(tasks):
    seen = []
    complete(tasks[0])
    async with contextlib.aclosing(as_completed(tasks, progress=seen.append)) as watched:
        await anext(watched)
    assert [(part.done, part.in_flight) for part in seen] == [(1, 2)]
    complete(tasks[1])
    await asyncio.sleep(0)
    assert len(seen) == 1


async def test_cancelled_watcher_is_told_where_it_stood(tasks):
    seen = []

    async def watch_all():
        return [task async for task in as_completed(tasks, progress=seen.append)]

    watching = asyncio.create_task(watch_all())
    await asyncio.sleep(0)
    watching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await watching
    assert [attrs.evolve(part, seconds=0) for part in seen] == [Progress(total=3, in_flight=3)]


async def test_function_that_fails_ends_no_watching(tasks, library_log):
    async def watch_all():
        return [task.id async for task in as_completed(tasks, progress=lambda _: 1 / 0)]

    watching = asyncio.create_task(watch_all())
    for task in tasks:
        await asyncio.sleep(0)
        complete(task)
    assert await watching == ["a", "b", "c"]
    assert [record.exc_info[0] for record in library_log.records] == [ZeroDivisionError]


def test_option_that_means_nothing_is_refused_at_once(tasks):
    with pytest.raises(ContractError, match="progress: must be"):
        as_completed(tasks, progress="yes")


async def test_generator_that_was_not_begun_tells_nothing(tasks):
    seen = []
    await as_completed(tasks, progress=seen.append).aclose()
    assert seen == []


# One job


def stages(seen):
    """Return the reports without their times."""
    return [(part.status, part.done, part.failed, part.in_flight, part.submitting) for part in seen]


async def test_function_hears_of_a_task_from_its_submit_to_its_end(connect):
    seen = []
    async with connect() as session:
        images = await session.generate("a cat", model=MODEL, progress=seen.append)
    assert len(images) == 1
    assert stages(seen)[0] == (None, 0, 0, 0, 1)
    assert stages(seen)[-1] == ("completed", 1, 0, 0, 0)
    assert stages(seen).count(stages(seen)[-1]) == 1
    assert [part.seconds for part in seen] == sorted(part.seconds for part in seen)
    assert {part.total for part in seen} == {1}
    assert [status for status, *_ in stages(seen)] == sorted(
        (status for status, *_ in stages(seen)), key=[None, "pending", "processing", "completed"].index
    )


async def test_edits_variations_and_inline_answers_tell_the_same(connect, picture):
    square = picture((256, 256))
    seen = []
    async with connect() as session:
        await session.edit("a hat", image=picture(mode="RGB"), model=MODEL, progress=seen.append)
        await session.create_variation(square, progress=seen.append)
        await session.generate("a cat", model="dall-e-3", progress=seen.append)
    assert [stage for stage in stages(seen) if stage[1]] == [("completed", 1, 0, 0, 0)] * 3


@pytest.mark.parametrize(
    ("fault", "error", "last"),
    [
        (Status(400), ApiError, (None, 1, 1, 0, 0)),
        (Reset("request_end"), SubmissionUnknown, (None, 1, 1, 0, 0)),
        (Fail("no luck"), TaskFailed, ("failed", 1, 1, 0, 0)),
    ],
    ids=["refused", "unknown", "failed"],
)
async def test_job_that_fails_is_told_as_failed(connect, emulator, fault, error, last):
    emulator.fault("submit", fault)
    seen = []
    async with connect() as session:
        with pytest.raises(error):
            await session.generate("a cat", model=MODEL, progress=seen.append)
    assert stages(seen)[-1] == last


async def test_request_that_breaks_the_rules_is_told_as_failed(connect, emulator):
    seen = []
    async with connect() as session:
        with pytest.raises(ContractError, match="n: "):
            await session.generate("a cat", n=99, progress=seen.append)
    assert stages(seen) == [(None, 1, 1, 0, 0)]
    assert emulator.requests == []


@pytest.mark.parametrize(
    ("fault", "last"),
    [(Stuck(), (0, 0, 1, 0)), (Blackhole(), (0, 0, 0, 0))],
    ids=["sold", "on its way"],
)
async def test_cancelled_job_is_reported_as_in_flight(connect, emulator, fault, last):
    """An accepted job is still in flight; the cancellation is not swallowed."""
    emulator.fault("submit", fault)
    seen = []
    async with connect() as session:
        generating = asyncio.create_task(session.generate("kept", model=MODEL, progress=seen.append))
        async with asyncio.timeout(60):
            while not (session.pending or (isinstance(fault, Blackhole) and emulator.ledger.sold)):
                await asyncio.sleep(0.001)
        generating.cancel()
        with pytest.raises(asyncio.CancelledError):
            await generating
    assert stages(seen)[-1][1:] == last


@pytest.mark.parametrize("failure", [ZeroDivisionError, asyncio.CancelledError])
async def test_function_that_fails_costs_no_picture(connect, emulator, library_log, failure):
    library_log.set_level(logging.ERROR, logger="lemon_async")

    def broken(_progress):
        raise failure

    async with connect() as session:
        assert len(await session.generate("a cat", model=MODEL, progress=broken)) == 1
        assert len(await session.generate("a dog", model="dall-e-3", progress=broken)) == 1
    assert [record.exc_info[0] for record in library_log.records] == [failure] * 2
    assert emulator.ledger.settled.total() == 2


@pytest.mark.parametrize("call", ["generate", "edit", "create_variation"])
async def test_option_that_means_nothing_is_refused_before_money_is_spent(connect, emulator, call):
    async def later(progress):
        raise AssertionError

    async with connect() as session:
        for option in ("yes", None, later):
            with pytest.raises(ContractError, match="progress: must be"):
                await getattr(session, call)("cat.png", progress=option)
    assert emulator.requests == []


async def test_bar_leaves_no_timer_behind(timers, connect, emulator, monkeypatch):
    """A timer updates the elapsed time; it ends with the job, however that ends."""
    monkeypatch.setattr("lemon_async._tasks.progress._TICK_S", 0.001)
    bars, ends = [], []

    class Bar:
        disable = False
        total = 1
        n = 0

        def __init__(self, **options):
            self.painted = 0
            bars.append(self)

        def set_description_str(self, text, *, refresh):
            self.text = text

        def update(self, n):
            self.painted += 1

        def refresh(self, *, nolock):
            pass

        def get_lock(self):
            return contextlib.nullcontext()

        def close(self):
            ends.append(self.text)

    monkeypatch.setattr("tqdm.auto.tqdm", Bar)
    emulator.fault("submit", Stuck(), prompt="stuck")
    emulator.fault("submit", Fail("no luck"), prompt="bad")
    async with connect() as session:
        ticking = asyncio.create_task(session.generate("stuck", model=MODEL, progress=True))
        async with asyncio.timeout(60):
            while not bars or bars[0].painted < 9 or bars[0].text != "processing":
                await asyncio.sleep(0.001)
        ticking.cancel()
        await asyncio.wait([ticking])
        await session.generate("good", model=MODEL, progress=True)
        with pytest.raises(TaskFailed):
            await session.generate("bad", model=MODEL, progress=True)
        ours = [timer for timer in timers() if "Reporter" in repr(timer._callback)]
        assert ours == []
    assert ends == ["processing", "completed", "failed"]


async def test_tasks_that_cannot_be_iterated_are_refused(connect):
    async with connect() as session:
        for tasks in (5, None):
            with pytest.raises(ContractError, match="tasks: must be an iterable of tasks, not "):
                session.as_completed(tasks)
