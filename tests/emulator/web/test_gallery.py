"""Jobs in the gallery, counted as they change."""

import pytest
from attrs import define, evolve

from lemon_async.emulator import Fail, Script
from lemon_async.emulator.pictures.picture import Blob, SourceImage
from lemon_async.emulator.service.job_spec import parse_job
from lemon_async.emulator.service.store import Store
from lemon_async.emulator.web.gallery import Gallery


@define
class HandClock:
    """A clock that tests set."""

    at: float = 0.0

    def now(self):
        return self.at


@pytest.fixture
def clock():
    return HandClock()


@pytest.fixture
def store():
    return Store(durations=100.0, is_cancellable=True)


@pytest.fixture
def make(clock, store):
    """A gallery of the store, and how to accept a job."""

    def gallery(**options):
        made = Gallery(clock, **options)
        store.on_change = made.update
        return made

    return gallery


def accept(store, clock, prompt="a cat", *, script=(), source_bytes=0, **fields):
    spec = parse_job({"prompt": prompt, "model": "flux-pro", **fields})
    if source_bytes:
        source = SourceImage(Blob(prompt, source_bytes, "none"), "png", 8, 8, has_alpha=False)
        spec = evolve(spec, picture=evolve(spec.picture, sources=(source,)))
    return store.accept(spec, key="k", now=clock.now(), created=0, script=script)


def test_jobs_are_counted_by_state_as_time_passes(make, store, clock):
    gallery = make()
    task = accept(store, clock)
    accept(store, clock, script=[Fail()])
    assert gallery.counts == {"pending": 2}
    clock.at = task.queued_until
    gallery.refresh()
    assert gallery.counts["processing"] >= 1
    clock.at = 10_000
    gallery.refresh()
    assert {state: number for state, number in gallery.counts.items() if number} == {"completed": 1, "failed": 1}
    assert gallery.open == 0


def test_nothing_is_looked_at_again_when_it_is_over(make, store, clock):
    """A refresh without a change costs nothing, whatever the number of jobs."""
    gallery = make()
    for _ in range(10):
        accept(store, clock)
    clock.at = 10_000
    gallery.refresh()
    changes = gallery.changes
    gallery.refresh()
    assert (gallery.changes, gallery._due, gallery._scripted) == (changes, [], {})


def test_scripts_and_cancelling_are_seen(make, store, clock):
    gallery = make()
    scripted, cancelled = accept(store, clock, script=[Script(["odd", "completed"])]), accept(store, clock)
    gallery.refresh()
    assert gallery.jobs[1].state == "odd"
    for _ in range(2):
        store.poll(scripted.id, key="k", now=1.0)
    store.cancel(cancelled.id, key="k", now=1.0)
    gallery.refresh()
    assert [job.state for job in gallery.jobs.values()] == ["completed", "failed"]


def test_lost_tasks_are_lost(make, store, clock):
    gallery = make()
    accept(store, clock)
    store.clear_tasks(1.0)
    assert gallery.jobs[1].state == "lost"


async def test_only_the_newest_jobs_are_kept(make, store, clock):
    gallery = make(most=2)
    for prompt in "abc":
        accept(store, clock, prompt, script=[Script(["odd"])])
    assert [(number, job.task.spec.picture.prompt) for number, job in gallery.jobs.items()] == [(2, "b"), (3, "c")]
    gallery.refresh()
    assert +gallery.counts == {"odd": 2}
    assert (len(gallery._by_task), len(gallery._scripted)) == (2, 2)
    found, total = await gallery.find(None, before=3, count=5)
    assert ([job.number for job in found], total) == ([2], 2)


def test_sources_of_old_inline_edits_are_given_up(make, store, clock):
    """Those of tasks are kept by the tasks, and those of jobs under way are needed; costs stay what they were."""
    gallery = make(most_source_bytes=100)
    inline = {"model": "gpt-image-2", "source_bytes": 80}
    accept(store, clock, "1", **inline)
    accept(store, clock, "2", **inline)
    accept(store, clock, "3", source_bytes=80)
    assert [job.is_drawable for job in gallery.jobs.values()] == [True, True, True]
    cost = gallery.jobs[1].cost_usd
    clock.at = 10_000
    store.settle(clock.at)
    first = gallery.jobs[1]
    assert [job.is_drawable for job in gallery.jobs.values()] == [False, True, True]
    assert (first.task.spec.picture.sources, first.pictures, first.cost_usd) == ((), 0, cost)
    assert [entry.amount_usd for entry in store.ledger.entries if entry.job == "1"][-1] == cost


def test_jobs_that_are_dropped_give_up_their_sources(make, store, clock):
    gallery = make(most=2)
    for prompt in "abcd":
        accept(store, clock, prompt, model="gpt-image-2", source_bytes=10)
    assert (gallery._source_bytes, [job.number for job in gallery._with_sources]) == (20, [3, 4])


def test_many_changes_are_looked_at_in_parts(make, store, clock):
    """Of jobs and of their reservations; the loop runs in between."""
    gallery = make()
    for _ in range(5):
        accept(store, clock)
    clock.at = 10_000
    assert [store.settle(clock.at, 2) for _ in range(4)] == [True, True, False, False]
    assert store.ledger.total("settle") == 5
    assert [gallery.refresh(4) for _ in range(4)] == [True, True, False, False]
