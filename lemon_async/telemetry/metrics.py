"""Turn events into metrics.

    begins       Submitted Resumed NotSent                  in flight +1
    per attempt  Accepted Refused NotSent OutcomeUnknown    one counter each
    ends         Completed Failed                           in flight -1, duration, settled or released

Attributes have few values: states of ours, classes of errors, and the models that the program's requests name. What a
service may make up, such as a status, is one of the documented values or `_OTHER`.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from opentelemetry.metrics import MeterProvider

from lemon_async.errors import SessionError
from lemon_async.events import (
    Accepted,
    BatchClosed,
    BatchOpened,
    Completed,
    Downloaded,
    Event,
    Failed,
    JobEvent,
    NotSent,
    OutcomeUnknown,
    Polled,
    RateLimited,
    RateLimitWaited,
    Refused,
    Resumed,
    RetryScheduled,
    RowChanged,
    Submitted,
)
from lemon_async.telemetry.attributes import ERROR_TYPE, KIND, MODEL, OPERATION, ROW_STATE, TASK_STATUS, model_of, text
from lemon_async.telemetry.instruments import Instruments

__all__ = ["Metrics"]

Attributes = Mapping[str, str]

_ONE_SESSION = "a Telemetry serves one session: make one for each; they may share their providers"
_STATUSES: Mapping[str | None, str] = {
    None: "none",
    "pending": "pending",
    "processing": "processing",
    "completed": "completed",
    "failed": "failed",
}
_MAX_KEPT = 1000


class _Model(NamedTuple):
    """The attributes that the metrics of a model's jobs have in common."""

    of_counts: Attributes
    of_durations: Attributes


_NO_MODEL = _Model({}, OPERATION)
_Job = tuple[_Model, float | None]
"""The model of a job, and when it began; not known for a resumed one."""
_UNKNOWN_JOB: _Job = (_NO_MODEL, None)


