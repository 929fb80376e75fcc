"""Report the sold tasks that closing a session or leaving a map leaves behind.

The logger `lemon_async.pending` lists each task once, so that a program with a list of its own can turn it off; an
exception that leaves the block carries a note (PEP 678). Both are bounded; the `pending` of the session or map has all
of them.
"""

import logging
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from lemon_async._tasks.resume_token import parse_reference
from lemon_async._tasks.task import ImageTask
from lemon_async.errors import ContractError

__all__ = ["MAP_LEFT", "SESSION_CLOSED", "leaving", "log_left"]

logger: logging.Logger = logging.getLogger("lemon_async.pending")
_MOST_LISTED = 20
_LONGEST_NAME = 1000  # an id may have 512 characters; a token that is cut is useless
SESSION_CLOSED = (
    "the session was closed before all sold tasks had ended. They go on and are billed, are listed in session.pending, "
    "and can be resumed in another session with session.task(id)"
)
MAP_LEFT = (
    "the map was left before the outcomes of all sold tasks had been read. The tasks are listed in outcomes.pending, "
    "and can be resumed with session.task(id)"
)


@contextmanager
def leaving(look: Callable[[], Sequence[ImageTask]], what: str, error: BaseException | None) -> Iterator[None]:
    """Clean up within, and then report what is left behind.

    Args:
        look: Returns the tasks, once the clean-up has ended.
        what: What happened, as a sentence without its full stop.
        error: The exception that leaves the block, if any; one of the clean-up, such as a second cancellation,
            replaces it.
    """
    try:
        yield
    except BaseException as failure:
        error = failure
        raise
    finally:
        tasks = [task for task in look() if task.snapshot.status != "failed"]  # what failed is refunded
        is_accident = error is not None and not isinstance(error, GeneratorExit)
        log_left(tasks, what, level=logging.WARNING if is_accident else logging.INFO)
        if error is not None:
            _add_note(error, tasks, what)


def log_left(tasks: Iterable[ImageTask], what: str, *, level: int = logging.WARNING) -> None:
    """Log the tasks that no warning has listed yet."""
    fresh = [task for task in tasks if not task._is_reported]
    if fresh:
        logger.log(level, "%s", _text(fresh, what))
    if level >= logging.WARNING:
        for task in fresh:
            task._is_reported = True


class _Note(str):
    """A note that knows its tasks, so that the note of an outer block does not repeat them."""

    __slots__ = ("tasks",)
    tasks: "weakref.WeakSet[ImageTask]"

    def __reduce__(self) -> tuple[Any, ...]:
        return str, (str(self),)


def _add_note(error: BaseException, tasks: Sequence[ImageTask], what: str) -> None:
    with suppress(Exception):  # a frozen exception takes no notes; what is raised stays what it was
        known = _noted(error)
        fresh = [task for task in tasks if task not in known]
        if fresh:
            note = _Note(_text(fresh, what))
            note.tasks = weakref.WeakSet(fresh)
            error.add_note(note)


def _noted(error: BaseException) -> set[ImageTask]:
    """Return the tasks that an exception, or one in its group, already names."""
    notes = getattr(error, "__notes__", ())
    tasks = {task for note in notes if isinstance(note, _Note) for task in note.tasks}
    own = getattr(error, "task", None)
    if isinstance(own, ImageTask):  # an exception of the caller's may call anything so
        tasks.add(own)
    if isinstance(error, BaseExceptionGroup):
        tasks.update(*map(_noted, error.exceptions))
    return tasks


def _text(tasks: Sequence[ImageTask], what: str) -> str:
    named = [task for task in tasks if task.id is not None]
    listed = [_name(task) for task in named[:_MOST_LISTED]]
    if len(named) > _MOST_LISTED:
        listed.append(f"and {len(named) - _MOST_LISTED:,} more")
    if len(named) < len(tasks):
        listed.append(f"{len(tasks) - len(named):,} answered inline, without an id")
    return f"{what}. {len(tasks):,} task{'s' * (len(tasks) != 1)}: {', '.join(listed)}"


def _name(task: ImageTask) -> str:
    """Return what `LemonSession.task` takes, which is not every id, and the label."""
    word = task._name or ""
    try:
        parse_reference(word)
    except ContractError:  # among them the empty word of a task of which only the address is known
        word = task.resume_token()
    return f"{word[:_LONGEST_NAME]}{f' ({task.label})' if task.label else ''}"
