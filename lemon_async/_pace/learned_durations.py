"""How long jobs last, model by model; see `evidence.py` for how it is learned."""

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from lemon_async._pace.progress_forecast import ProgressForecast, normal_age_of_lag
from lemon_async._pace.survival_curve import SurvivalCurve
from lemon_async._pace.survival_estimator import PRIOR, SurvivalEstimator
from lemon_async.errors import ContractError

__all__ = ["LearnedDurations"]

_MOST_MODELS = 64
_LONGEST_NAME = 200
_VERSION = 1


class LearnedDurations:
    """What a session has learned of the durations of jobs; ages and durations are in seconds.

    Jobs of an unknown model share one entry. Of very many models, those that were heard of last are remembered.
    """

    def __init__(self) -> None:
        self._models: OrderedDict[str, SurvivalEstimator] = OrderedDict()

    def __len__(self) -> int:
        return len(self._models)

    def export(self) -> dict[str, Any]:
        """Return everything learned as plain data that JSON can hold: about 2 KB per model."""
        return {"version": _VERSION, "models": {name: known.export() for name, known in self._models.items()}}

    @classmethod
    def restore(cls, state: Mapping[str, Any]) -> "LearnedDurations":
        """Return what `export` returned as it was.

        Raises:
            ContractError: When it is damaged, or of another version.
        """
        durations = cls()
        if state == {}:
            return durations
        try:
            if state["version"] != _VERSION:
                raise ValueError(f"it is not of version {_VERSION}")  # noqa: TRY301 - see below
            for name, known in list(state["models"].items())[-_MOST_MODELS:]:
                durations._models[name[:_LONGEST_NAME]] = SurvivalEstimator.restore(known)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as fault:
            # One place words the refusal, whatever is wrong with it.
            advice = f"is no export of `session.learned_durations` ({str(fault)[:_LONGEST_NAME]})"
            raise ContractError.of("learned_durations", advice) from None
        return durations

    def curve(self, model: str | None) -> SurvivalCurve:
        """Return what is believed of a model's jobs."""
        evidence = self._models.get(_name(model))
        return PRIOR if evidence is None else evidence.curve()

    def watched(self, model: str | None, from_s: float, to_s: float) -> None:
        """Learn from a job that was alive at one age and at a later one."""
        self._evidence(model).watched(from_s, to_s)

    def completed(self, model: str | None, from_s: float, to_s: float) -> None:
        """Learn from a job that was alive at one age and had completed at a later one."""
        self._evidence(model).completed(from_s, to_s)

    def checked(self, model: str | None, foresight: ProgressForecast, duration_s: float) -> None:
        """Learn how far a job's progress is to be trusted, now that its duration is known."""
        if foresight.first_s is not None:
            self._evidence(model).trust.checked(foresight.first_s, duration_s)

    def due_s(self, model: str | None, alive_s: float, poll_cost_s: float, *, estimate_s: float | None = None) -> float:
        """Return the age at which a job that was alive at `alive_s` is expected to have waited for `poll_cost_s`.

        Infinity when nothing is known of such an age. `estimate_s` is the duration that the job's progress amounts to.
        """
        curve = self.curve(model)
        evidence = self._models.get(_name(model))
        if estimate_s is not None and evidence is not None:
            safe_str = evidence.trust.combined(estimate_s, *curve.moments)
            age_s = safe_str and normal_age_of_lag(*safe_str, alive_s, poll_cost_s, estimate_s)
            if age_s is not None:
                return age_s
        return curve.age_of_lag(alive_s, poll_cost_s)

    def lag_s(self, model: str | None, alive_s: float, age_s: float) -> float:
        """Return the waiting expected until `age_s` of a job that was alive at `alive_s`."""
        return self.curve(model).lag_s(alive_s, age_s)

    def median_s(self, model: str | None) -> float:
        """Return the age that half of a model's jobs are expected to reach."""
        return self.curve(model).median_s

    def _evidence(self, model: str | None) -> SurvivalEstimator:
        name = _name(model)
        if name not in self._models:
            if len(self._models) >= _MOST_MODELS:
                self._models.popitem(last=False)
            self._models[name] = SurvivalEstimator()
        self._models.move_to_end(name)
        return self._models[name]


def _name(model: object) -> str:
    """Return under which name a model is remembered; one that is no text, which nobody checked, under none."""
    return model[:_LONGEST_NAME] if isinstance(model, str) else ""
