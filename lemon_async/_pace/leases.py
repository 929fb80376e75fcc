"""The rate limit of an account that several processes use: each leases slots from a store that all of them reach.

Problem: the limit counts the requests of all processes, but asking a store before each request would double the round
trips, and make the store the bottleneck. Clocks differ, replies are late, processes die and the store restarts.

Rules:
* The store hands out consecutive slots, one `leased_interval_s` apart; no two leases overlap. Times are relative to a
  reply, so that only the store's clock counts. A request takes a slot that has begun.
* Between request and reply the slot's true beginning is uncertain. It is assumed as late as possible, and the slot ends
  `_TOLERANCE_S` after the earliest possibility. So each request starts at most the tolerance after its slot, however
  late the reply is. A slot that is not taken by then is forfeited; a reply later than the tolerance is worthless.
* Leases double while all slots are used, and shrink to what was used when some were forfeited. They have at most ten
  slots or those of 0.5 s (0.125 s from four processes on), because the slots of a process that dies are lost. They last
  at most two seconds, and those of all processes together about five. The next one is requested when more requests wait
  than slots are left, and half of the last is left, or a quarter if there are other processes: their slots come first
  anyway. A lone request leases one slot.
* A pause drops the slots that begin before its end.
* A reported limit below the configured one spreads slots: the others of a lease are left unused.
* While the store is unreachable, leased slots are still used. Once those of all processes have passed (no lease begins
  farther ahead than `HORIZON_S`), each process sends polls, and no submits, at its share of the limit.
* Polls that may have been sent after the store had come back are owed: they are charged to the next lease.

Invariant: no 60-s window holds more requests than the limit. The slots of a window, and of the tolerance before it, are
at most (60 s + tolerance) / interval + 1, and the interval is (`_WINDOW_S` + tolerance) / limit with a window of more
than 60 s. While the store is unreachable for all, shares add up to the limit, and do not overlap with leases. Limits of
this: a share is that of the processes known from the last leases, and a process that alone is cut off adds its share to
what the others send. Only the polls since the last vain attempt are owed, because after a stop for all, charging the
others, too, would stop everything for as long again. If the state is lost, those who knew it make all wait for a
minute; a process that used nothing in that minute, and comes first, does not know it.

Rejected: a counter in the store (a round trip per request, and bursts at the window's edge), a fixed share for each
process (idle ones waste theirs), absolute times (clocks differ), and slots without an end (used late, they add up).
"""

import math
from collections import deque

import attrs

from lemon_async._api.response import RateReport
from lemon_async._pace.budget import RequestBudget

__all__ = ["HORIZON_S", "Ask", "Lease", "LeasedBudget", "leased_interval_s"]

HORIZON_S = 8.0
"""How far ahead a lease may begin at most."""

_WINDOW_S = 60.21  # as in `budget`: a minute, and what the network may do to the distance between two requests
_TOLERANCE_S = 0.75
_LONGEST_LEASE_S = 2.0
_ALL_LEASES_S = 5.0
_ENOUGH_S, _ENOUGH_SLOTS = 0.5, 10
_CONTINUED_S = 2.0  # demand that comes later than this after the last lease starts anew, with one slot
_FIRST_RETRY_S = 0.1
_LONGEST_RETRY_S = 1.0


def leased_interval_s(rpm: float) -> float:
    """Return the seconds from one slot to the next."""
    return (_WINDOW_S + _TOLERANCE_S) / rpm


@attrs.frozen(kw_only=True)
class Lease:
    """Consecutive slots that a store has reserved for one process; times are relative to its reply.

    Attributes:
        slots: Their number; 0 if the first slot is too far away to reserve it now.
        wait_s: Seconds until the first of them, or until the next free slot.
        spacing_s: Seconds from one to the next.
        epoch: Identifies the state of the store; another one means that the store has lost it.
        workers: Number of processes that have reserved in the last minute, this one included.
    """

    slots: int
    wait_s: float
    spacing_s: float
    epoch: str
    workers: int


@attrs.frozen(kw_only=True)
class Ask:
    """A request for a lease.

    Attributes:
        at: When it is sent.
        slots: Their number.
        epoch: That of the last lease, if the state that it came from still matters.
        owed: Number of requests without a slot that are charged.
    """

    at: float
    slots: int
    epoch: str | None
    owed: int


