"""Tasks in the order in which they end."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Iterable
from typing import Any

from lemon_async._tasks.progress import Display, Reporter, Tally, make_display
from lemon_async._tasks.task import ImageTask
from lemon_async.errors import ContractError
from lemon_async.types import ProgressOption

__all__ = ["as_completed"]


def as_completed(tasks: Iterable[Any], *, progress: ProgressOption = False) -> AsyncGenerator[ImageTask, None]:
    """Yield each task once it is over; see `LemonSession.as_completed`.

    Raises:
        ContractError: Something among them is no task, such as a coroutine that was not awaited; or `progress` makes
            no sense.
    """
    display = make_display(progress)
    handles = tuple(tasks)
    for handle in handles:
        if not isinstance(handle, ImageTask):
            advice = f"must be tasks, as `await session.submit(...)` returns them, not {type(handle).__name__}"
            raise ContractError.of("tasks", advice)
    return _as_completed(handles, display)


async def _as_completed(tasks: Iterable[ImageTask], display: Display | None) -> AsyncGenerator[ImageTask, None]:
    """Yield each task once it is over, successful or not, in the order in which they end.

    Callbacks fill a queue; the generator owns no asyncio task and no cancel scope, so it may be left at any point.
    """
    ended: deque[ImageTask] = deque()
    news = asyncio.Event()
    watched = tuple(dict.fromkeys(tasks))
    tally = Tally()
    reporter = Reporter(display, lambda: tally.progress(len(watched)))

    def take(task: ImageTask) -> None:
        ended.append(task)
        news.set()
        tally.ended(is_failed=task._failure is not None)
        reporter.changed()

    tally.start()
    for _ in watched:
        tally.begun()
        tally.accepted()
    unwatch = [task._when_done(take) for task in watched]
    reporter.changed()
    try:
        for _ in range(len(unwatch)):
            while not ended:
                news.clear()
                await news.wait()
            yield ended.popleft()
    finally:
        for call_off in unwatch:
            call_off()
        reporter.close()
