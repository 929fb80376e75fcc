"""The function that a session calls with its events."""

from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import TracerProvider

from lemon_async.events import Event
from lemon_async.telemetry.metrics import Metrics
from lemon_async.telemetry.spans import Spans

__all__ = ["Telemetry"]


class Telemetry:
    """Report what one session does to OpenTelemetry: a span for each job, and metrics.

    Give each session its own, because jobs are numbered in their session; they may share providers, and then add up.
    Without an SDK it costs little and does nothing.

    No span or metric contains the key, a query, a message of the service or the name of a file.

    Args:
        tracer_provider: Where spans go; by default the global one.
        meter_provider: Where metrics go; by default the global one.
        record_prompts: Whether spans contain the prompts, which may be personal data.
    """

    def __init__(
        self,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        record_prompts: bool = False,
    ) -> None:
        metrics = Metrics(meter_provider).handlers
        spans = Spans(tracer_provider, record_prompts=record_prompts).handlers
        kinds = {**metrics, **spans}
        self._handlers = {kind: tuple(each[kind] for each in (metrics, spans) if kind in each) for kind in kinds}

    def __call__(self, event: Event) -> None:
        """Report one event, in the context of the caller.

        Raises:
            SessionError: The events are those of two sessions.
        """
        for handler in self._handlers.get(type(event), ()):
            handler(event)
