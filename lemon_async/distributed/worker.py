"""One worker of a fleet: a session, and one run of the batch in its journal. It knows nothing of Ray.

Ray may call a method again when it has lost the answer, so each does its work once: a second call of `run` joins the
first. Errors are returned, not raised, because Ray wraps what is raised in types of its own.
"""

import asyncio
import pickle

import attrs

from lemon_async._http.attempt import NoResponse
from lemon_async._pace.priority import Priority
from lemon_async.distributed.options import WorkerOptions
from lemon_async.distributed.places import at_place, place
from lemon_async.errors import TransportError
from lemon_async.session import LemonSession

__all__ = ["Report", "Worker"]

_PATIENCE_S = 60.0


@attrs.frozen(kw_only=True)
class Report:
    """What a worker has to say.

    Attributes:
        place: Where it runs.
        error: What has ended its run, or why it cannot begin; `None` if all is well.
    """

    place: str
    error: Exception | None = None


class Worker:
    """A member of a fleet; Ray makes an async actor of it."""

    def __init__(self, options: WorkerOptions) -> None:
        self._options = options
        self._run: asyncio.Task[None] | None = None

    async def check(self) -> Report:
        """Return whether this worker could run: key, journal, folder and shared limit. Spends nothing."""
        try:
            async with LemonSession(**self._options.session) as session:
                await session.batch(self._options.journal, **self._options.batch).add()
                await _reach_limit(session)
        except Exception as error:  # noqa: BLE001 - raised by the driver
            return _report(error)
        return _report()

    async def run(self) -> Report:
        """Run the batch to its end, and return what has ended it. Spends money, once for each row."""
        if self._run is None:
            self._run = asyncio.get_running_loop().create_task(self._work(), name="lemon_async worker")
        await asyncio.wait([self._run])
        return _report(None if self._run.cancelled() else self._run.exception())

    async def leave(self) -> None:
        """Buy nothing more, and end the run; see `Batch.aclose`."""
        if self._run is not None:
            self._run.cancel()
            await asyncio.wait([self._run])

    async def _work(self) -> None:
        async with (
            LemonSession(**self._options.session) as session,
            session.batch(self._options.journal, **self._options.batch) as batch,
        ):
            async for _ in batch:
                pass


async def _reach_limit(session: LemonSession) -> None:
    """Take a slot of the rate limit, which says whether the workers can share it; nothing is sent.

    Raises:
        ContractError: Its store cannot be used.
        TransportError: It cannot be reached.
    """
    try:
        await session._engine.rate_limiter.acquire(Priority.OTHER, _PATIENCE_S)
    except NoResponse as fault:
        raise TransportError(message=fault.reason) from fault


def _report(error: BaseException | None = None) -> Report:
    where = place()
    if error is None:
        return Report(place=where)
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes: some can be written and not be read
    except Exception:  # noqa: BLE001 - of a type that is not ours
        error = RuntimeError(f"{type(error).__name__}: {error}")
    return Report(
        place=where, error=at_place(error if isinstance(error, Exception) else RuntimeError(repr(error)), where)
    )
