"""Progress is shown once per turn of the event loop, to the end, and a display that fails does no harm."""

import asyncio
import contextvars
import functools
import gc
import io
import logging
import sys
import threading
import types

import attrs
import pytest
import tqdm

from lemon_async import ContractError
from lemon_async._tasks import progress as module
from lemon_async._tasks.progress import Reporter, Tally, make_display
from lemon_async.types import Progress


@attrs.define
class Screen:
    """A display that records the states, and requests a refresh after some seconds."""

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
    """Return a function that returns one state after another."""
    rest = iter(states)
    return lambda: Progress(done=next(rest))


async def test_changes_of_one_turn_are_shown_once():
    screen = Screen()
    reporter = Reporter(screen, numbers(7, 8))
    for _ in range(1000):
        reporter.changed()
    assert screen.shown == []
    await asyncio.sleep(0)
    reporter.changed()
    await asyncio.sleep(0)
    assert [progress.done for progress in screen.shown] == [7, 8]


async def test_last_state_is_shown_once_and_nothing_after_it():
    screen = Screen()
    reporter = Reporter(screen, numbers(1))
    reporter.changed()
    reporter.close()
    reporter.close()
    reporter.changed()
    await asyncio.sleep(0)
    assert (screen.shown, screen.last) == ([], [Progress(done=1)])


async def test_display_is_refreshed_when_it_is_out_of_date_and_no_timer_is_left(timers):
    before = timers()
    screen = Screen(again_s=0.001)
    reporter = Reporter(screen, Progress)
    reporter.changed()
    async with asyncio.timeout(60):
        while len(screen.shown) < 3:
            await asyncio.sleep(0.001)
    reporter.close()
    assert timers() == before


async def test_a_change_replaces_the_timer(timers):
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


async def test_closed_reporter_keeps_no_reference_to_its_source():
    """A reference cycle would hold the pictures of a job until the next garbage collection."""
    reporter = Reporter(Screen(), numbers(1))
    reporter.close()
    assert reporter._look is Progress


@pytest.mark.parametrize("failure", [ZeroDivisionError("oh"), asyncio.CancelledError(), StopIteration()], ids=repr)
async def test_display_that_fails_is_logged_once_and_not_called_again(library_log, failure):
    library_log.set_level(logging.ERROR, logger="lemon_async")
    screen = Screen(failure=failure)
    reporter = Reporter(screen, Progress)
    for _ in range(3):
        reporter.changed()
        await asyncio.sleep(0)
    reporter.close()
    assert (len(screen.shown), len(screen.last)) == (1, 0)
    (record,) = library_log.records
    assert "is not called again; the work continues" in record.getMessage()
    assert record.exc_info[1] is failure


async def test_display_that_fails_at_the_end_is_logged(library_log):
    Reporter(Screen(failure=ZeroDivisionError()), Progress).close()
    assert [record.exc_info[0] for record in library_log.records] == [ZeroDivisionError]


async def test_nothing_is_scheduled_without_a_display():
    reporter = Reporter(None, numbers())
    reporter.changed()
    reporter.close()
    assert reporter._soon is None


async def test_display_runs_in_the_context_of_its_caller():
    """The poller serves all callers; the output of a notebook belongs to the calling cell."""
    cell = contextvars.ContextVar("cell", default="none")
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
    changes = []
    tally = Tally(lambda: changes.append(tally.progress(9)))
    assert tally.progress(None) == Progress()
    for _ in range(4):
        tally.move(None, "submitting")
    assert changes[-1] == tally.progress(9) == Progress(total=9, submitting=4)
    for after in (None, "failed", "in_flight", "in_flight"):
        tally.move("submitting", after)
    assert changes[-1] == tally.progress(9) == Progress(total=9, done=1, failed=1, in_flight=2)
    tally.move("in_flight", "succeeded")
    tally.move("in_flight", "failed")
    assert tally.progress(3, status="failed") == Progress(total=3, done=3, failed=2, status="failed")
    assert len(changes) == 10


def test_clock_of_a_tally_runs_from_start_to_stop():
    tally = Tally(lambda: None)
    assert tally.progress(None).seconds == 0
    tally.start()
    one, two = tally.progress(None).seconds, tally.progress(None).seconds
    assert 0 <= one <= two
    tally.stop()
    assert tally.progress(None).seconds == tally.progress(None).seconds >= two


# Displays


