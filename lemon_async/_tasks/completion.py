"""Wait for jobs and report their progress: for one, or for many in the order in which they end."""

import asyncio
import contextvars
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from typing import Any

from lemon_async._images.images import Images
from lemon_async._tasks.progress import Display, Reporter, Tally, make_display
from lemon_async._tasks.task import ImageTask
from lemon_async.errors import ContractError
from lemon_async.types import ProgressOption

__all__ = ["as_completed", "complete"]


async def complete(submit: Callable[[], Awaitable[ImageTask]], progress: ProgressOption) -> Images:
    """Submit one job, report its progress, and wait for its images; see `LemonSession.generate`.

    Raises:
        ContractError: `progress` is invalid; nothing was submitted.
    """
    display = make_display(progress, is_single=True)
    task: ImageTask | None = None
    reporter = Reporter(display, lambda: tally.progress(1, status=task.status if task else None))
    tally = Tally(reporter.changed)
    tally.start()
    tally.move(None, "submitting")
    try:
        task = await submit()
        tally.move("submitting", "in_flight")
        async for _ in task.updates():
            reporter.changed()
        images = task.result()
    except Exception:
        tally.move("in_flight" if task else "submitting", "failed")
        raise
    except BaseException:  # cancelled: an accepted task continues
        if task is None:
            tally.move("submitting", None)
        raise
    else:
        tally.move("in_flight", "succeeded")
        return images
    finally:
        reporter.close()


def as_completed(tasks: Iterable[Any], *, progress: ProgressOption = False) -> AsyncGenerator[ImageTask, None]:
    """Yield each task once it is over; see `LemonSession.as_completed`.

    Raises:
        ContractError: `tasks` contains anything else, such as a coroutine that was not awaited, or `progress` is
            invalid.
    """
    display = make_display(progress)
    if not isinstance(tasks, Iterable):
        raise ContractError.of("tasks", f"must be an iterable of tasks, not {type(tasks).__name__}")
    handles = tuple(tasks)
    for handle in handles:
        if not isinstance(handle, ImageTask):
            advice = f"must be tasks, as `await session.submit(...)` returns them, not {type(handle).__name__}"
            raise ContractError.of("tasks", advice)
    return _as_completed(tuple(dict.fromkeys(handles)), display)


async def _as_completed(tasks: tuple[ImageTask, ...], display: Display | None) -> AsyncGenerator[ImageTask, None]:
    """Yield each task once it is over, successful or not.

    Callbacks fill a queue; no asyncio task or cancel scope belongs to the generator, so it may be left at any point.
    """
    ended: deque[ImageTask] = deque()
    news = asyncio.Event()
    reporter = Reporter(display, lambda: tally.progress(len(tasks)))
    tally = Tally(reporter.changed)

    def take(task: ImageTask) -> None:
        ended.append(task)
        news.set()
        tally.move("in_flight", "failed" if task._failure else "succeeded")

    callbacks = ((take, contextvars.copy_context(), False),)
    for task in tasks:
        task._add_callbacks(callbacks)
        tally.move(None, "in_flight")
    tally.start()
    try:
        for _ in tasks:
            while not ended:
                news.clear()
                await news.wait()
            task = ended.popleft()
            task._see()
            yield task
    finally:
        for task in tasks:
            task.remove_done_callback(take)
        reporter.close()
