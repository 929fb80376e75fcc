"""Count the jobs of one call, and show the counts while it runs: with tqdm's bar, or by calling a function.

`Tally` counts. `Reporter` passes the counts to a display after changes, at most once per turn of the event loop, and at
the end. A display that raises is dropped and logged: the pictures are paid for, and the jobs continue.
"""

import asyncio
import contextvars
import inspect
import logging
import sys
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any, Literal, Protocol

import attrs

from lemon_async._formats.json_documents import one_line, safe_repr
from lemon_async._pace.validators import find_callback_fault
from lemon_async.errors import ContractError
from lemon_async.types import Progress

__all__ = ["Display", "Reporter", "Tally", "make_display"]

logger: logging.Logger = logging.getLogger("lemon_async")
_FAILED = "the function or bar of `progress` has failed and is not called again; the work continues"
# A plain call cannot be cancelled: a display that raises `CancelledError` is wrong, and must not cost a picture.
_FAILURES = (Exception, asyncio.CancelledError)
_TICK_S = 1.0
_MAX_STATUS = 40
_SUBMITTING = "submitting"


class Display(Protocol):
    """Shows progress."""

    def show(self, progress: Progress) -> float | None:
        """Show this state; return the number of seconds after which to show it again without a change, if any."""

    def close(self, progress: Progress) -> None:
        """Show the last state."""


State = Literal["submitting", "in_flight", "succeeded", "failed"]


class Tally:
    """Counts the jobs of one call by their state.

    Args:
        on_change: Called after each change.
    """

    def __init__(self, on_change: Callable[[], None]) -> None:
        self._on_change = on_change
        self._jobs: Counter[State | None] = Counter()
        self._started_at: float | None = None
        self._stopped_at: float | None = None

    def start(self) -> None:
        """Start the clock."""
        self._started_at = time.monotonic()
        self._on_change()

    def stop(self) -> None:
        """Stop the clock."""
        self._stopped_at = time.monotonic()

    def move(self, before: State | None, after: State | None) -> None:
        """Count a job in another state; `None` before its submit begins, and again if that is cancelled."""
        self._jobs[before] -= 1
        self._jobs[after] += 1
        self._on_change()

    def progress(self, total: int | None, *, status: str | None = None) -> Progress:
        """Return the counts."""
        now = self._stopped_at or time.monotonic()
        return Progress(
            total=total,
            done=self._jobs["succeeded"] + self._jobs["failed"],
            failed=self._jobs["failed"],
            in_flight=self._jobs["in_flight"],
            submitting=self._jobs["submitting"],
            seconds=0.0 if self._started_at is None else now - self._started_at,
            status=status,
        )


class Reporter:
    """Keeps a display up to date until it is closed; owns no asyncio task, and at most two timers.

    Args:
        display: Where progress is shown; `None` for nowhere.
        look: Returns the current progress.
    """

    def __init__(self, display: Display | None, look: Callable[[], Progress]) -> None:
        self._display = display
        self._look = look
        # Changes come from all over the session; the caller's function must still run in the caller's context.
        self._context = contextvars.copy_context()
        self._soon: asyncio.Handle | None = None
        self._tick: asyncio.TimerHandle | None = None

    def changed(self) -> None:
        """Schedule the display for the next turn of the event loop; all changes until then are shown together."""
        if self._display is not None and self._soon is None:
            self._soon = asyncio.get_running_loop().call_soon(self._show, context=self._context)

    def close(self) -> None:
        """Show the last state, and nothing more; may be called again. Never raises an error of the display."""
        display, self._display = self._display, None
        self._cancel_timers()
        if display is not None:
            self._pass_on(display.close)
        self._look = Progress  # the function may hold pictures

    def _show(self) -> None:
        self._cancel_timers()
        again_s = None if self._display is None else self._pass_on(self._display.show)
        if again_s is not None:
            self._tick = asyncio.get_running_loop().call_later(again_s, self._show, context=self._context)

    def _pass_on(self, show: Callable[[Progress], float | None]) -> float | None:
        try:
            return show(self._look())
        except _FAILURES:
            logger.exception(_FAILED)
            self._display = None
            return None

    def _cancel_timers(self) -> None:
        for handle in (self._soon, self._tick):
            if handle is not None:
                handle.cancel()
        self._soon = self._tick = None


def make_display(option: object, *, is_single: bool = False) -> Display | None:
    """Return the display for an option `progress`; it shows nothing before its first state.

    Args:
        option: See `ProgressOption`.
        is_single: Whether it is about one job, which has a status instead of a number.

    Raises:
        ContractError: The option is something else, or is a bar and tqdm is not installed.
    """
    if option is False:
        return None
    if option is True:
        return _Bar(is_single=is_single)
    if not callable(option):
        advice = f"must be True, False or a function that takes a Progress, not {safe_repr(option)}"
        raise ContractError.of("progress", advice)
    if fault := find_callback_fault(option):
        raise ContractError.of("progress", fault)
    return _CallbackDisplay(option)


class _CallbackDisplay:
    """Calls a function of the caller with each state."""

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
        """Call it once more, unless it was called with these counts already."""
        if self._last is None or attrs.evolve(self._last, seconds=progress.seconds) != progress:
            self.show(progress)


class _Bar:
    """tqdm's bar for terminals or notebooks; hidden if stderr is neither."""

    def __init__(self, *, is_single: bool) -> None:
        shape = {"bar_format": "{desc} [{elapsed}]", "desc": _SUBMITTING} if is_single else {"unit": "job"}
        is_hidden = True if sys.stderr is None else None  # `None`: tqdm decides
        self._make = partial(_tqdm(), file=sys.stderr, disable=is_hidden, dynamic_ncols=True, miniters=0, **shape)
        self._is_single = is_single
        self._bar: Any = None

    def show(self, progress: Progress) -> float | None:
        self._bar = self._make(total=progress.total) if self._bar is None else self._bar
        self._write(progress)
        if progress.in_flight + progress.submitting and not self._bar.disable:
            return _TICK_S
        self._bar.refresh()  # it may be the last state for long
        return None

    def close(self, progress: Progress) -> None:
        if self._bar is not None:
            self._write(progress)
            self._bar.close()

    def _write(self, progress: Progress) -> None:
        if self._is_single:
            status = "failed" if progress.failed else one_line(progress.status) or _SUBMITTING
            self._bar.set_description_str(status[:_MAX_STATUS], refresh=False)
        else:
            counts = {"failed": progress.failed, "in flight": progress.in_flight, "submitting": progress.submitting}
            words = ", ".join(f"{number} {name}" for name, number in counts.items() if number)
            self._bar.set_postfix_str(words, refresh=False)
        self._bar.total = progress.total
        self._bar.update(progress.done - self._bar.n)  # paints, unless it did 0.1 s ago


def _tqdm() -> Any:
    try:
        from tqdm.auto import tqdm  # noqa: PLC0415 - an extra
    except ImportError:
        raise ContractError.of("progress", "as a bar needs tqdm: pip install 'lemon-async[notebook]'") from None

    def refresh(bar: Any, **_: object) -> object:  # tqdm's own keeps the lock of all bars when the terminal is gone
        try:
            with bar.get_lock():
                return tqdm.refresh(bar, nolock=True)
        except Exception:
            bar.disable = True  # or its finalizer tries again
            raise

    return type("tqdm", (tqdm,), {"monitor_interval": 0, "refresh": refresh})  # 0: it starts no thread
