"""Report the accepted tasks that are unfinished or unread when a session is closed or a map is left.

A task is read once the program has its outcome: from `await`, `wait`, `result`, `exception` or `updates`, in a done
callback, or from a loop over outcomes or completed tasks. Jobs that failed at the service are refunded, and those of a
journal can be found there; neither is reported.

The logger `lemon_async.pending` lists each task once; a program that lists them itself can turn it off. An exception
that leaves the block gets a note (PEP 678), which names the first few. `pending` of the session or map has all tasks.
"""

import logging
import re
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from lemon_async._api.resume_token import parse_reference
from lemon_async._tasks.task import ImageTask
from lemon_async.errors import ContractError

__all__ = ["MAP_LEFT", "SESSION_CLOSED", "UnreadOutcomes", "log_unfinished", "report_unfinished"]

logger: logging.Logger = logging.getLogger("lemon_async.pending")
_MAX_PER_LINE = 20
_MAX_NOTED = 3
_MAX_KEPT = 1000
_PLAIN = re.compile(r"\w{1,512}", re.ASCII)  # what ids look like; it saves a closer look at nearly all
_MAX_NAME_CHARS = 1000  # enough for an id of 512 characters and most tokens; a token that is cut is useless
SESSION_CLOSED = (
    "the session was closed before all accepted tasks had ended. They continue and are billed, are listed in "
    "session.pending, and can be resumed in another session with session.task(id)"
)
UNREAD = (
    "the session was closed before the outcomes of all tasks that had ended were read. They can be read in another "
    "session with session.task(id)"
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
        log_unfinished(tasks, event)
        if error is not None:
            _add_note(error, tasks, event)


def log_unfinished(tasks: Iterable[ImageTask], event: str) -> None:
    """Log the tasks that neither a warning has listed yet nor a journal of the caller has."""
    fresh = [task for task in tasks if not (task._is_reported or task._is_seen)]
    for task in fresh:
        task._is_reported = True
        if task._mark_read is not None:
            task._mark_read(task)
    named = [(_reference(task), task.label) for task in fresh if task.id is not None]
    _log(named, event, total=len(fresh), nameless=len(fresh) - len(named))


class UnreadOutcomes:
    """The tasks of a session that have ended and are unread: the last 1,000 names, and how many more there are.

    It keeps no handles, because those hold the pictures.
    """

    def __init__(self) -> None:
        self._named: OrderedDict[str, tuple[str, str | None]] = OrderedDict()
        self._nameless = 0
        self._more = 0
        self._mark_read = self.discard  # one object for all tasks

    def add(self, task: ImageTask) -> None:
        """Keep a task that has ended, unless it was read or listed, or is refunded."""
        if task._is_seen or task._is_reported or task.status == "failed":
            return
        task._mark_read = self._mark_read
        if task.id is None:
            self._nameless += 1
            return
        self._named[task._key] = _reference(task), task.label
        if len(self._named) > _MAX_KEPT:
            self._named.popitem(last=False)
            self._more += 1

    def discard(self, task: ImageTask) -> None:
        """Forget a task that was added."""
        task._mark_read = None
        if task.id is None:
            self._nameless -= 1
        elif not self.supersede(task._key):
            self._more = max(self._more - 1, 0)

    def supersede(self, key: str) -> bool:
        """Forget a task for which there is a new handle; return whether its name was kept."""
        return self._named.pop(key, None) is not None

    def log(self) -> None:
        """Log the tasks, because the session is closed."""
        named = [*self._named.values()]
        _log(named, UNREAD, total=len(named) + self._nameless + self._more, nameless=self._nameless)


class _Note(str):
    """A note that refers to its tasks, so that the note of an outer block does not repeat them."""

    __slots__ = ("tasks",)
    tasks: "weakref.WeakSet[ImageTask]"

    def __reduce__(self) -> tuple[Any, ...]:
        return str, (str(self),)


def _add_note(error: BaseException, tasks: Sequence[ImageTask], event: str) -> None:
    with suppress(Exception):  # frozen exceptions take no notes, and must be raised unchanged
        known = _noted(error)
        fresh = [task for task in tasks if not task._is_seen and task not in known]
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


def _log(named: Sequence[tuple[str, str | None]], event: str, *, total: int, nameless: int) -> None:
    """Log lines that together name every task: a job that is not listed could not be resumed."""
    head = f"{_headline(total, event)}: "
    rest = _rest(total, len(named), nameless)
    for at in range(0, max(len(named), 1 if total else 0), _MAX_PER_LINE):
        part = named[at : at + _MAX_PER_LINE]
        is_last = at + _MAX_PER_LINE >= len(named)
        names = [_shown(*name) for name in part] + (rest if is_last else [])
        # Not `task_id`: a record is about several.
        logger.warning("%s%s", head, ", ".join(names), extra={"task_ids": [word for word, _ in part]})
        head = f"{total:,} tasks, continued: "


def _rest(total: int, named: int, nameless: int) -> list[str]:
    more = total - named - nameless
    return [
        *([f"{nameless:,} answered inline, without an id"] if nameless else []),
        *([f"and {more:,} that ended earlier"] if more else []),
    ]


def _short_text(tasks: Sequence[ImageTask], event: str) -> str:
    named = [_shown(_reference(task), task.label) for task in tasks if task.id is not None]
    names = [*named, *_rest(len(tasks), len(named), len(tasks) - len(named))]
    if len(names) > _MAX_NOTED:
        names[_MAX_NOTED:] = [f"and {len(tasks) - _MAX_NOTED:,} more, which are in the log ({logger.name})"]
    return f"{_headline(len(tasks), event)}: {', '.join(names)}"


def _headline(total: int, event: str) -> str:
    return f"{event}. {total:,} task{'s' * (total != 1)}"


def _shown(reference: str, label: str | None) -> str:
    return f"{reference} ({label})" if label else reference


def _reference(task: ImageTask) -> str:
    """Return the id, or a token if `LemonSession.task` would not accept the id."""
    word = task._name or ""
    if _PLAIN.fullmatch(word):
        return word
    try:
        parse_reference(word)
    except ContractError:  # as for a task of which only the address is known
        word = task.resume_token()
    return word[:_MAX_NAME_CHARS]
