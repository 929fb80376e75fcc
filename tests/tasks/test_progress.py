"""Progress is told once per turn of the event loop, to the end, and whoever is told can do no harm."""

import asyncio
import contextvars
import logging

import attrs
import pytest

from lemon_async._tasks.progress import Reporter, Tally
from lemon_async.types import Progress


@attrs.define
class Screen:
    """A display that remembers what it was told, and wants to be told again after some seconds."""

    again_s: float | None = None
    failure: BaseException | None = None
    shown: list = attrs.field(factory=list)
    last: list = attrs.field(factory=list)

    def show(self, progress):
        self.shown.append(progress)
        if self.failure is not None:
            raise self.failure
        return self.again_s

    def close(self, progress):
        self.last.append(progress)
        if self.failure is not None:
            raise self.failure


def numbers(*states):
    """Return a look that finds one state after the other."""
    rest = iter(states)
    return lambda: Progress(done=next(rest))


async def test_changes_of_one_turn_are_told_once():
    screen = Screen()
    reporter = Reporter(screen, numbers(7, 8))
    for _ in range(1000):
        reporter.changed()
    assert screen.shown == []
    await asyncio.sleep(0)
    reporter.changed()
    await asyncio.sleep(0)
    assert [progress.done for progress in screen.shown] == [7, 8]


async def test_last_state_is_told_once_and_nothing_after_it():
    screen = Screen()
    reporter = Reporter(screen, numbers(1))
    reporter.changed()
    reporter.close()
    reporter.close()
    reporter.changed()
    await asyncio.sleep(0)
    assert (screen.shown, screen.last) == ([], [Progress(done=1)])


async def test_display_is_told_again_when_it_is_out_of_date_and_no_timer_is_left(timers):
    before = timers()
    screen = Screen(again_s=0.001)
    reporter = Reporter(screen, Progress)
    reporter.changed()
    async with asyncio.timeout(5):
        while len(screen.shown) < 3:
            await asyncio.sleep(0.001)
    reporter.close()
    assert timers() == before


async def test_news_take_the_place_of_the_timer(timers):
    """There is never more than one."""
    before = len(timers())
    screen = Screen(again_s=100)
    reporter = Reporter(screen, Progress)
    for _ in range(5):
        reporter.changed()
        await asyncio.sleep(0)
        assert len(timers()) == before + 1
    screen.again_s = None
    reporter.changed()
    await asyncio.sleep(0)
    assert len(timers()) == before
    reporter.close()


async def test_closed_reporter_keeps_nothing_of_what_it_looked_at():
    """A cycle would hold the pictures of a job until the garbage is collected."""
    reporter = Reporter(Screen(), numbers(1))
    reporter.close()
    assert reporter._look is Progress


@pytest.mark.parametrize("failure", [ZeroDivisionError("oh"), asyncio.CancelledError(), StopIteration()], ids=repr)
async def test_display_that_fails_is_logged_once_and_told_nothing_more(caplog, failure):
    caplog.set_level(logging.ERROR, logger="lemon_async")
    screen = Screen(failure=failure)
    reporter = Reporter(screen, Progress)
    for _ in range(3):
        reporter.changed()
        await asyncio.sleep(0)
    reporter.close()
    assert (len(screen.shown), len(screen.last)) == (1, 0)
    (record,) = caplog.records
    assert "is told nothing more; the work goes on" in record.getMessage()
    assert record.exc_info[1] is failure


async def test_display_that_fails_at_the_end_is_logged(caplog):
    Reporter(Screen(failure=ZeroDivisionError()), Progress).close()
    assert [record.exc_info[0] for record in caplog.records] == [ZeroDivisionError]


async def test_nobody_is_told_without_a_display():
    reporter = Reporter(None, numbers())
    reporter.changed()
    reporter.close()
    assert reporter._turn is None


async def test_display_is_told_in_the_context_of_who_asked_for_it():
    """The poller serves everybody; what a notebook prints belongs to the cell that asked."""
    cell = contextvars.ContextVar("cell", default="nobody's")
    seen = []

    class Cell(Screen):
        def show(self, _progress):
            seen.append(cell.get())

    cell.set("mine")
    reporter = Reporter(Cell(), Progress)
    contextvars.Context().run(reporter.changed)
    await asyncio.sleep(0)
    assert seen == ["mine"]


def test_tally_follows_each_job_to_its_end():
    tally = Tally()
    assert tally.progress(None) == Progress()
    for _ in range(4):
        tally.begun()
    assert tally.progress(9) == Progress(total=9, submitting=4)
    tally.withdrawn()
    tally.refused()
    tally.sold()
    tally.sold()
    assert tally.progress(9) == Progress(total=9, done=1, failed=1, in_flight=2)
    tally.ended(is_failed=False)
    tally.ended(is_failed=True)
    assert tally.progress(3, status="failed") == Progress(total=3, done=3, failed=2, status="failed")


def test_clock_of_a_tally_runs_from_start_to_stop():
    tally = Tally()
    assert tally.progress(None).seconds == 0
    tally.start()
    one, two = tally.progress(None).seconds, tally.progress(None).seconds
    assert 0 <= one <= two
    tally.stop()
    assert tally.progress(None).seconds == tally.progress(None).seconds >= two
