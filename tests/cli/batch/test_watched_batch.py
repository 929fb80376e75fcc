"""The summary of a page: what has changed, and what was known before an error."""

from pathlib import Path

import attrs
import pytest

from lemon_async.batch import JournalRow, JournalSummary, Spending, State
from lemon_async.cli.batch.watched_batch import WatchedBatch, reason_of
from lemon_async.errors import JournalError


@attrs.define
class View:
    """A journal whose rows are given; raises `problem` if there is one."""

    rows_: list[JournalRow] = attrs.field(factory=list)
    facts: dict = attrs.field(factory=dict)
    problem: Exception | None = None
    reads: int = 0
    name: str = "/tmp/run.db"
    folder: Path | None = None

    async def summary(self):
        if self.problem:
            raise self.problem
        counts = {state: sum(row.state is state for row in self.rows_) for state in State}
        return JournalSummary(counts=counts, spending=Spending(spent=1.0), **self.facts)

    async def rows(self, *states, before=None, limit=200):
        if self.problem:
            raise self.problem
        self.reads += 1
        end = float("inf") if before is None else before
        return [row for row in self.rows_[::-1] if row.state in states and row.number < end][:limit]


def rows(*states, **facts):
    return [
        JournalRow(number=number, key=f"k{number}", state=state, **{"request": b'{"prompt":"a cat"}', **facts})
        for number, state in enumerate(states)
    ]


@pytest.fixture
def now():
    return [0.0]


@pytest.fixture
def watched(now):
    def look_at(*rows, **facts):
        return WatchedBatch(View([*rows], facts), "run.db", clock=lambda: now[0])

    return look_at


async def later(batch, now, seconds=10.0):
    now[0] += seconds
    return await batch.read()


async def test_summary_has_counts_money_and_the_cap(watched):
    summary = await watched(*rows(State.DONE, State.NEW), budget_usd=5.0, runs=1).read()
    assert summary["counts"] == {**{state.value: 0 for state in State}, "done": 1, "new": 1}
    assert (summary["spending"]["spent"], summary["spending"]["budget_usd"]) == (1.0, 5.0)
    assert (summary["journal"], summary["is_running"], summary["problem"]) == ("/tmp/run.db", True, None)


async def test_version_grows_with_every_change(watched, now):
    """And only then: pages fetch their lists again."""
    batch = watched(*rows(State.DONE, State.NEW))
    first = (await batch.read())["version"]
    assert (await later(batch, now))["version"] == first
    batch.view.rows_[1] = attrs.evolve(batch.view.rows_[1], state=State.DOUBTFUL)
    assert (await later(batch, now))["version"] > first


async def test_failures_are_grouped_by_reason(watched):
    """The ids of tasks and requests differ, and the reason does not."""
    errors = ["blocked (task ldtask_0123abcd)", "blocked (task ldtask_4567efab)", "no balance", None]
    failed = [
        attrs.evolve(row, error=error)
        for row, error in zip(rows(*[State.REFUSED, State.DEAD, State.FAILED, State.DEAD]), errors, strict=True)
    ]
    summary = await watched(*failed).read()
    assert summary["failures"] == [
        {"reason": "blocked (task …)", "count": 2, "keys": ["k1", "k0"]},
        {"reason": "no reason was given", "count": 1, "keys": ["k3"]},
        {"reason": "no balance", "count": 1, "keys": ["k2"]},
    ]


async def test_failures_are_bounded(watched):
    """A batch of which everything failed, each for a reason of its own."""
    failed = [attrs.evolve(row, error=f"reason{row.number:b}") for row in rows(*[State.DEAD] * 3000)]
    batch = watched(*failed)
    failures = (await batch.read())["failures"]
    assert len(failures) == 31
    assert sum(each["count"] for each in failures) == 3000
    assert batch.view.reads <= 6


async def test_details_are_read_again_only_if_they_have_changed(watched, now):
    """A page that is open for a day does not read the same rows a hundred thousand times."""
    batch = watched(*rows(State.DEAD, State.DOUBTFUL))
    await batch.read()
    reads = batch.view.reads
    for _ in range(50):
        await later(batch, now)
    assert batch.view.reads == reads
    batch.view.rows_.append(attrs.evolve(batch.view.rows_[0], number=2))
    assert (await later(batch, now))["failures"][0]["count"] == 2


async def test_doubtful_rows_are_named_with_what_to_do(watched):
    summary = await watched(*rows(State.DOUBTFUL, price_usd=0.04, changed_at=0.0)).read()
    assert summary["doubtful"] == [
        {"key": "k0", "price_usd": 0.04, "time": "1970-01-01T00:00:00Z", "prompt": "a cat", "error": None}
    ]
    assert summary["advice"] == [
        "1 row may have been sold and is not sent again by itself: k0",
        "look at them: lemon-async batch doubtful run.db",
        "then decide: lemon-async batch resolve run.db KEY... (--task ID | --not-sold | --buy-again)",
    ]


async def test_advice_waits_for_a_batch_that_runs(watched):
    """Its rows are being finished, and its file takes no decisions."""
    facts = {"runs": 1, "owner": {"pid": 7, "host": "h", "started": 0.0}}
    assert (await watched(*rows(State.NEW, State.SOLD), **facts).read())["advice"] == []
    advice = (await watched(*rows(State.NEW, State.DEAD), **facts).read())["advice"]
    assert advice[-1] == "These commands work when process 7 has left the journal."
    assert "continue" in (await watched(*rows(State.NEW)).read())["advice"][0]


async def test_error_of_the_journal_is_shown_beside_what_was_known(watched, now):
    """And passes, when the journal can be read again."""
    batch = watched(*rows(State.DONE), runs=1)
    await batch.read()
    batch.view.problem = JournalError(message="it is gone")
    summary = await later(batch, now)
    assert (summary["problem"], summary["is_running"], summary["counts"]["done"]) == ("it is gone", False, 1)
    batch.view.problem = None
    assert (await later(batch, now))["problem"] is None


async def test_journal_that_was_never_readable_has_a_summary(watched):
    batch = watched()
    batch.view.problem = JournalError(message="it is missing")
    assert (await batch.read())["problem"] == "it is missing"


async def test_rate_is_that_of_the_rows_done(watched, now):
    batch = watched(*rows(*[State.NEW] * 40), runs=1)
    await batch.read()
    for number in range(10):
        batch.view.rows_[number] = attrs.evolve(batch.view.rows_[number], state=State.DONE)
        summary = await later(batch, now, 1.0)
    assert summary["rate_per_minute"] == pytest.approx(60, rel=0.2)
    assert summary["eta_s"] == pytest.approx(30, rel=0.2)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        ("refused: content policy", "refused: content policy"),
        ("task ldtask_ab12 was lost", "task … was lost"),
        ("request 0123456789abcdef failed", "request … failed"),
        ("two\nlines", "two lines"),
        ("deadbeefcafe is a word", "deadbeefcafe is a word"),
        (None, "no reason was given"),
        ("x" * 999, "x" * 300),
    ],
)
def test_reason_is_what_failures_have_in_common(error, reason):
    assert reason_of(rows(State.DEAD, error=error)[0]) == reason


@pytest.mark.parametrize("request_", [b"[]", b"{", b""])
async def test_doubtful_row_with_an_odd_request_is_shown(watched, request_):
    summary = await watched(*rows(State.DOUBTFUL, request=request_)).read()
    assert summary["doubtful"][0]["prompt"] is None
