"""Progress is shown where there is somebody to see it, and by what is installed."""

import asyncio
import functools
import gc
import io
import sys
import threading
import types

import pytest
import tqdm

from lemon_async import ContractError
from lemon_async._tasks import progress_display as displays
from lemon_async._tasks.progress_display import make_display
from lemon_async.types import Progress


class Terminal(io.StringIO):
    """A file that says it is a terminal, and perhaps cannot be written."""

    is_broken = False

    def isatty(self):
        return True

    def write(self, text):
        if self.is_broken:
            raise BrokenPipeError
        return super().write(text)


@pytest.fixture
def show_on(monkeypatch):
    """Have bars shown on another file than stderr, which pytest exchanges between fixtures and tests."""

    def choose(file):
        monkeypatch.setattr(displays, "sys", types.SimpleNamespace(stderr=file, modules=sys.modules))

    return choose


@pytest.fixture
def terminal(monkeypatch, show_on):
    screen = Terminal()
    show_on(screen)
    monkeypatch.setattr(displays, "_SHORTEST_GAP_S", 0)
    return screen


@pytest.fixture
def kernel(monkeypatch):
    """Let this program be run by a Jupyter kernel, as far as can be told without importing IPython."""
    shell = types.SimpleNamespace(kernel=object())
    fake = types.ModuleType("IPython")
    fake.get_ipython = lambda: shell
    monkeypatch.setitem(sys.modules, "IPython", fake)
    return shell


class Widget:
    """What tqdm's bar for notebooks is to us."""

    made = None

    def __init__(self, **options):
        type(self).made = self
        self.options = options
        self.disable = options["disable"]
        self.total = options["total"]
        self.container = types.SimpleNamespace(children=[None, types.SimpleNamespace(max=None), None])

    def set_postfix_str(self, text, *, refresh):
        self.postfix = text

    def refresh(self, *, nolock):
        pass

    def get_lock(self):
        return threading.Lock()


@pytest.fixture
def widgets(monkeypatch):
    """Let ipywidgets be installed, and tqdm show its bar by them."""
    notebook = types.ModuleType("tqdm.notebook")
    notebook.tqdm = type("tqdm", (Widget,), {})
    monkeypatch.setitem(sys.modules, "ipywidgets", types.ModuleType("ipywidgets"))
    monkeypatch.setitem(sys.modules, "tqdm.notebook", notebook)
    return notebook


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


@pytest.mark.parametrize("told", [[], [Progress(done=1)]], ids=["nothing", "less"])
def test_function_hears_the_end_that_it_has_not_heard(told):
    seen = []
    display = make_display(seen.append)
    for progress in told:
        display.show(progress)
    display.close(Progress(done=2))
    assert seen == [*told, Progress(done=2)]


async def queue_up(progress):
    raise AssertionError


class Caller:
    async def __call__(self, progress):
        raise AssertionError


async def yielding(progress):
    yield progress


@pytest.mark.parametrize(
    "function",
    [queue_up, functools.partial(queue_up), Caller(), Caller().__call__, yielding, asyncio.Queue().put],
    ids=["coroutine function", "partial", "object", "method", "async generator", "queue"],
)
def test_coroutine_function_is_refused(function):
    with pytest.raises(ContractError, match="progress: must be a plain function, which is called and not awaited"):
        make_display(function)


def test_coroutine_that_comes_back_is_closed_and_told():
    """Nobody awaits it: that would be a warning somewhere else."""
    with pytest.raises(TypeError, match="returned a coroutine"):
        make_display(lambda progress: [queue_up(progress)][0]).show(Progress())
    gc.collect()


@pytest.mark.parametrize("option", [None, 0, 1, "yes", [], {}, ...], ids=repr)
def test_option_that_means_nothing_is_refused(option):
    with pytest.raises(ContractError, match="progress: must be True, False or a function that takes a Progress, not "):
        make_display(option)


def test_nothing_is_shown_unless_it_is_asked_for():
    assert make_display(False) is None


# The terminal


@pytest.mark.parametrize("missing", [("tqdm", "tqdm.std"), ("tqdm.std",)], ids=["all", "a part"])
def test_bar_without_tqdm_says_how_to_get_it(monkeypatch, missing):
    for name in missing:
        monkeypatch.setitem(sys.modules, name, None)
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


@pytest.mark.parametrize(("status", "words"), [("failed", "failed"), ("pending", "failed, last heard: pending")])
def test_bar_of_one_job_that_failed_says_so(terminal, status, words):
    display = make_display(True, is_single=True)
    display.show(Progress(total=1, status=status))
    display.close(Progress(total=1, done=1, failed=1, status=status))
    assert lines(terminal)[-1] == f"{words} [00:00]"


def test_status_of_a_stranger_does_not_drive_the_terminal(terminal):
    display = make_display(True, is_single=True)
    display.show(Progress(total=1, status="\x1b[2J\u202e{bar}" + "x" * 1000))
    display.close(Progress(total=1, status="\n\r\0"))
    assert "\x1b[2J" not in terminal.getvalue()
    assert "\u202e" not in terminal.getvalue()
    assert max(map(len, lines(terminal))) < 60
    assert lines(terminal)[-1] == "submitting [00:00]"


