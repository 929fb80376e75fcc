"""Hold back requests until a rate limit that several processes share has room for them.

The queues are those of `RateLimiter`, and priorities stay local. `LeasedBudget` decides which slots may be used, and
when to ask for more; one asyncio task, the runner, asks the store. It starts when a request first has to wait, in an
empty context and outside of any cancel scope, and the session ends it when it is closed. If it crashes, the requests
that wait end with an error, the store counts as unreachable, and the next request starts it again.

The store is unreachable        submits, other requests        polls
at the first contact            end with an error after 5 s    wait
later                           wait as long as they may       go on, at this process's share of the limit
"""

import asyncio
import contextvars
import logging
from collections.abc import Callable

from lemon_async._api.response import RateReport
from lemon_async._http.attempt import NoResponse
from lemon_async._http.rate_limiter import SHORTEST_SLEEP_S, RateLimiter
from lemon_async._http.shared_limit.store import LimitStore, StoreUnavailable
from lemon_async._pace.leases import HORIZON_S, Ask, Lease, LeasedBudget
from lemon_async._pace.priority import Priority
from lemon_async.errors import ContractError

__all__ = ["SharedRateLimiter"]

logger: logging.Logger = logging.getLogger("lemon_async")
_LONGEST_SLEEP_S = 1.0
_CONTACT_S = 2.0
_FIRST_CONTACT_S = 5.0
_LONGEST_WAIT_S = 600.0
# Polls are never rejected: the poller would only queue them again.
_REJECTED = (Priority.SUBMIT, Priority.OTHER)


