"""A fleet starts, checks, restarts and stops its workers; Ray is a fake here."""

import asyncio
import itertools
import logging
import sys

import pytest

from fake_ray import FakeRay, RayActorError
from lemon_async import ContractError
from lemon_async.distributed.fleet import Fleet, load_ray
from lemon_async.distributed.options import WorkerOptions
from lemon_async.distributed.worker import Report
from lemon_async.errors import BatchPaused, JournalError, SessionError

URL = "postgresql://db/shop"
OPTIONS = WorkerOptions.of(URL, {}, {}, {})


class Stub:
    """A worker whose answers are attributes of its class."""

    fault = None
    failure = None
    is_slow = False
    left = 0

    def __init__(self, options):
        assert options is OPTIONS

    async def check(self):
        fault = self.fault
        if self.is_slow and fault is None:
            await asyncio.Event().wait()
        return Report(place="node-1", error=fault)

    async def run(self):
        if self.is_slow:
            await asyncio.Event().wait()
        return Report(place="node-1", error=self.failure)

    async def leave(self):
        type(self).left += 1


@pytest.fixture
def worker():
    return type("Worker", (Stub,), {})


@pytest.fixture
def ray(monkeypatch, worker):
    fake = FakeRay(stand_in=worker)
    monkeypatch.setitem(sys.modules, "ray", fake)
    return fake


def fleet_of(workers=2, **options):
    options = {"actor_options": {}, "start_s": 60.0, "stop_s": 60.0, **options}
    return Fleet(options=OPTIONS, workers=workers, **options)


async def test_workers_are_actors_whose_calls_are_never_repeated(ray, worker):
    """The caller's options of Ray are passed on, but not those that could repeat a call."""
    fleet = fleet_of(3, actor_options={"num_cpus": 0.5, "max_task_retries": -1})
    await fleet.start()
    assert len(ray.actors) == 3
    assert ray.options == {
        "scheduling_strategy": "SPREAD",
        "num_cpus": 0.5,
        "max_task_retries": 0,
        "max_restarts": -1,
    }
    await fleet.run()
    await fleet.stop()
    assert (ray.actors, ray.calls, worker.left, fleet.restarts) == ([], ["kill"] * 3, 3, 0)


async def test_a_worker_that_cannot_run_is_found_before_any_does(ray, worker):
    """Its error comes through as itself, while others may still start."""
    checks = iter([ContractError.of("save", "is another folder")])
    worker.is_slow, worker.fault = True, property(lambda self: next(checks, None))
    fleet = fleet_of()
    with pytest.raises(ContractError, match="another folder"):
        await fleet.start()
    await fleet.stop()
    assert ray.actors == []


async def test_workers_that_do_not_start_are_named(ray, worker):
    """A cluster without room for them, for instance."""
    worker.is_slow = True
    fleet = fleet_of(start_s=0.01)
    with pytest.raises(SessionError, match=r"2 of 2 workers have not started within 0.01 s.*ray status"):
        await fleet.start()
    await fleet.stop()


async def test_a_worker_that_dies_runs_again(ray, worker, monkeypatch, caplog):
    """Each death is counted and logged."""
    monkeypatch.setattr("lemon_async.distributed.fleet._RESTART_S", 0.0)
    caplog.set_level(logging.WARNING, "lemon_async")
    ray.deaths = 4
    fleet = fleet_of()
    await fleet.start()
    await fleet.run()
    assert fleet.restarts == 4
    assert [record.message for record in caplog.records] == [
        "a worker has died, and is started again; its rows go to the others: the actor died"
    ] * 4
    await fleet.stop()


async def test_workers_that_die_without_progress_are_given_up(ray, worker, monkeypatch):
    """Their rows may be what kills them; those that get on may die as often as they like."""
    monkeypatch.setattr("lemon_async.distributed.fleet._RESTART_S", 0.0)
    ray.deaths = 1_000
    fleet = fleet_of(1)
    await fleet.start()
    with pytest.raises(BatchPaused, match="has died 10 times in a row while no row has ended") as caught:
        await fleet.run()
    assert isinstance(caught.value.__cause__, RayActorError)
    assert ray.deaths == 990
    fleet.progressed()
    with pytest.raises(BatchPaused):
        await fleet.run()
    assert (ray.deaths, fleet.restarts) == (980, 20)
    await fleet.stop()


@pytest.fixture
def lost_machine(ray, worker, monkeypatch):
    """The first worker that runs dies, and its process is not started again."""
    monkeypatch.setattr("lemon_async.distributed.fleet._RESTART_S", 0.0)
    ray.deaths = 1

    def lose(workers):
        made = itertools.count()

        def number(self, options):
            self.is_slow = next(made) >= workers

        worker.__init__ = number

    return lose


async def test_a_worker_that_cannot_start_again_holds_up_nothing(lost_machine):
    """The others take over its rows; when one of them has ended, no row is left for it."""
    lost_machine(2)
    fleet = fleet_of(2)
    await fleet.start()
    await asyncio.wait_for(fleet.run(), 60)
    assert fleet.restarts == 1
    await fleet.stop()


async def test_waiting_for_the_last_worker_to_start_again_ends(lost_machine):
    """Nothing else would end the batch."""
    lost_machine(1)
    fleet = fleet_of(1)
    await fleet.start()
    fleet.start_s = 0.02
    with pytest.raises(SessionError, match=r"none has started again within 0.02 s.*run it again"):
        await asyncio.wait_for(fleet.run(), 60)
    await fleet.stop()


async def test_the_first_error_of_a_run_ends_that_of_all(ray, worker):
    """The others leave when the fleet stops."""
    worker.failure = JournalError(message="the database is gone")
    fleet = fleet_of()
    await fleet.start()
    with pytest.raises(JournalError, match="the database is gone"):
        await fleet.run()
    await fleet.stop()
    assert worker.left == 2


async def test_cancelling_a_run_leaves_the_workers_to_stop(ray, worker):
    """They have calls under way, which end when their processes do."""
    fleet = fleet_of()
    await fleet.start()
    worker.is_slow = True
    running = asyncio.ensure_future(fleet.run())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await fleet.stop()
    assert ray.actors == []


def test_a_missing_ray_says_what_to_install(monkeypatch):
    """`None` in `sys.modules` makes its import fail."""
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ImportError, match=r"pip install 'lemon-async\[ray\]'"):
        load_ray()
