"""Events become metrics."""

import pytest

from lemon_async import GenerateRequest, events
from lemon_async.errors import RateLimited, ServerError, SubmissionUnknown, TaskFailed, TransportError
from otel import emitter

REFUSAL = RateLimited(status=429, message="slow down")
NOT_SENT = TransportError(message="no connection")
UNKNOWN = SubmissionUnknown(request=GenerateRequest("a cat"), fingerprint="00", reason="HTTP 502")
FAILURE = TaskFailed(reason="policy")


@pytest.fixture
def emit(otel):
    """A function that emits events of job 1."""
    return emitter(otel.telemetry())


def test_a_job_with_every_outcome_of_attempts(otel, emit):
    """Each is counted under the name that `submission_counts` has for it, with the model and the class of the error."""
    emit(events.Submitted, 10, waited_s=2)
    emit(events.Refused, 11, error=REFUSAL, seconds=1)
    emit(events.RetryScheduled, 11, what="POST /v1/images/generations", attempt=1, wait_s=1, error=REFUSAL, job=1)
    emit(events.NotSent, 12, error=NOT_SENT, attempt=2)
    emit(events.Submitted, 13, attempt=3)
    emit(events.OutcomeUnknown, 14, error=UNKNOWN, attempt=3)
    emit(events.Submitted, 14, attempt=4)
    emit(events.Accepted, 15, status="pending", task_id="t", attempt=4)
    assert otel.total("lemon_async.jobs.in_flight") == 1
    emit(events.Completed, 40, images=1, task_id="t")
    for name in ("sold", "settled", "unknown", "refused", "not_sent"):
        assert otel.by(f"lemon_async.submissions.{name}", "gen_ai.request.model") == {"flux-pro": 1}
    assert otel.by("lemon_async.submissions.refused", "error.type") == {"RateLimited": 1}
    assert otel.by("lemon_async.submissions.not_sent", "error.type") == {"TransportError": 1}
    assert otel.total("lemon_async.submissions.released") == 0
    assert otel.total("lemon_async.jobs.in_flight") == 0
    assert otel.by("lemon_async.retries", "lemon_async.request.kind") == {"submit": 1}


def test_duration_is_that_of_the_operation(otel, emit):
    """It begins with the waiting for a place, and has boundaries up to 900 s without a view."""
    emit(events.Submitted, 10, waited_s=2)
    emit(events.Completed, 40, images=1)
    ((attributes, point),) = otel.points("gen_ai.client.operation.duration").items()
    assert dict(attributes) == {
        "gen_ai.operation.name": "generate_content",
        "gen_ai.provider.name": "lemondata",
        "gen_ai.request.model": "flux-pro",
    }
    assert point.sum == 32
    assert point.explicit_bounds[-1] == 900


@pytest.mark.parametrize(("money", "settled", "released"), [("settled", 1, 0), ("released", 0, 1), ("open", 0, 0)])
def test_failures_are_counted_where_their_money_went(otel, emit, money, settled, released):
    """The duration has the class of the error."""
    emit(events.Submitted)
    emit(events.Accepted, status="pending", task_id="t")
    emit(events.Failed, 5, error=FAILURE, money=money, task_id="t")
    assert otel.total("lemon_async.submissions.settled") == settled
    assert otel.total("lemon_async.submissions.released") == released
    assert otel.by("gen_ai.client.operation.duration", "error.type") == {"TaskFailed": 1}
    assert otel.total("lemon_async.jobs.in_flight") == 0


def test_a_resumed_job_is_in_flight_without_a_duration(otel, emit):
    """An earlier session began it, and its model is what the service said: that may be anything."""
    emit(events.Resumed, task_id="t", model="anything")
    assert otel.by("lemon_async.jobs.in_flight", "gen_ai.request.model") == {None: 1}
    emit(events.Completed, 5, images=1, task_id="t")
    assert otel.total("lemon_async.submissions.settled") == 1
    assert otel.total("lemon_async.jobs.in_flight") == 0
    assert otel.points("gen_ai.client.operation.duration") == {}


