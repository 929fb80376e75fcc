"""Workers as Ray actors: start them, check them, let them run, and stop them.

Problem: a worker dies with its machine, and whoever repeats its work buys again. So no call is repeated by Ray
(`max_task_retries=0`). Ray only starts the process again, and the driver calls `run` anew: that is another run of the
batch, which gets from the journal what is free, the rows of the dead one included.

A worker that dies again and again while no row ends is given up: the rows may be what kills it. One that cannot be
started again, because its machine is gone, is not waited for once another has come to the end of the rows.
"""

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

import attrs

from lemon_async.distributed.options import WorkerOptions
from lemon_async.distributed.worker import Report, Worker
from lemon_async.errors import BatchPaused, SessionError

__all__ = ["Fleet", "load_ray"]

logger: logging.Logger = logging.getLogger("lemon_async")

_MOST_DEATHS = 10
_RESTART_S = 0.5
_OURS = {"max_task_retries": 0, "max_restarts": -1}


def load_ray() -> Any:
    """Return the module `ray`.

    Raises:
        ImportError: It is not installed.
    """
    try:
        import ray  # noqa: PLC0415 - an extra
    except ImportError as missing:
        raise ImportError("workers need Ray: pip install 'lemon-async[ray]'") from missing
    return ray


@attrs.define(eq=False, kw_only=True)
class Fleet:
    """A number of workers.

    Args:
        options: What each is started with.
        workers: Their number.
        actor_options: Options of Ray for each, such as `num_cpus`.
        start_s: How long they may take to start, and to come back if all of them have died.
        stop_s: How long they may take to leave.

    Attributes:
        restarts: How often a worker has died.
    """

    options: WorkerOptions
    workers: int
    actor_options: Mapping[str, Any]
    start_s: float
    stop_s: float
    restarts: int = attrs.field(default=0, init=False)
    _progress: int = attrs.field(default=0, init=False)
    _actors: list[Any] = attrs.field(factory=list[Any], init=False)
    _alive: set[Any] = attrs.field(factory=set[Any], init=False)
    _is_over: asyncio.Event = attrs.field(factory=asyncio.Event, init=False)

    async def start(self) -> None:
        """Start all workers, and return when each of them has checked that it could run; nothing is sold.

        Raises:
            LemonError: The first that cannot, or that has not started in time; cancel or `stop` ends the others.
        """
        remote = load_ray().remote(Worker)
        options = {"scheduling_strategy": "SPREAD", **self.actor_options, **_OURS}
        self._actors = [remote.options(**options).remote(self.options) for _ in range(self.workers)]
        checks = [asyncio.ensure_future(self._check(actor)) for actor in self._actors]
        try:
            done, late = await asyncio.wait(checks, timeout=self.start_s, return_when=asyncio.FIRST_EXCEPTION)
            for check in done:
                check.result()
        finally:
            for check in checks:
                check.cancel()
        if late:
            words = f"{len(late)} of {self.workers} workers have not started within {self.start_s:g} s: `ray status`"
            raise SessionError(message=f"{words} shows what they wait for; start fewer, or add machines to the cluster")

    async def run(self) -> None:
        """Let all workers run to their end. Spends money.

        Raises:
            LemonError: What has ended the first run that did not end by itself; or no worker has come back.
        """
        self._is_over.clear()
        runs = [asyncio.create_task(self._follow(actor)) for actor in self._actors]
        try:
            done, _ = await asyncio.wait(runs, return_when=asyncio.FIRST_EXCEPTION)
            for run in done:
                run.result()
        finally:
            for run in runs:
                run.cancel()

    def progressed(self) -> None:
        """Note that rows have ended."""
        self._progress += 1

    async def stop(self) -> None:
        """Let all workers leave, within bounds, and end their processes; does nothing before `start`."""
        ray = load_ray()
        if leaving := [_call(actor.leave) for actor in self._alive]:  # another one would leave once it has started
            await asyncio.wait(leaving, timeout=self.stop_s)
        for actor in self._actors:
            ray.kill(actor)
        self._actors = []
        self._alive.clear()

    async def _check(self, actor: Any) -> None:
        await _checked(actor.check)
        self._alive.add(actor)

    async def _follow(self, actor: Any) -> None:
        died: type[Exception] = load_ray().exceptions.RayActorError
        deaths = progress = 0
        while True:
            try:
                if actor not in self._alive and not await self._is_back(actor):
                    return
                await _checked(actor.run)
            except died as death:
                self._alive.discard(actor)
                deaths, progress = deaths + 1 if progress == self._progress else 1, self._progress
                self._note_death(death, deaths)
                await asyncio.sleep(_RESTART_S)
            else:
                self._is_over.set()
                return

    async def _is_back(self, actor: Any) -> bool:
        """Wait for a worker that has died; return false if a run comes to the end of the rows before.

        Raises:
            SessionError: No worker is left, and none has come back in time.
        """
        check, over = asyncio.ensure_future(self._check(actor)), asyncio.ensure_future(self._is_over.wait())
        try:
            while not (check.done() or over.done()):
                done, _ = await asyncio.wait([check, over], timeout=self.start_s, return_when=asyncio.FIRST_COMPLETED)
                if not (done or self._alive):
                    words = f"all workers have died, and none has started again within {self.start_s:g} s"
                    raise SessionError(
                        message=f"{words}: `ray status` shows what they wait for; run it again to continue"
                    )
            if check.done():
                check.result()
            return check.done()
        finally:
            check.cancel()
            over.cancel()

    def _note_death(self, death: Exception, deaths: int) -> None:
        self.restarts += 1
        reason = " ".join(str(death).split())
        logger.warning("a worker has died, and is started again; its rows go to the others: %s", reason)
        if deaths >= _MOST_DEATHS:
            words = f"a worker has died {deaths} times in a row while no row has ended; the last: {reason}"
            raise BatchPaused(message=words) from death


def _call(method: Any) -> "asyncio.Future[Report]":
    """Call a method of an actor."""
    call: asyncio.Future[Report] = asyncio.wrap_future(method.remote().future())
    call.add_done_callback(
        lambda call: call.cancelled() or call.exception()
    )  # or else asyncio logs it if its caller was cancelled
    return call


async def _checked(method: Any) -> None:
    """Call a method of an actor, and raise the error that it reports; cancelling does not end the call."""
    report = await asyncio.shield(_call(method))
    if report.error is not None:
        raise report.error