def test_bar_is_painted_now_and_then_and_wants_to_be_when_it_was_not(terminal, monkeypatch):
    monkeypatch.setattr(displays, "_SHORTEST_GAP_S", 60)
    display = make_display(True)
    assert display.show(Progress(total=2, in_flight=1)) == 1
    painted = terminal.getvalue()
    assert 0 < display.show(Progress(total=2, done=1, in_flight=1)) <= 60
    assert terminal.getvalue() == painted
    assert display.show(Progress(total=2, done=2)) is None
    assert "2/2" in lines(terminal)[-1]
    display.close(Progress(total=2, done=2))
    assert "2/2" in lines(terminal)[-1]


def test_bar_that_waits_for_nothing_needs_no_tick(terminal):
    display = make_display(True)
    assert display.show(Progress(total=2, in_flight=1)) == 1
    assert display.show(Progress(total=2, submitting=1)) == 1
    assert display.show(Progress(total=2, done=1)) is None
    display.close(Progress())


@pytest.mark.parametrize("stderr", [io.StringIO(), None], ids=["a file", "nothing"])
def test_bar_prints_nothing_where_nobody_sees_it(show_on, stderr):
    show_on(stderr)
    display = make_display(True)
    assert display.show(Progress(total=2, in_flight=2)) is None
    display.close(Progress(total=2, done=2))
    assert stderr is None or stderr.getvalue() == ""


def test_bar_that_has_shown_nothing_ends_without_a_word(terminal):
    make_display(True).close(Progress(total=1, done=1, failed=1))
    assert terminal.getvalue() == ""


def test_bar_on_a_terminal_that_is_gone_fails_once(terminal):
    """It is not written again, not even by a finalizer."""
    display = make_display(True)
    display.show(Progress(total=2))
    terminal.is_broken = True
    with pytest.raises(BrokenPipeError):
        display.show(Progress(total=2, done=1))
    assert display.show(Progress(total=2, done=2)) is None
    display.close(Progress(total=2, done=2))
    del display
    gc.collect()


def test_bar_on_a_terminal_that_is_gone_leaves_the_bars_of_others_alone(terminal):
    """All bars of tqdm share one lock, and its own `refresh` would keep it."""
    display = make_display(True)
    display.show(Progress(total=2))
    terminal.is_broken = True
    with pytest.raises(BrokenPipeError):
        display.show(Progress(total=2, done=1))
    other = threading.Thread(target=lambda: tqdm.tqdm(total=1, file=io.StringIO()).close(), daemon=True)
    other.start()
    other.join(5)
    assert not other.is_alive()


def test_bar_starts_no_thread(terminal):
    before = threading.enumerate()
    display = make_display(True)
    display.show(Progress(total=2))
    display.close(Progress(total=2))
    assert threading.enumerate() == before


# The notebook


def test_notebook_shows_a_widget(kernel, widgets):
    display = make_display(True)
    assert display.show(Progress(total=None, in_flight=1)) == 1
    bar = widgets.tqdm.__subclasses__()[-1].made
    assert (bar.disable, bar.n, bar.postfix) == (False, 0, "1 in flight")
    display._painted_at = 0
    display.show(Progress(total=5, done=3))
    assert (bar.total, bar.n, bar.container.children[1].max) == (5, 3, 5)


def test_notebook_without_widgets_shows_text(kernel, monkeypatch, show_on):
    """A cell is no terminal and shows text all the same."""
    cell = io.StringIO()
    show_on(cell)
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    display = make_display(True)
    display.show(Progress(total=2))
    display.close(Progress(total=2, done=2))
    assert "2/2" in cell.getvalue()


def test_terminal_of_ipython_is_a_terminal(kernel, widgets, terminal):
    del kernel.kernel
    display = make_display(True)
    display.show(Progress(total=2))
    display.close(Progress(total=2, done=2))
    assert "2/2" in terminal.getvalue()


@pytest.mark.parametrize("words", ["<bar/>", "<img src=x onerror=alert(1)>", '"><script>'])
def test_widget_shows_words_of_strangers_as_text(monkeypatch, words):
    """With the real widgets, if they are installed."""
    pytest.importorskip("ipywidgets")
    pytest.importorskip("tqdm.notebook")
    monkeypatch.setattr(displays, "_is_in_kernel", lambda: True)
    monkeypatch.setattr("tqdm.notebook.display", lambda container: None, raising=False)
    display = make_display(True, is_single=True)
    for status in (words, words):
        display.show(Progress(total=1, status=status))
        display._painted_at = 0
    _, _, right = display._bar.container.children
    assert "<" not in right.value
    display.close(Progress(total=1, done=1, status=words))


def test_ipython_is_not_imported_by_us(monkeypatch, terminal):
    """Unless it runs us, nobody pays for it."""
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    display = make_display(True)
    display.show(Progress(total=1))
    display.close(Progress(total=1, done=1))
    assert "IPython" not in sys.modules
