"""Events become spans."""

import pytest
from opentelemetry import baggage, context
from opentelemetry.sdk.trace import SpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanKind, StatusCode

from lemon_async import events
from lemon_async.errors import (
    DownloadError,
    NotFound,
    RateLimited,
    ServerError,
    SubmissionUnknown,
    TaskFailed,
    TransportError,
)
from lemon_async.types import Billing
from otel import CAT, Observed, emitter

REFUSAL = RateLimited(status=429, message="slow down, says the secret")
NOT_SENT = TransportError(message="no connection to secret")
UNKNOWN = SubmissionUnknown(request=CAT, fingerprint="00", reason="HTTP 502", status=502)
FAILURE = TaskFailed(reason="the prompt 'a secret cat' is against the policy")
POST = "POST /v1/images/generations"
POLL = "GET /v1/tasks/{id}"


@pytest.fixture
def emit(otel):
    return emitter(otel.telemetry())


def times(span):
    return span.start_time / 1e9, span.end_time / 1e9


def test_a_job_with_a_retry_polls_and_a_download(otel, emit):
    """Requests are below their job, with their own times; the job begins with its waiting."""
    emit(events.Submitted, 10, waited_s=2)
    emit(events.Refused, 11, error=REFUSAL, seconds=0.5)
    emit(events.Submitted, 13, attempt=2)
    emit(events.Accepted, 15, status="pending", task_id="t", attempt=2, seconds=1.5)
    emit(events.Polled, 20, task_id="t", seconds=0.25, error=ServerError(status=503, message="secret"))
    emit(events.Polled, 30, task_id="t", seconds=0.25, status="completed")
    emit(events.Completed, 30, images=2, task_id="t", billing=Billing(usage={"input_tokens": 7, "output_tokens": 8}))
    emit(events.Downloaded, 32, url="https://cdn.example/1.png?secret", size_bytes=9, seconds=1, task_id="t")
    (job,) = otel.jobs
    assert (job.name, job.kind, times(job)) == ("generate_content flux-pro", SpanKind.CLIENT, (8, 30))
    assert job.status.status_code is StatusCode.UNSET
    assert dict(job.attributes) == {
        "gen_ai.operation.name": "generate_content",
        "gen_ai.provider.name": "lemondata",
        "gen_ai.output.type": "image",
        "gen_ai.request.model": "flux-pro",
        "gen_ai.request.choice.count": 2,
        "gen_ai.response.id": "t",
        "gen_ai.usage.input_tokens": 7,
        "gen_ai.usage.output_tokens": 8,
        "lemon_async.images": 2,
        "lemon_async.money": "settled",
    }
    requests = otel.children(job)
    assert [(each.name, *times(each)) for each in requests] == [
        (POST, 10.5, 11),
        (POST, 13.5, 15),
        (POLL, 19.75, 20),
        (POLL, 29.75, 30),
        ("GET", 31, 32),
    ]
    assert [each.status.status_code is StatusCode.ERROR for each in requests] == [True, False, True, False, False]
    assert all(each.kind is SpanKind.CLIENT for each in requests)
    posted = {"http.request.method": "POST", "url.template": "/v1/images/generations"}
    polled = {"http.request.method": "GET", "url.template": "/v1/tasks/{id}"}
    link = {"url.full": "https://cdn.example/1.png", "server.address": "cdn.example", "server.port": 443}
    assert [dict(each.attributes) for each in requests] == [
        {**posted, "error.type": "RateLimited", "http.response.status_code": 429},
        {**posted, "http.request.resend_count": 1},
        {**polled, "error.type": "ServerError", "http.response.status_code": 503},
        {**polled, "lemon_async.task.status": "completed"},
        {"http.request.method": "GET", **link},
    ]
    assert "secret" not in otel.everything()


@pytest.mark.parametrize(
    ("error", "money", "said", "code"),
    [
        (FAILURE, "released", "released", None),
        (REFUSAL, "none", "none", 429),
        (UNKNOWN, "open", "unknown", 502),
    ],
)
def test_failures_say_their_class_and_their_money(otel, emit, error, money, said, code):
    """An unknown outcome is visible as such; the service's words are not there, which may quote the prompt."""
    emit(events.Submitted)
    emit(events.Failed, 1, error=error, money=money)
    (job,) = otel.jobs
    assert job.status.status_code is StatusCode.ERROR
    assert job.attributes["error.type"] == type(error).__name__
    assert job.attributes["lemon_async.money"] == said
    assert job.attributes.get("http.response.status_code") == code
    assert "secret" not in otel.everything()


def test_prompt_is_there_if_asked_for(otel):
    """Only then."""
    emit = emitter(otel.telemetry(record_prompts=True))
    emit(events.Submitted)
    emit(events.Completed, 1, images=1)
    assert "a secret cat" in otel.jobs[0].attributes["gen_ai.input.messages"]