def test_polls_are_counted_by_status(otel, emit):
    """A service that makes up statuses does not make up series."""
    for status in ("pending", "pending", "completed", "made up", "made up too"):
        emit(events.Polled, status=status, seconds=0.2)
    emit(events.Polled, error=ServerError(status=503, message="down"), seconds=0.1)
    counts = {"pending": 2, "completed": 1, "_OTHER": 2, "none": 1}
    assert otel.by("lemon_async.poll.duration", "lemon_async.task.status") == counts
    assert otel.by("lemon_async.poll.duration", "error.type") == {None: 5, "ServerError": 1}


def test_rate_limits_and_downloads(otel, emit):
    """Waits by kind of request, refusals, retries of free requests, and bytes."""
    for kind in ("submit", "poll", "poll"):
        emit(events.RateLimitWaited, kind=kind, seconds=1)
    emit(events.RateLimited, retry_after_s=1)
    emit(events.RetryScheduled, what="GET /v1/models", attempt=1, wait_s=1, error=REFUSAL)
    emit(events.Downloaded, url="https://cdn.example/1.png", size_bytes=100, seconds=1)
    emit(events.Downloaded, url="https://cdn.example/1.png", seconds=1, error=OSError())
    assert otel.by("lemon_async.rate_limit.wait", "lemon_async.request.kind") == {"submit": 1, "poll": 2}
    assert otel.total("lemon_async.rate_limit.refusals") == 1
    assert otel.by("lemon_async.retries", "lemon_async.request.kind") == {"other": 1}
    assert otel.by("lemon_async.download.duration", "error.type") == {None: 1, "OSError": 1}
    assert otel.total("lemon_async.download.io") == 100


def test_rows_of_open_batches_are_counted_by_state(otel, emit):
    """Two batches add up; leaving one takes its rows away, whatever other processes did to them."""
    emit(events.BatchOpened, journal="a.db", counts={"new": 3})
    emit(events.BatchOpened, journal="b.db", counts={"new": 1, "done": 5})
    emit(events.RowChanged, journal="a.db", key="1", before="new", after="intent")
    emit(events.RowChanged, journal="unknown.db", key="1", before="new", after="intent")
    assert otel.by("lemon_async.batch.rows", "lemon_async.row.state") == {"new": 3, "intent": 1, "done": 5}
    emit(events.BatchClosed, journal="a.db", counts={"done": 3})
    emit(events.BatchClosed, journal="unknown.db", counts={"done": 3})
    assert otel.by("lemon_async.batch.rows", "lemon_async.row.state") == {"new": 1, "done": 5}
    emit(events.BatchOpened, journal="b.db", counts={"done": 6})
    assert otel.by("lemon_async.batch.rows", "lemon_async.row.state") == {"done": 6}
    assert ".db" not in otel.everything()


def test_events_of_unknown_jobs_are_harmless(otel, emit):
    """They count, but nothing that has not begun is in flight."""
    emit(events.Completed, images=1)
    emit(events.Failed, error=FAILURE, money="released")
    emit(events.Refused, error=REFUSAL)
    assert otel.total("lemon_async.submissions.settled") == 1
    assert otel.total("lemon_async.jobs.in_flight") == 0
    assert otel.points("gen_ai.client.operation.duration") == {}


def test_many_models_are_forgotten(otel, emit):
    """A program that names more models than there are does not fill the memory."""
    telemetry = otel.telemetry()
    (submitted, *_) = telemetry._handlers[events.Submitted]
    for job in range(1, 2501):
        request = GenerateRequest("a cat", model=f"m{job}")
        telemetry(events.Submitted(at=0, job=job, request=request))
        telemetry(events.Completed(at=1, job=job, images=1))
    metrics = submitted.__self__
    assert len(metrics._models) <= 1000
    assert not metrics._jobs
