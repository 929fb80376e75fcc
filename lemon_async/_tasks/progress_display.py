"""What progress is shown by: tqdm's bar of the terminal or the notebook, or a function of the caller."""

import inspect
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any

import attrs

from lemon_async._formats.safe_text import one_line, safe_repr
from lemon_async._tasks.progress import Display
from lemon_async.errors import ContractError
from lemon_async.types import Progress

__all__ = ["make_display"]

_SHORTEST_GAP_S = 0.1
_TICK_S = 1.0
_LONGEST_STATUS = 40
_USUAL_COLUMNS = 80
_UNHEARD = "submitting"
_OF_ONE = "{desc} [{elapsed}]"


def make_display(option: object, *, is_single: bool = False) -> Display | None:
    """Return what an option `progress` asks for; nothing is shown before there is something to show.

    Args:
        option: See `ProgressOption`.
        is_single: Whether it is about one job, which has a status and no number.

    Raises:
        ContractError: It is something else, or asks for a bar without tqdm.
    """
    if option is False:
        return None
    if option is True:
        return _Bar(*_bar_of_place(), is_single=is_single)
    if not callable(option):
        raise _refusal(f"must be True, False or a function that takes a Progress, not {safe_repr(option)}")
    if _is_async(option):
        advice = "must be a plain function, which is called and not awaited; an asyncio.Queue's put_nowait is one"
        raise _refusal(advice)
    return _CallbackDisplay(option)


class _CallbackDisplay:
    """A function of the caller, called with each state."""

    def __init__(self, callback: Callable[[Progress], object]) -> None:
        self._callback = callback
        self._last: Progress | None = None

    def show(self, progress: Progress) -> None:
        self._last = progress
        result = self._callback(progress)
        if inspect.iscoroutine(result):
            result.close()
            raise TypeError("the function of `progress` returned a coroutine: it is called, and not awaited")

    def close(self, progress: Progress) -> None:
        """Call it once more, unless it has heard this already."""
        if self._last is None or attrs.evolve(self._last, seconds=progress.seconds) != progress:
            self.show(progress)


class _Bar:
    """A bar of tqdm, opened when there is something to show.

    Args:
        make: The kind of bar.
        is_hidden: Whether it shows nothing; `None` for: when nobody sees it.
        is_single: Whether it is about one job.
    """

    def __init__(self, make: Callable[..., Any], is_hidden: bool | None, *, is_single: bool) -> None:
        self._make = make
        self._is_hidden = is_hidden
        self._is_single = is_single
        self._bar: Any = None
        self._painted_at = 0.0

    def show(self, progress: Progress) -> float | None:
        if self._bar is None:
            self._bar = self._open(progress)
        if self._bar.disable:
            return None
        is_idle = not progress.in_flight + progress.submitting
        early_s = self._painted_at + _SHORTEST_GAP_S - time.monotonic()
        if early_s > 0 and not is_idle:  # what is idle is shown at once: nothing may come that would end a timer
            return early_s
        try:
            self._write(progress)
            self._bar.refresh()
        except BaseException:
            self._bar.disable = True  # or its finalizer tries again
            raise
        self._painted_at = time.monotonic()
        return None if is_idle else _TICK_S

    def close(self, progress: Progress) -> None:
        if self._bar is not None and not self._bar.disable:
            self._write(progress)
            self._bar.close()

    def _open(self, progress: Progress) -> Any:
        is_hidden = True if sys.stderr is None else self._is_hidden
        shape = {"bar_format": _OF_ONE, "desc": _UNHEARD} if self._is_single else {"unit": "job"}
        width = {"ncols": _USUAL_COLUMNS} if _is_without_width(sys.stderr) else {"dynamic_ncols": True}
        return self._make(total=progress.total, file=sys.stderr, disable=is_hidden, **width, **shape)

    def _write(self, progress: Progress) -> None:
        """Set what the bar shows, without showing it."""
        self._bar.n = progress.done
        if progress.total != self._bar.total:
            self._bar.total = progress.total
            if hasattr(self._bar, "container"):  # the notebook's bar is told its end only once
                self._bar.container.children[1].max = progress.total or 1
        if self._is_single:
            self._bar.set_description_str(_words_of_one(progress), refresh=False)
        else:
            self._bar.set_postfix_str(_words_of_many(progress), refresh=False)


def _words_of_one(progress: Progress) -> str:
    status = (one_line(progress.status) or _UNHEARD)[:_LONGEST_STATUS]
    return f"failed, last heard: {status}" if progress.failed and status != "failed" else status


def _words_of_many(progress: Progress) -> str:
    counts = (
        (progress.failed, "failed"),
        (progress.in_flight, "in flight"),
        (progress.submitting, "submitting"),
    )
    return ", ".join(f"{number} {what}" for number, what in counts if number)


def _bar_of_place() -> tuple[Callable[..., Any], bool | None]:
    """Return the kind of bar that shows where this program runs, and whether it is hidden.

    Raises:
        ContractError: There is no tqdm.
    """
    try:
        from tqdm.std import tqdm  # noqa: PLC0415 - an extra
    except ImportError:
        raise _refusal("as a bar needs tqdm: pip install 'lemon-async[notebook]'") from None
    if not _is_in_kernel():
        return _bar_class(tqdm), None
    try:
        import_module("ipywidgets")  # without it, tqdm's bar for notebooks breaks when it is made
        from tqdm.notebook import tqdm as notebook_tqdm  # noqa: PLC0415 - likewise
    except ImportError:
        return _bar_class(tqdm), False  # a cell shows text, too, though it is no terminal
    return _bar_class(notebook_tqdm), False


def _is_without_width(file: Any) -> bool:
    """Tell whether a terminal says that it has no columns, as in some containers: the bar would be blank lines."""
    try:
        return os.get_terminal_size(file.fileno()).columns == 0
    except (OSError, ValueError, AttributeError):
        return False


def _is_in_kernel() -> bool:
    """Tell whether a Jupyter kernel runs this program; IPython is asked only if it is there already."""
    get_ipython = getattr(sys.modules.get("IPython"), "get_ipython", None)
    shell = get_ipython() if callable(get_ipython) else None
    return getattr(shell, "kernel", None) is not None


def _bar_class(kind: type[Any]) -> Callable[..., Any]:
    """Return a kind of bar that starts no thread to watch over it, and never keeps tqdm's lock.

    It is painted often enough. The `refresh` of tqdm keeps the lock of all bars when the terminal is gone.
    """

    def refresh(bar: Any, **_: object) -> object:
        with bar.get_lock():
            return kind.refresh(bar, nolock=True)

    return type(kind.__name__, (kind,), {"monitor_interval": 0, "refresh": refresh})


def _is_async(function: Callable[..., object]) -> bool:
    """Tell whether calling it would only make something to be awaited; an object is called by its class."""
    called = function if inspect.isroutine(function) or isinstance(function, partial) else type(function).__call__
    return inspect.iscoroutinefunction(called) or inspect.isasyncgenfunction(called)


def _refusal(advice: str) -> ContractError:
    return ContractError.of("progress", advice)
