"""How far a piece of work has come, told to whoever wants to know while it goes on.

`Tally` counts, `Reporter` tells: after changes, at most once in each turn of the event loop, and at the end. Whoever is
told (a bar, a function of the caller) may fail without harm: the pictures are paid for, the telling is not.
"""

import asyncio
import contextvars
import logging
import time
from collections.abc import Callable
from typing import Protocol

from lemon_async.types import Progress

__all__ = ["Display", "Reporter", "Tally"]

logger: logging.Logger = logging.getLogger("lemon_async")
_FAILED = "the function or bar of `progress` has failed and is told nothing more; the work goes on"
# A plain call cannot be cancelled: one that says so is just wrong, and must not cost a picture.
_FAILURES = (Exception, asyncio.CancelledError)


class Display(Protocol):
    """What progress is shown by."""

    def show(self, progress: Progress) -> float | None:
        """Show how it stands; return in how many seconds that is out of date without any news, if ever."""

    def close(self, progress: Progress) -> None:
        """Show how it has ended, and nothing more."""


class Tally:
    """Counts the jobs of one call: each is `begun`, then perhaps `sold`, and ends once."""

    def __init__(self) -> None:
        self._submitting = self._in_flight = self._done = self._failed = 0
        self._started_at: float | None = None
        self._stopped_at: float | None = None

    def start(self) -> None:
        """Start the clock."""
        self._started_at = time.monotonic()

    def stop(self) -> None:
        """Stop the clock."""
        self._stopped_at = time.monotonic()

    def begun(self) -> None:
        """Count a job that is to be submitted."""
        self._submitting += 1

    def withdrawn(self) -> None:
        """Count a job as never begun: its submit was cancelled."""
        self._submitting -= 1

    def refused(self) -> None:
        """Count a job whose submit ended in an error."""
        self._submitting -= 1
        self._done += 1
        self._failed += 1

    def sold(self) -> None:
        """Count a job that was accepted."""
        self._submitting -= 1
        self._in_flight += 1

    def ended(self, *, is_failed: bool) -> None:
        """Count a sold job that is over."""
        self._in_flight -= 1
        self._done += 1
        self._failed += is_failed

    def progress(self, total: int | None, *, status: str | None = None) -> Progress:
        """Return the count."""
        now = self._stopped_at or time.monotonic()
        return Progress(
            total=total,
            done=self._done,
            failed=self._failed,
            in_flight=self._in_flight,
            submitting=self._submitting,
            seconds=0.0 if self._started_at is None else now - self._started_at,
            status=status,
        )


class Reporter:
    """Tells a display how a piece of work goes on, until it is closed; owns no asyncio task, and at most two timers.

    Args:
        display: Who is told; nobody, if there is none.
        look: Returns how it stands.
    """

    def __init__(self, display: Display | None, look: Callable[[], Progress]) -> None:
        self._display = display
        self._look = look
        # Changes come from all over the session: the caller's function runs in the caller's context all the same.
        self._context = contextvars.copy_context()
        self._turn: asyncio.Handle | None = None
        self._tick: asyncio.TimerHandle | None = None

    def changed(self) -> None:
        """Have the state told before the event loop's next turn is over; whatever changes until then is one change."""
        if self._display is not None and self._turn is None:
            self._turn = asyncio.get_running_loop().call_soon(self._tell, context=self._context)

    def close(self) -> None:
        """Tell the last state, and nothing more; may be called again. Never raises what the display does."""
        display, self._display = self._display, None
        for handle in (self._turn, self._tick):
            if handle is not None:
                handle.cancel()
        if display is not None:
            try:
                display.close(self._look())
            except _FAILURES:
                logger.exception(_FAILED)
        self._look = Progress  # what it looked at may hold pictures

    def _tell(self) -> None:
        self._turn = None
        if self._tick is not None:
            self._tick.cancel()
            self._tick = None
        if self._display is None:
            return
        try:
            again_s = self._display.show(self._look())
        except _FAILURES:
            logger.exception(_FAILED)
            self._display = None
            return
        if again_s is not None:
            self._tick = asyncio.get_running_loop().call_later(again_s, self._tell, context=self._context)
