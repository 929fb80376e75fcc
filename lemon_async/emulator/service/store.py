"""The state of the service: accepted jobs, tasks, result links.

Nothing runs in the background. The state of a task is computed from the clock when it is read, and its reservation is
closed by the first read after its end. `now` is an argument everywhere: emulated seconds since the start.
"""

import hashlib
from collections.abc import Callable, Collection, Iterable, Mapping
from heapq import heappop, heappush
from itertools import islice
from random import Random
from typing import Any

from attrs import define, evolve, field, frozen

from lemon_async.emulator.actions import Answer, Fail, Result, Stuck, TaskAction
from lemon_async.emulator.service.job_spec import JobSpec
from lemon_async.emulator.service.ledger import Ledger
from lemon_async.emulator.service.pricing import estimate_usd
from lemon_async.emulator.service.tasks import Task
from lemon_async.emulator.service_errors import ServiceError, excerpt

# The standard deviation of log-durations: two of three tasks take between 0.7 and 1.4 times the median.
_SIGMA = 0.35
# Balances are compared after rounding: three times 0.04 must fit into 0.12.
_USD_DIGITS = 9

# The other task actions are about polling, and inline jobs are never polled.
_INLINE_ACTIONS = (Stuck, Fail, Result, Answer)

_KEPT = 100_000

Durations = Mapping[str, float] | float | None


@frozen
class Link:
    """A result link: one image of a task, until it expires."""

    token: str
    task: Task
    index: int
    expires_at: float


