"""A row in flight knows what the journal knows of it."""

from lemon_async.batch.records import JournalRow
from lemon_async.batch.running.job import Job
from lemon_async.batch.states import State

ROW = JournalRow(
    number=3,
    key="a",
    state=State.SOLD,
    request=b'{"operation":"generate","prompt":"p"}',
    columns=b'{"shelf":"A"}',
    attempt=2,
    task="token",
    price_usd=0.05,
)


def test_a_job_is_made_of_its_row():
    job = Job.of(ROW)
    assert (job.key, job.state, job.token, job.price_usd, job.columns) == ("a", "sold", "token", 0.05, {"shelf": "A"})
    assert job.request.prompt == "p"
    assert not (job.is_pledged)
    assert not (job.is_lost)
    assert not (job.is_surplus)


def test_its_outcome_has_its_present_state():
    job = Job.of(ROW)
    job.facts.state = State.DONE
    outcome = job.outcome(cost_usd=0.07)
    assert (outcome.key, outcome.status, outcome.attempt, outcome.cost_usd) == ("a", State.DONE, 2, 0.07)
