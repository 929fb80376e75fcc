"""Decide which tasks to poll now, and when to decide again.

Problem: a task lasts 30-120 s and its state is only known by polling; a poll costs a request of the account's budget,
and not polling costs waiting. Thousands of tasks share one poller.

Rules:
* A request has a price in seconds of waiting, which the caller sets, or demand (`poll_price.py`). A pending task is due
  when its expected lag, the waiting accumulated since it was last seen alive, reaches that price (`survival.py`), given
  what is known of its model (`learned_durations.py`) and the progress that it reports; never sooner than a minimum gap,
  never later than a maximum gap.
* When there are fewer slots than due tasks, those with the most lag go first: demand sets the price. Every fourth slot
  goes to the task that has been due for the longest, so that none starves.
* A heap orders future polls; tasks that are due move to a queue. All tasks have the same time limit, so the order of
  arrival is the order of the deadlines. A decision costs O(log n).
* While a model is hardly known, what its first tasks show decides when the others are polled (`cold_start.py`).
* A failed poll only moves the next one: it never ends the task. Consecutive failures double the gap.
* "No such task" counts only when it repeats, so often and for so long that replication lag cannot explain it.
* The deadline ends the wait, not the task.
* An emulator may run faster than the service. `speed` divides every time of the policy but the deadline, and ages are
  measured in service seconds, so that what is learned holds for the service too. No speed shortens a gap below 10 ms.

Rejected: an asyncio task per job (memory, no common order), a fixed interval (twice the cost at any length: it wastes
requests on young tasks and delays those about to end), a deadline that is checked at polls only (a busy poller would
stretch it).
"""

import heapq
from collections import OrderedDict
from collections.abc import Iterator
from functools import cache
from itertools import count, islice
from typing import Generic, NamedTuple, TypeVar

import attrs

from lemon_async._pace import poll_price
from lemon_async._pace.budget import LOWEST_TIER_RPM
from lemon_async._pace.cold_start import ColdModel, ColdStart
from lemon_async._pace.learned_durations import LearnedDurations
from lemon_async._pace.survival import ProgressForecast
from lemon_async._pace.validators import at_least_one, at_least_zero, positive
from lemon_async.errors import ContractError
from lemon_async.types import Record

__all__ = ["Decision", "PollPolicy", "Schedule"]

_MAX_DOUBLINGS = 10
_LAST_LOOK_S = 2.0
_SHORTEST_SCALED_GAP_S = 0.01
_MAX_EXPIRED = 100
_MAX_MOVED = 1000  # per decision
_MAX_COLD_MODELS = 4  # per decision ...
_MAX_RECHECKED = 32  # ... and tasks of each
# Lag never grows faster than time: a task that became due later than all of these exceeds their lag by at most the time
# for which it has been due itself, which is less than theirs.
_CANDIDATES = 16
_OLDEST_EVERY = 4


@attrs.frozen(eq=False, repr=False, kw_only=True)
class PollPolicy(Record):
    """When a session polls its pending tasks, and when it gives up.

    Attributes:
        poll_cost_s: Price of one poll in seconds of waiting: a lower one means more polls and earlier results. By
            default (`None`) it follows demand, from 0.005 s for a few tasks on an idle account to 0.5 s for many that
            share a low rate limit; one task takes at most half of the limit, and an unknown limit counts as 60 requests
            a minute. A number is the price whatever the demand. A lone job of 45 s is polled 5 times at 0.5 and seen
            3 s after its end; by default 28 times and 0.6 s at 1,000 requests a minute, 14 times and 1.1 s at 60.
        min_gap_s: Least time between two polls of a task, and between its creation and the first.
        max_gap_s: Most time between two polls of a task, unless the rate limit is reached. It bounds the harm of wrong
            expectations, and costs polls of tasks that are known to last longer.
        deadline_s: Seconds after which a wait ends with `TaskTimeout`, counted from the submit or the resume.
        lost_after_s: "No such task" must have been repeated for this long before it ends the task,
        lost_after_polls: and this often.

    The emulator announces its speed: a session connected to one on this machine divides all these times by it, except
    `deadline_s`.
    """

    poll_cost_s: float | None = attrs.field(default=None, validator=attrs.validators.optional(positive))
    min_gap_s: float = attrs.field(default=1.0, validator=positive)
    max_gap_s: float = attrs.field(default=90.0, validator=positive)
    deadline_s: float = attrs.field(default=900.0, validator=positive)
    lost_after_s: float = attrs.field(default=15.0, validator=at_least_zero)
    lost_after_polls: int = attrs.field(default=3, validator=at_least_one)

    def __attrs_post_init__(self) -> None:
        if self.max_gap_s < self.min_gap_s:
            raise ContractError.of("max_gap_s", f"must not be below min_gap_s ({self.min_gap_s})")