class Terminal(io.StringIO):
    """A file that claims to be a terminal, and may be broken."""

    is_broken = False

    def isatty(self):
        return True

    def write(self, text):
        if self.is_broken:
            raise BrokenPipeError
        return super().write(text)


class Eager(tqdm.tqdm):
    """A bar that paints every change, and whose clock stands still."""

    def __init__(self, **options):
        super().__init__(**options, mininterval=0)
        self._time = lambda: self.start_t


@pytest.fixture
def show_on(monkeypatch):
    """Show bars on a file other than stderr, which pytest replaces between fixtures and tests."""

    def choose(file):
        monkeypatch.setattr(module, "sys", types.SimpleNamespace(stderr=file))

    return choose


@pytest.fixture
def terminal(monkeypatch, show_on):
    screen = Terminal()
    show_on(screen)
    monkeypatch.setattr("tqdm.auto.tqdm", Eager)
    return screen


def lines(screen):
    return [line.strip() for line in screen.getvalue().replace("\r", "\n").splitlines() if line.strip()]


# A function


def test_function_is_called_with_each_state_and_not_twice_with_the_last():
    seen = []
    display = make_display(seen.append)
    states = [Progress(done=1, seconds=1), Progress(done=2, seconds=2), Progress(done=2, seconds=3)]
    for state in states[:2]:
        assert display.show(state) is None
    display.close(states[2])
    assert seen == states[:2]


@pytest.mark.parametrize("shown", [[], [Progress(done=1)]], ids=["nothing", "less"])
def test_function_is_called_with_the_last_state(shown):
    seen = []
    display = make_display(seen.append)
    for progress in shown:
        display.show(progress)
    display.close(Progress(done=2))
    assert seen == [*shown, Progress(done=2)]


async def queue_up(progress):
    raise AssertionError


class Caller:
    async def __call__(self, progress):
        raise AssertionError


async def yielding(progress):
    yield progress


ASYNC_CALLABLES = [
    queue_up,
    functools.partial(queue_up),
    Caller(),
    Caller().__call__,
    yielding,
    asyncio.Queue().put,
]


def test_coroutine_function_is_refused():
    for function in ASYNC_CALLABLES:
        with pytest.raises(ContractError, match="progress: must be a plain function, which is called and not awaited"):
            make_display(function)


def test_returned_coroutine_is_closed_and_refused():
    """Otherwise Python would warn that it was never awaited."""
    with pytest.raises(TypeError, match="returned a coroutine"):
        make_display(lambda progress: [queue_up(progress)][0]).show(Progress())
    gc.collect()


def test_option_that_means_nothing_is_refused():
    for option in [None, 0, 1, "yes", [], {}, ...]:
        with pytest.raises(
            ContractError, match="progress: must be True, False or a function that takes a Progress, not "
        ):
            make_display(option)


def test_nothing_is_shown_unless_it_is_asked_for():
    assert make_display(False) is None


# The terminal


def test_bar_without_tqdm_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    with pytest.raises(ContractError, match=r"needs tqdm: pip install 'lemon-async\[notebook\]'"):
        make_display(True)


def test_bar_of_many_jobs_shows_their_numbers(terminal):
    display = make_display(True)
    assert lines(terminal) == []
    display.show(Progress(total=4, submitting=4))
    display.show(Progress(total=4, done=2, failed=1, in_flight=1, submitting=1))
    display.close(Progress(total=4, done=4, failed=1))
    shown = lines(terminal)
    assert "0/4" in shown[0]
    assert "4 submitting]" in shown[1]
    assert "2/4" in shown[2]
    assert "1 failed, 1 in flight, 1 submitting]" in shown[2]
    assert shown[-1].startswith("100%")
    assert "1 failed]" in shown[-1]
    assert terminal.getvalue().endswith("\n")


def test_bar_learns_how_many_there_are(terminal):
    display = make_display(True)
    display.show(Progress(done=1, in_flight=1))
    display.close(Progress(total=2, done=2))
    assert lines(terminal)[0].startswith("0job")
    assert "2/2" in lines(terminal)[-1]


def test_bar_of_one_job_shows_its_status_and_the_time(terminal):
    display = make_display(True, is_single=True)
    for status in (None, "pending", "processing"):
        display.show(Progress(total=1, in_flight=1, status=status))
    display.close(Progress(total=1, done=1, status="completed"))
    words = [line.partition(" [")[0] for line in lines(terminal)]
    assert list(dict.fromkeys(words)) == ["submitting", "pending", "processing", "completed"]
    assert all(line.endswith("[00:00]") for line in lines(terminal))