class Metrics:
    """The metrics of one session; `handlers` has the function for each kind of event.

    Args:
        provider: Where they go; by default the global one.
    """

    def __init__(self, provider: MeterProvider | None) -> None:
        self._instruments = Instruments(provider)
        self._jobs: dict[int, _Job] = {}
        self._models: dict[str, _Model] = {}
        self._polls: dict[tuple[str | None, type[Exception] | None], Attributes] = {}
        self._rows: dict[str, Counter[str]] = {}
        self.handlers: dict[type[Event], Callable[[Any], None]] = {
            Submitted: self._submitted,
            Accepted: self._accepted,
            Refused: self._refused,
            NotSent: self._not_sent,
            OutcomeUnknown: self._unknown,
            Resumed: self._resumed,
            Polled: self._polled,
            Completed: self._completed,
            Failed: self._failed,
            RetryScheduled: self._retry_scheduled,
            RateLimited: self._rate_limited,
            RateLimitWaited: self._rate_limit_waited,
            Downloaded: self._downloaded,
            BatchOpened: self._batch_opened,
            RowChanged: self._row_changed,
            BatchClosed: self._batch_closed,
        }

    def _submitted(self, event: Submitted) -> None:
        if event.attempt == 1 or event.job not in self._jobs:
            self._begin(event, (self._model(model_of(event.request)), event.at - event.waited_s))

    def _resumed(self, event: Resumed) -> None:
        self._begin(event, _UNKNOWN_JOB)

    def _begin(self, event: JobEvent, job: _Job) -> None:
        if event.job in self._jobs:
            raise SessionError(message=_ONE_SESSION)
        self._jobs[event.job] = job
        self._instruments.in_flight.add(1, job[0].of_counts)

    def _accepted(self, event: Accepted) -> None:
        self._instruments.sold.add(1, self._of_job(event))

    def _refused(self, event: Refused) -> None:
        self._instruments.refused.add(1, self._of_failure(event, event.error))

    def _not_sent(self, event: NotSent) -> None:
        if event.job not in self._jobs:
            model = None if event.model is None else text(event.model)
            self._begin(event, (self._model(model), event.at - event.seconds))
        self._instruments.not_sent.add(1, self._of_failure(event, event.error))

    def _unknown(self, event: OutcomeUnknown) -> None:
        self._instruments.unknown.add(1, self._of_job(event))

    def _polled(self, event: Polled) -> None:
        error = None if event.error is None else type(event.error)
        status = _STATUSES.get(event.status, "_OTHER")
        attributes = self._polls.get((status, error))
        if attributes is None:
            attributes = _with_error({TASK_STATUS: status}, error)
            self._polls[status, error] = attributes
        self._instruments.poll.record(event.seconds, attributes)

    def _completed(self, event: Completed) -> None:
        model, began_at = self._jobs.get(event.job, _UNKNOWN_JOB)
        self._instruments.settled.add(1, model.of_counts)
        if event.job in self._jobs:
            self._end(event, model, began_at, model.of_durations)

    def _failed(self, event: Failed) -> None:
        model, began_at = self._jobs.get(event.job, _UNKNOWN_JOB)
        error = type(event.error)
        if event.money == "settled":
            self._instruments.settled.add(1, model.of_counts)
        elif event.money == "released":
            self._instruments.released.add(1, _with_error(model.of_counts, error))
        if event.job in self._jobs:
            self._end(event, model, began_at, _with_error(model.of_durations, error))

    def _end(self, event: JobEvent, model: _Model, began_at: float | None, attributes: Attributes) -> None:
        del self._jobs[event.job]
        self._instruments.in_flight.add(-1, model.of_counts)
        if began_at is not None:
            self._instruments.duration.record(max(event.at - began_at, 0.0), attributes)

    def _retry_scheduled(self, event: RetryScheduled) -> None:
        kind = "other" if event.job is None else "submit"
        self._instruments.retries.add(1, _with_error({KIND: kind}, type(event.error)))

    def _rate_limited(self, _: RateLimited) -> None:
        self._instruments.rate_limited.add(1)

    def _rate_limit_waited(self, event: RateLimitWaited) -> None:
        self._instruments.wait.record(event.seconds, {KIND: event.kind})

    def _downloaded(self, event: Downloaded) -> None:
        error = None if event.error is None else type(event.error)
        self._instruments.download.record(event.seconds, _with_error({}, error))
        self._instruments.downloaded.add(event.size_bytes)

    def _batch_opened(self, event: BatchOpened) -> None:
        self._set_rows(event.journal, event.counts)

    def _row_changed(self, event: RowChanged) -> None:
        rows = self._rows.get(event.journal)
        if rows is not None:
            rows[event.before] -= 1
            rows[event.after] += 1
            self._instruments.rows.add(-1, {ROW_STATE: event.before})
            self._instruments.rows.add(1, {ROW_STATE: event.after})

    def _batch_closed(self, event: BatchClosed) -> None:
        """Take back what was added, and not what the batch has counted: others may have changed its rows, too."""
        if event.journal in self._rows:
            self._set_rows(event.journal, {})
            del self._rows[event.journal]

    def _set_rows(self, journal: str, counts: Mapping[str, int]) -> None:
        before = self._rows.get(journal, Counter())
        for state in {*counts, *before}:
            difference = counts.get(state, 0) - before[state]
            if difference:
                self._instruments.rows.add(difference, {ROW_STATE: state})
        self._rows[journal] = Counter(counts)

    def _model(self, name: str | None) -> _Model:
        if name is None:
            return _NO_MODEL
        model = self._models.get(name)
        if model is None:
            while len(self._models) >= _MAX_KEPT:
                del self._models[next(iter(self._models))]
            model = self._models[name] = _Model({MODEL: name}, {**OPERATION, MODEL: name})
        return model

    def _of_job(self, event: JobEvent) -> Attributes:
        return self._jobs.get(event.job, _UNKNOWN_JOB)[0].of_counts

    def _of_failure(self, event: JobEvent, error: Exception) -> Attributes:
        return _with_error(self._of_job(event), type(error))


def _with_error(attributes: Attributes, error: type[Exception] | None) -> Attributes:
    return attributes if error is None else {**attributes, ERROR_TYPE: error.__name__}
