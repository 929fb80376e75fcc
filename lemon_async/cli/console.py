"""Print while jobs run: results to stdout, everything else to stderr, all of it around the progress bar.

Printing to stderr never fails a job: the pictures are paid for, and a user who stops reading still wants them.
"""

import errno
import logging
import os
import re
import shlex
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import TextIO

from tqdm import tqdm

from lemon_async.cli.arguments import Reference, slug_of
from lemon_async.cli.fields import FIELDS
from lemon_async.cli.stdout import encodable, plain
from lemon_async.errors import BatchPaused, ContractError, SubmissionUnknown, TaskTimeout, TransportError
from lemon_async.events import Event, OutcomeUnknown, RateLimited, RetryScheduled
from lemon_async.types import Problem

__all__ = [
    "EventPrinter", "LogPrinter", "describe", "print_error", "print_failure", "print_link", "print_note",
    "print_pending", "print_result", "print_status", "translate",
]  # fmt: skip

# A closed pipe or terminal; a closed stream, or characters that its encoding lacks.
_UNPRINTABLE = (OSError, ValueError)
_OPTIONS = {
    "prompt": "PROMPT",
    "min_gap_s": "--poll-min-gap",
    "max_gap_s": "--poll-max-gap",
    "deadline_s": "--deadline",
    "allow_http": "--allow-http",
    "base_url": "--base-url",
    "requests_per_minute": "--requests-per-minute",
    "shared_limit": "--shared-limit",
    "in_flight": "--in-flight",
    "budget_usd": "--budget-usd",
    "price_usd": "--price-usd",
    "save": "-o",
    "rows": "ROWS",
    **{name: f"--{name}" for name in ("attempts", "journal", "key")},
    **{name: f"--{name}" for name in ("model", "image", "mask", "extra", "purpose")},
    **{field.name: field.flag for field in FIELDS},
    "async": "--async",
}
# Quoted text is unchanged; a name without an underscore is an ordinary word unless `=` follows.
_NAME = re.compile(
    r"'[^']*'"
    r"|image\[(?P<place>\d+)\]"
    r"|\ballow_http=\{'(?P<host>[^']*)'\}"
    rf"|\b(?P<name>{'|'.join(name for name in _OPTIONS if '_' in name.rstrip('_'))})\b=?"
    rf"|\b(?P<assigned>{'|'.join(_OPTIONS)})="
)
_REFUSED_HERE = re.compile(rf"cannot connect to (localhost|127\.|\[?::1).*\[Errno {errno.ECONNREFUSED}\]")


class LogPrinter(logging.Handler):
    """A log handler that prints what the library warns of, around the progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print one record; pending tasks are printed by the command itself, with what a shell can do."""
        is_event = isinstance(record.args, tuple) and any(isinstance(part, SubmissionUnknown) for part in record.args)
        if record.name != "lemon_async.pending" and not is_event:
            print_note(record.getMessage())


class EventPrinter:
    """Takes the events of a session, and prints those that a user should know of before the jobs end."""

    def __init__(self) -> None:
        self._has_been_limited = False

    def __call__(self, event: Event) -> None:
        """Print an event, if it is one of these."""
        match event:
            case RetryScheduled(what=what, job=job, wait_s=wait_s, error=error):
                name = what if job is None else "a paid request"
                print_note(f"trying {name} again in {wait_s:.1f} s, because: {describe(error)}")
            case RateLimited(retry_after_s=pause_s) if not self._has_been_limited:
                self._has_been_limited = True  # the first ones of a session find the limit
                pause = "" if pause_s is None else f" for {pause_s:g} s"
                print_note(f"the rate limit of the account is reached: all requests pause{pause}, and then slow down")
            case OutcomeUnknown(error=SubmissionUnknown() as error) if error.reason.startswith("cancelled"):
                print_note(str(error))  # no job of the command raises it