Key = TypeVar("Key")


@attrs.define(eq=False, repr=False)
class _Entry:
    created_at: float
    head_start_s: float  # the age at `created_at`: for a task of unknown age the median of its model, otherwise 0
    deadline: float
    model: str | None
    alive_s: float  # the age at which it was last known to be alive
    is_watched: bool  # whether it has been polled since that age, so that the next observation can be learned from
    is_age_known: bool
    forecast: ProgressForecast | None = None  # of a task that has reported progress: most models report none
    plan: tuple[float, int] = (0.0, -1)  # the time of its next poll, and the number of that plan
    faults: int = 0
    misses: int = 0
    missing_since: float = 0.0


class Decision(NamedTuple, Generic[Key]):
    """What to do now.

    Attributes:
        polls: Tasks to poll; the caller reports the result of each.
        expired: Tasks whose deadline has passed; the schedule has removed them.
        wake_at: When to decide again, if nothing happens before; `None` if there is nothing to wait for.
        waiting: Number of due tasks without a slot: decide again when one is free.
    """

    polls: tuple[Key, ...]
    expired: tuple[Key, ...]
    wake_at: float | None
    waiting: int = 0


class Schedule(Generic[Key]):
    """The pending tasks of a session, ordered by their next polls.

    Args:
        policy: The price of a poll, and the bounds.
        durations: The known durations of jobs, to which the schedule adds.
    """

    def __init__(self, policy: PollPolicy, durations: LearnedDurations | None = None) -> None:
        self._policy = policy
        self._durations = LearnedDurations() if durations is None else durations
        # Ordered by a linked list: a dict walks over every deleted entry to find its first one.
        self._entries: OrderedDict[Key, _Entry] = OrderedDict()
        self._heap: list[tuple[float, int]] = []  # time and number of each planned poll
        self._plans: dict[int, Key] = {}
        self._due: OrderedDict[Key, None] = OrderedDict()  # in the order in which they became due
        self._cold: ColdStart[Key] = ColdStart()
        self._serial = count()
        self._scarce_grants = 0
        self.speed: float = 1.0  # service seconds per real second
        self.room_rpm: float = LOWEST_TIER_RPM  # requests per minute that the budget has room for

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Key]:
        return iter(tuple(self._entries))

    def __contains__(self, key: object) -> bool:
        return key in self._entries

    @property
    def durations(self) -> LearnedDurations:
        """The known durations of jobs."""
        return self._durations

    def add(
        self, key: Key, now: float, *, model: str | None = None, is_fresh: bool = True, age_s: float | None = None
    ) -> None:
        """Add a task: a fresh one is polled when its age makes that worthwhile, a resumed one immediately.

        Without `age_s`, a fresh task is new, and a resumed one counts as half over and nothing is learned from it.
        """
        self.discard(key)  # a task that is added again gets the latest deadline
        is_age_known = is_fresh or age_s is not None
        head_start_s = 0.0 if is_age_known else self._durations.median_s(model)
        self._entries[key] = entry = _Entry(
            created_at=now - (age_s or 0.0),
            head_start_s=head_start_s,
            deadline=now + self._policy.deadline_s,
            model=model,
            alive_s=head_start_s,
            is_watched=is_fresh,
            is_age_known=is_age_known,
        )
        if is_fresh:
            self._plan_by_price(key, entry, now)
        else:
            self._plan(key, now)

    def discard(self, key: Key) -> None:
        """Remove a task; does nothing if it is unknown."""
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._plans.pop(entry.plan[1], None)
            self._due.pop(key, None)
            self._cold.discard(entry.model, key)

    def deadline(self, key: Key) -> float:
        """Return when the wait for a task ends."""
        return self._entries[key].deadline

    def decide(self, now: float, *, slots: int) -> Decision[Key]:
        """Return what to do at `now`, with `slots` more polls allowed to start."""
        expired = tuple(self._pop_expired(now))
        for cold in [each for each in self._cold if each.has_news][:_MAX_COLD_MODELS]:
            self._plan_sooner(cold)
        self._move_due(now)
        for cold in [each for each in self._cold if each.may_poll(now)][:_MAX_COLD_MODELS]:
            self._release(cold, now)
        polls = self._pop_due(now, slots)
        return Decision(polls, expired, self._wake_at(now), len(self._due))

    def seen(self, key: Key, now: float, *, progress: float | None = None, retry_after_s: float | None = None) -> None:
        """Plan the next poll of a task whose poll has shown that it is still pending."""
        entry = self._entries.get(key)
        if entry is None:
            return
        entry.faults = entry.misses = 0
        age_s = max(self._age_s(entry, now), entry.alive_s)
        if entry.is_age_known and entry.is_watched:
            self._durations.observe_alive(entry.model, entry.alive_s, age_s)
        entry.alive_s, entry.is_watched = age_s, True
        if entry.is_age_known:
            self._update_forecast(entry, progress, age_s)
        self._plan_by_price(key, entry, now, retry_after_s or 0.0)
        self._answered(entry)

    def faulted(self, key: Key, now: float, *, retry_after_s: float | None = None) -> None:
        """Plan the next poll of a task whose last poll returned no status."""
        entry = self._entries.get(key)
        if entry is not None:
            self._plan(key, self._bounded(now, max(self._backoff_s(entry.faults), retry_after_s or 0.0)))
            entry.faults += 1
            self._answered(entry)

    def missing(self, key: Key, now: float) -> bool:
        """Count a "no such task"; return whether it has repeated enough to end the task."""
        entry = self._entries.get(key)
        if entry is None:
            return False
        if entry.misses == 0:
            entry.missing_since = now
        entry.misses += 1
        self._answered(entry)
        missing_s = (now - entry.missing_since) * self.speed
        if entry.misses >= self._policy.lost_after_polls and missing_s >= self._policy.lost_after_s:
            return True
        self._plan(key, self._bounded(now, self._backoff_s(entry.misses - 1)))
        return False

    def ended(self, key: Key, now: float, *, is_success: bool) -> None:
        """Remove a task that has ended, and learn from one that succeeded."""
        entry = self._entries.get(key)
        if entry is None:
            return
        self.discard(key)
        if entry.is_age_known and is_success:
            age_s = max(self._age_s(entry, now), entry.alive_s)
            self._durations.observe_completed(entry.model, entry.alive_s, age_s)
            if entry.forecast is not None:
                self._durations.observe_forecast(entry.model, entry.forecast, (entry.alive_s + age_s) / 2)
        self._answered(entry, has_ended=True)

    def _answered(self, entry: _Entry, *, has_ended: bool = False) -> None:
        durations, model = self._durations, entry.model
        self._cold.answered(model, durations.curve(model), is_cold=durations.is_cold(model), has_ended=has_ended)

    def _update_forecast(self, entry: _Entry, progress: float | None, age_s: float) -> None:
        if entry.forecast is None:
            if progress is None:
                return
            entry.forecast = ProgressForecast()
        entry.forecast.update(progress, age_s)

    def _backoff_s(self, times: int) -> float:
        return self._min_gap_s() * 2.0 ** min(times, _MAX_DOUBLINGS)

    def _age_s(self, entry: _Entry, now: float) -> float:
        """Return the age of a task in service seconds."""
        return entry.head_start_s + (now - entry.created_at) * self.speed

    def _min_gap_s(self) -> float:
        """Return the least time between two polls of a task in real seconds."""
        min_gap_s = self._policy.min_gap_s
        if self._policy.poll_cost_s is None:
            min_gap_s = max(min_gap_s, min(poll_price.least_gap_s(self.room_rpm), self._policy.max_gap_s))
        return max(min_gap_s / self.speed, min(min_gap_s, _SHORTEST_SCALED_GAP_S))

    def _poll_cost_s(self) -> float:
        fixed_s = self._policy.poll_cost_s
        return poll_price.price_s(len(self._entries), self.room_rpm) if fixed_s is None else fixed_s

    def _due_at(self, entry: _Entry, now: float, asked_s: float = 0.0) -> float:
        """Return when a task that was created or polled at `now` is due by its price."""
        estimate_s = None if entry.forecast is None else entry.forecast.estimate_s
        due_s = self._durations.due_s(entry.model, entry.alive_s, self._poll_cost_s(), estimate_s=estimate_s)
        least_s = max(asked_s, self._min_gap_s())
        gap_s = max((due_s - self._age_s(entry, now)) / self.speed, least_s)
        # One more poll just before the deadline: a result that exists by then must not be missed.
        left_s = entry.deadline - now
        last_s = max(left_s - min(_LAST_LOOK_S, left_s / 2), least_s)
        return self._bounded(now, last_s if last_s < min(left_s, gap_s) else gap_s)

    def _bounded(self, now: float, gap_s: float) -> float:
        return now + min(gap_s, max(self._policy.max_gap_s / self.speed, self._min_gap_s()))

    def _plan_by_price(self, key: Key, entry: _Entry, now: float, asked_s: float = 0.0) -> None:
        self._plan(key, self._due_at(entry, now, asked_s))
        cold = self._cold.get_or_add(entry.model) if self._durations.is_cold(entry.model) and not asked_s else None
        if cold is not None:
            cold.planned[key] = now

    def _plan(self, key: Key, due_at: float) -> None:
        # The serial number breaks ties by age and distinguishes a task's plan from earlier ones. The heap keeps the
        # numbers of replaced plans until they would be due, but not their keys, which may hold pictures.
        self._due.pop(key, None)
        entry = self._entries[key]
        self._cold.discard(entry.model, key)
        self._plans.pop(entry.plan[1], None)
        entry.plan = due_at, next(self._serial)
        self._plans[entry.plan[1]] = key
        heapq.heappush(self._heap, entry.plan)

    def _plan_sooner(self, cold: ColdModel[Key]) -> None:
        """Plan the next few tasks of a cold model again if they are late; all of them once it is known."""
        for key, planned_at in cold.take_unchecked(_MAX_RECHECKED):
            entry = self._entries[key]
            if not cold.is_cold or self._due_at(entry, planned_at) < entry.plan[0]:
                self._plan_by_price(key, entry, planned_at)

    def _release(self, cold: ColdModel[Key], now: float) -> None:
        """Let as many held tasks be polled as may be under way; those that are early are planned again."""
        for _ in range(_MAX_RECHECKED):
            if not cold.may_poll(now):
                return
            key, planned_at = cold.held.popitem(last=False)
            if self._due_at(self._entries[key], planned_at) > now:
                self._plan_by_price(key, self._entries[key], planned_at)
                continue
            self._due[key] = None
            cold.started(now, self._poll_cost_s() / self.speed, self._policy.max_gap_s / self.speed)
        cold.rest(now, self.speed)

    def _pop_expired(self, now: float) -> Iterator[Key]:
        """Yield expired tasks, a bounded number at a time: `wake_at` is then in the past."""
        for _ in range(_MAX_EXPIRED):
            if not self._entries:
                return
            key, entry = next(iter(self._entries.items()))
            if entry.deadline > now:
                return
            self.discard(key)
            yield key

    def _move_due(self, now: float) -> None:
        """Move due tasks to the queue, and drop replaced plans, so that the heap begins with a future poll."""
        for _ in range(_MAX_MOVED):
            if not self._heap:
                return
            due, serial = self._heap[0]
            is_planned = serial in self._plans
            if is_planned and due > now:
                return
            heapq.heappop(self._heap)
            if is_planned:
                key = self._plans.pop(serial)
                entry = self._entries[key]
                max_gap_s = self._policy.max_gap_s / self.speed
                if not self._cold.hold(entry.model, key, now, deadline=entry.deadline, max_gap_s=max_gap_s):
                    self._due[key] = None

    def _pop_due(self, now: float, slots: int) -> tuple[Key, ...]:
        if slots >= len(self._due):
            polls = tuple(self._due)
            self._due.clear()
            return polls
        return tuple(self._pop_scarce(now, slots)) if slots > 0 else ()

    def _pop_scarce(self, now: float, slots: int) -> Iterator[Key]:
        """Yield the due tasks that get a slot: those with the most lag among the first few of the queue."""
        queue = iter(tuple(islice(self._due, slots + _CANDIDATES)))
        # In the order of the queue, so that the first of equals has been due for longer.
        candidates = [*islice(queue, _CANDIDATES)]
        lag_s = cache(lambda key: self._lag_s(key, now))
        for _ in range(slots):
            self._scarce_grants += 1
            key = max(candidates, key=lag_s) if self._scarce_grants % _OLDEST_EVERY else candidates[0]
            candidates.remove(key)
            del self._due[key]
            yield key
            candidates += islice(queue, 1)

    def _lag_s(self, key: Key, now: float) -> float:
        entry = self._entries[key]
        return self._durations.lag_s(entry.model, entry.alive_s, self._age_s(entry, now))

    def _wake_at(self, now: float) -> float | None:
        times = [entry.deadline for entry in islice(self._entries.values(), 1)]
        times += [max(at, now) for cold in self._cold if (at := cold.wake_at()) is not None]
        if self._heap:
            times.append(self._heap[0][0])
        return min(times, default=None)
