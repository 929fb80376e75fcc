"""Hold back the polls of tasks whose model is hardly known, so that the first answers guide the others.

Problem: thirty tasks that start together are planned by the same expectation, and become due together. The answer to
the first poll says much of what the others would say; to poll all of them meanwhile wastes nearly as many requests.

Rules, per model, while its estimate is cold:
* A few scouts are polled at a time, of many tasks one in sixteen. The due tasks behind them are held until there is an
  answer, or for at most two prices of a request: then twice as many may go, so that scouts without answers cost little.
  No price makes them wait beyond their longest gap by more than a part of it.
* Each task that ends, whatever its end, makes room for two more scouts.
* A held task is planned again before it goes, by what is known then: it may be early.
* After an answer that has changed the estimate, a bounded number of the planned tasks is planned again: they may be
  late. The next ones follow after the next answer, until all have had their turn. Tasks that the service has asked to
  leave alone are not among them.
* Once the model is known, the held tasks go, and the planned ones are planned again once.

Tasks of unknown models have nothing in common, and are not held.
"""

from collections import OrderedDict
from collections.abc import Iterator
from itertools import islice
from typing import Generic, TypeVar

import attrs

__all__ = ["ColdModel", "ColdStart"]

_SCOUTS = 2
_SCOUTS_PER_END = 2
_TASKS_PER_SCOUT = 16
_PATIENCE = 2.0  # in prices of a request ...
_LONGEST_PATIENCE = 0.1  # ... but not beyond this part of the longest gap
_REST_S = 0.05  # after a decision that has considered dozens of held tasks: the event loop has other work
_LAST_S = 10.0  # before its deadline, a task waits for no others ...
_LAST_PART = 0.1  # ... nor in this last part of the longest gap
_MAX_MODELS = 64

Key = TypeVar("Key")


@attrs.define(eq=False, repr=False)
class ColdModel(Generic[Key]):
    """The tasks of one model that were planned while little was known; each with the time from which it was planned.

    Attributes:
        planned: Those that are not due yet.
        held: Those that are due, and wait for answers of others.
        is_cold: Whether the model is hardly known yet.
        unchecked: How many of the planned ones were planned before the estimate last changed: the first ones.
        has_news: Whether there was an answer since some of them were last considered.
    """

    planned: dict[Key, float] = attrs.field(factory=dict)
    held: OrderedDict[Key, float] = attrs.field(factory=OrderedDict)
    is_cold: bool = True
    unchecked: int = 0
    has_news: bool = False
    _estimate: object = None
    _allowed: int = _SCOUTS
    _under_way: int = 0
    _patient_until: float = 0.0
    _rest_until: float = 0.0

    def may_poll(self, now: float) -> bool:
        """Return whether one of the held tasks may go."""
        if not self.held or now < self._rest_until:
            return False
        if now >= self._patient_until and not self._is_open:
            self._under_way, self._allowed = 0, 2 * self._scouts
        return self._is_open

    def started(self, now: float, price_s: float, max_gap_s: float) -> None:
        """Count a scout; the price of a request and the longest gap are in real seconds."""
        self._under_way += 1
        self._patient_until = now + min(_PATIENCE * price_s, _LONGEST_PATIENCE * max_gap_s)

    def answered(self, estimate: object, *, has_ended: bool) -> None:
        """Count an answer, be it an error, after which this is the estimate."""
        if estimate is not self._estimate or not self.is_cold:
            self._estimate, self.unchecked = estimate, len(self.planned)
        self.has_news = self.unchecked > 0
        self._under_way = max(self._under_way - 1, 0)
        if has_ended:
            self._allowed += _SCOUTS_PER_END

    def take_unchecked(self, most: int) -> list[tuple[Key, float]]:
        """Return some of the unchecked tasks, at most `most`, which count as checked then."""
        found = [*islice(self.planned.items(), min(self.unchecked, most))]
        self.unchecked = min(self.unchecked, len(self.planned)) - len(found)
        self.has_news = self.unchecked > 0 and not self.is_cold
        for key, _ in found:
            self.planned[key] = self.planned.pop(key)
        return found

    def rest(self, now: float, speed: float = 1.0) -> None:
        """Leave the held tasks alone for a while: many have just been considered, and planned again or polled."""
        self._rest_until = now + _REST_S / speed if self.is_cold else now

    def wake_at(self) -> float | None:
        """Return when tasks are to be considered again, if there is no answer before; `None` if none are."""
        if self.has_news:
            return self._rest_until
        if not self.held:
            return None
        return self._rest_until if self._is_open else max(self._patient_until, self._rest_until)

    @property
    def _is_open(self) -> bool:
        return self._under_way < self._scouts or not self.is_cold

    @property
    def _scouts(self) -> int:
        return max(self._allowed, (len(self.planned) + len(self.held)) // _TASKS_PER_SCOUT)


class ColdStart(Generic[Key]):
    """The cold models of a schedule, at most 64: tasks of others are polled when they are due."""

    def __init__(self) -> None:
        self._models: dict[str, ColdModel[Key]] = {}

    def __iter__(self) -> Iterator[ColdModel[Key]]:
        return iter(self._models.values())

    def get(self, model: str | None) -> ColdModel[Key] | None:
        """Return the entry of a model, if it has one."""
        return self._models.get(model) if self._models and isinstance(model, str) else None

    def get_or_add(self, model: str | None) -> ColdModel[Key] | None:
        """Return the entry of a cold model, a new one if there is room; `None` if the model is unknown."""
        if not isinstance(model, str) or not model:
            return None
        if model not in self._models:
            if len(self._models) >= _MAX_MODELS:
                self._drop_idle()
            if len(self._models) >= _MAX_MODELS:
                return None
            self._models[model] = ColdModel()
        return self._models[model]

    def hold(self, model: str | None, key: Key, now: float, *, deadline: float, max_gap_s: float) -> bool:
        """Hold a task that is due; return false if it is not to be held, but polled."""
        found = self.get(model)
        if found is None or key not in found.planned:
            return False
        planned_at = found.planned.pop(key)
        if now > deadline - _LAST_S or now > planned_at + (1 - _LAST_PART) * max_gap_s:
            return False
        found.held[key] = planned_at
        return True

    def discard(self, model: str | None, key: Key) -> None:
        """Remove a task, which has another plan, or none any more."""
        found = self.get(model)
        if found is not None:
            found.planned.pop(key, None)
            found.held.pop(key, None)

    def answered(self, model: str | None, estimate: object, *, is_cold: bool, has_ended: bool = False) -> None:
        """Count the answer to a poll, after which this is the estimate of the model."""
        found = self.get(model)
        if found is not None:
            found.is_cold = is_cold
            found.answered(estimate, has_ended=has_ended)
            if not (is_cold or found.planned or found.held):
                del self._models[model or ""]

    def _drop_idle(self) -> None:
        self._models = {name: each for name, each in self._models.items() if each.planned or each.held}