def _as_options(text: str) -> str:
    """Return a message of the library with the names of options instead of those of Python arguments."""

    def option(found: re.Match[str]) -> str:
        name = found["name"] or found["assigned"]
        if name:
            return _OPTIONS[name]
        if found["host"]:
            return f"--allow-http {found['host']}"
        return f"--image {int(found['place']) + 1}" if found["place"] else found[0]

    return _NAME.sub(option, text.replace("use session.stream(...)", "the command has no streams"))


def describe(error: Exception) -> str:
    """Return what an error says, in terms of the command."""
    if isinstance(error, ContractError):
        return str(ContractError(problems=tuple(map(translate, error.problems)), undone=error.undone))
    if isinstance(error, BatchPaused):
        return _as_options(str(error))
    if isinstance(error, TaskTimeout):
        return str(error).partition("; session.task")[0]
    if isinstance(error, TransportError) and _REFUSED_HERE.search(str(error)):
        return f"{error}; is the emulator running? (LEMONDATA_BASE_URL or --base-url)"
    return str(error) or type(error).__name__


def translate(problem: Problem) -> Problem:
    """Return a problem with the names of options; that of a row (`line 3, size`) keeps its column."""
    field = problem.field
    name = _OPTIONS.get(field) or (field if "," in field else _as_options(field))
    return Problem(name, _as_options(problem.message))


def print_note(text: str) -> None:
    """Print a note to stderr."""
    print_status(f"note: {text}")


def print_error(error: Exception, label: str = "") -> None:
    """Print an error to stderr, without a traceback."""
    print_status(f"error: {_prefix(label)}{describe(error)}")


def print_status(text: str) -> None:
    """Print a line to stderr; a stderr that is gone is ignored."""
    with suppress(*_UNPRINTABLE):
        _write(plain(text), sys.stderr)


def print_result(text: str, *, about: object) -> bool:
    """Print a line to stdout and return whether that worked; if not, an error on stderr names what it is about.

    Raises:
        BrokenPipeError: The reader of stdout has gone.
    """
    try:
        _write(text, sys.stdout)
    except BrokenPipeError:
        raise
    except _UNPRINTABLE as error:  # not the other jobs' failure
        print_error(error, str(about))
        return False
    return True


def print_failure(error: Exception, label: str, resume_command: str, *, index: int = 0) -> None:
    """Print why a job failed; for a task that is not finished, also the command that resumes it.

    Args:
        error: The failure.
        label: The label of the job.
        resume_command: The command that resumes a task, without its reference; empty if there is none.
        index: The number of the first picture of the job.
    """
    if isinstance(error, TaskTimeout) and resume_command:
        command = _command(resume_command, [Reference(error.task_id or "", index, slug_of(label))])
        print_status(f"error: {_prefix(label)}{describe(error)}; to resume it: {command}")
    else:
        print_error(error, label)


def print_link(url: str) -> None:
    """Print the link of a picture that was not saved."""
    print_status(f"the picture is paid for; its link, valid for some hours: {url}")


def print_pending(pending: Sequence[Reference], resume_command: str) -> None:
    """Print the tasks that an interruption leaves unfinished, with the command that resumes them, if there is one."""
    if pending and resume_command:
        print_status("interrupted; these tasks continue and are billed. To resume them:")
        print_status(f"  {_command(resume_command, pending)}")
    elif pending:
        ids = " ".join(reference.task for reference in pending)
        print_status(f"interrupted; these tasks end with the emulator of this command: {ids}")


def _command(resume_command: str, references: Sequence[Reference]) -> str:
    words = [str(reference) for reference in references]
    if any(word.startswith("-") for word in words):
        words.insert(0, "--")
    return f"{resume_command} {shlex.join(words)}"


def _write(text: str, stream: TextIO | None) -> None:
    """Write a line around the progress bar, which a plain write would run into."""
    if stream is None:  # closed before the start; tqdm would take stdout instead
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))
    tqdm.write(encodable(text, stream), file=stream)
    stream.flush()


def _prefix(label: str) -> str:
    return f"{label}: " if label else ""
