"""One job from its submit to its end, told as it goes."""

from collections.abc import Awaitable, Callable

from lemon_async._images.images import Images
from lemon_async._tasks.progress import Reporter, Tally, make_display
from lemon_async._tasks.task import ImageTask
from lemon_async.types import Progress, ProgressOption

__all__ = ["finish"]


async def finish(submit: Callable[[], Awaitable[ImageTask]], progress: ProgressOption) -> Images:
    """Have one job submitted and wait for its images; see `LemonSession.generate`.

    It is told from within this coroutine, which is woken by every change of the task: no asyncio task is needed.

    Raises:
        ContractError: `progress` makes no sense; nothing was submitted.
    """
    display = make_display(progress, is_single=True)
    if display is None:
        return await (await submit())
    job = _Job()
    reporter = Reporter(display, job.look)
    reporter.changed()
    try:
        return await _watch(submit, job, reporter)
    finally:
        job.leave()
        reporter.close()


class _Job:
    """What is known of one job."""

    def __init__(self) -> None:
        self._tally = Tally()
        self._tally.start()
        self._tally.begun()
        self._task: ImageTask | None = None
        self._is_open = True

    def look(self) -> Progress:
        return self._tally.progress(1, status=self._task.status if self._task else None)

    def sold(self, task: ImageTask) -> None:
        self._task = task
        self._tally.accepted()

    def ended(self, *, is_failed: bool) -> None:
        self._is_open = False
        if self._task is None:
            self._tally.refused()
        else:
            self._tally.ended(is_failed=is_failed)

    def leave(self) -> None:
        """A submit that was cancelled is no longer waited for; a task that was sold goes on."""
        if self._is_open and self._task is None:
            self._tally.withdrawn()


async def _watch(submit: Callable[[], Awaitable[ImageTask]], job: _Job, reporter: Reporter) -> Images:
    try:
        task = await submit()
        job.sold(task)
        while not task.done():
            reporter.changed()
            await task._change()
        images = await task
    except Exception:
        job.ended(is_failed=True)
        raise
    job.ended(is_failed=False)
    return images