def test_a_request_that_was_not_sent_has_no_span_unless_it_was_tried(otel, emit):
    """Waiting in vain for the rate limit is no request."""
    emit(events.NotSent, 5, error=NOT_SENT, seconds=5, model="flux-pro")
    emit(events.Submitted, 6, attempt=2)
    emit(events.NotSent, 7, error=NOT_SENT, seconds=1, attempt=2, model="flux-pro")
    emit(events.Failed, 7, error=NOT_SENT, money="none")
    (job,) = otel.jobs
    assert (job.name, times(job)) == ("generate_content flux-pro", (0, 7))
    assert [(each.name, *times(each)) for each in otel.children(job)] == [(POST, 6, 7)]


def test_a_resumed_job_has_the_model_of_its_response(otel, emit):
    """Its name has none, because the service may say anything."""
    emit(events.Resumed, 5, task_id="t", model="anything")
    emit(events.Completed, 6, task_id="t", images=1)
    (job,) = otel.jobs
    assert job.name == "generate_content"
    assert job.attributes["gen_ai.response.model"] == "anything"


def test_parent_is_the_context_in_which_a_job_begins(otel, emit):
    """Requests are below the job wherever they are made, and a poller's context does not matter."""
    with otel.tracer.start_as_current_span("mine") as mine:
        emit(events.Submitted)
    with otel.tracer.start_as_current_span("another"):
        emit(events.Polled, 1, status="pending")
        emit(events.Completed, 2, images=1)
    (job,) = otel.jobs
    assert otel.children(mine) == [job]
    assert [each.name for each in otel.children(job)] == [POLL]


def test_other_requests_are_below_the_current_span(otel, emit):
    """So are downloads of pictures that came without a task."""
    with otel.tracer.start_as_current_span("mine") as mine:
        error = NotFound(status=404, message="secret")
        emit(events.Called, 3, method="GET", path="/v1/models/secret", status=404, seconds=1, error=error)
        emit(events.Downloaded, 4, url="https://cdn.example/1.png", seconds=1, error=DownloadError(url="", reason=""))
    call, download = otel.children(mine)
    assert (call.name, times(call)) == ("GET /v1/models/{id}", (2, 3))
    assert call.attributes["http.response.status_code"] == 404
    assert download.attributes["error.type"] == "DownloadError"
    assert "secret" not in otel.everything()


def test_a_poll_for_new_links_is_below_its_job(otel, emit):
    """Links expire after the job has ended."""
    emit(events.Submitted)
    emit(events.Completed, 1, images=1, task_id="t")
    emit(events.Called, 3, method="GET", path="/v1/tasks/t", status=200, seconds=1)
    assert [(span.name, *times(span)) for span in otel.children(otel.jobs[0])] == [(POLL, 2, 3)]


def test_baggage_reaches_the_processors_of_requests(otel):
    """Processors copy it to spans, so that those of one user can be found."""
    seen = []

    class Processor(SpanProcessor):
        def on_start(self, span, parent_context=None):
            seen.append(baggage.get_baggage("user", parent_context))

    otel.tracer_provider.add_span_processor(Processor())
    emit = emitter(otel.telemetry())
    token = context.attach(baggage.set_baggage("user", "ann"))
    emit(events.Submitted)
    context.detach(token)
    emit(events.Polled, 1, status="pending")
    assert seen == ["ann", "ann"]


def test_jobs_that_are_not_sampled_have_no_requests():
    """Their ids are passed on, so that a download is not sampled alone."""
    otel = Observed(sampler=ALWAYS_OFF)
    emit = emitter(otel.telemetry(record_prompts=True))
    emit(events.Submitted)
    emit(events.Accepted, 1, status="pending", task_id="t")
    emit(events.Polled, 2, status="pending")
    emit(events.Completed, 3, images=1, task_id="t")
    emit(events.Downloaded, 4, url="https://cdn.example/1.png", task_id="t")
    assert otel.spans == ()
    assert otel.total("lemon_async.submissions.sold") == 1


def test_clock_that_is_set_back_makes_no_negative_durations(otel, emit):
    """Times are those of the wall clock."""
    emit(events.Submitted, 10)
    emit(events.Completed, 5, images=1)
    assert times(otel.jobs[0]) == (10, 10)


def test_nothing_is_kept_of_jobs_that_have_ended(otel):
    """But for the ids of some, for downloads."""
    telemetry = otel.telemetry()
    spans = telemetry._handlers[events.Submitted][-1].__self__
    for job in range(1, 2501):
        telemetry(events.Submitted(at=0, job=job, request=CAT))
        telemetry(events.Completed(at=1, job=job, images=1, task_id=f"t{job}"))
    assert not spans._jobs
    assert len(spans._ended) == 1000


def test_events_of_unknown_jobs_make_no_spans(otel, emit):
    """A handler may come late, and polls may end after their job."""
    emit(events.Accepted, status="pending")
    emit(events.Polled, status="pending")
    emit(events.Completed, images=1)
    emit(events.Failed, error=FAILURE, money="released")
    assert otel.spans == ()
