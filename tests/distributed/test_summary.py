"""A summary says what the journal says."""

from journals import new_row
from lemon_async.batch import Change, State, Transition, open_journal
from lemon_async.distributed.summary import summarise
from saved_rows import finish, sell


async def test_summary_counts_states_and_reasons(tmp_path):
    """Errors are counted by their type, and what has none by what the journal says of it."""
    async with open_journal(tmp_path / "run.db", create=True) as journal:
        await journal.add([new_row(key) for key in ("A", "B", "C", "D", "E")])
        await finish(journal, "A", tmp_path, cost_usd=0.04)
        for key in ("B", "C"):
            error = f"BadRequest: HTTP 400: {key} is not allowed"
            await journal.record(Change(key=key, transition=Transition.REFUSE, error=error))
        await sell(journal, "D")
        await journal.record(Change(key="D", transition=Transition.LOSE, error=None))
        summary = await summarise(journal, workers=2, restarts=1, seconds=3.5)
    assert {state: count for state, count in summary.counts.items() if count} == {
        State.NEW: 1,
        State.DONE: 1,
        State.REFUSED: 2,
        State.DEAD: 1,
    }
    assert summary.failures == {"BadRequest": 2, "dead": 1}
    assert (summary.workers, summary.restarts, summary.seconds, summary.spending.spent) == (2, 1, 3.5, 0.04)
    first, *rest = str(summary).splitlines()
    assert first == "1 new, 1 done, 2 refused, 1 dead; $0.04 spent (2 workers, 1 restarts)"
    assert rest == ["2 x BadRequest", "1 x dead"]
