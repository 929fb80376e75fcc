"""Pass the events of a session to the program's functions, whatever those do."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from lemon_async.events import Event, EventHandler

__all__ = ["Emitter"]

logger: logging.Logger = logging.getLogger("lemon_async")
# A plain call cannot be cancelled: a function that raises `CancelledError` is wrong, and must not cost a picture.
_FAILURES = (Exception, asyncio.CancelledError)

E = TypeVar("E", bound=Event)


class Emitter:
    """Passes events on; a session without `on_event` has none, so that nothing is made for nobody.

    Args:
        handlers: The program's functions.
    """

    def __init__(self, handlers: Iterable[EventHandler]) -> None:
        self._handlers = tuple(handlers)
        self._has_failed = False

    def emit(self, kind: Callable[..., E], **facts: Any) -> None:
        """Make an event of what has just happened, and call every function with it; never raises."""
        event = kind(at=time.time(), **facts)
        for handler in self._handlers:
            try:
                handler(event)
            except _FAILURES:
                self._log(handler)

    def _log(self, handler: EventHandler) -> None:
        """Log the first failure with its traceback: a handler that is wrong once mostly is so every time."""
        level = logging.DEBUG if self._has_failed else logging.ERROR
        self._has_failed = True
        words = "the function %r of `on_event` has failed; it harms nothing, and is called again"
        logger.log(level, words, handler, exc_info=True)
