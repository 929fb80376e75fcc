"""What is said while jobs run: paths or JSON to stdout, the rest to stderr, all of it around the progress bar.

Nothing that is said can fail a job: the pictures are paid for, and somebody who stops reading still wants them.
"""

import errno
import logging
import os
import shlex
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import TextIO

from tqdm import tqdm

from lemon_async._formats.safe_text import safe_str
from lemon_async.cli.references import Reference
from lemon_async.cli.stdout import encodable, plain
from lemon_async.errors import TaskTimeout

__all__ = ["Notes", "complain", "note", "print_line", "say_aside", "tell_failure", "tell_link", "tell_what_is_open"]

# A closed pipe, a terminal that went away; a closed stream or an odd encoding.
_UNHEARD = (OSError, ValueError)


class Notes(logging.Handler):
    """Prints what the library warns of, around the progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print one record."""
        note(record.getMessage())


def note(text: str) -> None:
    """Print what is worth knowing, and no error."""
    say_aside(f"note: {text}")


def complain(error: Exception, label: str = "") -> None:
    """Print an error as text, without a traceback."""
    say_aside(f"error: {_prefix(label)}{error if str(error) else safe_str(error)}")


def say_aside(text: str) -> None:
    """Print a line to stderr, if anybody hears it."""
    with suppress(*_UNHEARD):
        _write(plain(text), sys.stderr)


def print_line(text: str, *, about: object) -> bool:
    """Print a line to stdout and return whether that worked; if not, an error on stderr says what it is about.

    Raises:
        BrokenPipeError: The reader of stdout has gone.
    """
    try:
        _write(text, sys.stdout)
    except BrokenPipeError:
        raise
    except _UNHEARD as error:  # not the other jobs' failure
        complain(error, str(about))
        return False
    return True


def tell_failure(error: Exception, label: str, pick_up: str, *, index: int = 0) -> None:
    """Say what went wrong; of a task that is not over, what a shell can do about it, instead of what Python can.

    Args:
        error: What went wrong.
        label: What the job is called.
        pick_up: The command that picks a task up again, without its reference; empty when there is none.
        index: The place of the first picture of the job.
    """
    if not isinstance(error, TaskTimeout):
        complain(error, label)
        return
    state = f"is not finished: {error.reason}. It may still finish and be billed"
    reference = Reference.of(error.task_id or "", index=index, label=label)
    advice = f"; to pick it up again: {_command(pick_up, [reference])}" if pick_up else ""
    say_aside(f"error: {_prefix(label)}task {error.task_id} {state}{advice}")


def tell_link(url: str) -> None:
    """Say how to get at a picture that was not saved."""
    say_aside(f"the picture is paid for; its link, good for some hours: {url}")


def tell_what_is_open(pending: Sequence[Reference], pick_up: str) -> None:
    """Say what goes on after an interruption, and with which command it is picked up again, if there is one."""
    if pending and pick_up:
        say_aside("interrupted; these tasks go on and are billed. To pick them up again:")
        say_aside(f"  {_command(pick_up, pending)}")
    elif pending:
        ids = " ".join(reference.task for reference in pending)
        say_aside(f"interrupted; the emulator ends with this command, and with it: {ids}")


def _command(pick_up: str, references: Sequence[Reference]) -> str:
    words = [str(reference) for reference in references]
    if any(word.startswith("-") for word in words):
        words.insert(0, "--")
    return f"{pick_up} {shlex.join(words)}"


def _write(text: str, stream: TextIO | None) -> None:
    """Write a line around the bar, which a plain write would run into."""
    if stream is None:  # closed before the start; tqdm would take stdout instead
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))
    tqdm.write(encodable(text, stream), file=stream)
    stream.flush()


def _prefix(label: str) -> str:
    return f"{label}: " if label else ""
