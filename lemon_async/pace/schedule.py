"""Which task to poll now, and when to look again.

Problem: a task lasts 30-120 s and says nothing until it is asked; asking costs a request of the account's
budget, not asking costs waiting. Thousands of tasks share one poller.

Rules:
* Every task has a next poll and a deadline. A heap orders the polls; all tasks get the same time, so the
  order of arrival is the order of the deadlines. A decision costs O(log n).
* The gap between two polls grows with the age of the task, between the policy's bounds: the longer a task has
  lasted, the longer it is likely to last still, and the smaller a fixed delay is beside it.
* What goes wrong with a poll only moves the next one: it never ends the task. Faults in a row double the gap.
* "No such task" counts only when it repeats, often and long enough that lag after creation cannot explain it.
* The deadline ends the wait, not the task.

Rejected: an asyncio task per job (memory, no shared order), a fixed interval (wastes requests on the old and
delays the young), a deadline that is checked on a poll only (a busy poller would stretch it).
"""

import heapq
from collections import OrderedDict
from collections.abc import Iterator
from itertools import count, islice
from typing import Generic, TypeVar

import attrs

from lemon_async.api.errors import ContractError, Problem
from lemon_async.pace.validators import at_least_one, at_least_zero, positive

__all__ = ["Decision", "PollPolicy", "Schedule"]

_GAP_PER_AGE = 0.1
_FAULTS_THAT_DOUBLE = 10


@attrs.frozen(kw_only=True)
class PollPolicy:
    """How a session looks after its pending tasks.

    Attributes:
        min_gap_s: No task is polled sooner than this after its last poll, or after its creation.
        max_gap_s: No task waits longer for its next poll, unless the budget is paused.
        deadline_s: Seconds after which a wait ends with `TaskTimeout`, counted from the submit or the resume.
        lost_after_s: "No such task" must have been repeated for so long before it is believed ...
        lost_after_polls: ... and so often.
    """

    min_gap_s: float = attrs.field(default=2.0, validator=positive)
    max_gap_s: float = attrs.field(default=10.0, validator=positive)
    deadline_s: float = attrs.field(default=900.0, validator=positive)
    lost_after_s: float = attrs.field(default=15.0, validator=at_least_zero)
    lost_after_polls: int = attrs.field(default=3, validator=at_least_one)

    def __attrs_post_init__(self) -> None:
        if self.max_gap_s < self.min_gap_s:
            raise ContractError(problems=(Problem("max_gap_s", f"must not be below min_gap_s ({self.min_gap_s})"),))


Key = TypeVar("Key")


@attrs.define
class _Entry:
    born: float
    deadline: float
    plan: int = -1
    faults: int = 0
    misses: int = 0
    missing_since: float = 0.0


@attrs.frozen
class Decision(Generic[Key]):
    """What to do now.

    Attributes:
        polls: Tasks to poll; the schedule waits to hear how each went.
        expired: Tasks whose deadline has passed; the schedule has forgotten them.
        wake_at: When the next decision is due, if nothing happens before; `None` when nothing will be due.
    """

    polls: tuple[Key, ...]
    expired: tuple[Key, ...]
    wake_at: float | None


class Schedule(Generic[Key]):
    """The pending tasks of a session, by what has to happen to them next."""

    def __init__(self, policy: PollPolicy) -> None:
        self._policy = policy
        # Ordered by a linked list: a dict walks over every deleted entry to find its first one.
        self._entries: OrderedDict[Key, _Entry] = OrderedDict()
        self._due: list[tuple[float, int, Key]] = []
        self._serial = count()

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Key]:
        return iter(tuple(self._entries))

    def __contains__(self, key: object) -> bool:
        return key in self._entries

    def add(self, key: Key, now: float, *, is_fresh: bool = True) -> None:
        """Take a task in; a fresh one gets the minimum gap first, a resumed one is polled at once."""
        self.discard(key)  # whoever returns has the last deadline
        self._entries[key] = _Entry(born=now, deadline=now + self._policy.deadline_s)
        self._plan(key, now, self._policy.min_gap_s if is_fresh else 0.0)

    def discard(self, key: Key) -> None:
        """Forget a task; unknown ones are ignored."""
        self._entries.pop(key, None)

    def deadline(self, key: Key) -> float:
        """Return when the wait for a task ends."""
        return self._entries[key].deadline

    def decide(self, now: float, *, slots: int, clear_at: float = 0.0) -> Decision[Key]:
        """Return what to do at `now`, with room for `slots` more polls and no request before `clear_at`."""
        expired = tuple(self._pop_expired(now))
        polls = tuple(self._pop_due(now, slots if clear_at <= now else 0))
        return Decision(polls, expired, self._wake_at(has_room=slots > len(polls), clear_at=clear_at))

    def seen(self, key: Key, now: float) -> None:
        """Plan the next poll of a task that answered and is still pending."""
        entry = self._entries.get(key)
        if entry is not None:
            entry.faults = entry.misses = 0
            self._plan(key, now, self._gap(entry, now))

    def faulted(self, key: Key, now: float, *, retry_after_s: float | None = None) -> None:
        """Plan the next poll of a task whose last poll told nothing about it."""
        entry = self._entries.get(key)
        if entry is not None:
            gap = self._gap(entry, now) * 2 ** min(entry.faults, _FAULTS_THAT_DOUBLE)
            entry.faults += 1
            self._plan(key, now, max(gap, retry_after_s or 0.0))

    def missing(self, key: Key, now: float) -> bool:
        """Take note of "no such task"; return whether that is to be believed by now."""
        entry = self._entries.get(key)
        if entry is None:
            return False
        if entry.misses == 0:
            entry.missing_since = now
        entry.misses += 1
        missing_s = now - entry.missing_since
        if entry.misses >= self._policy.lost_after_polls and missing_s >= self._policy.lost_after_s:
            return True
        self._plan(key, now, self._gap(entry, now))
        return False

    def _gap(self, entry: _Entry, now: float) -> float:
        return max((now - entry.born) * _GAP_PER_AGE, self._policy.min_gap_s)

    def _plan(self, key: Key, now: float, gap: float) -> None:
        # The serial number breaks ties by age, keeps keys from being compared, and tells a task's plan from those
        # it had before: the heap keeps what is overruled until it would be due.
        serial = self._entries[key].plan = next(self._serial)
        heapq.heappush(self._due, (now + min(gap, self._policy.max_gap_s), serial, key))

    def _pop_expired(self, now: float) -> Iterator[Key]:
        while self._entries:
            key, entry = next(iter(self._entries.items()))
            if entry.deadline > now:
                return
            del self._entries[key]
            yield key

    def _pop_due(self, now: float, room: int) -> Iterator[Key]:
        while self._due:
            due, serial, key = self._due[0]
            entry = self._entries.get(key)
            is_valid = entry is not None and entry.plan == serial
            if is_valid and (room <= 0 or due > now):
                return
            heapq.heappop(self._due)
            if is_valid:
                yield key
                room -= 1

    def _wake_at(self, *, has_room: bool, clear_at: float) -> float | None:
        times = [entry.deadline for entry in islice(self._entries.values(), 1)]
        if self._due and has_room:
            times.append(max(self._due[0][0], clear_at))
        return min(times, default=None)
