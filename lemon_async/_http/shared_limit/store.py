"""What a store of a shared rate limit does.

State of one account, by the clock of the store; it expires two minutes after the last of `due`, `clear_until` and now:

* `rpm`: The limit, for comparison only.
* `epoch`: When the state was created, in microseconds, as text.
* `due`: When the next slot is due.
* `clear_until`: When the last pause ends.
* `workers`: When each process reserved last.

`reserve` does all of this in one atomic step and one round trip:

1. If there is no state, create it, with `due = clear_until = now`. A state that lies further ahead than leases and
   pauses reach (the clock was set back, or another server has taken over) is lost: create it again, and go on as in 2.
2. If the caller's epoch is not `None` and not that of the state, the state was lost while slots were in use:
   `clear_until = max(clear_until, epoch of the state + 60 s)`.
3. `first = max(now, due, clear_until) + owed x interval`.
4. If `first > now + horizon`, set `due` to `first` if requests were owed, and grant no slot: `Lease(slots=0,
   wait_s=first - now)`. So all slots that were ever granted lie at most the horizon and one lease ahead.
5. Otherwise `due = first + slots x interval`, and `Lease(slots=slots, wait_s=first - now, spacing_s=interval)`.

The 60 s of rule 2 are a whole window, although no slot that was granted before begins more than the horizon and one
lease, ten seconds, later. Pauses are lost with the state, and so are requests that were owed and the number of workers,
by which polls go on if the store stops again. A minute leaves nothing of all that in a window, whatever it was.
"""

from typing import Protocol

from lemon_async._pace.leases import Lease
from lemon_async.errors import ContractError

__all__ = ["RECONNECT_S", "TIMEOUT_S", "LimitStore", "StoreUnavailable", "other_limit"]

TIMEOUT_S = 2.0
"""How long a call may take."""
RECONNECT_S = 1.0
"""How long a process that listens for pauses waits before it connects again."""


class StoreUnavailable(Exception):
    """The store cannot be reached now; it may be later."""


def other_limit(name: str, theirs: object, ours: int) -> ContractError:
    """Return the error of a session whose limit is not that of the others."""
    advice = f"{name} has a limit of {theirs} requests per minute for this account, not {ours}: "
    advice += "use the same in all sessions, or wait until no session has used the account for two minutes"
    return ContractError.of("requests_per_minute", advice)


class LimitStore(Protocol):
    """The rate limit of one account, in a store that several processes use.

    `reserve` and `pause` connect if there is no connection, take at most two seconds, and raise `StoreUnavailable` if
    the store cannot be reached or does not answer in time; the next call tries again. They are not called at the same
    time. Cancelling a call leaves open whether it took effect; afterwards the store can still be used or closed. After
    the first `reserve` the store listens for pauses of other processes, in an asyncio task of its own if need be,
    and calls `on_pause` of `open_store` with the seconds that a pause lasts from then on; this may include own pauses.
    """

    @property
    def name(self) -> str:
        """The address of the store, without credentials."""

    async def reserve(self, slots: int, *, epoch: str | None, owed: int) -> Lease:
        """Reserve consecutive slots, or none if the first would be farther away than the horizon.

        Args:
            slots: Their number, at least one.
            epoch: That of the last lease, if slots of it are less than a minute old.
            owed: Number of requests that were sent without a slot and not charged yet; charged again if no reply comes.

        Raises:
            ContractError: The store cannot be used: another process uses another limit for this account, rights are
                missing, or it is of another kind or version.
            StoreUnavailable: See above.
        """

    async def pause(self, seconds: float) -> None:
        """Grant no slot before this many seconds have passed, and notify all processes.

        Nothing shortens a longer pause. Raises as `reserve`.
        """

    async def aclose(self) -> None:
        """Close the connections, within a second; never raises."""
