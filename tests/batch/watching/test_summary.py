import json

import pytest

from lemon_async.batch import open_journal
from lemon_async.batch.records import Spending
from lemon_async.batch.states import State
from lemon_async.batch.watching.summary import BUDGET_NOTE, JournalSummary, note_budget, read_budget, sum_up


def test_summary_survives_json():
    counts = {state: number for number, state in enumerate(State)}
    facts = {"budget_usd": 2.0, "runs": 1, "owner": {"pid": 3, "host": "h", "started": 1.5}}
    summary = JournalSummary(counts=counts, spending=Spending(spent=0.12, unpriced=1), **facts)
    assert JournalSummary.of_json(json.loads(json.dumps(summary.as_json())), **facts) == summary


@pytest.mark.parametrize(("budget", "note"), [(2.5, "2.5"), (None, "")])
async def test_cap_of_the_last_run_is_noted(tmp_path, budget, note):
    """That of an earlier run does not stay, and a note that says the same already is not written again."""
    async with open_journal(tmp_path / "run.db", create=True) as journal:
        await note_budget(journal, 1)
        await note_budget(journal, budget)
        assert await journal.read_note(BUDGET_NOTE) == note
        assert (await sum_up(journal)).budget_usd == budget


@pytest.mark.parametrize("note", [None, "", "much"])
def test_missing_cap_is_none(note):
    assert read_budget(note) is None
