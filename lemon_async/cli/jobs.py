"""Run the jobs of one command: submit or resume them, deliver each as it ends, and list what an interruption leaves."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from operator import attrgetter

from lemon_async import ApiError, ImageTask, LemonSession, Outcome, Outcomes, Timeouts
from lemon_async.cli.arguments import Reference, slug_of
from lemon_async.cli.console import print_error, print_pending, print_status
from lemon_async.cli.json_lines import Request
from lemon_async.cli.outputs import Outputs
from lemon_async.cli.runner import BROKEN_PIPE, exit_code_of, worst

__all__ = ["resume_tasks", "submit_requests"]

_MAX_FAREWELL_S = 5.0
_SUBMITTING_CHECK_S = 0.05


async def submit_requests(
    lemon: LemonSession,
    requests: Sequence[Request],
    outputs: Outputs,
    *,
    check_contracts: bool = True,
    in_flight: int = 100,
    has_bar: bool = True,
) -> int:
    """Submit requests, deliver their pictures, and return the worst exit code. Spends money, once for each.

    Cancelling submits nothing more and prints how to resume the tasks that were submitted. So does a closed stdout,
    but then pictures that are paid for are still awaited and saved. Refusals of the account (see `LemonSession.map`)
    end the submitting, too; a last line then says what was not submitted.

    Args:
        lemon: The session.
        requests: The requests.
        outputs: Where pictures and messages go.
        check_contracts: Whether the documented rules are checked.
        in_flight: Maximum number of concurrent jobs; each counts until its pictures are saved.
        has_bar: Whether a terminal shows a progress bar.
    """
    jobs = _Jobs(outputs)
    room = asyncio.Semaphore(in_flight)
    places: dict[ImageTask, int] = {}
    unsubmitted = dict(enumerate(requests))

    def submitted(place: int, task: ImageTask) -> None:
        places[task] = place
        jobs.references[task] = Reference(task.id or "", _index(place, requests), slug_of(requests[place].prompt))
        if not task.done():
            print_status(f"accepted as {task.id}")

    async def deliver(outcome: Outcome) -> None:
        request = requests[outcome.index]
        await jobs.deliver(outcome, request, label=request.prompt, index=_index(outcome.index, requests))
        if not outputs.has_reader:
            outcomes.close()
        room.release()

    async with jobs.reported(), asyncio.TaskGroup() as deliveries:
        async with lemon.map(
            _BoundedRequests(requests, room),
            in_flight=in_flight,
            check_contracts=check_contracts,
            on_submitted=submitted,
            progress=has_bar,
        ) as outcomes:
            try:
                async for outcome in _all_outcomes(outcomes):
                    del unsubmitted[outcome.index]
                    deliveries.create_task(deliver(outcome))
            except ApiError as refusal:
                jobs.stop(refusal, [request.prompt for request in unsubmitted.values()], jobs=len(requests))
            except asyncio.CancelledError:
                if outcomes.progress.submitting:
                    print_status(f"interrupted; waiting up to {Timeouts().close_s:g} s for responses to paid requests")
                raise
        async for task in lemon.as_completed(outcomes.pending):
            deliveries.create_task(deliver(_outcome(places[task], task)))
    return jobs.exit_code


async def resume_tasks(
    tasks: Sequence[tuple[ImageTask, Reference]], lemon: LemonSession, outputs: Outputs, *, has_bar: bool = True
) -> int:
    """Wait for tasks, deliver their pictures, and return the worst exit code. Spends nothing.

    Cancelling stops the waiting and prints how to resume the tasks that were not saved.
    """
    jobs = _Jobs(outputs)
    places = {task: place for place, (task, _) in enumerate(tasks)}
    jobs.references.update(tasks)
    async with jobs.reported(), asyncio.TaskGroup() as deliveries:
        async for task in lemon.as_completed(places, progress=has_bar):
            place, reference = places[task], jobs.references[task]
            index = place if reference.index is None else reference.index
            outcome = _outcome(place, task)
            deliveries.create_task(jobs.deliver(outcome, None, label=reference.name, index=index))
    return jobs.exit_code


async def _all_outcomes(outcomes: Outcomes) -> AsyncIterator[Outcome]:
    """Yield the outcomes of a map; when it is closed, also those of paid requests that were in flight."""
    while True:
        async for outcome in outcomes:
            yield outcome
        if not outcomes.progress.submitting:
            return
        await asyncio.sleep(_SUBMITTING_CHECK_S)


class _BoundedRequests:
    """The requests of a map, each yielded when there is room for one more job."""

    def __init__(self, requests: Sequence[Request], room: asyncio.Semaphore) -> None:
        self._requests = requests
        self._room = room

    def __len__(self) -> int:
        return len(self._requests)

    async def __aiter__(self) -> AsyncIterator[Request]:
        for request in self._requests:
            await self._room.acquire()
            yield request


class _Jobs:
    """The jobs of one command.

    Attributes:
        references: Tasks whose pictures are not saved yet, as `lemon-async task` takes them.
        exit_code: The worst so far.
    """

    def __init__(self, outputs: Outputs) -> None:
        self.references: dict[ImageTask, Reference] = {}
        self.exit_code: int = 0
        self._outputs = outputs
        self._outcomes: list[Outcome] = []
        self._stop: tuple[ApiError, str] | None = None

    @asynccontextmanager
    async def reported(self) -> AsyncGenerator[None, None]:
        """Write the sheet when the block is left; if it is cancelled, print the pending tasks first."""
        try:
            yield
        except asyncio.CancelledError:
            pending = [reference for reference in self.references.values() if reference.task]
            print_pending(pending, self._outputs.resume_command)
            with suppress(TimeoutError):
                async with asyncio.timeout(_MAX_FAREWELL_S):
                    await self._write_sheet()
            raise
        if self._stop is not None:  # after the lines of the jobs
            print_error(*self._stop)
        self._add(await self._write_sheet())
        if not self._outputs.has_reader:
            self._add(BROKEN_PIPE)

    async def deliver(self, outcome: Outcome, request: Request | None, *, label: str, index: int) -> None:
        """Save the pictures of a job, or print its failure."""
        if outcome.images is not None:
            self._add(int(not await self._outputs.save(outcome.images, request, label=label, index=index)))
        elif outcome.error is not None:
            self._outputs.print_failure(outcome.error, request, label=label, index=index)
            self._add(exit_code_of(outcome.error))
        if self._outputs.sheet is not None:  # otherwise thousands would be kept for nothing
            self._outcomes.append(outcome)
        if outcome.task is not None:
            self.references.pop(outcome.task, None)

    def stop(self, refusal: ApiError, unsubmitted: Sequence[str], *, jobs: int) -> None:
        """Note which prompts were not submitted because of refusals of the account."""
        if unsubmitted:
            left = f"{len(unsubmitted):,} of {jobs:,} prompts were not submitted"
            self._stop = refusal, f"{left} (the first is {unsubmitted[0]!r:.60})"

    def _add(self, code: int) -> None:
        self.exit_code = worst([self.exit_code, code])

    async def _write_sheet(self) -> int:
        return await self._outputs.write_sheet(sorted(self._outcomes, key=attrgetter("index")))


def _index(place: int, requests: Sequence[Request]) -> int:
    """Return the number of the first picture of a job, in the order of the prompts, whichever ends first."""
    return place * max(1, requests[place].n or 1)


def _outcome(place: int, task: ImageTask) -> Outcome:
    """Return the outcome of a task that is over."""
    error = task.exception()
    return Outcome(place, task.request, task, images=None if error else task.result(), error=error)