@attrs.define
class _Slots:
    """The slots that are left of one lease."""

    first_at: float
    spacing_s: float
    left: int
    valid_s: float  # after its beginning, a slot is forfeited

    def drop_before(self, at: float) -> int:
        """Drop the slots that begin before `at`; return their number."""
        dropped = min(max(math.ceil((at - self.first_at) / self.spacing_s), 0), self.left)
        self.left -= dropped
        self.first_at += dropped * self.spacing_s
        return dropped

    def begun(self, now: float) -> int:
        """Return the number of slots that have begun."""
        return min(self.left, int((now - self.first_at) / self.spacing_s) + 1) if now >= self.first_at else 0


@attrs.define(on_setattr=attrs.setters.NO_OP)
class LeasedBudget:
    """The rate limit of an account, as one of the processes that share it sees it.

    Pauses, 429s and reports are those of a `RequestBudget`, whose own rate does not apply.

    Attributes:
        configured: The limit of the account.
        workers: Number of processes that use it, as far as is known.
        is_connected: Whether the store has ever granted something.
        lost_at: When the store was found unreachable; `None` while it is not.
        retry_at: When the store may be asked again.
    """

    configured: int
    workers: int = attrs.field(default=1, init=False)
    is_connected: bool = attrs.field(default=False, init=False)
    lost_at: float | None = attrs.field(default=None, init=False)
    retry_at: float = attrs.field(default=-math.inf, init=False)
    _account: RequestBudget = attrs.field(init=False)
    _leases: deque[_Slots] = attrs.field(factory=deque, init=False)
    _epoch: str | None = attrs.field(default=None, init=False)
    _last_slot_at: float = attrs.field(default=-math.inf, init=False)  # of all that were ever leased
    _free_at: float = attrs.field(default=-math.inf, init=False)  # of the store's next slot, when it granted none
    _retry_s: float = attrs.field(default=_FIRST_RETRY_S, init=False)
    _next_poll_at: float = attrs.field(default=math.inf, init=False)
    _owed: int = attrs.field(default=0, init=False)  # since the last vain attempt began
    _size: int = attrs.field(default=1, init=False)  # of the last lease
    _used: int = attrs.field(default=0, init=False)  # since then
    _forfeited: int = attrs.field(default=0, init=False)

    def __attrs_post_init__(self) -> None:
        self._account = RequestBudget(self.configured)

    @property
    def requests_per_minute(self) -> int:
        """The limit of all processes together: the configured one, or a reported one that is lower."""
        return self._account.limit or self.configured

    @property
    def paused_until(self) -> float:
        """When the last pause ends, or ended."""
        return self._account.paused_until

    @property
    def held(self) -> int:
        """The number of leased slots that are left."""
        return sum(slots.left for slots in self._leases)

    def room_rpm(self, now: float) -> float:
        """Return how many requests the coming minute has room for, if all processes send equally often."""
        return self._account.room_rpm(now) / self.workers

    def available(self, now: float) -> int:
        """Return how many requests of any priority may start at `now`."""
        self._forfeit(now)
        return min(sum(slots.begun(now) for slots in self._leases), self._account.headroom(now))

    def available_to_polls(self, now: float) -> int:
        """Return how many requests may start at `now` that are no submits."""
        is_due = self.lost_at is not None and now >= self._next_poll_at and not self.held
        return self.available(now) or int(is_due and self._account.headroom(now) > 0)

    def next_at(self, now: float) -> float:
        """Return when pauses that are known end, own ones and those of the store; `now` if there are none."""
        return max(now, self._account.held_until(now), -math.inf if self.held else self._free_at - HORIZON_S)

    def wake_at(self, now: float, *, has_polls: bool) -> float:
        """Return when a request that waits may start, or a lease be requested, as far as is known."""
        self._forfeit(now)
        held_until = self._account.held_until(now)
        if self._leases:
            return max(self._leases[0].first_at, held_until)
        if self.lost_at is not None and has_polls:
            return max(self._next_poll_at, held_until)
        return held_until if held_until > now else math.inf

    def consume(self, now: float) -> None:
        """Count a request that starts: it takes the oldest slot, or is a poll that needs none."""
        self._account.consume(now)
        if not self._leases:
            self._owed += 1
            self._next_poll_at = max(self._next_poll_at, now) + self._share_s
            return
        oldest = self._leases[0]
        oldest.left -= 1
        oldest.first_at += oldest.spacing_s
        self._used += 1
        self._drop_empty()

    def observe(self, now: float, report: RateReport | None = None) -> None:
        """Observe a response that is no 429."""
        self._account.observe(now, report)

    def observe_429(self, now: float, retry_after_s: float | None = None, *, report: RateReport | None = None) -> None:
        """Pause after a 429 that arrived at `now`."""
        self._account.observe_429(now, retry_after_s, report=report)
        self._drop_before(self.paused_until)

    def pause(self, now: float, seconds: float) -> None:
        """Pause because another process does."""
        self._account.pause(now, seconds)
        self._drop_before(self.paused_until)

    def wants_lease(self, now: float, waiting: int) -> bool:
        """Return whether a lease should be requested, from `retry_at` on, given how many requests wait."""
        if self.lost_at is not None:  # even if nothing waits: polls must not go on beside the leases of others
            return True
        self._forfeit(now)
        held = self.held
        is_low = held <= self._size // (2 if self.workers == 1 else 4)
        return now >= self.paused_until and waiting > held and is_low

    def ask(self, now: float, waiting: int) -> Ask:
        """Return the request for the next lease."""
        if self._last_slot_at < now - _CONTINUED_S:
            size = 1
        else:
            size = max(self._used, 1) if self._forfeited else 2 * self._size
        size = max(size, waiting - self.held) if self.is_connected else 1
        stretch = self._stretch
        interval_s = leased_interval_s(self.configured)
        enough_s = max(_ENOUGH_S / min(self.workers, 4), _ENOUGH_SLOTS * interval_s)
        longest_s = min(_LONGEST_LEASE_S, _ALL_LEASES_S / self.workers, enough_s)
        most = longest_s / (interval_s * stretch)
        slots = math.ceil(max(min(size, int(most)), 1) * stretch)
        is_recent = self._last_slot_at > now - _WINDOW_S - _TOLERANCE_S
        return Ask(at=now, slots=slots, epoch=self._epoch if is_recent else None, owed=self._owed)

    def take(self, now: float, ask: Ask, lease: Lease) -> bool:
        """Take a lease whose reply arrived at `now`; return false if that was too late to use it."""
        # A new state does not know all processes yet, and a share must not be larger than before.
        known = 1 if lease.epoch == self._epoch else self.workers
        self.is_connected, self.workers, self._epoch = True, max(lease.workers, known), lease.epoch
        self._owed -= ask.owed
        valid_s = _TOLERANCE_S - (now - ask.at)
        first_at = now + lease.wait_s
        if lease.slots:
            self._last_slot_at = first_at + (lease.slots - 1) * lease.spacing_s
            self._used, self._forfeited = 0, 0 if valid_s > 0 else lease.slots
        if valid_s <= 0:
            return False
        self.lost_at, self._retry_s = None, _FIRST_RETRY_S
        if not lease.slots:
            self._free_at = first_at
            self.retry_at = max(first_at - HORIZON_S, now + min(self._share_s, HORIZON_S) / 2)
            return True
        self._free_at = -math.inf
        self._size = int(lease.slots / self._stretch)
        slots = _Slots(first_at, lease.spacing_s * self._stretch, self._size, valid_s)
        slots.drop_before(self.paused_until)
        self._leases.append(slots)
        self._drop_empty()
        return True

    def fail(self, now: float, ask: Ask | None = None) -> None:
        """Note that the store could not be reached."""
        self.retry_at = now + self._retry_s
        self._retry_s = min(self._retry_s * 2, _LONGEST_RETRY_S)
        self._owed -= ask.owed if ask else 0
        if self.lost_at is None and self.is_connected:
            self.lost_at = now
            # Even if this process was the only one: others may have come since.
            self._next_poll_at = now + HORIZON_S + _LONGEST_LEASE_S + _TOLERANCE_S + self._share_s

    @property
    def _share_s(self) -> float:
        """Seconds between two requests of one process, if all send equally often."""
        return self.workers * leased_interval_s(self.requests_per_minute)

    @property
    def _stretch(self) -> float:
        """By how much the reported limit is lower than the configured one."""
        return self.configured / self.requests_per_minute

    def _forfeit(self, now: float) -> None:
        for slots in self._leases:
            self._forfeited += slots.drop_before(now - slots.valid_s)
        self._drop_empty()

    def _drop_before(self, at: float) -> None:
        for slots in self._leases:
            slots.drop_before(at)
        self._drop_empty()

    def _drop_empty(self) -> None:
        while self._leases and not self._leases[0].left:
            self._leases.popleft()
