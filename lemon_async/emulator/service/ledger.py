"""The append-only billing record, by which tests check that nothing is paid twice.

A job is reserved once when it is accepted, and then either settled (its images were made) or released (it failed, was
cancelled or lost). Entries are never changed, so a job that was sold twice stays visible.
"""

from collections import Counter
from typing import Literal

from attrs import frozen

EntryKind = Literal["reserve", "settle", "release"]


@frozen
class LedgerEntry:
    """One line of the record; `seq` counts from 1, `task_id` is None for inline jobs."""

    seq: int
    kind: EntryKind
    job: str
    task_id: str | None
    model: str
    amount_usd: float


class Ledger:
    """Every reservation, settlement and release, in order."""

    __slots__ = ("_entries", "_held_usd")

    def __init__(self) -> None:
        self._entries: list[LedgerEntry] = []
        self._held_usd = 0.0

    def __repr__(self) -> str:
        sold, open_ = self.sold.total(), len(self.open)
        return f"<Ledger sold {sold}, open {open_}, held ${self._held_usd:.3f}>"

    @property
    def entries(self) -> tuple[LedgerEntry, ...]:
        """All entries, oldest first."""
        return tuple(self._entries)

    @property
    def sold(self) -> Counter[str]:
        """How many times each job was sold; more than once means it was paid twice."""
        return self._count("reserve")

    @property
    def settled(self) -> Counter[str]:
        """How many times each job was billed."""
        return self._count("settle")

    @property
    def released(self) -> Counter[str]:
        """How many times each job's reservation was released."""
        return self._count("release")

    @property
    def open(self) -> frozenset[str]:
        """Jobs with a reservation that is neither settled nor released."""
        return frozenset(self.sold - self.settled - self.released)

    @property
    def held_usd(self) -> float:
        """The amount paid or reserved, in US dollars."""
        return self._held_usd

    def reserve(self, *, job: str, task_id: str | None, model: str, amount_usd: float) -> LedgerEntry:
        """Reserve the cost of a job; returns the entry to pass to `settle` or `release`."""
        self._held_usd += amount_usd
        return self._append("reserve", job, task_id, model, amount_usd)

    def settle(self, reserved: LedgerEntry, amount_usd: float) -> None:
        """Bill a job for its actual usage."""
        self._held_usd += amount_usd - reserved.amount_usd
        self._append("settle", reserved.job, reserved.task_id, reserved.model, amount_usd)

    def release(self, reserved: LedgerEntry) -> None:
        """Release a reservation."""
        self._held_usd -= reserved.amount_usd
        self._append("release", reserved.job, reserved.task_id, reserved.model, reserved.amount_usd)

    def _append(self, kind: EntryKind, job: str, task_id: str | None, model: str, amount_usd: float) -> LedgerEntry:
        entry = LedgerEntry(len(self._entries) + 1, kind, job, task_id, model, amount_usd)
        self._entries.append(entry)
        return entry

    def _count(self, kind: EntryKind) -> Counter[str]:
        return Counter(entry.job for entry in self._entries if entry.kind == kind)