@define(eq=False)
class Store:
    """All state of the service; `ledger` survives even a restart that loses the tasks.

    Args:
        seed: The seed of ids, durations and link tokens.
        durations: Median seconds of all models, or by model; None uses the median of each family.
        link_ttl_s: Emulated seconds until a result link expires.
        balance_usd: The balance of the account; None is unlimited.
        is_cancellable: Whether tasks can be cancelled; those of today's image models cannot.
        kept: How many finished tasks, and how many links, to keep; the oldest are dropped first.
        on_change: Called with a job, inline or not, when it is accepted and when it is over.
    """

    seed: int = 0
    durations: Durations = None
    link_ttl_s: float = 7200.0
    balance_usd: float | None = None
    is_cancellable: bool = False
    kept: int = _KEPT
    ledger: Ledger = field(factory=Ledger, init=False)
    tasks: dict[str, Task] = field(factory=dict, init=False)
    _links: dict[str, Link] = field(factory=dict, init=False)
    _open: dict[str, Task] = field(factory=dict, init=False)
    on_change: Callable[[Task], object] | None = field(default=None, init=False)
    _due: list[tuple[float, int, Task]] = field(factory=list, init=False)
    _job_count: int = field(default=0, init=False)
    _link_count: int = field(default=0, init=False)

    # Accepting

    def accept(
        self,
        spec: JobSpec,
        *,
        key: str,
        now: float,
        created: int,
        script: Iterable[TaskAction] = (),
    ) -> Task:
        """Reserve the cost of a job and start it, inline or as a task.

        Raises:
            ServiceError: 402, the balance is below the estimate.
        """
        cost = estimate_usd(spec)
        self._check_balance(cost, now)
        random = Random(f"{self.seed}:{self._job_count}")  # noqa: S311 - reproducible, no secret
        task_id = f"ldtask_{random.getrandbits(128):032x}"
        reserved = self.ledger.reserve(
            job=spec.job,
            task_id=task_id if spec.is_task else None,
            model=spec.model,
            amount_usd=cost,
            at_s=now,
        )
        task = Task(
            id=task_id,
            key=key,
            spec=spec,
            created=created,
            born_at=now,
            done_at=now + self._duration(spec, random),
            shows_progress=random.random() < 0.5,  # "sometimes"
            script=tuple(action for action in script if spec.is_task or isinstance(action, _INLINE_ACTIONS)),
            reserved=reserved,
        )
        self._job_count += 1
        self._open[task_id] = task
        heappush(self._due, (task.done_at, self._job_count, task))
        if spec.is_task:
            self.tasks[task_id] = task
            _evict_oldest(self.tasks, self.kept, self._open)
        self._notify(task)
        return task

    def _notify(self, task: Task) -> None:
        if self.on_change is not None:
            self.on_change(task)

    def _check_balance(self, cost: float, now: float) -> None:
        if self.balance_usd is None:
            return
        self.settle(now)
        left = round(self.balance_usd - self.ledger.held_usd, _USD_DIGITS)
        if cost > left:
            hints = {"balance_usd": left, "estimated_cost_usd": cost}
            raise ServiceError(402, extras={**hints, "hint": "Top up the account and try again."})

    def _duration(self, spec: JobSpec, random: Random) -> float:
        median = spec.family.median_s
        if isinstance(self.durations, Mapping):
            median = self.durations.get(spec.model, median)
        elif self.durations is not None:
            median = self.durations
        return median * random.lognormvariate(0.0, _SIGMA)

    # Tasks

    def find(self, task_id: str) -> Task | None:
        """Return a task by its id, whichever key owns it."""
        return self.tasks.get(task_id)

    def poll(self, task_id: str, *, key: str, now: float) -> Task:
        """Return a task to its owner, and count the poll.

        Raises:
            ServiceError: 404, this key has no such task.
        """
        task = self.tasks.get(task_id)
        if task is None or task.key != key:
            raise task_not_found()
        task.polls += 1
        self._close_if_over(task, now)
        if not task.is_visible:
            raise task_not_found()
        return task

    def cancel(self, task_id: str, *, key: str, now: float) -> Task:
        """Cancel a task and release its reservation.

        Raises:
            ServiceError: 404 unknown task, 403 other key, 400 not supported, 409 already finished.
        """
        task = self.tasks.get(task_id)
        if task is None:
            raise task_not_found()
        if task.key != key:
            raise ServiceError(403, message="This task belongs to another account.")
        if not self.is_cancellable:
            model = task.spec.model
            raise ServiceError(400, "unsupported_task_cancel", f"{excerpt(model)} tasks cannot be cancelled.")
        if task.is_over(now):
            raise ServiceError(409, "task_not_cancellable", "The task has already finished.")
        task.is_cancelled = True
        self._close_if_over(task, now)
        return task

    def clear_tasks(self, now: float) -> None:
        """Drop every task and link, and release their reservations."""
        for task in self._open.values():
            task.is_lost = True
            self.ledger.release(task.reserved, now)
            self._notify(task)
        self.tasks.clear()
        self._links.clear()
        self._open.clear()
        self._due.clear()

    # Billing

    def settle(self, now: float, most: int | None = None) -> bool:
        """Close the reservations of all jobs that are over, in the order in which they ended.

        Jobs that do not end by the clock, because they are cancelled or follow a script, are closed where that happens.

        Args:
            now: The time.
            most: Look at no more jobs than this; for callers that let others run in between.

        Returns:
            Whether there may be more.
        """
        looked_at = 0
        while self._due and self._due[0][0] <= now:
            if looked_at == most:
                return True
            self._close_if_over(heappop(self._due)[-1], now)
            looked_at += 1
        return False

    def _close_if_over(self, task: Task, now: float) -> None:
        if task.id not in self._open or not task.is_over(now):
            return
        del self._open[task.id]
        if task.status(now) == "completed":
            self.ledger.settle(task.reserved, task.cost_usd, now)
        else:
            self.ledger.release(task.reserved, now)
        self._notify(task)

    # Links

    def links(self, task: Task, now: float) -> list[Link]:
        """Return the links of a task's images; expired ones are replaced."""
        return [self._link(task, index, now) for index in range(task.spec.n)]

    def _link(self, task: Task, index: int, now: float) -> Link:
        known = self._links.get(task.links.get(index, ""))
        if known is not None and now < known.expires_at:
            return known
        name = f"{self.seed}:{task.key}:{task.id}:{index}:{self._link_count}"
        token = hashlib.sha256(name.encode()).hexdigest()
        link = Link(token, task, index, now + self.link_ttl_s)
        task.links[index] = token
        self._links[token] = link
        self._link_count += 1
        _evict_oldest(self._links, self.kept)
        return link

    def find_link(self, token: str) -> Link | None:
        """Return a link by its token, expired or not."""
        return self._links.get(token)

    def resolve_link(self, token: str, now: float) -> Link:
        """Return the link that a download names.

        Raises:
            ServiceError: 404 unknown, 410 expired.
        """
        link = self._links.get(token)
        if link is None:
            raise ServiceError(404, "link_not_found", "There is no such file.")
        if now >= link.expires_at:
            raise ServiceError(410)
        return link

    def expire_link(self, token: str, now: float) -> None:
        """Make a link expire now."""
        link = self._links.get(token)
        if link is not None:
            self._links[token] = evolve(link, expires_at=now)


def _evict_oldest(known: dict[str, Any], kept: int, needed: Collection[str] = ()) -> None:
    """Keep the newest entries and those needed; evict a tenth at a time, which amortizes the cost."""
    if len(known) > kept + kept // 10:
        for name in list(islice((name for name in known if name not in needed), len(known) - kept)):
            del known[name]


def task_not_found() -> ServiceError:
    """Return the error for a task that is unknown, gone or owned by another key; "Get image status"."""
    return ServiceError(404, "async_task_not_found", "Task not found or no longer available.")