class SharedRateLimiter(RateLimiter):
    """The part of a shared rate limit that all API requests of one session pass.

    Requests end with `NoResponse` if the store cannot be reached, and with a `ContractError`, which is not retried, if
    it never could, or cannot be used.

    Args:
        requests_per_minute: The limit of all processes together.
        open_store: Returns the store, given what is to be called with the seconds of a pause.
    """

    def __init__(self, requests_per_minute: int, open_store: Callable[[Callable[[float], None]], LimitStore]) -> None:
        self._leases = LeasedBudget(requests_per_minute)
        super().__init__(self._leases)
        self._store = open_store(self._pause)
        self._runner: asyncio.Task[None] | None = None
        self._news = asyncio.Event()
        self._fault: Exception | None = None  # why the store cannot be used
        self._contact_by: float | None = None  # when a store that was never reached counts as a wrong setting
        self._is_late: bool = False  # its last reply was
        self._announced_until: float = 0.0  # the end of the last pause that the store knows of ...
        self._paused_until: float = 0.0  # ... and of the last that it must be sent

    @property
    def name(self) -> str:
        """The address of the store, without credentials."""
        return self._store.name

    def available(self) -> int:
        """Return how many polls may start now; none while others wait."""
        return 0 if self._timer is not None else self._leases.available_to_polls(asyncio.get_running_loop().time())

    async def acquire(self, priority: Priority, patience_s: float) -> None:
        """Wait until a request may start; see `RateLimiter`. A store that cannot be used is not asked for each one."""
        is_wrong = isinstance(self._fault, ContractError) and priority in _REJECTED
        if is_wrong and asyncio.get_running_loop().time() < self._leases.retry_at:
            raise self._refusal(patience_s)
        await super().acquire(priority, patience_s)

    def observe_429(self, retry_after_s: float | None, report: RateReport | None) -> None:
        """Pause the requests of all processes after a 429."""
        super().observe_429(retry_after_s, report)
        if self._leases.paused_until > self._paused_until:
            self._paused_until = self._leases.paused_until
            self._wake_runner()

    def close(self) -> None:
        """Reject all requests that wait, and every later one."""
        super().close()
        if self._runner is not None:
            self._runner.cancel()

    async def aclose(self) -> None:
        """Close, and wait for the runner and the store to end."""
        self.close()
        if self._runner is not None:
            await asyncio.wait([self._runner])
        await self._store.aclose()

    def _pause(self, seconds: float) -> None:
        """Pause because another process does."""
        self._leases.pause(asyncio.get_running_loop().time(), seconds)

    def _serve(self) -> None:
        """Release as many requests as there are slots for, and see to it that there will be more."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while waiting := self._waiting():
            may_submit = self._leases.available(now) > 0
            eligible = waiting if may_submit else [each for each in waiting if each is not Priority.SUBMIT]
            if not eligible or not self._leases.available_to_polls(now):
                wake_at = max(self._leases.wake_at(now, has_polls=bool(eligible)), now + SHORTEST_SLEEP_S)
                self._timer = loop.call_at(min(wake_at, now + _LONGEST_SLEEP_S), self._serve)
                break
            self._queues[self._policy.next(eligible)].popleft().set_result(True)
            self._leases.consume(now)
        if self._leases.wants_lease(now, self._number_waiting()):
            self._wake_runner()

    def _number_waiting(self) -> int:
        return sum(len(queue) for queue in self._queues.values())

    def _queue_s(self) -> float:
        """Return how long the queue takes if the other processes have as many requests; see `RateLimiter`."""
        share_s = 60 * self._leases.workers / self._leases.requests_per_minute
        return 2 * share_s * self._number_waiting() + HORIZON_S + _CONTACT_S

    def _refusal(self, bound_s: float) -> Exception:
        if self._fault is None or self._is_closed:
            return super()._refusal(bound_s)
        if isinstance(self._fault, ContractError):
            return ContractError(problems=self._fault.problems, undone=self._fault.undone)
        reason = f"the store of the shared rate limit cannot be used: {self.name}: {self._fault}"
        return NoResponse(reason, was_sent=False)

    def _wake_runner(self) -> None:
        self._news.set()
        if self._runner is None and not self._is_closed:
            loop = asyncio.get_running_loop()
            self._runner = loop.create_task(self._run(), name="lemon_async limit", context=contextvars.Context())
            self._runner.add_done_callback(self._runner_ended)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            self._news.clear()
            now = loop.time()
            is_pause_new = self._paused_until > max(self._announced_until, now)
            retry_at = self._leases.retry_at
            if not (is_pause_new or self._leases.wants_lease(now, self._number_waiting())):
                await self._news.wait()
            elif retry_at > now:
                await self._sleep_until(retry_at)
            else:
                await (self._announce_pause(now) if is_pause_new else self._lease(now))

    async def _sleep_until(self, wake_at: float) -> None:
        """Sleep until `wake_at` or until there is news."""
        timer = asyncio.get_running_loop().call_at(wake_at, self._news.set)
        try:
            await self._news.wait()
        finally:
            timer.cancel()

    async def _announce_pause(self, now: float) -> None:
        until = self._paused_until
        try:
            await self._store.pause(until - now)
        except (StoreUnavailable, ContractError) as fault:
            self._leases.fail(asyncio.get_running_loop().time())
            self._note_fault(fault)
        else:
            self._announced_until = until

    async def _lease(self, now: float) -> None:
        loop = asyncio.get_running_loop()
        ask = self._leases.ask(now, self._number_waiting())
        try:
            lease = await self._store.reserve(ask.slots, epoch=ask.epoch, owed=ask.owed)
            if not _is_possible(ask, lease):
                raise StoreUnavailable(f"its reply makes no sense: {lease}")  # noqa: TRY301 - handled as any other
        except (StoreUnavailable, ContractError) as fault:
            self._leases.fail(loop.time(), ask)
            self._note_fault(fault)
        else:
            was_late, self._is_late = self._is_late, not self._leases.take(loop.time(), ask, lease)
            if not self._is_late:
                self._note_success()
            elif was_late:
                self._leases.fail(loop.time())
                self._note_fault(StoreUnavailable(f"a reply took {loop.time() - now:.1f} s"))
        self._serve()

    def _note_fault(self, fault: Exception) -> None:
        if self._fault is None:
            reason = str(fault).removesuffix(".")
            logger.warning(
                "the store of the shared rate limit cannot be used: %s: %s; submits wait until it can, and for a "
                "minute more if it has lost its data",
                self.name,
                reason,
            )
        self._fault = fault if self._leases.is_connected else self._at_first_contact(fault)
        if isinstance(self._fault, ContractError):
            self._reject_waiting(_REJECTED)

    def _at_first_contact(self, fault: Exception) -> Exception:
        """Return what a fault means to a session that has never reached its store, which may be starting."""
        now = asyncio.get_running_loop().time()
        self._contact_by = self._contact_by or now + _FIRST_CONTACT_S
        if isinstance(fault, ContractError) or now < self._contact_by:
            return fault
        reason = str(fault).removesuffix(".")
        return ContractError.of(
            "shared_limit", f"{self.name} cannot be reached: {reason}; start it, or correct the URL"
        )

    def _note_success(self) -> None:
        if self._fault is not None:
            logger.info("the store of the shared rate limit can be used again: %s", self.name)
        self._fault = None

    def _runner_ended(self, runner: asyncio.Task[None]) -> None:
        crash = None if runner.cancelled() else runner.exception()
        if self._is_closed:
            return
        self._runner = None
        if crash is None:
            self._fault = StoreUnavailable("the program has cancelled its client")
        else:
            self._fault = StoreUnavailable("its client crashed, which is a bug of this library")
            logger.error("%s: %s", self.name, self._fault, exc_info=crash)
        self._leases.fail(runner.get_loop().time())
        self._reject_waiting(_REJECTED)


def _is_possible(ask: Ask, lease: Lease) -> bool:
    """Return whether a store can have meant a reply; what answers may be another program."""
    longest_s = HORIZON_S + 1 if lease.slots else _LONGEST_WAIT_S
    return 0 <= lease.slots <= ask.slots and 0 <= lease.wait_s <= longest_s
