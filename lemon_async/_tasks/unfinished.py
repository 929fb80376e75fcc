"""Report the accepted tasks that are unfinished or unread when a session is closed or a map is left.

The logger `lemon_async.pending` lists each task once; a program that lists them itself can turn it off. An exception
that leaves the block gets a note (PEP 678), which names the first few. `pending` of the session or map has all tasks.
"""

import logging
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from lemon_async._api.resume_token import parse_reference
from lemon_async._tasks.task import ImageTask
from lemon_async.errors import ContractError

__all__ = ["MAP_LEFT", "SESSION_CLOSED", "log_unfinished", "report_unfinished"]

logger: logging.Logger = logging.getLogger("lemon_async.pending")
_MAX_PER_LINE = 20
_MAX_NOTED = 3
_MAX_NAME_CHARS = 1000  # enough for an id of 512 characters and most tokens; a token that is cut is useless
SESSION_CLOSED = (
    "the session was closed before all accepted tasks had ended. They continue and are billed, are listed in "
    "session.pending, and can be resumed in another session with session.task(id)"
)
MAP_LEFT = (
    "the map was left before the outcomes of all accepted tasks had been read. The tasks are listed in "
    "outcomes.pending, and can be resumed with session.task(id)"
)


@contextmanager
def report_unfinished(
    find: Callable[[], Sequence[ImageTask]], event: str, error: BaseException | None
) -> Iterator[None]:
    """Run the clean-up in the block, and then report the tasks that are unfinished.

    Args:
        find: Returns them, after the clean-up.
        event: What happened, as a sentence without its full stop.
        error: The exception that leaves the block of the session or map, if any. One that the clean-up raises, such as
            a second cancellation, replaces it.
    """
    try:
        yield
    except BaseException as failure:
        error = failure
        raise
    finally:
        tasks = [task for task in find() if task.status != "failed"]  # failed jobs are refunded
        is_accident = error is not None and not isinstance(error, GeneratorExit)
        log_unfinished(tasks, event, level=logging.WARNING if is_accident else logging.INFO)
        if error is not None:
            _add_note(error, tasks, event)


def log_unfinished(tasks: Iterable[ImageTask], event: str, *, level: int = logging.WARNING) -> None:
    """Log the tasks that neither a warning has listed yet nor a journal of the caller has."""
    fresh = [task for task in tasks if not (task._is_reported or task._is_recorded)]
    if fresh:
        for line in _lines(fresh, event):
            logger.log(level, "%s", line)
    if level >= logging.WARNING:
        for task in fresh:
            task._is_reported = True


class _Note(str):
    """A note that refers to its tasks, so that the note of an outer block does not repeat them."""

    __slots__ = ("tasks",)
    tasks: "weakref.WeakSet[ImageTask]"

    def __reduce__(self) -> tuple[Any, ...]:
        return str, (str(self),)


def _add_note(error: BaseException, tasks: Sequence[ImageTask], event: str) -> None:
    with suppress(Exception):  # frozen exceptions take no notes, and must be raised unchanged
        known = _noted(error)
        fresh = [task for task in tasks if not task._is_recorded and task not in known]
        if fresh:
            note = _Note(_short_text(fresh, event))
            note.tasks = weakref.WeakSet(fresh)
            error.add_note(note)


def _noted(error: BaseException) -> set[ImageTask]:
    """Return the tasks that an exception, or one in its group, names already."""
    notes = getattr(error, "__notes__", ())
    tasks = {task for note in notes if isinstance(note, _Note) for task in note.tasks}
    own = getattr(error, "task", None)
    if isinstance(own, ImageTask):  # a caller's exception may have any attribute of that name
        tasks.add(own)
    if isinstance(error, BaseExceptionGroup):
        tasks.update(*map(_noted, error.exceptions))
    return tasks


def _lines(tasks: Sequence[ImageTask], event: str) -> Iterator[str]:
    """Yield lines that together name every task: a job that is not listed could not be resumed."""
    names = _names(tasks)
    yield f"{_headline(tasks, event)}: {', '.join(names[:_MAX_PER_LINE])}"
    for at in range(_MAX_PER_LINE, len(names), _MAX_PER_LINE):
        yield f"{len(tasks):,} tasks, continued: {', '.join(names[at : at + _MAX_PER_LINE])}"


def _short_text(tasks: Sequence[ImageTask], event: str) -> str:
    names = _names(tasks)
    if len(names) > _MAX_NOTED:
        names[_MAX_NOTED:] = [f"and {len(tasks) - _MAX_NOTED:,} more, which are in the log ({logger.name})"]
    return f"{_headline(tasks, event)}: {', '.join(names)}"


def _headline(tasks: Sequence[ImageTask], event: str) -> str:
    return f"{event}. {len(tasks):,} task{'s' * (len(tasks) != 1)}"


def _names(tasks: Sequence[ImageTask]) -> list[str]:
    names = [_name(task) for task in tasks if task.id is not None]
    if len(names) < len(tasks):
        names.append(f"{len(tasks) - len(names):,} answered inline, without an id")
    return names


def _name(task: ImageTask) -> str:
    """Return the id, or a token if `LemonSession.task` would not accept the id, and the label."""
    word = task._name or ""
    try:
        parse_reference(word)
    except ContractError:  # as for a task of which only the address is known
        word = task.resume_token()
    return f"{word[:_MAX_NAME_CHARS]}{f' ({task.label})' if task.label else ''}"
