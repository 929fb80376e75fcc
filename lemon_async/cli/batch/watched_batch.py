"""What the page of a batch says at the top: counts, money, rate, failures, and what to do."""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import attrs
import orjson

from lemon_async.batch import BatchView, JournalRow, JournalSummary, Spending, State
from lemon_async.cli.batch.rate import RateWindow
from lemon_async.cli.batch.report import advice, doubtful_record
from lemon_async.errors import JournalError

__all__ = ["WatchedBatch", "reason_of"]

_LOOK_EVERY_S = 0.5
_DETAILS_EVERY_S = 2.0
_MOST_FAILURES = 1000
_MOST_DOUBTFUL = 50
_MOST_REASONS = 30
_MOST_KEYS = 5
_MOST_CHARACTERS = 300
_FAILED = (State.REFUSED, State.FAILED, State.DEAD)
# What differs between two failures for one reason: ids, digests, addresses.
_OWN = re.compile(r"\b(?:[A-Za-z]+_)?(?=[0-9a-fA-F-]*[0-9])[0-9a-fA-F-]{8,}\b|\b(?:ldtask|task|req|file)[_-]\w+")
_UNKNOWN = JournalSummary(counts=dict.fromkeys(State, 0), spending=Spending())


@attrs.define(eq=False)
class WatchedBatch:
    """A batch that pages look at, as often as they like.

    Attributes:
        view: The journal.
        journal: What to type to name it.
        clock: Returns seconds, for the rate.
        version: Grows when something has changed.
    """

    view: BatchView
    journal: str
    clock: Callable[[], float] = time.monotonic
    version: int = attrs.field(default=0, init=False)
    _rate: RateWindow = attrs.field(factory=RateWindow, init=False)
    _summary: JournalSummary = attrs.field(default=_UNKNOWN, init=False)
    _problem: str | None = attrs.field(default=None, init=False)
    _failures: list[dict[str, Any]] = attrs.field(factory=list[dict[str, Any]], init=False)
    _doubtful: list[dict[str, Any]] = attrs.field(factory=list[dict[str, Any]], init=False)
    _details_of: object = attrs.field(default=None, init=False)
    _look_due: float = attrs.field(default=float("-inf"), init=False)
    _details_due: float = attrs.field(default=float("-inf"), init=False)
    _turn: asyncio.Lock = attrs.field(factory=asyncio.Lock, init=False)

    async def read(self) -> Mapping[str, Any]:
        """Return the summary as JSON; an error of the journal is a part of it, beside what was known before."""
        async with self._turn:
            if self.clock() >= self._look_due:
                await self._look()
                self._look_due = self.clock() + _LOOK_EVERY_S
        return self._as_json()

    async def _look(self) -> None:
        before = self._summary, self._problem
        try:
            self._summary, self._problem = await self.view.summary(), None
            await self._look_closely()
        except JournalError as fault:
            self._problem = str(fault)
        self._rate.note(self.clock(), self._summary.counts, is_running=self._is_running)
        if (self._summary, self._problem) != before:
            self.version += 1

    async def _look_closely(self) -> None:
        """Read failed and doubtful rows again if there are others than before."""
        counts = self._summary.counts
        which = [counts[state] for state in (*_FAILED, State.DOUBTFUL)]
        if which == self._details_of or self.clock() < self._details_due or not self._summary.has_rows:
            return
        self._failures = await self._find_failures(counts)
        self._doubtful = [_doubtful(row) async for row in self._rows(State.DOUBTFUL, most=_MOST_DOUBTFUL)]
        self._details_of, self._details_due = which, self.clock() + _DETAILS_EVERY_S
        self.version += 1

    async def _find_failures(self, counts: Mapping[State, int]) -> list[dict[str, Any]]:
        """Group the last failed rows by their reason, the most frequent one first."""
        keys: dict[str, list[str]] = {}
        seen = 0
        async for row in self._rows(*_FAILED, most=_MOST_FAILURES):
            seen += 1
            keys.setdefault(reason_of(row), []).append(row.key)
        groups = sorted(keys.items(), key=lambda group: -len(group[1]))
        found = [
            {"reason": reason, "count": len(group), "keys": group[:_MOST_KEYS]}
            for reason, group in groups[:_MOST_REASONS]
        ]
        rest = sum(len(group) for _, group in groups[_MOST_REASONS:]) + max(
            sum(counts[state] for state in _FAILED) - seen, 0
        )
        return [*found, {"reason": "other rows", "count": rest, "keys": []}] if rest else found

    async def _rows(self, *states: State, most: int) -> AsyncIterator[JournalRow]:
        """Yield the last rows in these states."""
        if not any(self._summary.counts[state] for state in states):
            return
        before, left = None, most
        while left > 0 and (rows := await self.view.rows(*states, before=before, limit=min(left, 200))):
            for row in rows:
                yield row
            before, left = rows[-1].number, left - len(rows)

    @property
    def _is_running(self) -> bool:
        return self._problem is None and (self._summary.runs > 0 or self._summary.owner is not None)

    def _as_json(self) -> Mapping[str, Any]:
        summary, rate, eta = self._summary, self._rate.rate_per_minute, self._rate.eta_s
        return {
            "version": self.version,
            "journal": self.view.name,
            "problem": self._problem,
            "counts": {state.value: summary.counts[state] for state in State},
            "spending": {**summary.spending.as_json(), "budget_usd": summary.budget_usd},
            "rate_per_minute": None if rate is None else round(rate, 1),
            "eta_s": None if eta is None else round(eta),
            "is_running": self._is_running,
            "owner": summary.owner,
            "failures": self._failures,
            "doubtful": self._doubtful,
            "advice": self._advice(),
        }

    def _advice(self) -> list[str]:
        """Return what to do now: a file that is in use takes no decisions, and a batch that runs finishes its rows."""
        counts = dict(self._summary.counts)
        if self._is_running:
            counts = {state: count for state, count in counts.items() if not state.is_open}
        lines = [line.strip() for line in advice(counts, self.journal, [each["key"] for each in self._doubtful])]
        if lines and self._summary.owner is not None:
            lines.append(f"These commands work when process {self._summary.owner.get('pid')} has left the journal.")
        return lines


def reason_of(row: JournalRow) -> str:
    """Return why a row failed, without what is its own, such as the id of its task."""
    text = " ".join((row.error or "no reason was given").split())
    return _OWN.sub("…", text.replace(row.key, "…") if len(row.key) >= 8 else text)[:_MOST_CHARACTERS]


def _doubtful(row: JournalRow) -> dict[str, Any]:
    record = doubtful_record(attrs.evolve(row, request=row.request if _is_object(row.request) else b"{}"))
    return {name: record[name] for name in ("key", "price_usd", "time", "prompt", "error")}


def _is_object(text: bytes) -> bool:
    try:
        return isinstance(orjson.loads(text), dict)
    except orjson.JSONDecodeError:
        return False
