"""Turn events into spans: one for each job, and below it one for each request that it took.

The span of a job begins with its first event, in whose context that event is emitted: that of the caller. Requests get
theirs when they have ended, with explicit times, because a poller's requests run in no caller's context. Only spans
that are recorded are kept, until their job ends; of ended jobs, the ids of some, for the downloads that follow.
"""

from collections.abc import Callable, Mapping
from typing import Any

import attrs
from opentelemetry.context import Context, get_current
from opentelemetry.trace import (
    NonRecordingSpan,
    Span,
    SpanKind,
    Status,
    StatusCode,
    TracerProvider,
    get_tracer,
    set_span_in_context,
)

from lemon_async._api.validation import PATHS
from lemon_async._version import __version__
from lemon_async.errors import SubmissionUnknown
from lemon_async.events import (
    Accepted,
    Called,
    Completed,
    Downloaded,
    Event,
    Failed,
    JobEvent,
    NotSent,
    OutcomeUnknown,
    Polled,
    Refused,
    Resumed,
    Submitted,
)
from lemon_async.telemetry.attributes import (
    ERROR_TYPE,
    IMAGES,
    JOB,
    METHOD,
    MODEL,
    MONEY,
    RESEND_COUNT,
    RESPONSE_ID,
    RESPONSE_MODEL,
    STATUS_CODE,
    TASK_STATUS,
    TEMPLATE,
    link_attributes,
    prompt_attributes,
    request_attributes,
    response_attributes,
    status_code_of,
    template_of,
    text,
)

__all__ = ["Spans"]

Attributes = Mapping[str, str | int]

_POLL = "/v1/tasks/{id}"
_MAX_KEPT = 1000
_ERROR = Status(StatusCode.ERROR)


@attrs.define(eq=False)
class _Job:
    """The span of a job, the context of those below it, and where its paid request goes while that is under way."""

    span: Span
    context: Context
    began_ns: int
    path: str | None = None


