"""Slots of a rate limit that several processes share."""

import attrs

__all__ = ["Lease"]


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
