"""Learn how long jobs last, model by model; `survival_estimator.py` has the method."""

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from lemon_async._pace.progress_forecast import ProgressForecast, normal_age_of_lag
from lemon_async._pace.survival_curve import SurvivalCurve
from lemon_async._pace.survival_estimator import PRIOR, SurvivalEstimator
from lemon_async.errors import ContractError

__all__ = ["LearnedDurations"]

_MAX_MODELS = 64
_LONGEST_NAME = 200
_VERSION = 1


class LearnedDurations:
    """The durations of jobs as a session has learned them; ages and durations are in seconds.

    Jobs of unknown models share one entry. Beyond 64 models, the least recently used ones are forgotten.
    """

    def __init__(self) -> None:
        self._models: OrderedDict[str, SurvivalEstimator] = OrderedDict()

    def __len__(self) -> int:
        return len(self._models)

    def export(self) -> dict[str, Any]:
        """Return the state as plain data for JSON, about 2 KB per model."""
        return {"version": _VERSION, "models": {name: estimator.export() for name, estimator in self._models.items()}}

    @classmethod
    def restore(cls, state: Mapping[str, Any]) -> "LearnedDurations":
        """Return the instance for an export.

        Raises:
            ContractError: The export is damaged, or of another version.
        """
        durations = cls()
        if state == {}:
            return durations
        try:
            if state["version"] != _VERSION:
                raise ValueError(f"it is not of version {_VERSION}")  # noqa: TRY301 - see below
            for name, exported in list(state["models"].items())[-_MAX_MODELS:]:
                durations._models[name[:_LONGEST_NAME]] = SurvivalEstimator.restore(exported)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as fault:
            # One message, whatever is wrong with it.
            advice = f"is no export of `session.learned_durations` ({str(fault)[:_LONGEST_NAME]})"
            raise ContractError.of("learned_durations", advice) from None
        return durations

    def curve(self, model: str | None) -> SurvivalCurve:
        """Return the distribution of the durations of a model's jobs."""
        estimator = self._models.get(_name(model))
        return PRIOR if estimator is None else estimator.curve()

    def observe_alive(self, model: str | None, from_s: float, to_s: float) -> None:
        """Learn from a job that was alive at both ages."""
        self._estimator(model).observe_alive(from_s, to_s)

    def observe_completed(self, model: str | None, from_s: float, to_s: float) -> None:
        """Learn from a job that was alive at the first age and had completed at the second."""
        self._estimator(model).observe_completed(from_s, to_s)

    def observe_forecast(self, model: str | None, forecast: ProgressForecast, duration_s: float) -> None:
        """Learn how precise the forecasts for a model are, now that the duration of one of its jobs is known."""
        if forecast.first_s is not None:
            self._estimator(model).forecast_error.observe(forecast.first_s, duration_s)

    def due_s(self, model: str | None, alive_s: float, poll_cost_s: float, *, estimate_s: float | None = None) -> float:
        """Return the age at which the expected lag of a job that was alive at `alive_s` reaches `poll_cost_s`.

        Infinity beyond the ages of which anything is known. `estimate_s` is the duration forecast from progress.
        """
        curve = self.curve(model)
        estimator = self._models.get(_name(model))
        if estimate_s is not None and estimator is not None:
            combined = estimator.forecast_error.combine(estimate_s, *curve.moments)
            age_s = combined and normal_age_of_lag(*combined, alive_s, poll_cost_s, estimate_s)
            if age_s is not None:
                return age_s
        return curve.age_of_lag(alive_s, poll_cost_s)

    def lag_s(self, model: str | None, alive_s: float, age_s: float) -> float:
        """Return the lag expected at `age_s` of a job that was alive at `alive_s`."""
        return self.curve(model).lag_s(alive_s, age_s)

    def median_s(self, model: str | None) -> float:
        """Return the age that half of a model's jobs are expected to reach."""
        return self.curve(model).median_s

    def _estimator(self, model: str | None) -> SurvivalEstimator:
        name = _name(model)
        if name not in self._models:
            if len(self._models) >= _MAX_MODELS:
                self._models.popitem(last=False)
            self._models[name] = SurvivalEstimator()
        self._models.move_to_end(name)
        return self._models[name]


def _name(model: object) -> str:
    """Return the key of a model; unchecked requests may have one that is not a string."""
    return model[:_LONGEST_NAME] if isinstance(model, str) else ""