class Spans:
    """The spans of one session; `handlers` has the function for each kind of event.

    Args:
        provider: Where they go; by default the global one.
        record_prompts: Whether spans contain the prompts.
    """

    def __init__(self, provider: TracerProvider | None, *, record_prompts: bool) -> None:
        self._tracer = get_tracer("lemon_async", __version__, provider)
        self._record_prompts = record_prompts
        self._jobs: dict[int, _Job] = {}
        self._ended: dict[str, Context] = {}
        self.handlers: dict[type[Event], Callable[[Any], None]] = {
            Submitted: self._submitted,
            Accepted: self._answered,
            Refused: self._answered,
            NotSent: self._not_sent,
            OutcomeUnknown: self._answered,
            Resumed: self._resumed,
            Polled: self._polled,
            Completed: self._completed,
            Failed: self._failed,
            Called: self._called,
            Downloaded: self._downloaded,
        }

    def _submitted(self, event: Submitted) -> None:
        job = self._jobs.get(event.job)
        if job is None and event.attempt == 1:
            job = self._begin(event, event.at - event.waited_s, request_attributes(event.request))
        if job is not None and job.span.is_recording():
            job.path = PATHS[event.request.operation]
            if self._record_prompts:
                job.span.set_attributes(prompt_attributes(event.request))

    def _not_sent(self, event: NotSent) -> None:
        """Without `Submitted`, no request was made: it failed while it waited for the rate limit."""
        if event.attempt == 1 and event.job not in self._jobs:
            named = {} if event.model is None else {MODEL: text(event.model)}
            self._begin(event, event.at - event.seconds, {**JOB, **named})
        self._answered(event)

    def _resumed(self, event: Resumed) -> None:
        """A resumed job has no model of a request: what its token says is what the service has reported."""
        named = {} if event.model is None else {RESPONSE_MODEL: text(event.model)}
        self._begin(event, event.at, {**JOB, **named})

    def _begin(self, event: JobEvent, began_at: float, attributes: Attributes) -> _Job | None:
        context = get_current()
        name = f"generate_content {attributes[MODEL]}" if MODEL in attributes else "generate_content"
        began_ns = _ns(began_at)
        span = self._tracer.start_span(name, context, SpanKind.CLIENT, attributes, start_time=began_ns)
        if not span.get_span_context().is_valid:  # there is no SDK
            return None
        job = self._jobs[event.job] = _Job(span, set_span_in_context(span, context), began_ns)
        return job

    def _answered(self, event: Accepted | Refused | NotSent | OutcomeUnknown) -> None:
        job = self._jobs.get(event.job)
        if job is None or job.path is None:
            return
        path, job.path = job.path, None
        attributes: dict[str, str | int] = {METHOD: "POST", TEMPLATE: path}
        if event.attempt > 1:
            attributes[RESEND_COUNT] = event.attempt - 1
        self._record(f"POST {path}", job.context, attributes, event)

    def _polled(self, event: Polled) -> None:
        job = self._jobs.get(event.job)
        if job is not None and job.span.is_recording():
            attributes: dict[str, str | int] = {METHOD: "GET", TEMPLATE: _POLL}
            if event.status is not None:
                attributes[TASK_STATUS] = text(event.status)
            self._record(f"GET {_POLL}", job.context, attributes, event)

    def _completed(self, event: Completed) -> None:
        job = self._jobs.pop(event.job, None)
        if job is not None:
            usage = response_attributes(event.billing)
            self._end(job, event, {IMAGES: event.images, MONEY: "settled", **usage})

    def _failed(self, event: Failed) -> None:
        job = self._jobs.pop(event.job, None)
        if job is not None:
            money = "unknown" if isinstance(event.error, SubmissionUnknown) else event.money
            job.span.set_status(_ERROR)
            self._end(job, event, {MONEY: money, **_error_attributes(event.error)})

    def _end(self, job: _Job, event: JobEvent, attributes: Attributes) -> None:
        if event.task_id is not None:
            attributes = {**attributes, RESPONSE_ID: text(event.task_id)}
            while len(self._ended) >= _MAX_KEPT:
                del self._ended[next(iter(self._ended))]
            self._ended[event.task_id] = set_span_in_context(NonRecordingSpan(job.span.get_span_context()), Context())
        job.span.set_attributes(attributes)
        job.span.end(max(_ns(event.at), job.began_ns))

    def _called(self, event: Called) -> None:
        template = template_of(event.path)
        attributes: dict[str, str | int] = {METHOD: event.method, TEMPLATE: template}
        if event.status is not None:
            attributes[STATUS_CODE] = event.status
        # A poll for new links belongs to the job whose links have expired.
        context = self._ended.get(event.path.rpartition("/")[2])
        self._record(f"{event.method} {template}", context, attributes, event)

    def _downloaded(self, event: Downloaded) -> None:
        context = None if event.task_id is None else self._ended.get(event.task_id)
        attributes = {METHOD: "GET", **link_attributes(event.url)}
        self._record("GET", context, attributes, event)

    def _record(self, name: str, context: Context | None, attributes: Attributes, event: Any) -> None:
        """Make the span of a request that has ended; without `context`, below the current span."""
        began_ns = _ns(event.at - event.seconds)
        span = self._tracer.start_span(name, context, SpanKind.CLIENT, attributes, start_time=began_ns)
        if span.is_recording():
            error = getattr(event, "error", None)
            if error is not None:
                span.set_status(_ERROR)
                span.set_attributes(_error_attributes(error))
            span.end(max(_ns(event.at), began_ns))


def _ns(at: float) -> int:
    return int(at * 1e9)


def _error_attributes(error: Exception) -> Attributes:
    status = status_code_of(error)
    code = {} if status is None else {STATUS_CODE: status}
    return {ERROR_TYPE: type(error).__name__, **code}
