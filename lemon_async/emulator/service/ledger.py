"""The append-only billing record, by which tests check that nothing is paid twice.

A job is reserved once when it is accepted, and then either settled (its images were made) or released (it failed, was
cancelled or lost). Entries are never changed, so a job that was sold twice stays visible.
"""

from collections import Counter
from collections.abc import Callable
from typing import Literal

from attrs import define, evolve, frozen

EntryKind = Literal["reserve", "settle", "release"]


@frozen
class LedgerEntry:
    """One line of the record; `seq` counts from 1, `task_id` is None for inline jobs.

    `at_s` is when the entry was made, in emulated seconds since the start.
    """

    seq: int
    kind: EntryKind
    job: str
    task_id: str | None
    model: str
    amount_usd: float
    at_s: float = 0.0


@define
class LedgerSum:
    """Number and amount of some entries."""

    count: int = 0
    amount_usd: float = 0.0


class Ledger:
    """Every reservation, settlement and release, in order."""

    __slots__ = ("_entries", "_held_usd", "_on_entry", "_sums")

    def __init__(self) -> None:
        self._entries: list[LedgerEntry] = []
        self._held_usd = 0.0
        self._on_entry: Callable[[LedgerEntry], object] | None = None
        self._sums: dict[tuple[EntryKind, str], LedgerSum] = {}

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

    @property
    def count(self) -> int:
        """The number of entries."""
        return len(self._entries)

    @property
    def sums(self) -> dict[tuple[EntryKind, str], LedgerSum]:
        """The sums of all entries by kind and model, kept up to date."""
        return self._sums

    def total(self, kind: EntryKind) -> int:
        """Return the number of entries of a kind."""
        return sum(found.count for (known, _), found in self._sums.items() if known == kind)

    def page(self, before: int, count: int) -> list[LedgerEntry]:
        """Return up to `count` entries before number `before`, newest first."""
        return self._entries[max(0, before - 1 - count) : before - 1][::-1]

    def on_entry(self, function: Callable[[LedgerEntry], object] | None) -> None:
        """Call a function with each new entry, before anything else learns of it."""
        self._on_entry = function

    def reserve(
        self, *, job: str, task_id: str | None, model: str, amount_usd: float, at_s: float = 0.0
    ) -> LedgerEntry:
        """Reserve the cost of a job; returns the entry to pass to `settle` or `release`."""
        self._held_usd += amount_usd
        return self._append(LedgerEntry(self.count + 1, "reserve", job, task_id, model, amount_usd, at_s))

    def settle(self, reserved: LedgerEntry, amount_usd: float, at_s: float = 0.0) -> None:
        """Bill a job for its actual usage."""
        self._held_usd += amount_usd - reserved.amount_usd
        self._append(evolve(reserved, seq=self.count + 1, kind="settle", amount_usd=amount_usd, at_s=at_s))

    def release(self, reserved: LedgerEntry, at_s: float = 0.0) -> None:
        """Release a reservation."""
        self._held_usd -= reserved.amount_usd
        self._append(evolve(reserved, seq=self.count + 1, kind="release", at_s=at_s))

    def _append(self, entry: LedgerEntry) -> LedgerEntry:
        self._entries.append(entry)
        found = self._sums.setdefault((entry.kind, entry.model), LedgerSum())
        found.count += 1
        found.amount_usd += entry.amount_usd
        if self._on_entry is not None:
            self._on_entry(entry)
        return entry

    def _count(self, kind: EntryKind) -> Counter[str]:
        return Counter(entry.job for entry in self._entries if entry.kind == kind)
