"""Jobs of one command: run together, reported as they end, never ended by each other's failure."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from operator import attrgetter
from typing import Any, cast

import attrs

from lemon_async._images.images import Images
from lemon_async._tasks.leaving import mark_reported
from lemon_async._tasks.map import Outcome
from lemon_async._tasks.progress import Reporter, Tally, make_display
from lemon_async._tasks.task import ImageTask
from lemon_async.cli.console import say_aside, tell_what_is_open
from lemon_async.cli.outputs import Delivery
from lemon_async.cli.references import Reference
from lemon_async.errors import ContractError, SubmissionUnknown, TaskTimeout
from lemon_async.requests import Request
from lemon_async.session import LemonSession

__all__ = ["BROKEN_PIPE", "Job", "exit_code_of", "run", "worst"]

BROKEN_PIPE = 128 + 13  # what a shell shows of programs that SIGPIPE ends
# From harmless to grave; a script should hear of the gravest.
_GRAVITY = (0, BROKEN_PIPE, 2, 1, 4, 3)
_LONGEST_GOODBYE_S = 5.0


@attrs.frozen
class Job:
    """One task to wait for.

    Attributes:
        label: What to call it and its pictures.
        start: How to get it.
        index: The place of its first picture among all of the command.
        request: What it asks for, if that is known.
    """

    label: str
    start: Callable[[], Awaitable[ImageTask]]
    index: int = 0
    request: Request | None = None


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


async def run(
    lemon: LemonSession, jobs: Sequence[Job], delivery: Delivery, *, in_flight: int = 100, has_bar: bool = True
) -> int:
    """Run all jobs and return the exit code of the worst.

    Args:
        lemon: The session they run in.
        jobs: What to do.
        delivery: What becomes of it.
        in_flight: Number of jobs that are out at once.
        has_bar: Whether a bar on stderr shows how far they are, if that is a terminal.
    """
    batch = _Batch(lemon, delivery, total=len(jobs), has_bar=has_bar)
    try:
        async with batch.shown():
            await batch.do(jobs, in_flight=in_flight)
    except asyncio.CancelledError:
        tell_what_is_open(batch.open, delivery.pick_up)
        mark_reported(batch.unsaved)  # with the command to run, which the session's warning could not name
        with suppress(TimeoutError):
            async with asyncio.timeout(_LONGEST_GOODBYE_S):
                await batch.finish(is_interrupted=True)
        raise
    codes = [*batch.codes, await batch.finish()]
    return worst(codes if delivery.has_reader else [BROKEN_PIPE, *codes])


class _Batch:
    """The jobs of one command, as they come to an end.

    Attributes:
        codes: The exit codes of those that have.
    """

    def __init__(self, lemon: LemonSession, delivery: Delivery, *, total: int, has_bar: bool) -> None:
        self.codes: list[int] = []
        self._lemon = lemon
        self._starting: set[asyncio.Task[Any]] = set()
        self._sold: dict[ImageTask, Job] = {}
        self._delivery = delivery
        self._outcomes: list[Outcome] = []
        self._tally = Tally()
        self._reporter = Reporter(make_display(has_bar), lambda: self._tally.progress(total))

    @property
    def unsaved(self) -> dict[ImageTask, Job | None]:
        """Tasks that were sold, and whose pictures are not all saved, with their jobs as far as they are known."""
        known = {**dict.fromkeys(self._lemon.pending), **self._sold}
        return {task: job for task, job in known.items() if task.id is not None and not _is_saved(task._images)}

    @property
    def open(self) -> list[Reference]:
        """The same, as the command takes them."""
        return [
            Reference.of(task.id or "", index=job.index, label=job.label) if job else Reference(task.id or "")
            for task, job in self.unsaved.items()
        ]

    @asynccontextmanager
    async def shown(self) -> AsyncGenerator[None, None]:
        """Show how far it is, until the block is left."""
        self._tally.start()
        self._reporter.changed()
        try:
            yield
        finally:
            self._tally.stop()
            self._reporter.close()

    async def do(self, jobs: Sequence[Job], *, in_flight: int) -> None:
        """Run the jobs, so many at a time."""
        rest = iter(enumerate(jobs))

        async def work() -> None:
            for place, job in rest:  # whoever has time takes the next one
                await self._one(place, job)
                if not self._delivery.has_reader:
                    self._withdraw()
                    return

        async with asyncio.TaskGroup() as group:
            for _ in range(min(in_flight, len(jobs))):
                group.create_task(work())

    async def finish(self, *, is_interrupted: bool = False) -> int:
        """Write the sheet, in the order of the jobs, of what has ended; return the exit code of that.

        Args:
            is_interrupted: Leave out what is not saved: there is no time to fetch it.
        """
        outcomes = sorted(self._outcomes, key=attrgetter("index"))
        if is_interrupted:
            outcomes = [outcome for outcome in outcomes if outcome.error or _is_saved(outcome.images)]
        return await self._delivery.write_sheet(outcomes)

    def _withdraw(self) -> None:
        """Cancel the jobs that wait for their turn to be sent; none that may have been sold."""
        for starting in self._starting:
            if not self._lemon._engine.transport.is_sending(starting):
                starting.cancel()

    async def _one(self, place: int, job: Job) -> None:
        try:
            task = await self._start(job)
        except Exception as error:  # noqa: BLE001 - one failure never ends the rest
            self.codes.append(self._failed(place, job, None, error))
            self._count(self._tally.refused)
            return
        self._sold[task] = job
        self._count(self._tally.accepted)
        if job.request and not task.done():
            say_aside(f"accepted as {task.id}")
        code = await self._end(place, job, task)
        self.codes.append(code)
        self._sold.pop(task, None)  # two jobs may be one task
        self._count(partial(self._tally.ended, is_failed=code != 0))

    async def _start(self, job: Job) -> ImageTask:
        this = cast("asyncio.Task[Any]", asyncio.current_task())
        self._count(self._tally.begun)
        self._starting.add(this)
        try:
            return await job.start()
        except asyncio.CancelledError:
            self._count(self._tally.withdrawn)
            raise
        finally:
            self._starting.discard(this)

    async def _end(self, place: int, job: Job, task: ImageTask) -> int:
        """Wait for what was sold, and save it."""
        try:
            images = await task
        except Exception as error:  # noqa: BLE001 - one failure never ends the rest
            return self._failed(place, job, task, error)
        self._keep(Outcome(place, job.request, task, images=images))
        return await self._save(job, images)

    def _failed(self, place: int, job: Job, task: ImageTask | None, error: Exception) -> int:
        self._keep(Outcome(place, job.request, task, error=error))
        code = self._delivery.refused(error, job.request, label=job.label, index=job.index)
        return worst([code, exit_code_of(error)])

    async def _save(self, job: Job, images: Images) -> int:
        """Save the pictures of a job side by side."""
        async with asyncio.TaskGroup() as group:
            saving = [
                group.create_task(
                    self._delivery.save(image, images, job.request, label=job.label, index=job.index + image.index)
                )
                for image in images
            ]
        return worst(task.result() for task in saving)

    def _keep(self, outcome: Outcome) -> None:
        if self._delivery.sheet is not None:  # otherwise thousands would be kept for nothing
            self._outcomes.append(outcome)

    def _count(self, change: Callable[[], None]) -> None:
        change()
        self._reporter.changed()


def _is_saved(images: Images | None) -> bool:
    return images is not None and all(image.path for image in images)
