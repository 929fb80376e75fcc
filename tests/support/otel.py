"""OpenTelemetry's SDK, kept in memory, and what it has seen."""

from collections import Counter

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from lemon_async import GenerateRequest, events
from lemon_async.telemetry import Telemetry

CAT = GenerateRequest("a secret cat", model="flux-pro", n=2, label="secret label")


def emitter(telemetry):
    """Return a function that emits events of job 1, if they are of a job."""

    def emit(kind, at=0.0, /, **facts):
        facts = {"job": 1, **facts} if issubclass(kind, events.JobEvent) else facts
        facts = {"request": CAT, **facts} if kind is events.Submitted else facts
        telemetry(kind(at=at, **facts))

    return emit


class Observed:
    """The providers of one program, its spans in the order of their end, and its metrics."""

    def __init__(self, **tracing):
        self._exporter = InMemorySpanExporter()
        self._reader = InMemoryMetricReader()
        self.tracer_provider = TracerProvider(shutdown_on_exit=False, **tracing)
        self.tracer_provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.meter_provider = MeterProvider([self._reader], shutdown_on_exit=False)
        self.tracer = self.tracer_provider.get_tracer("program")

    def telemetry(self, **options):
        return Telemetry(self.tracer_provider, self.meter_provider, **options)

    @property
    def spans(self):
        return self._exporter.get_finished_spans()

    @property
    def jobs(self):
        return [span for span in self.spans if span.name.startswith("generate_content")]

    def children(self, parent):
        return [span for span in self.spans if span.parent and span.parent.span_id == parent.context.span_id]

    def points(self, name):
        """Return the data points of a metric by their attributes, as a frozen set of items."""
        data = self._reader.get_metrics_data()
        scopes = [] if data is None else [scope for each in data.resource_metrics for scope in each.scope_metrics]
        metrics = [metric for scope in scopes for metric in scope.metrics if metric.name == name]
        return {frozenset(point.attributes.items()): point for metric in metrics for point in metric.data.data_points}

    def by(self, name, attribute=None):
        """Return the sum of a counter, or the count of a histogram, for each value of an attribute, without zeros."""
        totals = Counter()
        for attributes, point in self.points(name).items():
            totals[dict(attributes).get(attribute)] += point.count if hasattr(point, "count") else point.value
        return {value: total for value, total in totals.items() if total}

    def total(self, name):
        """Return the sum of a counter, or the count of a histogram."""
        return sum(self.by(name).values())

    def everything(self):
        """Return all that was exported, as text."""
        data = self._reader.get_metrics_data()
        return "\n".join([*(span.to_json() for span in self.spans), "" if data is None else data.to_json()])