def test_bar_of_one_job_that_failed_says_so(terminal):
    display = make_display(True, is_single=True)
    display.show(Progress(total=1, status="pending"))
    display.close(Progress(total=1, done=1, failed=1, status="pending"))
    assert lines(terminal)[-1] == "failed [00:00]"


def test_untrusted_status_does_not_control_the_terminal(terminal):
    display = make_display(True, is_single=True)
    display.show(Progress(total=1, status="\x1b[2J\u202e{bar}" + "x" * 1000))
    display.close(Progress(total=1, status="\n\r\0"))
    assert "\x1b[2J" not in terminal.getvalue()
    assert "\u202e" not in terminal.getvalue()
    assert max(map(len, lines(terminal))) < 60
    assert lines(terminal)[-1] == "submitting [00:00]"


def test_bar_is_painted_now_and_then_but_always_when_it_may_be_the_last_time(show_on):
    terminal = Terminal()
    show_on(terminal)
    display = make_display(True)
    assert display.show(Progress(total=20, in_flight=1)) == 1
    painted = len(lines(terminal))
    for done in range(10):
        display.show(Progress(total=20, done=done, in_flight=1))
    assert len(lines(terminal)) <= painted + 2
    assert display.show(Progress(total=20, done=20)) is None
    assert "20/20" in lines(terminal)[-1]
    display.close(Progress(total=20, done=20))


def test_bar_that_waits_for_nothing_needs_no_tick(terminal):
    display = make_display(True)
    assert display.show(Progress(total=2, in_flight=1)) == 1
    assert display.show(Progress(total=2, submitting=1)) == 1
    assert display.show(Progress(total=2, done=1)) is None
    display.close(Progress())


@pytest.mark.parametrize("stderr", [io.StringIO(), None], ids=["a file", "nothing"])
def test_bar_prints_nothing_without_a_terminal(show_on, stderr):
    show_on(stderr)
    display = make_display(True)
    assert display.show(Progress(total=2, in_flight=2)) is None
    display.close(Progress(total=2, done=2))
    assert stderr is None or stderr.getvalue() == ""


def test_bar_that_has_shown_nothing_ends_without_a_word(terminal):
    make_display(True).close(Progress(total=1, done=1, failed=1))
    assert terminal.getvalue() == ""


def test_bar_on_a_terminal_that_is_gone_fails_once(terminal):
    """It is not written to again, not even by a finalizer."""
    display = make_display(True)
    display.show(Progress(total=2))
    terminal.is_broken = True
    with pytest.raises(BrokenPipeError):
        display.show(Progress(total=2, done=1))
    assert display.show(Progress(total=2, done=2)) is None
    display.close(Progress(total=2, done=2))
    del display
    gc.collect()


def test_bar_on_a_closed_terminal_does_not_affect_other_bars(terminal):
    """All bars of tqdm share one lock, and its own `refresh` would keep it."""
    display = make_display(True)
    display.show(Progress(total=2))
    terminal.is_broken = True
    with pytest.raises(BrokenPipeError):
        display.show(Progress(total=2, done=1))
    other = threading.Thread(target=lambda: tqdm.tqdm(total=1, file=io.StringIO()).close(), daemon=True)
    other.start()
    other.join(60)
    assert not other.is_alive()


def test_bar_starts_no_thread(terminal):
    before = set(threading.enumerate())  # some of which may end meanwhile
    display = make_display(True)
    display.show(Progress(total=2))
    display.close(Progress(total=2))
    assert not set(threading.enumerate()) - before


# The notebook


@pytest.mark.parametrize("words", ["<bar/>", "<img src=x onerror=alert(1)>", '"><script>'])
def test_widget_shows_untrusted_words_as_text(monkeypatch, words):
    """With the real widgets, which tqdm chooses in a kernel."""
    pytest.importorskip("ipywidgets")
    notebook = pytest.importorskip("tqdm.notebook")
    monkeypatch.setattr("tqdm.auto.tqdm", notebook.tqdm)
    monkeypatch.setattr("tqdm.notebook.display", lambda container: None, raising=False)
    display = make_display(True, is_single=True)
    for status in (words, words):
        display.show(Progress(total=1, status=status))
    _, _, right = display._bar.container.children
    assert "<" not in right.value
    display.close(Progress(total=1, done=1, status=words))
