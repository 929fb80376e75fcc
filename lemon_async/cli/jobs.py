"""Jobs of one command: run together, reported as they end, never ended by each other's failure."""

import asyncio
import logging
import shlex
import sys
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

import attrs
import click
from tqdm import tqdm

from lemon_async.api.errors import ContractError, DownloadError, LemonError, SubmissionUnknown, TaskTimeout
from lemon_async.cli.output import Destination, plain
from lemon_async.client.image import Image
from lemon_async.client.session import LemonSession
from lemon_async.client.task import ImageTask

__all__ = ["Job", "Notes", "complain", "exit_code_of", "note", "run", "worst"]

# From harmless to grave; a script should hear of the gravest.
_GRAVITY = (0, 2, 1, 4, 3)


@attrs.frozen
class Job:
    """One task to wait for: how to get it, and what to call its pictures."""

    label: str
    start: Callable[[], Awaitable[ImageTask]]


def exit_code_of(error: Exception) -> int:
    """Return the exit code that tells a script what kind of failure this is."""
    match error:
        case ContractError() | ValueError():
            return 2
        case SubmissionUnknown():
            return 3
        case TaskTimeout():
            return 4
        case _:
            return 1


def worst(codes: Iterable[int]) -> int:
    """Return the exit code that a script should hear of."""
    return max(codes, key=_GRAVITY.index)


class Notes(logging.Handler):
    """Prints what the library warns of, around the progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print one record."""
        note(record.getMessage())


def note(text: str) -> None:
    """Print what is worth knowing, and no error."""
    tqdm.write(plain(f"note: {text}"), file=sys.stderr)


def complain(error: Exception, label: str = "") -> None:
    """Print an error as text, without a traceback."""
    prefix = f"{label}: " if label else ""
    tqdm.write(plain(f"error: {prefix}{error}"), file=sys.stderr)


async def run(lemon: LemonSession, jobs: Sequence[Job], destination: Destination, *, pick_up: str) -> int:
    """Run all jobs and return the exit code of the worst.

    Args:
        lemon: The session they run in.
        jobs: What to do.
        destination: Where pictures go.
        pick_up: The command that picks a pending task up again, without its id; empty when there is none.
    """
    with tqdm(total=len(jobs), unit="job", file=sys.stderr, disable=None, leave=False) as bar:
        try:
            async with asyncio.TaskGroup() as group:
                running = [group.create_task(_run_one(job, destination, bar, pick_up)) for job in jobs]
        except asyncio.CancelledError:
            bar.close()
            _tell_what_is_open(lemon, pick_up)
            raise
    return worst(job.result() for job in running)


async def _run_one(job: Job, destination: Destination, bar: "tqdm[Any]", pick_up: str) -> int:
    try:
        task = await job.start()
        if job.label and not task.done:
            tqdm.write(f"accepted as {plain(task.id)}", file=sys.stderr)
        images = await task
        codes = [await _save(image, job, destination) for image in images]
    except LemonError as error:
        if isinstance(error, TaskTimeout):
            _tell_timeout(error, job.label, pick_up)
        else:
            complain(error, job.label)
        codes = [exit_code_of(error)]
    bar.update()
    return worst(codes)


def _tell_timeout(error: TaskTimeout, label: str, pick_up: str) -> None:
    """Say what a shell can do about it, instead of what Python can."""
    prefix = f"{label}: " if label else ""
    words = f"error: {prefix}task {error.task_id} is not finished: {error.reason}. It may still finish and be billed"
    advice = f"; to pick it up again: {pick_up} {shlex.quote(error.task_id or '')}" if pick_up else ""
    tqdm.write(plain(words + advice), file=sys.stderr)


async def _save(image: Image, job: Job, destination: Destination) -> int:
    try:
        path = await destination.save(image, job.label or (image.revised_prompt or ""))
    except (DownloadError, OSError) as error:
        complain(error, job.label)
        if image.url:
            tqdm.write(f"the picture is paid for; its link, good for some hours: {plain(image.url)}", file=sys.stderr)
        return 1
    try:
        tqdm.write(plain(path), file=sys.stdout)  # around the bar, which a plain write would run into
        sys.stdout.flush()
    except (OSError, UnicodeError) as error:  # a closed pipe, an odd encoding: not the other jobs' failure
        complain(error, str(path))
        return 1
    return 0


def _tell_what_is_open(lemon: LemonSession, pick_up: str) -> None:
    if lemon.pending and pick_up:
        click.echo("interrupted; these tasks go on and are billed. To pick them up again:", err=True)
        for task in lemon.pending:
            click.echo(f"  {pick_up} {shlex.quote(plain(task.id))}", err=True)
    elif lemon.pending:
        ids = " ".join(plain(task.id) for task in lemon.pending)
        click.echo(f"interrupted; the emulator ends with this command, and with it: {ids}", err=True)
