"""The function that a session calls with its events."""

import time
from collections.abc import Callable
from typing import Any, final

from opentelemetry.metrics import MeterProvider, get_meter_provider
from opentelemetry.trace import TracerProvider, get_tracer_provider

from lemon_async._http.emitter import IdlingHandler
from lemon_async.events import BatchOpened, Called, Downloaded, Event, NotSent, Resumed, Submitted
from lemon_async.telemetry.metrics import Metrics
from lemon_async.telemetry.spans import Spans

__all__ = ["Telemetry"]

Handlers = dict[type[Event], tuple[Callable[[Any], None], ...]]

# Without an SDK only these are looked at: the program may set the global providers at any time.
_BEGINNINGS = (Submitted, NotSent, Resumed, BatchOpened, Called, Downloaded)


@final
class Telemetry(IdlingHandler):
    """Report what one session does to OpenTelemetry: a span for each job, and metrics.

    Give each session its own, because jobs are numbered in their session; figures of those that share providers add up.
    Without an SDK it costs little and does nothing. The program may set the global providers later: then it reports the
    jobs that begin more than a second after that.

    No span or metric contains the key, the query of a URL, a message of the service or the name of a file.

    Args:
        tracer_provider: Where spans go; by default the global one.
        meter_provider: Where metrics go; by default the global one.
        record_prompts: Whether spans contain the prompts, which may be personal data.
    """

    def __init__(
        self,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        *,
        record_prompts: bool = False,
    ) -> None:
        self._providers = (tracer_provider, meter_provider)
        self._look_at = 0.0
        tables = Metrics(meter_provider).handlers, Spans(tracer_provider, record_prompts=record_prompts).handlers
        kinds = {kind for table in tables for kind in table}
        self._reporting: Handlers = {kind: tuple(each[kind] for each in tables if kind in each) for kind in kinds}
        self._handlers: Handlers = self._reporting if self._has_sdk() else dict.fromkeys(_BEGINNINGS, (self._look,))

    def __call__(self, event: Event) -> None:
        """Report one event, in the context of the caller.

        Raises:
            SessionError: The events are those of two sessions.
        """
        for handler in self._handlers.get(type(event), ()):
            handler(event)

    def is_idle(self) -> bool:
        """Return whether it has looked for an SDK within a second, and found none: it ignores a job that begins now."""
        return time.time() < self._look_at

    def _look(self, event: Event) -> None:
        """Begin to report if there is an SDK by now; looks once a second, because that reads the environment."""
        if event.at < self._look_at:
            return
        self._look_at = event.at + 1
        if self._has_sdk():
            self._look_at = 0.0
            self._handlers = self._reporting
            self(event)

    def _has_sdk(self) -> bool:
        """Return whether a provider does anything; those of the API itself do nothing."""
        tracers, meters = self._providers
        providers = (tracers or get_tracer_provider(), meters or get_meter_provider())
        return any(
            not type(each).__module__.startswith(("opentelemetry.trace", "opentelemetry.metrics")) for each in providers
        )
