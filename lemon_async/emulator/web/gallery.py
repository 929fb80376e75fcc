"""Remember the newest jobs, inline ones and edits too, and count them by state.

The states follow from the clock, so a heap says which of them change when; nothing looks at all jobs again. Pictures
are drawn when they are shown. The files of an edit are needed for that: those of inline edits, which nothing else
keeps, are given up from the oldest on beyond a number of bytes.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Callable
from heapq import heappop, heappush

from attrs import define, evolve, field

from lemon_async.emulator.actions import Result, Script
from lemon_async.emulator.clock import Clock
from lemon_async.emulator.pictures.picture import Picture
from lemon_async.emulator.service.tasks import TERMINAL, Task

MAX_JOBS = 10_000
MAX_SOURCE_BYTES = 256 * 2**20
LOST = "lost"
OVER = {*TERMINAL, LOST}

# Searching long prompts takes a while, in which others are answered.
_AT_ONCE = 1_000


@define(eq=False)
class JobRecord:
    """A job; `folded` is its prompt for searching, and a job that is not `is_drawable` has lost its sources."""

    number: int
    task: Task
    cost_usd: float
    folded: str
    state: str
    is_drawable: bool = True

    @property
    def pictures(self) -> int:
        """The number of pictures that can be shown."""
        is_shown = self.state == "completed" and self.is_drawable and self.task.find(Result) is None
        return self.task.spec.n if is_shown else 0

    @property
    def source_bytes(self) -> int:
        """The size of the files that the job was made from."""
        picture = self.task.spec.picture
        files = (*picture.sources, *([picture.mask] if picture.mask else []))
        return sum(file.blob.size_bytes for file in files)

    def picture(self, index: int, seed: int) -> Picture:
        """Return one of its pictures."""
        return evolve(self.task.spec.picture, index=index, seed=seed)

    def give_up_sources(self) -> None:
        """Let the files be deleted."""
        spec = self.task.spec
        self.task.spec = evolve(spec, picture=evolve(spec.picture, sources=(), mask=None))
        self.is_drawable = False


@define(eq=False)
class Gallery:
    """The newest jobs by number, oldest first.

    Attributes:
        counts: How many jobs are in each state.
        models: The models of all jobs so far.
        changes: Grows with each job and each change of a state.
    """

    clock: Clock
    most: int = MAX_JOBS
    most_source_bytes: int = MAX_SOURCE_BYTES
    jobs: dict[int, JobRecord] = field(factory=dict, init=False)
    counts: Counter[str] = field(factory=Counter, init=False)
    models: set[str] = field(factory=set, init=False)
    changes: int = field(default=0, init=False)
    _last: int = field(default=0, init=False)
    _by_task: dict[str, JobRecord] = field(factory=dict, init=False)
    _due: list[tuple[float, int]] = field(factory=list, init=False)
    _scripted: dict[int, JobRecord] = field(factory=dict, init=False)
    _with_sources: deque[JobRecord] = field(factory=deque, init=False)
    _source_bytes: int = field(default=0, init=False)

    @property
    def open(self) -> int:
        """The number of jobs that are not over."""
        return self.counts.total() - sum(self.counts[state] for state in OVER)

    def update(self, task: Task) -> None:
        """Add a job, or note that it is over."""
        record = self._by_task.get(task.id)
        if record is None:
            self._add(task)
        else:
            self._update(record, self.clock.now())

    def refresh(self, most: int | None = None) -> bool:
        """Bring the states of at most `most` jobs up to date; return whether there may be more."""
        now = self.clock.now()
        looked_at = 0
        while self._due and self._due[0][0] <= now:
            if looked_at == most:
                return True
            record = self.jobs.get(heappop(self._due)[1])
            if record is not None:
                self._update(record, now)
            looked_at += 1
        for record in tuple(self._scripted.values()):
            self._update(record, now)
        return False

    async def find(
        self, keep: Callable[[JobRecord], bool] | None, before: int | None, count: int
    ) -> tuple[list[JobRecord], int]:
        """Return up to `count` of the jobs to keep, newest first and older than `before`; and how many there are."""
        found = list(reversed(self.jobs.values()))
        if keep is not None:
            kept: list[JobRecord] = []
            for start in range(0, len(found), _AT_ONCE):
                kept += [record for record in found[start : start + _AT_ONCE] if keep(record)]
                await asyncio.sleep(0)
            found = kept
        older = found if before is None else [record for record in found if record.number < before]
        return older[:count], len(found)

    def _add(self, task: Task) -> None:
        self._last += 1
        picture = task.spec.picture
        record = JobRecord(self._last, task, task.cost_usd, picture.prompt.casefold(), "pending")
        self.jobs[record.number] = self._by_task[task.id] = record
        self.models.add(task.spec.model)
        self.counts[record.state] += 1
        self.changes += 1
        if task.find(Script) is not None:
            self._scripted[record.number] = record
        for at in (task.queued_until, task.done_at):
            heappush(self._due, (at, record.number))
        if len(self.jobs) > self.most:
            self._evict()
        if not task.spec.is_task and record.source_bytes:
            self._with_sources.append(record)
            self._source_bytes += record.source_bytes

    def _update(self, record: JobRecord, now: float) -> None:
        state = LOST if record.task.is_lost else record.task.status(now)
        if state == record.state:
            return
        self.counts[record.state] -= 1
        self.counts[state] += 1
        record.state = state
        self.changes += 1
        if record.state in OVER:
            self._scripted.pop(record.number, None)
            self._give_up_sources()

    def _evict(self) -> None:
        record = self.jobs.pop(next(iter(self.jobs)))
        del self._by_task[record.task.id]
        self._scripted.pop(record.number, None)
        self.counts[record.state] -= 1
        if self._with_sources and self._with_sources[0] is record:
            self._source_bytes -= self._with_sources.popleft().source_bytes

    def _give_up_sources(self) -> None:
        """Give up the sources of the oldest inline edits; those of one under way are still needed."""
        while self._source_bytes > self.most_source_bytes and self._with_sources[0].state in OVER:
            record = self._with_sources.popleft()
            self._source_bytes -= record.source_bytes
            record.give_up_sources()
